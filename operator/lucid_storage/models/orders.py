"""What the operator tells a worker and what a worker tells back.

An order is JSON in the environment variable LUCID_ORDER of the Job's pod (models/order_text.py) and holds no secret:
logins come from the Secret's entries as environment variables, keys as files. A worker has no token for the API server.
It tells its progress as JSON lines on standard output (`{"progress": {...}}`) and its result as JSON of at most 4,096
bytes in its termination message (the kubelet's limit), also as its last line (`{"result": {...}}`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from lucid_storage.errors import Reason
from lucid_storage.models.backup import BackupEngine, BackupType, ElasticSelection, MongoSelection, Verify
from lucid_storage.models.restore import ElasticRestore, RedisRestore
from lucid_storage.models.storage import Compression

ORDER_VARIABLE = "LUCID_ORDER"
TERMINATION_PATH = "/dev/termination-log"
TERMINATION_VARIABLE = "LUCID_TERMINATION_PATH"
"""Another place for the termination message, where a worker runs outside of a pod."""
KEYS_FOLDER_VARIABLE = "LUCID_KEYS"
"""Folder with the encryption keys, one file a key id."""
DESTINATION_FOLDER_VARIABLE = "LUCID_DESTINATION"
"""Folder that a destination of the type volume is mounted at."""


VOLUMES_FOLDER_VARIABLE = "LUCID_VOLUMES"
"""Folder that claims are mounted below, each under a name that the order knows."""


class Message(BaseModel):
    """Part of an order or of an answer. Unknown fields are ignored, as operator and worker may differ by a release."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True, defer_build=True
    )


class Destination(Message):
    """Where the archive lies: a bucket, or a folder below LUCID_DESTINATION. Credentials are in AWS_* variables."""

    bucket: str | None = None
    endpoint: str | None = None
    region: str | None = None
    root: str = ""
    """Prefix in the bucket, or folder on the volume, without slashes at its ends."""


class Owner(Message):
    """The resource that the work is done for."""

    cluster: str
    """UID of the namespace kube-system."""
    namespace: str
    name: str
    uid: str
    spec_hash: str
    schedule: str | None = None
    slot: datetime | None = None


class Task(Message):
    """What all orders share."""

    run: str
    """Id of this run: part of every name that it makes on a server."""
    owner: Owner
    deadline_seconds: Annotated[int, Field(ge=1)]
    """The worker ends itself after this long, by its own clock."""
    ordered_at: AwareDatetime | None = None
    """When its Job was made, by the operator's clock: the clocks of nodes can be wrong (jobs/clocks.py)."""

    def text(self) -> str:
        """As it is sent."""
        return self.model_dump_json(by_alias=True, exclude_none=True)


class Order(Task):
    """What all orders about archives share."""

    destination: Destination
    chain: str
    key_id: str | None = None
    """Key for what is written; None leaves it unencrypted."""
    compression: Compression = Compression()


class VolumeSnapshot(Message):
    """A CSI snapshot that the operator had made and that is ready to be used."""

    name: str
    uid: str
    class_name: str
    driver: str
    taken_at: datetime
    size_bytes: int = 0
    """Of a claim made from it, at least."""


class VolumeSource(Message):
    """One volume that is backed up. It is mounted read-only, or there is a snapshot of it."""

    name: str
    """Of the Volume."""
    claim: str
    claim_uid: str = ""
    folder: str | None = None
    """Below LUCID_VOLUMES."""
    snapshot: VolumeSnapshot | None = None
    requested_bytes: int = 0
    storage_class: str | None = None
    access_modes: tuple[str, ...] = ()
    in_use: bool = False
    """A pod has it, so it is not the state of one moment."""


class BackupOrder(Order):
    """Make one backup. The worker reads the chain's manifests and decides base, parent and timeline from them."""

    id: str
    type: BackupType
    scheduled: bool = False
    """On a schedule a missing base or a hole becomes a full with a new timeline; by hand it is a failure."""
    may_dump: bool = True
    """False while the operator has not claimed the deployment for a dump: what would have to become a full makes
    nothing then and asks for one (Queued)."""
    look_only: bool = False
    """Take nothing: say what lies there of an earlier time, and ask for a worker that makes it (Queued) where nothing
    does."""
    engines: tuple[BackupEngine, ...]
    slicing: bool = False
    """A slicing worker runs for this chain: an incremental asks it for a slice before it writes one itself."""
    server_identity: str | None = None
    """The MongoDB that the operator saw; the worker refuses another one."""
    refuse_nothing: bool = False
    """Of databases or collections that a person named and of which nothing is there, no backup is made."""
    database_patterns: tuple[str, ...] = ("*",)
    """Databases that the namespace may use."""
    index_patterns: tuple[str, ...] = ("*",)
    mongodb: MongoSelection | None = None
    elasticsearch: ElasticSelection | None = None
    volumes: tuple[VolumeSource, ...] = ()
    verify: Verify = Verify.CHECKSUM
    retention: dict[str, int] | None = None
    retention_days: int | None = None


class VerifyOrder(Order):
    """Prove one backup of the chain again. The answer is a BackupResult."""

    backup_id: str
    verify: Verify = Verify.CHECKSUM
    index_patterns: tuple[str, ...] = ("*",)


class Progress(Message):
    """Where a worker stands."""

    phase: str
    """A phase of the kind: Running, Verifying, Loading, ..."""
    done_bytes: int = 0
    total_bytes: int | None = None
    done_documents: int = 0
    message: str = ""


class EngineOutcome(Message):
    """What became of one engine."""

    engine: BackupEngine
    ok: bool
    reason: Reason | None = None
    message: str | None = None
    documents: int = 0
    size_bytes: int = 0
    stored_bytes: int = 0
    taken_at: datetime | None = None
    server_identity: str | None = None
    unencrypted: bool | None = None
    in_cluster: bool | None = None
    """The data lie only inside the cluster."""


class BackupResult(Message):
    """What a backup worker did. `ok` only when the manifest was written and the asked-for check passed."""

    run: str
    ok: bool
    reason: Reason | None = None
    """Why not, or why only in part."""
    message: str = ""
    id: str | None = None
    type: BackupType | None = None
    timeline: str | None = None
    base: str | None = None
    parent: str | None = None
    from_optime: str | None = None
    to_optime: str | None = None
    from_time: datetime | None = None
    to: datetime | None = None
    engines: tuple[EngineOutcome, ...] = ()
    manifest_sha256: str | None = None
    location: str | None = None
    server_identity: str | None = None
    verified: Verify | None = None
    """The level that passed."""
    verify_note: str | None = None
    """The reason why a higher level was not reached, such as NoVerifyServer."""
    verify_message: str = ""
    """The same as a sentence."""
    verified_at: datetime | None = None
    verify_seconds: int | None = None
    completed_at: datetime | None = None
    oplog_window_seconds: int | None = None


class VolumeTarget(Message):
    """A volume that is restored, and the claim that it goes into."""

    name: str
    """As the backup names it."""
    target: str
    """Name of the claim."""
    path: str | None = None
    """Where the claim is mounted; None while a restore is only planned."""


class RestoreOrder(Order):
    """Plan a restore, or stage it. The worker never swaps: that is the operator's (rule 2.9)."""

    backup_id: str
    """Names the timeline; without a moment that backup's own end is restored."""
    elsewhere: bool = False
    """The backup may be of another cluster, namespace or chain: it is looked for below the destination's root."""
    only_namespace: str | None = None
    """The only namespace whose backups may be read: set where the operator's own keys open the destination, since they
    open those of all namespaces."""
    point_in_time: datetime | None = None
    plan_only: bool = False
    count_expiring: bool = False
    """Of a plan that is not carried out: documents that a TTL will delete are counted in the backup, which is read for
    that as a whole where there is a TTL."""
    sliced: tuple[str, ...] = ()
    """Chains of this namespace and destination that a slicing worker follows the target with."""
    run_again: str = ""
    """Value of the annotation that asked for this run."""
    in_place: bool = False
    engines: tuple[BackupEngine, ...] = (BackupEngine.MONGODB,)
    server_identity: str | None = None
    """The MongoDB that the operator saw; the worker refuses another one."""
    database_patterns: tuple[str, ...] = ("*",)
    index_patterns: tuple[str, ...] = ("*",)
    key_patterns: tuple[str, ...] = ("*",)
    source_database: str | None = None
    target_database: str | None = None
    collections: tuple[str, ...] = ()
    drop_existing: bool = False
    allow_unknown_space: bool = False
    users_and_roles: bool = False
    redis: RedisRestore | None = None
    elasticsearch: ElasticRestore | None = None
    volumes: tuple[VolumeTarget, ...] = ()
    """Empty means all of the backup, each under its own name."""


class PlannedItem(Message):
    """One collection, index or set of keys that a restore writes."""

    target: str
    documents: int | None = None
    overwrites: int | None = None
    note: str | None = None


class PlannedVolume(Message):
    """What a claim for a restored volume needs."""

    name: str
    target: str
    requested_bytes: int
    storage_class: str | None = None
    access_modes: tuple[str, ...] = ()
    snapshot: str | None = None
    """VolumeSnapshot that the claim is made from."""


class RestorePlanned(Message):
    """What a restore will do, short enough for a termination message."""

    chain: tuple[str, ...] = ()
    """Ids of the full and of what is read after it; the first ones."""
    slices: int = 0
    read_bytes: int = 0
    needed_bytes: int = 0
    """Free bytes that each member needs."""
    free_bytes: int | None = None
    """Of the member that has the least; None where one cannot be read."""
    targets: tuple[PlannedItem, ...] = ()
    target_count: int = 0
    cut_transactions: int = 0
    expiring_documents: int | None = None
    """That a TTL deletes at once, of those in the full backup; None when they were not counted."""
    volumes: tuple[PlannedVolume, ...] = ()
    warnings: tuple[str, ...] = ()
    blocked_by: str | None = None
    blocked_reason: Reason | None = None


class RestoreResult(Message):
    """What a restore worker did. `ok` means planned, or staged and ready to be swapped."""

    run: str
    ok: bool
    reason: Reason | None = None
    message: str = ""
    plan: RestorePlanned | None = None
    backup_id: str | None = None
    timeline: str | None = None
    restored_to: datetime | None = None
    """The moment that is reached."""
    server_identity: str | None = None
    databases: tuple[str, ...] = ()
    """That are written; the first of them holds the journal."""
    loaded_bytes: int = 0
    loaded_documents: int = 0
    replayed_operations: int = 0
    collections: int = 0
    """Staged collections that the swap puts in place."""
    expiring_documents: int | None = None
    """Staged documents that a TTL deletes at once."""
    skipped_users: tuple[str, ...] = ()
    engines: tuple[EngineOutcome, ...] = ()
