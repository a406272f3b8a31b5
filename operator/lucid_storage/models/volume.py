"""Volume: a claim for storage with its size, its growth, its use and its migration."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from lucid_storage.models.base import (
    Count,
    DeletionPolicy,
    DnsName,
    KindStatus,
    Origin,
    Percent,
    ShortText,
    SpecModel,
    StatusModel,
)
from lucid_storage.models.cel import ListSet, Rule, Rules, immutable
from lucid_storage.models.volume_check import ContentCheck, FailedCheck
from lucid_storage.models.volume_migration import Migration


class VolumeType(StrEnum):
    """What lies on the volume; it chooses the defaults."""

    MONGODB = "mongodb"
    REDIS = "redis"
    ELASTICSEARCH = "elasticsearch"
    SESSIONS = "sessions"
    CHUNKS = "chunks"
    MERKLE = "merkle"
    BLOCKS = "blocks"
    LOGS = "logs"
    BACKUPS = "backups"


class AccessMode(StrEnum):
    """As Kubernetes has it."""

    READ_WRITE_ONCE = "ReadWriteOnce"
    READ_ONLY_MANY = "ReadOnlyMany"
    READ_WRITE_MANY = "ReadWriteMany"
    READ_WRITE_ONCE_POD = "ReadWriteOncePod"


class ResizeStrategy(StrEnum):
    """How a volume changes size or class."""

    EXPAND = "Expand"
    MIGRATE = "Migrate"


Quantity = Annotated[
    str,
    StringConstraints(min_length=1, max_length=32),
    Rules(
        Rule("isQuantity(self)", "Write a size such as 10Gi."),
        Rule(
            "!isQuantity(self) || quantity(self).isGreaterThan(quantity('0'))", "A size must be more than 0."
        ),
    ),
]
"""A size as Kubernetes writes it."""


class Thresholds(SpecModel):
    """When the use of a volume becomes a condition."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.warningPercent) || !has(self.criticalPercent) || "
            "self.warningPercent < self.criticalPercent",
            "warningPercent must be lower than criticalPercent.",
        ),
    )

    warning_percent: Percent | None = None
    """Percent in use; without it, VOLUME_WARNING_THRESHOLD of the operator (80)."""
    critical_percent: Percent | None = None
    """Percent in use; without it, VOLUME_CRITICAL_THRESHOLD of the operator (95)."""


class AutoExpand(SpecModel):
    """Growth without a hand. The size it reached stands in status and on the claim, not in the spec."""

    enabled: bool
    """Grow when the warning threshold is reached."""
    step_percent: Percent = 20
    """By how much of the present size."""
    max_size: Quantity | None = None
    """Not beyond this; without it, VOLUME_MAX_SIZE of the operator (100Gi)."""


UserId = Annotated[int, Field(ge=0, le=2_147_483_647)]


class CopyIdentity(SpecModel):
    """Who the copying Job runs as; owners of files that it may not set are reported."""

    run_as_user: UserId | None = None
    """User id."""
    run_as_group: UserId | None = None
    """Group id."""
    fs_group: UserId | None = None
    """Group of the mounted volumes."""


class VolumeSpec(SpecModel):
    """A claim of the same name in the same namespace. One that exists is adopted."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.size) || !has(oldSelf.size) || !isQuantity(self.size) || !isQuantity(oldSelf.size) || "
            "quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0",
            "A volume cannot shrink; keep the size, or make a smaller Volume and move the data.",
        ),
        Rule(
            "!has(self.size) || !has(self.autoExpand) || !has(self.autoExpand.maxSize) || "
            "!isQuantity(self.size) || !isQuantity(self.autoExpand.maxSize) || "
            "quantity(self.autoExpand.maxSize).compareTo(quantity(self.size)) >= 0",
            "autoExpand.maxSize is smaller than size; raise it.",
        ),
    )

    type: Annotated[VolumeType, Rules(immutable("type"))]
    """What lies on the volume; it chooses the defaults."""
    size: Quantity | None = None
    """Size of the claim; without it, the type's default. It can only grow."""
    storage_class_name: DnsName | None = None
    """Storage class; without it, the cluster's default. Another one is a migration."""
    access_modes: Annotated[list[AccessMode], Field(min_length=1, max_length=4), ListSet()] | None = None
    """How the claim may be mounted; without it, ReadWriteOnce."""
    thresholds: Thresholds | None = None
    """When the use of the volume becomes a condition."""
    auto_expand: AutoExpand | None = None
    """Growth without a hand."""
    resize_strategy: ResizeStrategy = ResizeStrategy.EXPAND
    """Expand only grows in place. Migrate allows a copy to a new claim for a new class, or for a size that
    the class cannot give."""
    copy_identity: CopyIdentity | None = Field(None, alias="copy")
    """Who the copying Job runs as."""
    deletion_policy: DeletionPolicy = DeletionPolicy.RETAIN
    """Retain keeps the claim. Delete removes one that was created here; an adopted one also needs the
    annotation `storage.lucid-blockchain.org/confirm-delete` with the claim's name."""


class VolumePhase(StrEnum):
    """Where a volume stands."""

    PENDING = "Pending"
    BOUND = "Bound"
    EXPANDING = "Expanding"
    MIGRATING = "Migrating"
    FAILED = "Failed"
    LOST = "Lost"


class UsageSample(StatusModel):
    """The use of the volume at one moment."""

    at: datetime
    """When."""
    used_bytes: Count
    """Bytes in use."""


class VolumeStatus(KindStatus):
    """What is known of the volume."""

    phase: VolumePhase | None = None
    """The PHASE column."""
    claim_name: ShortText | None = None
    """The claim."""
    claim_uid: ShortText | None = None
    """UID of the claim."""
    volume_name: ShortText | None = None
    """The PersistentVolume."""
    origin: Origin | None = None
    """Created here, or adopted."""
    storage_class_name: ShortText | None = None
    """The CLASS column."""
    access_modes: Annotated[list[ShortText], Field(max_length=4)] | None = None
    """How the claim may be mounted."""
    requested_size: ShortText | None = None
    """What the claim asks for; autoExpand may have raised it."""
    requested_bytes: Count | None = None
    """The same in bytes."""
    size: ShortText | None = None
    """The SIZE column: what the claim has."""
    expanded_at: datetime | None = None
    """When the last expansion ended."""
    capacity_bytes: Count | None = None
    """Capacity of the file system in bytes."""
    used_bytes: Count | None = None
    """Bytes in use."""
    used: ShortText | None = None
    """The USED column."""
    use_percent: Annotated[int, Field(ge=0, le=100)] | None = None
    """Percent in use."""
    use_summary: ShortText | None = None
    """The USE% column."""
    inodes_used_percent: Annotated[int, Field(ge=0, le=100)] | None = None
    """Percent of the file system's inodes in use."""
    usage_source: ShortText | None = None
    """Where the figures come from: the kubelet, or a reader pod."""
    stats_time: datetime | None = None
    """When the figures were taken."""
    usage_unknown: Annotated[str, StringConstraints(max_length=1024)] | None = None
    """Why nobody tells the use; absent when somebody does, or when no pod can change it."""
    history: Annotated[list[UsageSample], Field(max_length=48)] | None = None
    """The last 48 figures that differed."""
    full_at: datetime | None = None
    """When the volume will be full if it goes on growing like this."""
    expandable: bool | None = None
    """Whether the class can expand it in place."""
    used_by: Annotated[list[ShortText], Field(max_length=20)] | None = None
    """Pods that use the claim."""
    migration: Migration | None = None
    """The last migration."""
    kept_volume: ShortText | None = None
    """The old PersistentVolume, kept until it is released by annotation."""
    check: ContentCheck | None = None
    """The last check of the content."""
    checksums_at: datetime | None = None
    """When the content was last checked."""
    check_failed: FailedCheck | None = None
    """Why the check that is asked for now has no result yet."""
    message: Annotated[str, StringConstraints(max_length=2048)] | None = None
    """What to do, or nothing."""
