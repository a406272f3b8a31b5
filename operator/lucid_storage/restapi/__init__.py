"""The status REST API."""
