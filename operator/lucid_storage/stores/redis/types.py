"""What the Redis adapter says, in our words."""

from __future__ import annotations

from dataclasses import dataclass

from lucid_storage.errors import LucidError


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
    """Keys found without a TTL, the ones that `corrected` counts included."""
    over_ttl: int
    """Keys whose remaining TTL is longer than declared."""
    sampled_bytes: int
    """Sum of MEMORY USAGE over the sampled keys; nothing is sampled where the login may not ask for it."""
    sampled_keys: int
    corrected: int
    """Keys that got their TTL in this scan."""
    complete: bool
    """False while the scan is still under way or was cut off by its budget."""
    refused: LucidError | None = None
    """Why TTLs could not be set. One pattern that may not be written does not hide the others' counts."""


@dataclass(frozen=True, slots=True)
class RedisInfo:
    identity: str
    """The master's replication id, which is a new one after a failover, and after a restart that kept no backlog."""
    version: tuple[int, int, int]
    role: str
    cluster: bool
    keys: int
    former: str = ""
    """The id before the last failover, if there was one."""
    database: int = 0

    @property
    def place(self) -> str:
        """The key space, as it is kept beside a consent."""
        return f"{self.identity}/{self.database}"

    def is_at(self, place: str | None) -> bool:
        """Whether this is the key space of a place that was kept, a failover ago at most."""
        return place == self.place or (bool(self.former) and place == f"{self.former}/{self.database}")
