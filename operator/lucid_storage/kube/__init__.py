"""The Kubernetes API: the only place that speaks to it, writes status and emits events."""
