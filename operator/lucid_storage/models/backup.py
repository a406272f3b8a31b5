"""Backup: one full, incremental or differential backup. Immutable, so that it says what was done."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from lucid_storage.models.backupselection import (
    BackupEngine,
    BackupType,
    ChainName,
    ElasticMethod,
    ElasticSelection,
    Engines,
    IndexExpression,
    MongoSelection,
    NamespaceName,
    ReadPreference,
    RedisSelection,
    Verify,
    VolumeMethod,
    VolumeSelection,
)
from lucid_storage.models.base import (
    Connection,
    Count,
    DeletionPolicy,
    KindStatus,
    ShortText,
    SpecModel,
    StatusModel,
)
from lucid_storage.models.cel import ListMap, Rule, immutable_all, rising_flag
from lucid_storage.models.storage import Compression, Encryption, Storage

__all__ = [
    "SELECTION_RULES",
    "BackupEngine",
    "BackupPhase",
    "BackupSpec",
    "BackupStatus",
    "BackupTemplate",
    "BackupType",
    "ChainName",
    "ElasticMethod",
    "ElasticSelection",
    "EngineResult",
    "Engines",
    "IndexExpression",
    "MongoSelection",
    "NamespaceName",
    "ReadPreference",
    "RedisSelection",
    "VerificationResult",
    "Verify",
    "VolumeMethod",
    "VolumeSelection",
]


SELECTION_RULES = (
    Rule(
        "!has(self.engines) || (!has(self.mongodb) || 'mongodb' in self.engines) && "
        "(!has(self.redis) || 'redis' in self.engines) && "
        "(!has(self.elasticsearch) || 'elasticsearch' in self.engines) && "
        "(!has(self.volumes) || self.volumes.size() == 0 || 'volumes' in self.engines)",
        "A block is filled for an engine that engines does not name; add the engine or remove the block.",
    ),
    Rule(
        "!has(self.encryption) || !has(self.elasticsearch) || self.elasticsearch.method != 'Snapshot' || "
        "self.elasticsearch.allowUnencrypted",
        "An Elasticsearch snapshot is not encrypted: use the method Export, or set allowUnencrypted to true.",
    ),
)


class BackupTemplate(SpecModel):
    """What is backed up, how and where to: the part that a schedule and a Backup share."""

    rules: ClassVar[tuple[Rule, ...]] = SELECTION_RULES

    connection: Connection | None = None
    """Credentials of its own; without it, the operator's."""
    type: BackupType = BackupType.FULL
    """full, incremental (what came since the last backup of the chain) or differential (since its full)."""
    chain: ChainName | None = None
    """Backups of one chain build on one another; without it, the schedule's name, else manual."""
    engines: Engines | None = None
    """Which stores; without it, all that are configured for a full, and mongodb for the other types."""
    mongodb: MongoSelection | None = None
    """What of MongoDB."""
    redis: RedisSelection | None = None
    """Redis, whole."""
    elasticsearch: ElasticSelection | None = None
    """What of Elasticsearch."""
    volumes: Annotated[list[VolumeSelection], Field(max_length=32), ListMap("name")] | None = None
    """Which volumes."""
    storage: Storage | None = None
    """Where to; without it, BACKUP_STORAGE_TYPE and BACKUP_STORAGE_PATH of the operator."""
    compression: Compression | None = None
    """How data are compressed; without it, BACKUP_COMPRESSION of the operator."""
    encryption: Encryption | None = None
    """Encryption with a key of your own."""
    verify: Verify = Verify.CHECKSUM
    """Upload: the destination confirmed size and checksum. Checksum: all bytes were read back. Restore: it
    was restored into a scratch database."""
    deletion_policy: DeletionPolicy = DeletionPolicy.RETAIN
    """Whether the data go when the resource is deleted."""


class BackupSpec(BackupTemplate):
    """One backup. Only cancel, deletionPolicy and retentionDays can be changed."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *SELECTION_RULES,
        *immutable_all(
            "A backup says what was done and cannot be changed; create another Backup.",
            required=("type", "verify"),
            optional=(
                "connection",
                "chain",
                "engines",
                "mongodb",
                "redis",
                "elasticsearch",
                "volumes",
                "storage",
                "compression",
                "encryption",
            ),
        ),
        rising_flag("cancel"),
    )

    retention_days: Annotated[int, Field(ge=1, le=365)] | None = None
    """Days that a backup made by hand is kept; without it, BACKUP_RETENTION_DAYS of the operator (30)."""
    cancel: bool = False
    """Set to true to stop it; what was uploaded is removed. It cannot be set back."""


class BackupPhase(StrEnum):
    """Where a backup stands."""

    PENDING = "Pending"
    QUEUED = "Queued"
    RUNNING = "Running"
    VERIFYING = "Verifying"
    COMPLETED = "Completed"
    PARTIALLY_FAILED = "PartiallyFailed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    EXPIRED = "Expired"


class EngineResult(StatusModel):
    """What became of one engine."""

    engine: BackupEngine
    """Which store."""
    phase: BackupPhase
    """Where it stands."""
    reason: ShortText | None = None
    """Why it failed, as one word."""
    message: Annotated[str, StringConstraints(max_length=1024)] | None = None
    """What to do."""
    documents: Count | None = None
    """Documents, keys or files."""
    size_bytes: Count | None = None
    """Bytes read from the store."""
    stored_bytes: Count | None = None
    """Bytes in the destination."""
    taken_at: datetime | None = None
    """The moment that the engine's data are consistent to."""
    server_identity: ShortText | None = None
    """The MongoDB deployment or Elasticsearch cluster that was read, by its own id."""
    in_cluster: bool | None = None
    """The data lie only inside the cluster, as a CSI snapshot does."""
    unencrypted: bool | None = None
    """The data lie unencrypted, as an Elasticsearch snapshot does."""


class VerificationResult(StatusModel):
    """The last check that passed."""

    level: Verify
    """How it was checked."""
    at: datetime
    """When."""
    seconds: Annotated[int, Field(ge=0, le=31_536_000)] | None = None
    """How long it took."""


class BackupStatus(KindStatus):
    """What became of the backup."""

    phase: BackupPhase | None = None
    """The PHASE column."""
    id: ShortText | None = None
    """UUID of the backup, also in its manifest and in the REST API."""
    type: BackupType | None = None
    """What was made; a schedule's first one is a full whatever the template says."""
    chain: ShortText | None = None
    """The chain that it belongs to."""
    timeline: ShortText | None = None
    """UUID of the timeline: one chain from one full on, without a hole."""
    parent: ShortText | None = None
    """Id of the backup that it follows."""
    base: ShortText | None = None
    """Id of the full that it needs."""
    from_time: datetime | None = Field(None, alias="from")
    """Start of what it holds."""
    to: datetime | None = None
    """It restores the state of this moment."""
    from_optime: ShortText | None = None
    """`from` in MongoDB's own clock: seconds, counter and term."""
    to_optime: ShortText | None = None
    """`to` in MongoDB's own clock: seconds, counter and term."""
    skew_seconds: Annotated[int, Field(ge=0, le=31_536_000)] | None = None
    """Largest distance in time between the engines."""
    engines: Annotated[list[EngineResult], Field(max_length=4), ListMap("engine")] | None = None
    """The engines one by one."""
    progress: ShortText | None = None
    """The PROGRESS column."""
    size_bytes: Count | None = None
    """Bytes read from the stores."""
    stored_bytes: Count | None = None
    """Bytes in the destination."""
    size: ShortText | None = None
    """The SIZE column: bytes in the destination."""
    location: Annotated[str, StringConstraints(max_length=1024)] | None = None
    """Where the data lie, without credentials."""
    encrypted: bool | None = None
    """Whether the archive is encrypted."""
    key_id: ShortText | None = None
    """Id of the key that it needs."""
    manifest_sha256: ShortText | None = None
    """SHA-256 of the manifest."""
    server_identity: ShortText | None = None
    """The deployment that was read, by its own id."""
    verified: ShortText | None = None
    """The VERIFIED column: the level that passed, or why none did."""
    verification: VerificationResult | None = None
    """The last check that passed."""
    schedule: ShortText | None = None
    """The schedule that made it."""
    slot: datetime | None = None
    """The scheduled time that it was made for."""
    queued_behind: ShortText | None = None
    """What it waits for."""
    trouble_since: datetime | None = None
    """Since when something stands in its way; after an hour of that it is given up."""
    snapshots_since: datetime | None = None
    """Since when the storage is waited for to take its snapshots."""
    job_name: ShortText | None = None
    """The Job that does the work."""
    run: ShortText | None = None
    """Id of the run; a worker of another run may no longer act."""
    queued_at: datetime | None = None
    """When it was queued."""
    started_at: datetime | None = None
    """When the work began."""
    completed_at: datetime | None = None
    """When it ended, well or not."""
    expires_at: datetime | None = None
    """When retention may remove it."""
    expires: ShortText | None = None
    """The EXPIRES column."""
    retained_because: Annotated[str, StringConstraints(max_length=512)] | None = None
    """Why it is kept although it expired."""
