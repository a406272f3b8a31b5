"""Index: a MongoDB index, or an Elasticsearch index series with template, mappings, aliases and lifecycle."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from lucid_storage.models.base import (
    Connection,
    Consent,
    Count,
    DeletionPolicy,
    Drift,
    DriftPolicy,
    IndexName,
    KindStatus,
    ManagedFields,
    Origin,
    Protection,
    ShortText,
    SpecModel,
    StatusModel,
)
from lucid_storage.models.cel import ListMap, Rule, Rules, immutable, immutable_optional
from lucid_storage.models.elasticindex import ElasticIndex, Lifecycle, ManagedBy
from lucid_storage.models.mongoindex import IndexKey, MongoIndex

__all__ = [
    "DuplicateSummary",
    "ElasticIndex",
    "ElasticStatus",
    "Engine",
    "IndexKey",
    "IndexSpec",
    "IndexStatus",
    "Lifecycle",
    "ManagedBy",
    "MongoIndex",
    "PendingIndex",
    "ReplacePolicy",
    "SupersededIndex",
]


class Engine(StrEnum):
    """Which store the index lives in."""

    MONGODB = "mongodb"
    ELASTICSEARCH = "elasticsearch"


class ReplacePolicy(StrEnum):
    """What happens when old and new index cannot live side by side."""

    REFUSE = "Refuse"
    DROP_FIRST = "DropFirst"


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
    allow_data_loss: Consent | None = None
    """Consent to a change that loses data (a new or shorter TTL or lifecycle): the target
    (`<database>.<collection>` or the pattern), or several separated by commas."""
    backup_before: bool = False
    """Make a verified backup before a change that loses data."""
    replace_policy: ReplacePolicy = ReplacePolicy.REFUSE
    """Whether an index may be dropped before its successor is built, where both cannot live side by side."""


ServerName = Annotated[str, StringConstraints(max_length=600)]
"""An index name with the suffix of a replacement."""


class PendingIndex(StatusModel):
    """The successor that is being built."""

    index_name: ServerName
    """Its name on the server."""
    generation: Count
    """The generation of the spec that asked for it."""


class SupersededIndex(StatusModel):
    """An index that was replaced and will be dropped."""

    index_name: ServerName
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
    oldest: ShortText | None = None
    """The oldest month of the series; an index of an earlier one that turns up overdue is left alone."""
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
    index_name: ServerName | None = None
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
    protection: Protection | None = None
    """The Backup before a change that loses data."""
    message: Annotated[str, StringConstraints(max_length=2048)] | None = None
    """What to do, or nothing."""
