"""Restore: brings back a backup or a moment. Immutable, so that one object is one run."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from lucid_storage.models.backup import Engines, IndexExpression
from lucid_storage.models.base import (
    CollectionName,
    Connection,
    Count,
    DatabaseName,
    DnsName,
    KindStatus,
    ShortText,
    SpecModel,
    StatusModel,
)
from lucid_storage.models.cel import ListMap, ListSet, Rule, Rules, exactly_one, immutable_all, rising_flag
from lucid_storage.models.collection import KeyPattern
from lucid_storage.models.storage import Encryption, Storage

BackupId = Annotated[
    str,
    StringConstraints(min_length=36, max_length=36),
    Rules(
        Rule(
            "self.matches('^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$')",
            "id is the UUID of a backup, as lucid-storage catalog lists it.",
        )
    ),
]


Moment = Annotated[
    datetime,
    Rules(
        # The bounds of a second in an optime, which has 32 bits. The rule also refuses what passes as a date-time and
        # is none to CEL: with such a value every later rule about it fails, and so does every write of the status.
        Rule(
            "self >= timestamp('1970-01-01T00:00:00Z') && self < timestamp('2106-02-07T06:28:16Z')",
            "No backup is of a moment before 1970 or after 2106-02-07T06:28:15Z; choose another moment.",
        )
    ),
]


class RestoreSource(SpecModel):
    """A backup that no Backup resource stands for: in a new cluster there is only the destination."""

    storage: Storage
    """Where the backup lies. It is only read."""
    id: BackupId
    """UUID of the backup."""
    encryption: Encryption | None = None
    """The key, for an encrypted backup."""


class Strategy(StrEnum):
    """How data come back."""

    STAGED = "Staged"
    IN_PLACE = "InPlace"


class RedisRestore(SpecModel):
    """Which keys of Redis come back."""

    key_patterns: Annotated[list[KeyPattern], Field(min_length=1, max_length=32), ListSet()] | None = None
    """Only these keys; they override the exclusions that hold by default."""
    exclude_patterns: Annotated[list[KeyPattern], Field(max_length=32), ListSet()] | None = None
    """Not these keys; without it locks, rate limits and sessions stay out: a restore must not revive revoked
    sessions."""


class ElasticRestore(SpecModel):
    """Which indices of Elasticsearch come back, and as what."""

    indices: Annotated[list[IndexExpression], Field(min_length=1, max_length=64), ListSet()] | None = None
    """Indices or patterns; without it, all of the backup."""
    rename_to: (
        Annotated[
            str,
            StringConstraints(min_length=1, max_length=200),
            Rules(
                Rule(
                    "self.matches('^([a-z0-9]|[{]index[}])([a-z0-9._-]|[{]index[}])*$')",
                    "Write the new name in lower case, such as {index}-restored; {index} is the old one.",
                )
            ),
        ]
        | None
    ) = None
    """New name; `{index}` stands for the old one."""


class VolumeRestore(SpecModel):
    """One volume that comes back."""

    name: DnsName
    """The Volume, as it was named in the backup."""
    target: DnsName | None = None
    """The claim to restore into: it is made, or must be empty and not in use. Without it, one of the same name."""


class RestoreSpec(SpecModel):
    """One restore. Only cancel can be changed."""

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one("backupName", "source"),
        Rule(
            "self.strategy != 'InPlace' || self.dropExisting || !has(self.pointInTime)",
            "InPlace without dropExisting only adds what is missing and cannot reach a pointInTime; "
            "use Staged, or set dropExisting to true.",
        ),
        Rule(
            "!has(self.engines) || (!has(self.redis) || 'redis' in self.engines) && "
            "(!has(self.elasticsearch) || 'elasticsearch' in self.engines) && "
            "(!has(self.volumes) || self.volumes.size() == 0 || 'volumes' in self.engines)",
            "A block is filled for an engine that engines does not name; add the engine or remove the block.",
        ),
        Rule(
            "has(self.engines) || !(has(self.redis) || has(self.elasticsearch) || has(self.volumes))",
            "Without engines only mongodb is restored; name the engines whose blocks are filled.",
        ),
        *immutable_all(
            "A restore says what was done and cannot be changed; create another Restore.",
            required=(
                "strategy",
                "dropExisting",
                "keepOldMinutes",
                "allowUnknownSpace",
                "usersAndRoles",
                "dryRun",
            ),
            optional=(
                "connection",
                "backupName",
                "source",
                "pointInTime",
                "engines",
                "sourceDatabase",
                "targetDatabase",
                "collections",
                "backupBefore",
                "redis",
                "elasticsearch",
                "volumes",
            ),
        ),
        rising_flag("cancel"),
    )

    connection: Connection | None = None
    """Credentials of its own; without it, the operator's."""
    backup_name: DnsName | None = None
    """A Backup in the same namespace. Without pointInTime its own end is restored."""
    source: RestoreSource | None = None
    """A backup that lies in a destination, for a new cluster."""
    point_in_time: Moment | None = None
    """RFC 3339, whole seconds, inclusive. Other engines take their nearest earlier full."""
    engines: Engines | None = None
    """Which stores; without it, mongodb."""
    source_database: DatabaseName | None = None
    """Only this database of the backup."""
    target_database: DatabaseName | None = None
    """Another database to restore into. Needs sourceDatabase when the backup has several."""
    collections: Annotated[list[CollectionName], Field(min_length=1, max_length=256), ListSet()] | None = None
    """Only these collections."""
    drop_existing: bool = False
    """Consent to replace what is there. Without it every target must be absent or empty."""
    strategy: Strategy = Strategy.STAGED
    """Staged loads beside the live data and swaps by rename. InPlace loads over them, and a failure leaves
    them incomplete."""
    keep_old_minutes: Annotated[int, Field(ge=0, le=10_080)] = 60
    """How long the replaced collections stay after the swap, in minutes."""
    backup_before: bool | None = None
    """Make a verified backup first; without it, true for InPlace and false for Staged."""
    allow_unknown_space: bool = False
    """Go on although the free space of a member cannot be read."""
    users_and_roles: bool = False
    """Merge users and roles too; none is dropped."""
    redis: RedisRestore | None = None
    """Which keys of Redis."""
    elasticsearch: ElasticRestore | None = None
    """Which indices of Elasticsearch."""
    volumes: Annotated[list[VolumeRestore], Field(max_length=32), ListMap("name")] | None = None
    """Which volumes."""
    dry_run: bool = False
    """Only fill status.plan."""
    cancel: bool = False
    """Set to true to stop it, as long as the swap has not begun. It cannot be set back."""


class RestorePhase(StrEnum):
    """Where a restore stands."""

    PENDING = "Pending"
    QUEUED = "Queued"
    PLANNING = "Planning"
    LOADING = "Loading"
    REPLAYING = "Replaying"
    SWAPPING = "Swapping"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


class PlannedTarget(StatusModel):
    """One collection, key space, index or volume that the restore writes."""

    target: Annotated[str, StringConstraints(max_length=512)]
    """Its name on the server."""
    documents: Count | None = None
    """Documents of the backup."""
    overwrites: Count | None = None
    """Documents that are there now and are replaced."""
    note: Annotated[str, StringConstraints(max_length=512)] | None = None
    """What is special about it: not stageable, a view, documents that are past their time to live (of a time series or
    a partial index "up to" so many)."""


class RestorePlan(StatusModel):
    """What the restore will do, filled before anything is written."""

    chain: Annotated[list[ShortText], Field(max_length=128)] | None = None
    """Ids of the backups that are read, in order."""
    slices: Count | None = None
    """Slices that are replayed."""
    read_bytes: Count | None = None
    """Bytes that are read from the destination."""
    needed_bytes: Count | None = None
    """Free bytes that each member needs."""
    free_bytes: Count | None = None
    """Free bytes of the member that has the least."""
    targets: Annotated[list[PlannedTarget], Field(max_length=100)] | None = None
    """What is written; the first 100."""
    target_count: Count | None = None
    """How many targets there are."""
    expiring_documents: Count | None = None
    """Documents that a TTL will delete at once: in a dry run those of the full backup, else what was staged. Of a time
    series it is the most that can be, since the server deletes whole buckets; of a partial index in a dry run too."""
    cut_transactions: Count | None = None
    """Transactions that are restored in part, because collections or a database were chosen."""
    warnings: (
        Annotated[list[Annotated[str, StringConstraints(max_length=512)]], Field(max_length=20)] | None
    ) = None
    """What one should know before it runs."""
    blocked_by: Annotated[str, StringConstraints(max_length=1024)] | None = None
    """Why it cannot run."""


class RestoredVolume(StatusModel):
    """A volume that the restore fills."""

    name: ShortText
    """As the backup names it."""
    target: ShortText
    """The claim."""
    size_bytes: Count
    """Of a claim that is made for it."""
    storage_class_name: ShortText | None = None
    """Of the volume that was backed up."""
    access_modes: Annotated[list[ShortText], Field(max_length=4)] | None = None
    """Of the volume that was backed up."""
    snapshot: ShortText | None = None
    """The VolumeSnapshot that the claim is made from."""


class KeptRun(StatusModel):
    """What an earlier run replaced, until it is dropped."""

    run: ShortText
    """Its id."""
    databases: Annotated[list[DatabaseName], Field(max_length=64)]
    """Where the replaced collections lie."""
    until: datetime
    """When they are dropped."""
    server_identity: ShortText | None = None
    """The deployment that they lie in."""


class RestoreStatus(KindStatus):
    """What became of the restore."""

    phase: RestorePhase | None = None
    """The PHASE column."""
    backup: ShortText | None = None
    """The BACKUP column: name or id of the backup."""
    point_in_time: ShortText | None = None
    """The POINT-IN-TIME column: the moment that is restored."""
    progress: ShortText | None = None
    """The PROGRESS column."""
    id: ShortText | None = None
    """UUID of the restore, also in the REST API."""
    run: ShortText | None = None
    """Id of the run, part of every staged name."""
    run_again: ShortText | None = None
    """The value of the annotation run-again that this run was asked for with."""
    asked_at: datetime | None = None
    """When another run was asked for: part of its id, since a value of the annotation can come again."""
    backup_id: ShortText | None = None
    """UUID of the backup that is restored."""
    timeline: ShortText | None = None
    """UUID of its timeline."""
    server_identity: ShortText | None = None
    """The deployment that is written to, by its own id."""
    plan: RestorePlan | None = None
    """What the restore will do."""
    databases: Annotated[list[DatabaseName], Field(max_length=64)] | None = None
    """Databases that are written; the first of them holds the journal of the swap."""
    loaded_bytes: Count | None = None
    """Bytes loaded."""
    loaded_documents: Count | None = None
    """Documents loaded."""
    replayed_operations: Count | None = None
    """Operations replayed."""
    swapped: Count | None = None
    """Collections that were swapped."""
    moved_aside: Annotated[list[ShortText], Field(max_length=20)] | None = None
    """Collections that came up during the swap and were moved aside."""
    old_until: datetime | None = None
    """When the replaced collections are dropped."""
    kept: Annotated[list[KeptRun], Field(max_length=16)] | None = None
    """What earlier runs replaced and is still there."""
    volumes: Annotated[list[RestoredVolume], Field(max_length=32), ListMap("target")] | None = None
    """Volumes that are filled."""
    backup_before: ShortText | None = None
    """The Backup that was made first."""
    skipped_users: Annotated[list[ShortText], Field(max_length=50)] | None = None
    """Users and roles that were left alone."""
    job_name: ShortText | None = None
    """The Job that does the work."""
    queued_behind: ShortText | None = None
    """What it waits for."""
    trouble_since: datetime | None = None
    """Since when something stands in its way; after an hour of that it is given up."""
    claims_since: datetime | None = None
    """Since when the storage is waited for to make the claims that it fills."""
    started_at: datetime | None = None
    """When the work began."""
    completed_at: datetime | None = None
    """When it ended, well or not."""
