"""What a backup says about itself: the one record by which timelines, retention and restores are decided.

A manifest is written last, so without it there is no backup (rule 1.8). Moments are optimes of the deployment
that was read; wall-clock times are beside them for people only.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from functools import total_ordering
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator
from pydantic.alias_generators import to_camel

from lucid_storage.archive.rows import packer, unpacked

FORMAT = 1
"""Of the manifest. A reader refuses a newer one."""


class Record(BaseModel):
    """Part of a manifest. Frozen; what a newer operator added is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


@total_ordering
class Optime(Record):
    """A moment in a replica set: cluster time (`seconds` since 1970, `counter` within them) and election term.

    Ordered by cluster time alone: terms rise with it, and entries that were rolled back are never kept.
    """

    seconds: Annotated[int, Field(ge=0)]
    counter: Annotated[int, Field(ge=0)]
    term: int = -1

    def __lt__(self, other: Optime) -> bool:
        return (self.seconds, self.counter) < (other.seconds, other.counter)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Optime) and (self.seconds, self.counter) == (other.seconds, other.counter)

    def __hash__(self) -> int:
        return hash((self.seconds, self.counter))

    def __str__(self) -> str:
        return f"{self.seconds}.{self.counter}"


class OplogPoint(Record):
    """One entry of the oplog, exactly: the place where two parts of a timeline meet (rule 1.3)."""

    optime: Optime
    sha256: str
    """Of the entry's BSON."""


class ObjectKind(StrEnum):
    """What an object of a backup holds."""

    MONGODB_ARCHIVE = "mongodb.archive"
    MONGODB_OPLOG = "mongodb.oplog"
    REDIS_RDB = "redis.rdb"
    ELASTICSEARCH_EXPORT = "elasticsearch.export"
    VOLUME_ARCHIVE = "volume.archive"


class StoredObject(Record):
    """One object in the destination, as the destination confirmed it."""

    kind: ObjectKind
    part: str = ""
    """Tells several objects of one kind apart, such as the volume's name."""
    path: str
    """From the root of the destination."""
    stored_bytes: int
    sha256: str
    """Of the stored bytes, that is after compression and encryption."""
    plain_bytes: int
    """Before compression."""


class CollectionRecord(Record):
    """One collection of a dump."""

    database: str
    name: str
    type: str = "collection"
    """collection, view or timeseries."""
    capped: bool = False
    documents: int = 0
    bytes: int = 0
    """BSON bytes of the documents."""
    index_bytes: int = 0
    """Of its indexes on the server that was read: what a restore needs besides."""
    indexes: int = 0
    content_hash: str = ""
    """Of the documents in the stream, independent of their order (rule 1.12)."""

    @property
    def data_namespace(self) -> str:
        """Where its documents lie: those of a time series in its buckets."""
        prefix = "system.buckets." if self.type == "timeseries" else ""
        return f"{self.database}.{prefix}{self.name}"


class OperationCount(Record):
    """Operations of one collection in a slice or differential, transactions unfolded."""

    namespace: str
    inserts: int = 0
    updates: int = 0
    deletes: int = 0
    commands: int = 0


class MongoRecord(Record):
    """The MongoDB part of a backup."""

    version: str
    identity: str
    """Of the deployment: its replica set id."""
    member: str
    """Host that was read."""
    from_optime: Optime
    to: OplogPoint
    collections: Annotated[
        Sequence[CollectionRecord], PlainValidator(packer(CollectionRecord)), PlainSerializer(unpacked)
    ] = ()
    operations: Annotated[
        Sequence[OperationCount], PlainValidator(packer(OperationCount)), PlainSerializer(unpacked)
    ] = ()
    slices_bytes: int = 0
    """Of an incremental: stored bytes of the slices that it stands on, behind the one before it."""
    slices_plain_bytes: int = 0


class RedisRecord(Record):
    """The Redis part of a backup."""

    version: str
    replication_id: str
    offset: int
    keys: int
    databases: int


class ElasticIndexRecord(Record):
    """One index of an export or snapshot."""

    name: str
    documents: int
    bytes: int = 0
    content_hash: str = ""


class ElasticRecord(Record):
    """The Elasticsearch part of a backup."""

    version: str
    identity: str
    method: str
    indices: tuple[ElasticIndexRecord, ...] = ()
    repository: str | None = None
    snapshot: str | None = None


class VolumeSnapshotRecord(Record):
    """A CSI snapshot: the data stay in the cluster, and only a claim in the same namespace can be made of it."""

    name: str
    """Of the VolumeSnapshot."""
    uid: str = ""
    class_name: str = ""
    driver: str = ""


class VolumeRecord(Record):
    """One volume of a backup, with what a claim for its restore needs."""

    name: str
    """Of the Volume, as the backup names it."""
    claim: str
    claim_uid: str = ""
    requested_bytes: int = 0
    storage_class: str | None = None
    access_modes: tuple[str, ...] = ()
    taken_at: datetime
    entries: int = 0
    files: int = 0
    bytes: int = 0
    """Of the files' contents, holes included."""
    content_hash: str = ""
    """Of everything in it but owners and privileged attributes (archive/volume_digest)."""
    changed: int = 0
    """Files that were written to while they were read."""
    sockets: int = 0
    """Left out."""
    leftovers: int = 0
    """Entries at the top that a restore which was broken off left there. Left out."""
    in_use: bool = False
    """A pod had it when it was read."""
    point_in_time: bool = False
    """It is the state of one moment: of a snapshot, or nobody had it."""
    snapshot: VolumeSnapshotRecord | None = None
    """Instead of an archive."""


class EngineRecord(Record):
    """What was taken of one engine, and when."""

    engine: str
    taken_at: datetime
    mongodb: MongoRecord | None = None
    redis: RedisRecord | None = None
    elasticsearch: ElasticRecord | None = None
    volumes: tuple[VolumeRecord, ...] = ()
    notes: tuple[str, ...] = ()
    """Sentences about what is not in it, or not as one may think."""

    @property
    def snapshots_only(self) -> bool:
        """Nothing of it lies in the destination."""
        if self.elasticsearch is not None:
            return self.elasticsearch.snapshot is not None
        return bool(self.volumes) and all(volume.snapshot is not None for volume in self.volumes)


class Packing(Record):
    """How the objects are packed; needed to open them."""

    compression: str
    """zstd, gzip or none."""
    encrypted: bool = False
    key_id: str | None = None
    key_fingerprint: str | None = None
    """First 16 hexadecimal digits of a keyed digest, so that one id with another key is noticed."""


class Selection(Record):
    """What a timeline is about; fixed by its first full (rule 1.1)."""

    engines: tuple[str, ...]
    databases: tuple[str, ...] = ()
    """Empty means all that the login and the namespace may see."""
    collections: tuple[str, ...] = ()
    """`<database>.<collection>`; empty means all of the databases."""


class RetentionRules(Record):
    """As the schedule had them; they hold when the schedule is gone (rule 1.9)."""

    days: int | None = None
    keep_last: int | None = None
    keep_daily: int | None = None
    keep_weekly: int | None = None
    keep_monthly: int | None = None


class Origin(Record):
    """Who made it: enough to find it again from the bucket alone."""

    cluster: str
    """UID of the namespace kube-system."""
    namespace: str
    name: str
    """Of the Backup, or of the schedule for a slice."""
    spec_hash: str = ""
    schedule: str | None = None
    slot: datetime | None = None
    chain: str


class BackupKind(StrEnum):
    """What a manifest stands for."""

    FULL = "full"
    INCREMENTAL = "incremental"
    DIFFERENTIAL = "differential"
    SLICE = "slice"


class Closing(StrEnum):
    """Why a timeline ends with this slice (rule 1.7)."""

    RESTORE = "ClosedByRestore"
    RENAME = "ClosedByRename"


class Manifest(Record):
    """One backup or one slice.

    `id` is a UUID. A full begins a timeline or joins it, an incremental marks a restore point at `to` behind the
    slices, a differential holds everything between its base's `to` and its own, a slice holds (prev, to].
    """

    format: int = FORMAT
    id: str
    kind: BackupKind
    timeline: str
    origin: Origin
    selection: Selection
    packing: Packing
    base: str | None = None
    """Id of the full that an incremental or differential needs."""
    parent: str | None = None
    """Id of the backup that it follows."""
    prev: OplogPoint | None = None
    """Where a slice or differential begins, exclusive."""
    engines: tuple[EngineRecord, ...] = ()
    objects: tuple[StoredObject, ...] = ()
    closing: Closing | None = None
    retention: RetentionRules | None = None
    retention_days: int | None = None
    """Of a backup made by hand."""
    started_at: datetime
    completed_at: datetime
    operator_version: str

    @property
    def snapshots_only(self) -> bool:
        """All that it names lies in snapshots: inside the cluster, or in a repository of the store's own."""
        return bool(self.engines) and all(engine.snapshots_only for engine in self.engines)

    @property
    def repositories(self) -> tuple[str, ...]:
        """Of Elasticsearch's servers, where they keep what belongs to this backup."""
        parts = (engine.elasticsearch for engine in self.engines)
        return tuple(part.repository for part in parts if part is not None and part.repository)

    @property
    def mongodb(self) -> MongoRecord | None:
        """The MongoDB part, if there is one."""
        return next((e.mongodb for e in self.engines if e.mongodb is not None), None)


class ProofLevel(StrEnum):
    """How a backup was proved (rule 1.11)."""

    UPLOAD = "Upload"
    CHECKSUM = "Checksum"
    RESTORE = "Restore"


class Proof(Record):
    """Written beside a manifest after its check. Without a good one a full is never a base."""

    id: str
    level: ProofLevel
    at: datetime
    seconds: int
    passed: bool
    message: str = ""
