"""The local test bed: a real Kubernetes node and real stores, started from a clone."""
