"""Index: a MongoDB index, or an Elasticsearch index series with template, mappings, aliases and lifecycle."""

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
    IndexName,
    JsonDoc,
    KindStatus,
    ManagedFields,
    Origin,
    ShortText,
    SpecModel,
    StatusModel,
    Text,
)
from lucid_storage.models.cel import IntOrString, ListMap, ListSet, Rule, Rules, immutable, immutable_optional
from lucid_storage.models.collation import Collation
from lucid_storage.models.collection import MAX_SECONDS


class Engine(StrEnum):
    """Which store the index lives in."""

    MONGODB = "mongodb"
    ELASTICSEARCH = "elasticsearch"


class ReplacePolicy(StrEnum):
    """What happens when old and new index cannot live side by side."""

    REFUSE = "Refuse"
    DROP_FIRST = "DropFirst"


IndexOrder = Annotated[
    Literal[1, -1, "2d", "2dsphere", "text", "hashed"],
    IntOrString(),
    Rules(
        Rule(
            "type(self) == int ? self == 1 || self == -1 : self in ['2d', '2dsphere', 'text', 'hashed']",
            "order must be 1, -1, 2d, 2dsphere, text or hashed.",
        )
    ),
]


_PATH_PART = "[^.$][^.]*|[$](id|ref|db)|[$][*][*]$"
"""Of a regular expression: plain, a part of a DBRef, or a wildcard, which ends the path."""


class IndexKey(SpecModel):
    """One field of the key pattern."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!self.field.endsWith('$**') || self.order == 1 || self.order == -1 || self.order == 'text'",
            "A wildcard field takes the order 1, -1 or text.",
        ),
        Rule(
            f"self.field.matches('^({_PATH_PART})([.]({_PATH_PART}))*$')",
            "No part of a field path can start with $, but for a wildcard such as data.$** at its end.",
        ),
    )

    field: FieldPath
    """Path of the field, a wildcard such as `$**` or `data.$**`, or `_id`."""
    order: IndexOrder
    """1, -1, "2d", "2dsphere", "text" or "hashed"."""


_ANY_TEXT = "self.keys.exists(k, k.order == 'text')"
_PLAIN_WILDCARD = "self.keys.exists(k, (k.field == '$**' || k.field.endsWith('.$**')) && k.order != 'text')"

_INDEX_RULES = (
    immutable_optional("database"),
    Rule(
        "self.keys.all(k, self.keys.exists_one(other, other.field == k.field))",
        "A field can stand only once in keys; remove the second one.",
    ),
    Rule(
        "!has(self.expireAfterSeconds) || self.keys.size() == 1",
        "A TTL index has exactly one field; remove expireAfterSeconds or the other fields.",
    ),
    Rule(
        "!has(self.expireAfterSeconds) || self.keys.all(k, k.field != '_id')",
        "A TTL index on _id is not possible; name a field with a date.",
    ),
    Rule(
        "!has(self.expireAfterSeconds) || self.keys.all(k, k.order in [1, -1] && !k.field.endsWith('$**'))",
        "A TTL index has the order 1 or -1 on one plain field.",
    ),
    Rule(
        "!(self.keys.size() == 1 && self.keys[0].field == '_id' && self.keys[0].order in [1, -1])",
        "The index on _id is made by MongoDB itself and cannot be declared.",
    ),
    Rule(
        "self.keys.filter(k, k.order == 'hashed').size() <= 1",
        "An index can have only one hashed field; give the others 1 or -1.",
    ),
    Rule(
        "!(has(self.unique) && self.unique) || !self.keys.exists(k, k.order in ['hashed', 'text'])",
        "A hashed or text index cannot be unique; remove unique.",
    ),
    Rule(
        "!(has(self.sparse) && self.sparse && has(self.partialFilterExpression))",
        "sparse and partialFilterExpression exclude one another; keep partialFilterExpression.",
    ),
    Rule(
        f"!({_ANY_TEXT}) || !self.keys.exists(k, k.order in ['hashed', '2d', '2dsphere'])",
        "A text index cannot also have hashed, 2d or 2dsphere fields.",
    ),
    Rule(
        "self.keys.filter(k, k.order == '2d').size() == 0 || self.keys[0].order == '2d' && "
        "self.keys.filter(k, k.order == '2d').size() == 1 && "
        "!self.keys.exists(k, k.order in ['hashed', '2dsphere', 'text'])",
        "A 2d field must be the first one, and no other special field can stand beside it.",
    ),
    Rule(
        "!self.keys.exists(k, k.order == 'hashed') || !self.keys.exists(k, k.order == '2dsphere')",
        "A hashed field cannot stand beside a 2dsphere field.",
    ),
    Rule(
        "!has(self.wildcardProjection) || self.keys.exists(k, k.field == '$**' && k.order != 'text')",
        "wildcardProjection belongs to an index on the field $** alone; remove it or index $**.",
    ),
    Rule(
        f"!({_PLAIN_WILDCARD}) || !((has(self.unique) && self.unique) || (has(self.sparse) && self.sparse))",
        "A wildcard index cannot be unique or sparse; remove that.",
    ),
    Rule(
        "self.keys.filter(k, k.field == '$**' || k.field.endsWith('.$**')).size() <= 1",
        "An index can have only one wildcard field.",
    ),
    Rule(
        f"{_ANY_TEXT} || !(has(self.weights) || has(self.defaultLanguage) || has(self.languageOverride) "
        "|| has(self.textIndexVersion))",
        "weights, defaultLanguage, languageOverride and textIndexVersion need a text index; remove them.",
    ),
    Rule(
        "self.keys.exists(k, k.order == '2d') || !(has(self.bits) || has(self.min) || has(self.max))",
        "bits, min and max belong to a 2d index; remove them.",
    ),
    Rule("!(has(self.min) && has(self.max)) || self.min < self.max", "min must be smaller than max."),
    Rule(
        f"!({_ANY_TEXT}) || !has(self.collation) || self.collation.locale == 'simple'",
        "A text index takes only the collation simple; set collation.locale to simple.",
    ),
    Rule(
        "!self.keys.exists(k, k.order == '2d') || !has(self.collation) || self.collation.locale == 'simple'",
        "A 2d index takes only the collation simple; set collation.locale to simple.",
    ),
    Rule(
        "!has(self.database) || size(bytes(self.database)) + size(bytes(self.collection)) <= 254",
        "database and collection together are too long: MongoDB allows 255 bytes for both with the dot.",
    ),
)


class MongoIndex(SpecModel):
    """An index of a MongoDB collection. Its definition is whole: what is absent is the server's default."""

    rules: ClassVar[tuple[Rule, ...]] = _INDEX_RULES

    database: DatabaseName | None = None
    """Database of the collection; without it, MONGODB_DATABASE of the operator. Pinned in status."""
    collection: Annotated[CollectionName, Rules(immutable("collection"))]
    """Name of the collection."""
    keys: Annotated[list[IndexKey], Field(min_length=1, max_length=32)]
    """The key pattern, in order."""
    unique: bool | None = None
    """No two documents with equal keys."""
    sparse: bool | None = None
    """Leave out documents without the field."""
    expire_after_seconds: Annotated[int, Field(ge=0, le=MAX_SECONDS)] | None = None
    """TTL: age in seconds, by the indexed date, at which documents are deleted."""
    partial_filter_expression: JsonDoc | None = None
    """Index only documents that match; Extended JSON."""
    collation: Collation | None = None
    """Rules for comparing strings; without it, those of the collection."""
    hidden: bool | None = None
    """The planner does not use the index; it is kept up to date. Absent means unmanaged."""
    wildcard_projection: JsonDoc | None = None
    """Which fields an index on `$**` has."""
    weights: Annotated[dict[str, Annotated[int, Field(ge=1, le=99_999)]], Field(max_length=32)] | None = None
    """Weights of the fields of a text index; 1 where none is given."""
    default_language: Annotated[str, StringConstraints(min_length=1, max_length=32)] | None = None
    """Language of a text index; the server's default is english."""
    language_override: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None
    """The field that names a document's language; the server's default is language."""
    text_index_version: Annotated[int, Field(ge=1, le=4)] | None = None
    """Version of the text index."""
    bits: Annotated[int, Field(ge=1, le=32)] | None = None
    """Precision of a 2d index, 1 to 32; the server's default is 26."""
    min: Annotated[float, Field(ge=-1e9, le=1e9)] | None = None
    """Lower bound of a 2d index; the server's default is -180."""
    max: Annotated[float, Field(ge=-1e9, le=1e9)] | None = None
    """Upper bound of a 2d index; the server's default is 180."""
    drop_after_seconds: Annotated[int, Field(ge=0, le=604_800)] | None = None
    """How long a superseded index stays hidden before it is dropped, in seconds; without it, 600."""


class ManagedBy(StrEnum):
    """Who carries out the lifecycle."""

    SERVER = "Server"
    OPERATOR = "Operator"


Days = Annotated[int, Field(ge=1, le=36_500)]


class Lifecycle(SpecModel):
    """Days counted from the end of an index's month. Each one says until when the phase before it lasts."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.hotDays <= self.warmDays && self.warmDays <= self.coldDays && "
            "self.coldDays <= self.deleteDays",
            "The days must ascend: hotDays, warmDays, coldDays, deleteDays.",
        ),
    )

    hot_days: Days = 7
    """Hot until this day, then warm."""
    warm_days: Days = 30
    """Warm until this day, then cold."""
    cold_days: Days = 90
    """Cold until this day."""
    delete_days: Days = 90
    """Deleted on this day."""
    managed_by: ManagedBy = ManagedBy.SERVER
    """Server uses index lifecycle management. Operator makes and deletes monthly indices only; that is also
    what happens where the server has no lifecycle management."""


IndexPattern = Annotated[
    str,
    StringConstraints(min_length=11, max_length=200),
    Rules(
        Rule(
            "self.matches('^[a-z0-9][a-z0-9._-]*-[{]YYYY[.]MM[}]$')",
            "Write the pattern as lower-case letters, digits, - _ and . followed by -{YYYY.MM}, "
            "such as lucid-sessions-{YYYY.MM}.",
        ),
        immutable("pattern"),
    ),
]

AliasName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200),
    Rules(
        Rule(
            "self.matches('^[a-z0-9][a-z0-9._-]*$')",
            "An alias is made of lower-case letters, digits, - _ and . and starts with a letter or digit.",
        )
    ),
]


class ElasticIndex(SpecModel):
    """A monthly series of Elasticsearch indices. What is absent is unmanaged."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.aliases) || self.aliases.all(a, a + '-{YYYY.MM}' != self.pattern)",
            "The pattern without its date is the write alias already; remove it from aliases.",
        ),
    )

    pattern: IndexPattern
    """Name of the indices with the month at its end: `lucid-sessions-{YYYY.MM}`. Without the date it is the
    write alias."""
    mappings: JsonDoc | None = None
    """Body of the mappings. Fields are added in place; what needs a reindex is refused."""
    settings: JsonDoc | None = None
    """Index settings, flat or nested."""
    aliases: Annotated[list[AliasName], Field(max_length=16), ListSet()] | None = None
    """Names under which all indices of the series are read."""
    priority: Annotated[int, Field(ge=0, le=2_147_483_647)] | None = None
    """Priority of the template among those that match."""
    lifecycle: Lifecycle | None = None
    """Phases and deletion; absent means unmanaged."""


class IndexSpec(SpecModel):
    """What an index should be, in one of the two engines."""

    rules: ClassVar[tuple[Rule, ...]] = (
        immutable_optional("connection"),
        immutable_optional("name"),
        Rule(
            "has(self.mongodb) == (self.engine == 'mongodb') && "
            "has(self.elasticsearch) == (self.engine == 'elasticsearch')",
            "Fill exactly the block that engine names: mongodb or elasticsearch.",
        ),
        Rule(
            "self.engine == 'mongodb' || !has(self.name)",
            "name belongs to engine mongodb; an Elasticsearch index is named by its pattern.",
        ),
    )

    connection: Connection | None = None
    """Credentials of its own; without it, the operator's."""
    engine: Annotated[Engine, Rules(immutable("engine"))]
    """Which store the index lives in."""
    name: IndexName | None = None
    """Name of a MongoDB index; without it, `{collection}_{field}_{order}` and so on for each field."""
    mongodb: MongoIndex | None = None
    """The index, for engine mongodb."""
    elasticsearch: ElasticIndex | None = None
    """The indices, for engine elasticsearch."""
    drift_policy: DriftPolicy = DriftPolicy.CORRECT
    """What happens when somebody else changes the index."""
    deletion_policy: DeletionPolicy = DeletionPolicy.RETAIN
    """Retain keeps the index. Delete drops what was created here; what was adopted also needs the annotation
    `storage.lucid-blockchain.org/confirm-delete` with the target as its value."""
    allow_data_loss: Text | None = None
    """Consent to a change that loses data (a new or shorter TTL or lifecycle): the target
    (`<database>.<collection>` or the pattern), or several separated by commas."""
    backup_before: bool = False
    """Make a verified backup before a change that loses data."""
    replace_policy: ReplacePolicy = ReplacePolicy.REFUSE
    """Whether an index may be dropped before its successor is built, where both cannot live side by side."""


class PendingIndex(StatusModel):
    """The successor that is being built."""

    index_name: ShortText
    """Its name on the server."""
    generation: Count
    """The generation of the spec that asked for it."""


class SupersededIndex(StatusModel):
    """An index that was replaced and will be dropped."""

    index_name: ShortText
    """Its name on the server."""
    hidden_at: datetime | None = None
    """When it was hidden; it is dropped dropAfterSeconds later."""


class DuplicateSummary(StatusModel):
    """Documents with equal keys that stand in the way of a unique index. Holds no value of a document."""

    key_pattern: Annotated[str, StringConstraints(max_length=1024)]
    """The key pattern."""
    groups: Count
    """Repeated keys."""
    documents: Count
    """Documents that have one of them."""
    complete: bool
    """Whether all documents were looked at."""
    examples: Annotated[list[Annotated[list[ShortText], Field(max_length=5)]], Field(max_length=5)] | None = (
        None
    )
    """`_id`s of a few groups: ObjectId, UUID or integer, others as a short hash."""


class ElasticStatus(StatusModel):
    """The parts of an Elasticsearch index series."""

    template: ShortText | None = None
    """Name of the index template."""
    write_alias: ShortText | None = None
    """The alias that applications write to."""
    write_index: ShortText | None = None
    """The index behind it."""
    next_index: ShortText | None = None
    """Next month's index, made in advance."""
    indices: Count | None = None
    """Indices of the series."""
    policy: ShortText | None = None
    """Name of the lifecycle policy on the server."""
    managed_by: ManagedBy | None = None
    """Who carries out the lifecycle."""
    health: ShortText | None = None
    """green, yellow or red: the worst of the series."""


class IndexStatus(KindStatus):
    """What is known of the index."""

    engine: Engine | None = None
    """The ENGINE column."""
    database: ShortText | None = None
    """The database this resource was settled on; a changed setting of the operator does not move it."""
    target: Annotated[str, StringConstraints(max_length=512)] | None = None
    """`<database>.<collection>`, or the pattern."""
    keys: Annotated[str, StringConstraints(max_length=1024)] | None = None
    """The KEYS column."""
    index_name: ShortText | None = None
    """The index that serves now; it ends in `_g<generation>` after a replacement."""
    origin: Origin | None = None
    """Created here, or adopted."""
    server_identity: ShortText | None = None
    """The deployment that holds the index, by its own id and not by its address."""
    managed_fields: ManagedFields | None = None
    """Fields that are or were declared; one that is removed returns to the server's default."""
    drift: Drift | None = None
    """Differences between server and declaration, at most 20."""
    drift_summary: ShortText | None = None
    """Drift in a few words."""
    progress: ShortText | None = None
    """The PROGRESS column: percent of a build."""
    pending: PendingIndex | None = None
    """The successor that is being built."""
    superseded: Annotated[list[SupersededIndex], Field(max_length=16), ListMap("indexName")] | None = None
    """Replaced indexes that are still there."""
    duplicates: DuplicateSummary | None = None
    """What stands in the way of a unique index."""
    documents: Count | None = None
    """Documents of the Elasticsearch series."""
    size_bytes: Count | None = None
    """Size of the index in bytes."""
    elasticsearch: ElasticStatus | None = None
    """The parts of an Elasticsearch index series."""
    message: Annotated[str, StringConstraints(max_length=2048)] | None = None
    """What to do, or nothing."""
