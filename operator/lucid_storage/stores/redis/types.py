"""What the Redis adapter says, in our words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KeySpace:
    """A key pattern as declared: `{x}` is one segment without a colon, everything else is literal."""

    pattern: str
    ttl_seconds: int
    enforce: bool = False
    """Set the TTL on matching keys that have none, as they are found."""


@dataclass(frozen=True, slots=True)
class KeySpaceReport:
    """One pattern's result of one whole scan."""

    pattern: str
    keys: int
    without_ttl: int
    over_ttl: int
    """Keys whose remaining TTL is longer than declared."""
    sampled_bytes: int
    """Sum of MEMORY USAGE over the sampled keys."""
    sampled_keys: int
    corrected: int
    """Keys that got their TTL in this scan."""
    complete: bool
    """False while the scan is still under way or was cut off by its budget."""


@dataclass(frozen=True, slots=True)
class RedisInfo:
    identity: str
    """The master's replication id: compared live, never kept, since it changes at a failover."""
    version: tuple[int, int, int]
    role: str
    cluster: bool
    keys: int
