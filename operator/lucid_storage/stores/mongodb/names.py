"""Names that MongoDB itself gives to collections."""

from __future__ import annotations

BUCKETS_PREFIX = "system.buckets."
"""Of what holds a time series; the rest is the name of the series."""
VIEWS = "system.views"
"""A database's list of its views; an entry on it is about a view."""
