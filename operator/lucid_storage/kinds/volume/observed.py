"""What is seen of a Volume: the claim and what surrounds it. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from lucid_storage.errors import Reason
from lucid_storage.kube.claims import Attachment, Claim, Class, Node, PersistentVolume, PodUse
from lucid_storage.models.volume_check import ContentCheck, FailedCheck

KUBELET = "kubelet"


@dataclass(frozen=True, slots=True)
class Figures:
    """The use of a volume at one moment, in bytes."""

    at: datetime
    used: int
    available: int
    capacity: int
    """Of the file system."""
    inodes_used: int | None = None
    inodes: int | None = None
    source: str = KUBELET
    """Who counted: kubelet, or reader pod."""

    @property
    def percent(self) -> int:
        """As df counts: of what can be used, without the blocks that are reserved for root; rounded up."""
        usable = self.used + self.available
        return min(100, -(-100 * self.used // usable)) if usable > 0 else 0

    @property
    def inode_percent(self) -> int | None:
        if not self.inodes or self.inodes_used is None:
            return None
        return min(100, -(-100 * self.inodes_used // self.inodes))


@dataclass(frozen=True, slots=True)
class Refusal:
    """The API server's last answer to a change that it refused."""

    reason: Reason
    message: str
    stalled: bool
    generation: int
    """Of the Volume, when it was refused."""
    at: datetime
    attempts: int


@dataclass(frozen=True, slots=True)
class VolumeObserved:
    """One look."""

    claim: Claim | None = None
    volume: PersistentVolume | None = None
    """The one that the claim has, or had when it is gone."""
    classes: Mapping[str, Class] = field(default_factory=dict)
    pods: tuple[PodUse, ...] = ()
    """Those that use the claim; our own workers included."""
    ended: tuple[PodUse, ...] = ()
    """Those that are over and have it: Kubernetes lets no claim go before they are deleted."""
    nodes: Mapping[str, Node] = field(default_factory=dict)
    attachments: tuple[Attachment, ...] = ()
    """Of this volume."""
    warning: str = ""
    """The last Warning about a claim that waits."""
    figures: Figures | None = None
    """The newest, where they are newer than those in status."""
    check: ContentCheck | None = None
    """The newest check of the content."""
    check_failed: FailedCheck | None = None
    """One that came to nothing since."""
    check_asked: str = ""
    """What the annotation asks for."""
    refusal: Refusal | None = None
    shared_disk: bool = False
    """A kubelet's figures are of a disk that many volumes share, and were not taken."""
    unwatched_since: datetime | None = None
    """Since when this process has waited for figures."""

    @property
    def storage_class(self) -> Class | None:
        """The class of the claim."""
        name = self.claim.class_name if self.claim is not None else None
        return self.classes.get(name) if name else None

    @property
    def default_class(self) -> Class | None:
        """As the API server chooses: the newest of those that are marked."""
        marked = [c for c in self.classes.values() if c.default]
        return max(marked, key=lambda c: c.created, default=None)

    @property
    def users(self) -> tuple[PodUse, ...]:
        """Pods of others that use the claim."""
        return tuple(p for p in self.pods if p.owner_uid is None)
