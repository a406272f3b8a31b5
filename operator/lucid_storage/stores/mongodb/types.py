"""What the MongoDB adapter says and takes, in our words. No driver type crosses this border.

Free-form documents (`JsonDoc`) are MongoDB Extended JSON v2 in canonical form on the way out of the adapter, and
any valid Extended JSON on the way in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]
JsonDoc = Mapping[str, JsonValue]

KeyOrder = int | str
"""1, -1, "2d", "2dsphere", "text" or "hashed"."""


class Topology(StrEnum):
    """What answers at the address."""

    STANDALONE = "standalone"
    REPLICA_SET = "replicaSet"
    SHARDED = "sharded"


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Who the server is. `identity` stays the same when hosts or addresses change, unless `by_hosts`."""

    identity: str
    version: tuple[int, int, int]
    topology: Topology
    by_hosts: bool = False
    """True where the right to read the replica set id is missing and identity is set name and hosts."""
    compatibility: tuple[int, int] | None = None
    """The feature compatibility version; None where it cannot be read (a mongos, a login without getParameter)."""

    def at_least(self, major: int, minor: int = 0) -> bool:
        """Whether the server does what came with a version. A newer one with an older feature compatibility version,
        as between the two steps of an upgrade, does not.
        """
        known = self.version[:2] if self.compatibility is None else min(self.version[:2], self.compatibility)
        return known >= (major, minor)

    def runs(self, major: int, minor: int = 0) -> bool:
        """Whether the program is of that version: for what does not depend on feature compatibility."""
        return self.version[:2] >= (major, minor)


@dataclass(frozen=True, slots=True)
class Capped:
    size_bytes: int
    max_documents: int | None = None
    """For a wanted one, None means "unmanaged" and 0 "no limit"; for an observed one, None means "no limit"."""


@dataclass(frozen=True, slots=True)
class CollectionOptions:
    """Options of a collection. For a wanted one, None means "unmanaged"; for an observed one, "not set"."""

    capped: Capped | None = None
    time_series: JsonDoc | None = None
    """timeField, metaField, granularity, bucketMaxSpanSeconds, bucketRoundingSeconds, expireAfterSeconds."""
    clustered_index: JsonDoc | None = None
    """unique, name, expireAfterSeconds; the key is always {_id: 1}."""
    collation: JsonDoc | None = None
    pre_and_post_images: bool | None = None
    validator: JsonDoc | None = None
    validation_level: str | None = None
    validation_action: str | None = None


@dataclass(frozen=True, slots=True)
class CollectionState:
    database: str
    name: str
    type: str
    """collection, view or timeseries."""
    uuid: str | None
    options: CollectionOptions
    beyond: tuple[str, ...] = ()
    """Names of options that it has and that nobody can declare, such as encryptedFields."""


@dataclass(frozen=True, slots=True)
class CollectionChange:
    """A collMod. A field that is None is left alone; `validator={}` removes the validator."""

    validator: JsonDoc | None = None
    validation_level: str | None = None
    validation_action: str | None = None
    pre_and_post_images: bool | None = None
    expire_after_seconds: int | None = None
    """For time series and clustered collections. -1 means "off"."""
    granularity: str | None = None
    capped_size_bytes: int | None = None
    capped_max_documents: int | None = None
    """0 removes the limit on documents."""


@dataclass(frozen=True, slots=True)
class CollectionStats:
    documents: int
    size_bytes: int
    storage_bytes: int
    index_count: int = 0
    index_bytes: int = 0
    capped_max_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Violations:
    """How many documents a validator would refuse, as far as the time budget went."""

    checked: int
    violating: int
    complete: bool


@dataclass(frozen=True, slots=True)
class IndexDefinition:
    """An index as wanted. None means "not given"; the server's default holds."""

    keys: tuple[tuple[str, KeyOrder], ...]
    unique: bool = False
    sparse: bool = False
    expire_after_seconds: int | None = None
    partial_filter: JsonDoc | None = None
    collation: JsonDoc | None = None
    hidden: bool | None = None
    wildcard_projection: JsonDoc | None = None
    weights: JsonDoc | None = None
    default_language: str | None = None
    language_override: str | None = None
    text_index_version: int | None = None
    bits: int | None = None
    min: float | None = None
    max: float | None = None


@dataclass(frozen=True, slots=True)
class IndexState:
    """An index as the server has it, ready or still building. Text keys are given as the user wrote them."""

    name: str
    definition: IndexDefinition
    building: bool = False
    prepare_unique: bool = False
    clustered: bool = False
    beyond: tuple[str, ...] = ()
    """Names of options that it has and that nobody can declare, such as storageEngine."""


@dataclass(frozen=True, slots=True)
class IndexChange:
    """A collMod on one index. A field that is None is left alone."""

    hidden: bool | None = None
    expire_after_seconds: int | None = None
    prepare_unique: bool | None = None
    unique: bool | None = None


@dataclass(frozen=True, slots=True)
class BuildProgress:
    index_names: tuple[str, ...]
    done: int
    total: int
    phase: str = ""

    @property
    def percent(self) -> int:
        return 0 if self.total <= 0 else min(99, self.done * 100 // self.total)


@dataclass(frozen=True, slots=True)
class DuplicateReport:
    """Duplicates of a key, without any value of a user's document.

    `groups` counts distinct repeated keys as far as the budget went; `examples` holds lists of `_id`s, each
    an ObjectId, UUID or integer as text, or "hash:" and the first 12 hex digits of a SHA-256 for other types.
    """

    key_pattern: str
    groups: int
    documents: int
    complete: bool
    examples: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class DdlEvent:
    """A change of definitions seen in the change stream."""

    operation: str
    """create, createIndexes, dropIndexes, modify, rename, drop, dropDatabase, shardCollection..."""
    database: str
    collection: str | None
    to_database: str | None = None
    to_collection: str | None = None
    index_names: tuple[str, ...] = field(default=())
    at: tuple[int, int] | None = field(default=None, compare=False)
    """When, by the server's logical clock."""
    own: bool = field(default=False, compare=False)
    """A call of this port made it, which has been answered: whoever called has seen or will see what came of it."""
