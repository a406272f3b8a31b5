"""What the sharding adapter says and takes, in our words. No driver type crosses this border.

Bounds of zones are documents in Extended JSON, as everywhere: canonical on the way out, any valid form on the way in.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from lucid_storage.stores.mongodb.types import JsonDoc

ShardOrder = int | str
"""1 or "hashed"."""

ShardKey = tuple[tuple[str, ShardOrder], ...]
"""Fields of a shard key with their order, first to last."""


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """A shard of the cluster."""

    name: str
    zones: tuple[str, ...] = ()
    """Zones that it belongs to, by name."""
    draining: bool = False
    """It is being removed: the balancer moves its chunks away."""


@dataclass(frozen=True, slots=True)
class ShardCluster:
    """The cluster behind the router. `identity` is the cluster's own id, the one of `ServerInfo`."""

    identity: str
    version: tuple[int, int, int]
    shards: tuple[ShardInfo, ...]

    def at_least(self, major: int, minor: int = 0) -> bool:
        return self.version >= (major, minor, 0)


class ReshardPhase(StrEnum):
    """How far the server is with resharding, in the order of its work."""

    PREPARING = "Preparing"
    COPYING = "Copying"
    CATCHING_UP = "CatchingUp"
    COMMITTING = "Committing"
    """The new key holds; what is left is tidying up."""
    ABORTING = "Aborting"
    """The server gave up, or somebody told it to; the old key stays."""


@dataclass(frozen=True, slots=True)
class Resharding:
    """A resharding that runs now."""

    phase: ReshardPhase
    key: ShardKey | None
    """The key that it leads to; None without the right to read config.reshardingOperations."""
    percent: int | None = None
    """Of the bytes copied, 0 to 99; None before the copy and without the right to look (inprog)."""
    remaining_seconds: int | None = None
    """The server's own estimate."""


@dataclass(frozen=True, slots=True)
class ShardedState:
    """A collection as the cluster's catalogue has it. A collection that is not there is no ShardedState."""

    database: str
    name: str
    uuid: str
    key: ShardKey
    unique: bool
    balancing: bool
    """Whether the balancer may move its chunks; the collection's own switch alone."""
    migrations_allowed: bool = True
    """False while the server itself forbids them, as it does during some changes."""
    resharding: bool = False
    """A resharding is under way; `ShardingPort.resharding` tells how far it is."""
    time_series: bool = False
    collation: JsonDoc | None = None
    """Default collation of the collection, None for the simple one."""


@dataclass(frozen=True, slots=True)
class ShardChunks:
    """Chunks of one collection on one shard."""

    shard: str
    chunks: int
    jumbo: int = 0
    """Those that are too big to be moved."""


@dataclass(frozen=True, slots=True)
class ShardFigures:
    """Documents and bytes of one collection on one shard, from metadata, without what was moved away (orphans).

    As exact as the server's own count, which may be off after a crash of that shard.
    """

    shard: str
    documents: int | None
    """None for a time series, of which the server counts its buckets alone."""
    size_bytes: int
    storage_bytes: int = 0
    orphans: int = 0
    """Documents that lie there yet and belong to another shard; 0 too where the server does not tell (before 6.0)."""


@dataclass(frozen=True, slots=True)
class Balance:
    """Whether the collection is spread as the balancer wants it."""

    compliant: bool
    violation: str | None = None
    """The server's word: chunksImbalance, zoneViolation, draining, defragmentingChunks."""


@dataclass(frozen=True, slots=True)
class BalancerWindow:
    """Times of day "HH:MM" by the config server's clock, between which the balancer works."""

    start: str
    stop: str


@dataclass(frozen=True, slots=True)
class BalancerState:
    """The balancer of the deployment."""

    enabled: bool
    running: bool
    """A round is going on now."""
    rounds: int
    """Since the config server's primary was elected."""
    window: BalancerWindow | None = None


@dataclass(frozen=True, slots=True)
class KeyRange:
    """Values of the shard key from `minimum` up to, and without, `maximum`."""

    minimum: JsonDoc
    maximum: JsonDoc


@dataclass(frozen=True, slots=True)
class ZoneState:
    """A zone as one collection uses it."""

    name: str
    shards: tuple[str, ...]
    """All shards of the zone, which is the deployment's and not the collection's."""
    ranges: tuple[KeyRange, ...]
    """Ranges of this collection, bounds complete (MinKey for fields that were left out)."""


@dataclass(frozen=True, slots=True)
class SupportingIndexes:
    """Which indexes can carry a shard key, and what is wrong with those that nearly can."""

    names: tuple[str, ...]
    """Those that can, best first: exactly the key, then longer ones. Empty: none."""
    unfit: tuple[tuple[str, str], ...] = ()
    """Name and reason (a clause such as "it is sparse") of those with the right fields."""
    unique_names: tuple[str, ...] = ()
    """Those of `names` that are unique on exactly the key, as a unique shard key needs."""
    unique_conflicts: tuple[str, ...] = ()
    """Unique indexes that the cluster could not enforce, since they do not begin with the key."""


@dataclass(frozen=True, slots=True)
class Occupancy:
    """Whether a collection holds documents, as its primaries say."""

    empty: bool
    documents: int | None
    """By the servers' own count from metadata, which may be off after a crash; None where they do not count."""


@dataclass(frozen=True, slots=True)
class KeyGaps:
    """Documents that a shard key cannot place well, as far as the budget went."""

    checked: int
    missing: int
    """A field of the key is null or absent: all of them go to one chunk."""
    arrays: int
    """A field of the key is an array, or lies inside one: the server refuses to shard such a collection."""
    complete: bool
    """Whether all documents were looked at."""


@dataclass(frozen=True, slots=True)
class KeySample:
    """Figures of a random sample of the key. No value of any document."""

    sampled: int
    distinct: int
    """Distinct keys in the sample."""
    most_frequent: int
    """Documents of the sample that have the commonest key."""
    missing: int
    """Documents of the sample in which a field of the key is null or absent."""
    leading_distinct: int
    """Distinct values of the first field alone."""
    correlation: float | None = None
    """Between the order of the key and that of insertion, -1 to 1 (Spearman's). None for a key that begins hashed, a
    sample too small or without variety, and where the order of insertion cannot be told.
    """

    @property
    def most_frequent_share(self) -> float:
        return self.most_frequent / self.sampled if self.sampled else 0.0
