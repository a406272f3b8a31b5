"""The Backups that a schedule made, as far as the schedule has to know them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from pydantic import ValidationError

from lucid_storage.errors import Reason
from lucid_storage.kinds.backupschedule.slots import LITTLE
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.backup import BackupPhase, BackupSpec, BackupStatus, BackupType, Verify
from lucid_storage.models.backupschedule import BackupScheduleStatus
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
    early: bool
    """A clock that was ahead had it made: its slot or its beginning was yet to come. Its times tell nothing of now."""

    def ends_ahead(self, now: datetime) -> bool:
        """It ended by a clock that was ahead."""
        return self.status.completed_at is not None and self.status.completed_at > now + LITTLE

    @property
    def ended(self) -> bool:
        return self.status.phase in ENDED

    @property
    def good(self) -> bool:
        return self.status.phase is BackupPhase.COMPLETED

    @property
    def failed_check(self) -> bool:
        return self.status.phase is BackupPhase.FAILED and self.reason == Reason.VERIFY_FAILED

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


def children_of(
    schedule: Key, backups: Iterable[Resource], status: BackupScheduleStatus, now: datetime
) -> list[Child]:
    """The Backups that a schedule made and that are not going, in order of their slots.

    Those that a clock which was ahead had made come first, also when their slots have come: what runs now is newer.
    """
    found = []
    for resource in backups:
        made_by_it = resource.annotations.get(SCHEDULE) == schedule.name
        if resource.key.namespace != schedule.namespace or not made_by_it or resource.deleted is not None:
            continue
        child = _child(resource, status, now)
        if child is not None:
            found.append(child)
    return sorted(found, key=lambda c: (not c.early, c.slot, c.key.name))


def made_by_hand(namespace: str, chain: str, backups: Iterable[Resource]) -> list[Child]:
    """Backups of the chain that no schedule made, and that have data. Their slot is when they were made."""
    found = []
    for resource in backups:
        mine = resource.key.namespace == namespace and SCHEDULE not in resource.annotations
        if not mine or resource.deleted is not None or resource.status.get("chain") != chain:
            continue
        child = _read(resource, datetime.fromisoformat(resource.created), early=False)
        if child is not None and child.holds_data:
            found.append(child)
    return found


def made_again(status: BackupScheduleStatus, slot: datetime) -> int:
    """How often the clock was put back before a slot whose backup was made too early; 0 for other slots.

    Part of the names of what is made of these slots in their time.
    """
    early = status.early_until is not None and slot <= status.early_until
    return (status.put_back or 0) if early else 0


def _early(
    name: str, slot: datetime, backup: BackupStatus, schedule: BackupScheduleStatus, now: datetime
) -> bool:
    begun = max(slot, backup.started_at or slot)
    if begun > now + LITTLE:
        return True
    # A status of before early_from was written down does not tell the good ones from the early ones.
    if schedule.early_from is None or begun <= schedule.early_from:
        return False
    again = made_again(schedule, slot)
    return bool(again) and not name.endswith(f"-{again}")


def _child(resource: Resource, schedule: BackupScheduleStatus, now: datetime) -> Child | None:
    """None for an object that somebody else gave our annotation."""
    try:
        slot = datetime.fromisoformat(resource.annotations.get(SLOT, ""))
    except ValueError:
        return None
    if slot.tzinfo is None:
        return None
    child = _read(resource, slot, early=False)
    if child is None:
        return None
    return replace(child, early=_early(resource.key.name, slot, child.status, schedule, now))


def _read(resource: Resource, slot: datetime, *, early: bool) -> Child | None:
    try:
        spec = BackupSpec.model_validate(resource.spec)
        status = BackupStatus.model_validate(resource.status)
    except ValidationError:
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
        early,
    )


def active(children: Sequence[Child]) -> list[Child]:
    """Those that have not ended, the oldest first."""
    return [c for c in children if not c.ended]


def newest_good(children: Sequence[Child]) -> Child | None:
    """The one that ended last and well; one that was made too early only where there is no other."""
    done = [c for c in children if c.good and c.status.completed_at is not None]
    return max(done, key=lambda c: (not c.early, c.status.completed_at, c.slot), default=None)


def news_since(good: Child, children: Iterable[Child], by_hand: Iterable[Child]) -> Child | None:
    """The newest one that changed what can be restored after a good one had ended: its check failed, which may have
    found a hole, or it was made by hand and is good.
    """
    since = good.status.completed_at
    failed = [c for c in (*children, *by_hand) if c.failed_check and c.early == good.early]
    done = (*failed, *(c for c in by_hand if c.good))
    later = [
        c for c in done if since is not None and (at := c.status.completed_at) is not None and at > since
    ]
    return max(later, key=lambda c: (c.status.completed_at, c.slot), default=None)


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
