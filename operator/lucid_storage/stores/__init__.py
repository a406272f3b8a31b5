"""Adapters, one for each real system. Drivers are imported only here; callers see our own types and errors."""
