"""Collection: a MongoDB collection with its options, and the Redis key spaces of the same entity."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from lucid_storage.models.base import (
    CollectionName,
    Connection,
    Consent,
    Count,
    DatabaseName,
    DeletionPolicy,
    Drift,
    DriftPolicy,
    FieldPath,
    IndexName,
    JsonDoc,
    KindStatus,
    ManagedFields,
    Origin,
    Protection,
    ShortText,
    SpecModel,
    StatusModel,
)
from lucid_storage.models.cel import ListMap, Rule, Rules, at_most_one, immutable_optional
from lucid_storage.models.collation import Collation

MAX_SECONDS = 2_147_483_647
"""MongoDB keeps expiry as a 32-bit number of seconds."""


class Capped(SpecModel):
    """A collection of fixed size: the oldest documents make room for new ones."""

    size_bytes: Annotated[int, Field(ge=1, le=1_125_899_906_842_624)]
    """Size in bytes; the server's own limit is 1 PiB."""
    max_documents: Annotated[int, Field(ge=0, le=2_147_483_647)] | None = None
    """Largest number of documents; 0 means no such limit. Absent leaves the limit as the server has it."""


class Granularity(StrEnum):
    """How far apart the measurements of one source are."""

    SECONDS = "seconds"
    MINUTES = "minutes"
    HOURS = "hours"


class TimeSeries(SpecModel):
    """A time-series collection."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.bucketMaxSpanSeconds) == has(self.bucketRoundingSeconds) && "
            "(!has(self.bucketMaxSpanSeconds) || self.bucketMaxSpanSeconds == self.bucketRoundingSeconds)",
            "bucketMaxSpanSeconds and bucketRoundingSeconds must both be given, with the same value.",
        ),
        Rule(
            "!(has(self.granularity) && has(self.bucketMaxSpanSeconds))",
            "granularity and bucketMaxSpanSeconds exclude one another; keep one of them.",
        ),
        Rule(
            "!has(self.metaField) || self.metaField != self.timeField", "metaField and timeField must differ."
        ),
        Rule(
            "!self.timeField.contains('.') && !(has(self.metaField) && self.metaField.contains('.'))",
            "timeField and metaField must be top-level fields; remove the dot.",
        ),
    )

    time_field: FieldPath
    """The field with the date of each measurement."""
    meta_field: FieldPath | None = None
    """The field that names the source of a measurement."""
    granularity: Granularity | None = None
    """How far apart the measurements of one source are."""
    bucket_max_span_seconds: Annotated[int, Field(ge=1, le=31_536_000)] | None = None
    """Longest time that one bucket spans, in seconds."""
    bucket_rounding_seconds: Annotated[int, Field(ge=1, le=31_536_000)] | None = None
    """What a bucket's start is rounded down to, in seconds; equal to bucketMaxSpanSeconds."""
    expire_after_seconds: Annotated[int, Field(ge=0, le=MAX_SECONDS)] | None = None
    """Age in seconds at which documents expire."""


class ClusteredIndex(SpecModel):
    """Documents are stored in the order of `_id`."""

    name: IndexName | None = None
    """Name of the clustered index."""
    unique: Annotated[
        bool, Rules(Rule("self", "A clustered index is always unique; set unique to true."))
    ] = True
    """Always true."""
    expire_after_seconds: Annotated[int, Field(ge=0, le=MAX_SECONDS)] | None = None
    """Age in seconds, by the date in `_id`, at which documents expire."""


class PreAndPostImages(SpecModel):
    """Whether change streams can show documents as they were before and after a change."""

    enabled: bool
    """Keep the images."""


class ValidationLevel(StrEnum):
    """Which writes the validator looks at."""

    OFF = "off"
    STRICT = "strict"
    MODERATE = "moderate"


class ValidationAction(StrEnum):
    """What happens to a document that breaks the validator."""

    ERROR = "error"
    WARN = "warn"
    ERROR_AND_LOG = "errorAndLog"


class TtlPolicy(StrEnum):
    """Whether a declared TTL is only watched or also set on keys that have none."""

    REPORT = "Report"
    ENFORCE = "Enforce"


KeyPattern = Annotated[
    str,
    StringConstraints(min_length=1, max_length=256),
    Rules(
        Rule(
            r"self.matches('^([^{}\\s,*?\\[\\]\\\\]|\\{[A-Za-z_][A-Za-z0-9_]*\\})+$')",
            "Write a key pattern from literal text and placeholders such as {id}; "
            "blanks, commas and the signs * ? [ ] \\ are not allowed.",
        ),
        Rule(
            "!self.startsWith('{')",
            "A key pattern must start with literal text, so that it cannot match all keys.",
        ),
        Rule("!self.contains('}{')", "Two placeholders must have literal text between them."),
    ),
]
"""Redis keys: `{x}` stands for one segment without a colon, everything else is literal."""


class CacheKeySpace(SpecModel):
    """The Redis keys of this entity that match one pattern."""

    key_pattern: KeyPattern
    """Pattern of the keys; `{x}` is one segment without a colon."""
    ttl_seconds: Annotated[int, Field(ge=1, le=315_360_000)]
    """The longest time that such a key may live, in seconds."""
    ttl_policy: TtlPolicy = TtlPolicy.REPORT
    """Report counts keys without TTL; Enforce gives them one. The first Enforce needs allowDataLoss."""


_TIME_SERIES_ALONE = Rule(
    "!has(self.timeSeries) || !(has(self.validator) || has(self.validationLevel) || "
    "has(self.validationAction) || has(self.preAndPostImages))",
    "A time-series collection can have no validator and no pre- and post-images; remove them.",
)

_NAMESPACE_LENGTH = Rule(
    "!has(self.database) || !has(self.name) || size(bytes(self.database)) + size(bytes(self.name)) <= 254",
    "database and name together are too long: MongoDB allows 255 bytes for both with the dot; shorten one.",
)


class CollectionSpec(SpecModel):
    """What a collection should be. A field that is absent is left as the server has it."""

    rules: ClassVar[tuple[Rule, ...]] = (
        immutable_optional("connection"),
        immutable_optional("database"),
        immutable_optional("name"),
        at_most_one("capped", "timeSeries", "clusteredIndex"),
        _TIME_SERIES_ALONE,
        _NAMESPACE_LENGTH,
    )

    connection: Connection | None = None
    """Credentials of its own; without it, the operator's."""
    database: DatabaseName | None = None
    """Database of the collection; without it, MONGODB_DATABASE of the operator. Pinned in status."""
    name: CollectionName | None = None
    """Name of the collection; without it, the name of the resource."""
    capped: Capped | None = None
    """Fixed size. Resized in place; an existing collection is not turned into a capped one."""
    time_series: TimeSeries | None = None
    """Time series. Set when the collection is created."""
    clustered_index: ClusteredIndex | None = None
    """Clustered by `_id`. Set when the collection is created."""
    collation: Collation | None = None
    """Default collation. Set when the collection is created."""
    pre_and_post_images: PreAndPostImages | None = None
    """Document images for change streams."""
    validator: JsonDoc | None = None
    """Extended JSON. `{}` means none; absent means unmanaged. Operators that run JavaScript are refused."""
    validation_level: ValidationLevel | None = None
    """Which writes the validator looks at."""
    validation_action: ValidationAction | None = None
    """What happens to a document that breaks the validator. errorAndLog needs MongoDB 8.1."""
    cache: Annotated[list[CacheKeySpace], Field(max_length=32), ListMap("keyPattern")] | None = None
    """The Redis key spaces of this entity."""
    deletion_policy: DeletionPolicy = DeletionPolicy.RETAIN
    """Retain keeps the data. Delete drops what was created here; adopted data also needs the annotation
    `storage.lucid-blockchain.org/confirm-delete` with the target as its value."""
    drift_policy: DriftPolicy = DriftPolicy.CORRECT
    """What happens when somebody else changes the collection."""
    allow_data_loss: Consent | None = None
    """Consent to a change that loses data: the target (`<database>.<collection>` or a keyPattern), or several
    separated by commas."""
    backup_before: bool = False
    """Make a verified backup before a change that loses data."""


class ViolationReport(StatusModel):
    """How many documents the declared validator would refuse, as far as the time for counting went."""

    checked: Count
    """Documents looked at."""
    violating: Count
    """Documents that break the validator."""
    complete: bool
    """Whether all documents were looked at."""
    validator_hash: ShortText
    """Which validator this was counted for."""


class KeySpaceStatus(StatusModel):
    """One Redis key space as the last whole scan saw it."""

    key_pattern: ShortText
    """Pattern of the keys."""
    keys: Count | None = None
    """Keys that match."""
    sampled_bytes: Count | None = None
    """Memory of the sampled keys, in bytes."""
    strays: Count | None = None
    """Keys without any TTL."""
    over_ttl: Count | None = None
    """Keys with a longer TTL than declared."""
    corrected: Count | None = None
    """Keys that got their TTL in that scan."""
    scanned_at: datetime | None = None
    """When the scan ended."""
    enforced: bool | None = None
    """Whether the TTL has been enforced before, so that no further consent is needed."""
    enforced_on: ShortText | None = None
    """In which Redis: the master's replication id and the number of the database. In another one it is counted anew."""


class CollectionStatus(KindStatus):
    """What is known of the collection."""

    database: ShortText | None = None
    """The database this resource was settled on; a changed setting of the operator does not move it."""
    target: Annotated[str, StringConstraints(max_length=512)] | None = None
    """`<database>.<collection>`."""
    server_identity: ShortText | None = None
    """The deployment that holds the collection, by its own id and not by its address."""
    uuid: ShortText | None = None
    """The server's UUID of the collection."""
    origin: Origin | None = None
    """Created here, or adopted."""
    managed_fields: ManagedFields | None = None
    """Fields that are or were declared; one that is removed returns to the server's default."""
    drift: Drift | None = None
    """Differences between server and declaration, at most 20."""
    drift_summary: ShortText | None = None
    """The DRIFT column."""
    documents: Count | None = None
    """Documents, as of statsTime."""
    size_bytes: Count | None = None
    """Size of the data in bytes, as of statsTime."""
    size: ShortText | None = None
    """The SIZE column."""
    stats_time: datetime | None = None
    """When the figures were taken. They move at most every 15 minutes, by 10 percent or more."""
    violations: ViolationReport | None = None
    """What was counted before the validator was changed."""
    cache: Annotated[list[KeySpaceStatus], Field(max_length=32), ListMap("keyPattern")] | None = None
    """The Redis key spaces."""
    protection: Protection | None = None
    """The Backup before a change that loses data."""
    message: Annotated[str, StringConstraints(max_length=2048)] | None = None
    """The MESSAGE column: what to do, or nothing."""
