"""The Backups that a schedule made, as far as the schedule has to know them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from lucid_storage.errors import Reason
from lucid_storage.kinds.backupschedule.slots import LITTLE
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.backup import BackupPhase, BackupSpec, BackupStatus, BackupType, Verify
from lucid_storage.models.meta import SCHEDULE, SLOT

ENDED = frozenset(
    {
        BackupPhase.COMPLETED,
        BackupPhase.PARTIALLY_FAILED,
        BackupPhase.FAILED,
        BackupPhase.CANCELLED,
        BackupPhase.EXPIRED,
    }
)
BEGIN_ANEW = frozenset({Reason.OPLOG_GAP, Reason.NO_BASE, Reason.CHAIN_MISMATCH, Reason.VERIFY_FAILED})
"""After these an incremental would fail again: the next one is a full."""


@dataclass(frozen=True, slots=True)
class Child:
    """One Backup of a schedule."""

    key: Key
    uid: str
    slot: datetime
    asked: BackupType
    asked_verify: Verify
    status: BackupStatus
    reason: str
    """Of its condition Ready."""
    message: str

    def ahead(self, now: datetime) -> bool:
        """Whether a clock that was ahead had it made: its slot is yet to come."""
        return self.slot > now + LITTLE

    @property
    def ended(self) -> bool:
        return self.status.phase in ENDED

    @property
    def good(self) -> bool:
        return self.status.phase is BackupPhase.COMPLETED

    @property
    def proved(self) -> bool:
        """Whether what it holds was read back: of snapshots nobody knows what a disaster leaves (rule 1.11)."""
        in_oplog = self.status.to_optime is not None
        return in_oplog or str(Reason.SNAPSHOT_ONLY) not in (self.status.verified or "")

    @property
    def holds_data(self) -> bool:
        """Whether its data lie there: it completed, or its manifest was written before its check failed."""
        status = self.status
        if status.id is None or status.phase is BackupPhase.EXPIRED:
            return False
        completed = status.phase in (BackupPhase.COMPLETED, BackupPhase.PARTIALLY_FAILED)
        return completed or status.manifest_sha256 is not None


def children_of(schedule: Key, backups: Iterable[Resource], now: datetime) -> list[Child]:
    """The Backups that a schedule made and that are not going, in order of their slots.

    Those of slots yet to come, which a clock that was ahead had made, come first: what runs now is newer.
    """
    found = []
    for resource in backups:
        made_by_it = resource.annotations.get(SCHEDULE) == schedule.name
        if resource.key.namespace != schedule.namespace or not made_by_it or resource.deleted is not None:
            continue
        child = _child(resource)
        if child is not None:
            found.append(child)
    return sorted(found, key=lambda c: (not c.ahead(now), c.slot, c.key.name))


def _child(resource: Resource) -> Child | None:
    """None for an object that somebody else gave our annotation."""
    try:
        slot = datetime.fromisoformat(resource.annotations.get(SLOT, ""))
        spec = BackupSpec.model_validate(resource.spec)
        status = BackupStatus.model_validate(resource.status)
    except (ValueError, ValidationError):
        return None
    if slot.tzinfo is None:
        return None
    ready = next((c for c in status.conditions or () if c.type == "Ready"), None)
    return Child(
        resource.key,
        resource.uid,
        slot,
        spec.type,
        spec.verify,
        status,
        ready.reason if ready is not None else "",
        ready.message if ready is not None else "",
    )


def active(children: Sequence[Child]) -> list[Child]:
    """Those that have not ended, the oldest first."""
    return [c for c in children if not c.ended]


def newest_good(children: Sequence[Child]) -> Child | None:
    """The one that ended last and well."""
    done = [c for c in children if c.good and c.status.completed_at is not None]
    return max(done, key=lambda c: (c.status.completed_at, c.slot), default=None)


def newest_verified(children: Sequence[Child]) -> Child | None:
    """The one that was checked last."""
    checked = [c for c in children if c.good and c.status.verification is not None]
    return max(
        checked,
        key=lambda c: (c.status.verification.at, c.slot) if c.status.verification else (),
        default=None,
    )


def last_proof_asked(children: Sequence[Child], until: datetime) -> datetime | None:
    """The slot, up to a moment, of the newest one that was to be proved by a restore, failures left out."""
    proofs = (c for c in children if c.asked_verify is Verify.RESTORE and (c.good or not c.ended))
    asked = [c.slot for c in proofs if c.slot <= until]
    return max(asked, default=None)


def must_begin_anew(children: Sequence[Child]) -> bool:
    """Whether the next one must be a full: a full failed, or what follows it cannot be built on it."""
    for child in reversed(children):
        if child.good:
            return False
        if not child.ended:
            continue
        if child.asked is BackupType.FULL or child.reason in BEGIN_ANEW:
            return True
    return False
