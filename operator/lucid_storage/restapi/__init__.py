"""The REST API: HTTP outside, Kubernetes RBAC as its policy, live facts of the stores as its answers."""
