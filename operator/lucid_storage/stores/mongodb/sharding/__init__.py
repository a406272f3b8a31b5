"""Sharding of a MongoDB cluster, through its router."""
