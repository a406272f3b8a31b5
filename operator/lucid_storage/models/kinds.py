"""The seven kinds: their names, models and columns. CRDs, pages and chart are made from this table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lucid_storage.models.backup import BackupSpec, BackupStatus
from lucid_storage.models.backupschedule import BackupScheduleSpec, BackupScheduleStatus
from lucid_storage.models.base import KindStatus, SpecModel
from lucid_storage.models.cel import Rule
from lucid_storage.models.collection import CollectionSpec, CollectionStatus
from lucid_storage.models.index import IndexSpec, IndexStatus
from lucid_storage.models.restore import RestoreSpec, RestoreStatus
from lucid_storage.models.shardedcollection import ShardedCollectionSpec, ShardedCollectionStatus
from lucid_storage.models.volume import VolumeSpec, VolumeStatus


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`. One with priority 1 is shown by `-o wide` only."""

    name: str
    path: str
    description: str
    type: str = "string"
    priority: int = 0


@dataclass(frozen=True, slots=True)
class KindInfo:
    """Everything that is said of a kind as a whole. `rules` see the whole object, its name included."""

    kind: str
    plural: str
    short: str
    spec: type[SpecModel]
    status: type[KindStatus]
    columns: tuple[Column, ...]
    summary: str
    """One sentence that says what the kind is for."""
    conditions: tuple[str, ...]
    """Conditions besides Ready, Reconciling and Stalled."""
    rules: tuple[Rule, ...] = ()

    @property
    def singular(self) -> str:
        return self.kind.lower()


def _ready() -> Column:
    return Column("READY", '.status.conditions[?(@.type=="Ready")].status', "Whether all is as declared.")


_TARGET = Column("TARGET", ".status.target", "The real object.")

# An omitted spec.name stands for metadata.name, which is judged like it.
_COLLECTION_NAMED_BY_RESOURCE = (
    Rule(
        "has(self.spec.name) || !self.metadata.name.startsWith('system.')",
        "Collections whose name starts with system. belong to MongoDB itself; choose another name.",
    ),
    Rule(
        "has(self.spec.name) || !has(self.spec.database) || "
        "size(bytes(self.spec.database)) + size(self.metadata.name) <= 254",
        "database and metadata.name together are too long: MongoDB allows 255 bytes for both with the dot; "
        "shorten one.",
    ),
)


def _name_limit(limit: int) -> Rule:
    """A Job's name has 63 characters, of which time, run and our suffixes need the rest."""
    return Rule(
        f"self.metadata.name.size() <= {limit}",
        f"The name is too long: names of Backups and Jobs are made from it; use at most {limit} characters.",
    )


COLLECTION = KindInfo(
    kind="Collection",
    summary="A MongoDB collection with its options, and the Redis key spaces of the same entity.",
    plural="collections",
    short="lcol",
    spec=CollectionSpec,
    status=CollectionStatus,
    columns=(
        _TARGET,
        Column("DOCUMENTS", ".status.documents", "Documents.", type="integer"),
        Column("SIZE", ".status.size", "Size of the data."),
        Column("DRIFT", ".status.driftSummary", "Whether the server differs from the declaration."),
        _ready(),
        Column("MESSAGE", ".status.message", "What to do, or nothing.", priority=1),
    ),
    conditions=("Drifted", "Paused"),
    rules=_COLLECTION_NAMED_BY_RESOURCE,
)

INDEX = KindInfo(
    kind="Index",
    summary="An index of a MongoDB collection, or a monthly series of Elasticsearch indices.",
    plural="indexes",
    short="lidx",
    spec=IndexSpec,
    status=IndexStatus,
    columns=(
        Column("ENGINE", ".spec.engine", "The store that it lives in."),
        _TARGET,
        Column("KEYS", ".status.keys", "The key pattern, or the write alias."),
        Column("PROGRESS", ".status.progress", "Percent of a build."),
        _ready(),
    ),
    conditions=("Drifted", "Paused"),
)

SHARDED_COLLECTION = KindInfo(
    kind="ShardedCollection",
    summary="The shard key of a MongoDB collection, its zones and its balancing.",
    plural="shardedcollections",
    short="lshard",
    spec=ShardedCollectionSpec,
    status=ShardedCollectionStatus,
    columns=(
        _TARGET,
        Column("KEY", ".status.key", "The shard key."),
        Column("SHARDS", ".status.shardCount", "Shards that hold chunks.", type="integer"),
        Column("CHUNKS", ".status.chunks", "Chunks.", type="integer"),
        Column("BALANCED", ".status.balanced", "Whether the chunks are spread evenly."),
        _ready(),
    ),
    conditions=("Drifted", "Paused", "BackupNeeded"),
)

BACKUP_SCHEDULE = KindInfo(
    kind="BackupSchedule",
    summary="When backups are made, which ones, and how long they are kept.",
    plural="backupschedules",
    short="lbks",
    spec=BackupScheduleSpec,
    status=BackupScheduleStatus,
    columns=(
        Column("SCHEDULE", ".spec.schedule", "When backups are made."),
        Column("TIMEZONE", ".status.timeZone", "Time zone of the schedule."),
        Column("SUSPENDED", ".spec.suspend", "Whether it makes no new backups.", type="boolean"),
        Column("LAST", ".status.last", "Time and result of the last run."),
        Column("NEXT", ".status.next", "When the next run is due."),
        Column("LAST-VERIFIED", ".status.lastVerified", "The last backup that was proved, and how."),
    ),
    conditions=("Paused", "Slicing", "OplogWindowLow"),
    rules=(_name_limit(42),),
)

BACKUP = KindInfo(
    kind="Backup",
    summary="One full, incremental or differential backup.",
    plural="backups",
    short="lbk",
    spec=BackupSpec,
    status=BackupStatus,
    columns=(
        Column("TYPE", ".spec.type", "full, incremental or differential."),
        Column("PHASE", ".status.phase", "Where it stands."),
        Column("PROGRESS", ".status.progress", "Percent done."),
        Column("SIZE", ".status.size", "Bytes in the destination."),
        Column("VERIFIED", ".status.verified", "How it was proved."),
        Column("EXPIRES", ".status.expires", "When retention may remove it."),
    ),
    conditions=("Complete", "Failed", "Verified"),
)

RESTORE = KindInfo(
    kind="Restore",
    summary="One restore of a backup or of a moment.",
    plural="restores",
    short="lrst",
    spec=RestoreSpec,
    status=RestoreStatus,
    columns=(
        Column("BACKUP", ".status.backup", "The backup that is restored."),
        Column("POINT-IN-TIME", ".status.pointInTime", "The moment that is restored."),
        Column("PHASE", ".status.phase", "Where it stands."),
        Column("PROGRESS", ".status.progress", "Percent done."),
    ),
    conditions=("Complete", "Failed"),
)

VOLUME = KindInfo(
    kind="Volume",
    summary="A claim for storage: its size, growth, use and migration.",
    plural="volumes",
    short="lvol",
    spec=VolumeSpec,
    status=VolumeStatus,
    columns=(
        Column("TYPE", ".spec.type", "What lies on it."),
        Column("SIZE", ".status.size", "What the claim has."),
        Column("USED", ".status.used", "What is in use."),
        Column("USE%", ".status.useSummary", "Percent in use."),
        Column("CLASS", ".status.storageClassName", "Storage class."),
        Column("PHASE", ".status.phase", "Where it stands."),
    ),
    conditions=(
        "Paused",
        "UsageWarning",
        "UsageCritical",
        "UsageUnknown",
        "Expandable",
        "Intact",
        "ContentChecked",
        "OwnersNotKept",
        "AttributesNotKept",
        "OldVolumeKept",
    ),
)

KINDS: Mapping[str, KindInfo] = {
    info.kind: info
    for info in (COLLECTION, INDEX, SHARDED_COLLECTION, BACKUP_SCHEDULE, BACKUP, RESTORE, VOLUME)
}
