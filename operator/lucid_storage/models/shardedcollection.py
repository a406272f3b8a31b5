"""ShardedCollection: the shard key of a collection, its zones and its balancing."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from lucid_storage.models.base import (
    CollectionName,
    Connection,
    Count,
    DatabaseName,
    DeletionPolicy,
    Drift,
    DriftPolicy,
    FieldPath,
    JsonDoc,
    KindStatus,
    ManagedFields,
    ShortText,
    SpecModel,
    StatusModel,
)
from lucid_storage.models.cel import IntOrString, ListMap, ListSet, Rule, Rules, immutable, immutable_optional

ShardKeyOrder = Annotated[
    Literal[1, "hashed"],
    IntOrString(),
    Rules(Rule("self == 1 || self == 'hashed'", "order must be 1 or hashed.")),
]


class ShardKeyField(SpecModel):
    """One field of the shard key."""

    field: Annotated[
        FieldPath,
        Rules(Rule("!self.contains('$')", "A shard key has plain fields only; remove the $.")),
    ]
    """Path of the field."""
    order: ShardKeyOrder
    """1 for ranges, "hashed" for an even spread."""


ZoneName = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class ZoneRange(SpecModel):
    """Values of the shard key, from min up to but without max."""

    min: JsonDoc
    """Lower bound, Extended JSON; `{"$minKey": 1}` for no bound."""
    max: JsonDoc
    """Upper bound, Extended JSON; `{"$maxKey": 1}` for no bound."""


class Zone(SpecModel):
    """Ranges of the shard key that lie on certain shards."""

    name: ZoneName
    """Name of the zone."""
    shards: Annotated[list[ZoneName], Field(min_length=1, max_length=64), ListSet()]
    """Shards of the zone."""
    ranges: Annotated[list[ZoneRange], Field(min_length=1, max_length=64)]
    """Ranges of the shard key."""


class Balancing(SpecModel):
    """Whether the balancer moves this collection's chunks. Its window is the deployment's."""

    enabled: bool
    """Let the balancer move chunks."""


class ChangePolicy(StrEnum):
    """What may be done when the declared key differs from the server's."""

    REFUSE = "Refuse"
    REFINE = "Refine"
    RESHARD = "Reshard"


class ShardedCollectionSpec(SpecModel):
    """How a collection is spread. What cannot be undone is checked first."""

    rules: ClassVar[tuple[Rule, ...]] = (
        immutable_optional("connection"),
        immutable_optional("database"),
        Rule(
            "self.shardKey.all(k, self.shardKey.exists_one(other, other.field == k.field))",
            "A field can stand only once in shardKey; remove the second one.",
        ),
        Rule(
            "self.shardKey.filter(k, k.order == 'hashed').size() <= 1",
            "A shard key can have only one hashed field; give the others 1.",
        ),
        Rule(
            "!(has(self.unique) && self.unique) || !self.shardKey.exists(k, k.order == 'hashed')",
            "A hashed shard key cannot be unique; remove unique or use ranges.",
        ),
        Rule(
            "!has(self.numInitialChunks) || self.shardKey.exists(k, k.order == 'hashed')",
            "numInitialChunks belongs to a hashed shard key; remove it.",
        ),
        Rule(
            "!has(self.database) || size(bytes(self.database)) + size(bytes(self.collection)) <= 234",
            "database and collection together are too long: "
            "MongoDB allows 235 bytes for both with the dot once sharded.",
        ),
    )

    connection: Connection | None = None
    """Credentials of its own; without it, the operator's."""
    database: DatabaseName | None = None
    """Database of the collection; without it, MONGODB_DATABASE of the operator. Pinned in status."""
    collection: Annotated[CollectionName, Rules(immutable("collection"))]
    """Name of the collection."""
    shard_key: Annotated[list[ShardKeyField], Field(min_length=1, max_length=32)]
    """The shard key, in order."""
    unique: bool | None = None
    """Enforce that the shard key is unique."""
    num_initial_chunks: Annotated[int, Field(ge=1, le=8192)] | None = None
    """Chunks to begin with, for a hashed key on an empty collection, or after resharding. It has no effect later."""
    zones: Annotated[list[Zone], Field(max_length=32), ListMap("name")] | None = None
    """Ranges that lie on certain shards. An empty list means none; absent means unmanaged."""
    balancing: Balancing | None = None
    """Balancing of this collection; absent means unmanaged."""
    change_policy: ChangePolicy = ChangePolicy.REFUSE
    """What may be done when shardKey differs from the server's: Refine adds fields at the end of the key and moves
    nothing (4.4 and later); Reshard writes the whole collection anew (5.0 and later). Either makes older backups
    unfit; a condition says so until there is a new one."""
    drift_policy: DriftPolicy = DriftPolicy.CORRECT
    """What happens when somebody else changes zones or balancing."""
    deletion_policy: DeletionPolicy = DeletionPolicy.RETAIN
    """Either way the collection stays sharded, which cannot be undone. Delete removes the declared zones."""


class KeyVerdict(StrEnum):
    """What a check found, best first."""

    GOOD = "Good"
    ACCEPTABLE = "Acceptable"
    UNKNOWN = "Unknown"
    POOR = "Poor"
    REFUSED = "Refused"


class PreflightCheck(StatusModel):
    """One check before what cannot be undone."""

    check: ShortText
    """What was looked at: SupportingIndex, UniqueIndexes, Coverage (what was read), Uniqueness, ArrayKeys, NullKeys,
    Cardinality or Monotonicity."""
    verdict: KeyVerdict
    """What was found. Poor needs your consent, and Unknown too, of which too little could be read; Refused cannot be
    done, and the message says what to change."""
    message: Annotated[str, StringConstraints(max_length=512)]
    """One sentence about it."""


class Preflight(StatusModel):
    """The checks before sharding, refining or resharding."""

    checked_at: datetime
    """When the documents were looked at."""
    generation: Count | None = None
    """The generation of the spec that they were looked at for."""
    key: Annotated[str, StringConstraints(max_length=1024)] | None = None
    """The shard key that was judged."""
    documents: Count | None = None
    """Documents of the collection, as its primaries count them; 0 only where these say that it is empty."""
    sampled: Count | None = None
    """Documents of the sample."""
    verdict: KeyVerdict
    """The worst of the checks."""
    checks: Annotated[list[PreflightCheck], Field(max_length=10), ListMap("check")]
    """One by one."""


class ChangeFailure(StatusModel):
    """A change of the shard key that the server refused or gave up; the same generation does not try it again."""

    generation: Count
    """Generation of the spec that asked for it."""
    message: Annotated[str, StringConstraints(max_length=1024)]
    """What the server said."""


class ShardFigures(StatusModel):
    """What lies on one shard."""

    name: ShortText
    """Name of the shard."""
    chunks: Count | None = None
    """Chunks."""
    jumbo_chunks: Count | None = None
    """Chunks that are too big to be moved."""
    documents: Count | None = None
    """Documents."""
    size_bytes: Count | None = None
    """Bytes."""


class BalancerStatus(StatusModel):
    """The deployment's balancer."""

    enabled: bool | None = None
    """Whether it is on."""
    running: bool | None = None
    """Whether a round is going on."""
    rounds: Count | None = None
    """Rounds so far."""


class ShardedCollectionStatus(KindStatus):
    """How the collection is spread."""

    database: ShortText | None = None
    """The database this resource was settled on."""
    target: Annotated[str, StringConstraints(max_length=512)] | None = None
    """`<database>.<collection>`."""
    server_identity: ShortText | None = None
    """The sharded cluster, by its own id."""
    uuid: ShortText | None = None
    """The server's UUID of the collection."""
    key: Annotated[str, StringConstraints(max_length=1024)] | None = None
    """The KEY column: the key that the server has."""
    managed_fields: ManagedFields | None = None
    """Fields that are or were declared."""
    drift: Drift | None = None
    """Differences between server and declaration, at most 20."""
    drift_summary: ShortText | None = None
    """Drift in a few words."""
    preflight: Preflight | None = None
    """The checks before what cannot be undone."""
    shard_count: Count | None = None
    """The SHARDS column: shards that hold chunks."""
    chunks: Count | None = None
    """The CHUNKS column."""
    jumbo_chunks: Count | None = None
    """Chunks that are too big to be moved."""
    shards: Annotated[list[ShardFigures], Field(max_length=100), ListMap("name")] | None = None
    """The shards one by one; the first 100."""
    balanced: ShortText | None = None
    """The BALANCED column: True, False, or Off."""
    balancer: BalancerStatus | None = None
    """The deployment's balancer."""
    initial_chunks: Count | None = None
    """The numInitialChunks that it was sharded with."""
    operation: ShortText | None = None
    """What is under way: Sharding, Refining or Resharding."""
    progress: ShortText | None = None
    """Percent of it, or its phase."""
    resharding_seen: Count | None = None
    """The generation of the spec whose resharding was seen to run: one that ends without the new key is not begun
    again for it."""
    failure: ChangeFailure | None = None
    """The last change of the key that failed; change the spec to try again."""
    backup_needed_since: datetime | None = None
    """When the shard key changed, while no backup is known that began after that."""
    stats_time: datetime | None = None
    """When the figures were taken."""
    message: Annotated[str, StringConstraints(max_length=2048)] | None = None
    """What to do, or nothing."""
