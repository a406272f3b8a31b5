"""Kubernetes operator for the data layer of a cluster."""

__version__ = "0.1.0"
