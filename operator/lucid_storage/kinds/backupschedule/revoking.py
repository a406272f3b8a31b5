"""Proofs that are taken back: of a Backup that was found damaged later, or a slice or base that it stands on. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from lucid_storage.errors import Reason
from lucid_storage.kinds.backupschedule.actions import ExplainBackup
from lucid_storage.kinds.backupschedule.children import Child
from lucid_storage.kinds.contract import Notice
from lucid_storage.kube.client import Json
from lucid_storage.models.backup import BackupPhase, Verify
from lucid_storage.models.base import Condition, ConditionStatus
from lucid_storage.models.pruning import PruneResult

LOST = (
    "It, or a slice or a backup that it stands on, is damaged or gone, so it cannot be restored. Restore another"
    " Backup, or a moment in status.recoverable of its schedule, and delete this one unless you can put back what is"
    " missing."
)
TELLING = frozenset({BackupPhase.COMPLETED, BackupPhase.PARTIALLY_FAILED})
"""One that failed says so already."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """What follows for the objects."""

    actions: tuple[ExplainBackup, ...] = ()
    notices: tuple[Notice, ...] = ()


def told(children: Sequence[Child]) -> tuple[str, ...]:
    """Ids of those whose objects say already that they cannot be restored."""
    return tuple(c.status.id for c in children if c.status.id is not None and _lost(c))


def silent(children: Sequence[Child], ids: Iterable[str]) -> tuple[str, ...]:
    """Of `ids` those of which nothing can be told: a worker that named them would name them for ever."""
    heard = {c.status.id for c in children if _claims(c) or _lost(c)}
    return tuple(key for key in ids if key not in heard)


def said(children: Sequence[Child], result: PruneResult, now: datetime) -> Revoked:
    """What a look into the destination found out, on the Backups that it is about."""
    lost = [c for c in children if c.status.id in result.unrestorable and _claims(c)]
    found = [c for c in children if c.status.id in result.restorable_again and _lost(c)]
    actions = (*(_revoke(c, now) for c in lost), *(_renew(c, now) for c in found))
    if not lost:
        return Revoked(actions)
    names = ", ".join(c.key.name for c in lost[:5]) + (" and more" if len(lost) > 5 else "")
    text = f"Backups that cannot be restored any more: {names}. Their condition Verified says what to do."
    return Revoked(actions, (Notice("NotRestorable", text, warning=True),))


def _verified(child: Child) -> Condition | None:
    return next((c for c in child.status.conditions or () if c.type == "Verified"), None)


def _claims(child: Child) -> bool:
    """Whether it says of data that lie there that they can be restored."""
    return child.holds_data and child.status.phase in TELLING and not _lost(child)


def _lost(child: Child) -> bool:
    condition = _verified(child)
    return condition is not None and condition.reason == Reason.ARCHIVE_DAMAGED


def _revoke(child: Child, now: datetime) -> ExplainBackup:
    column = str(Reason.ARCHIVE_DAMAGED)
    return _patched(child, ConditionStatus.FALSE, Reason.ARCHIVE_DAMAGED, LOST, column, now)


def _renew(child: Child, now: datetime) -> ExplainBackup:
    check = child.status.verification
    if check is None:
        text = "What it stands on can be read again; nothing of it was proved."
        return _patched(child, ConditionStatus.FALSE, Reason.VERIFY_FAILED, text, None, now)
    level = str(check.level)
    text = f"What it stands on can be read again; it was checked ({level}) at {check.at:%Y-%m-%d %H:%M:%SZ}."
    if any(
        e.in_cluster or (e.unencrypted and check.level is not Verify.RESTORE)
        for e in child.status.engines or ()
    ):
        why = Reason.SNAPSHOT_ONLY
        return _patched(child, ConditionStatus.FALSE, why, f"{text} {why.__doc__}", f"{level}, {why}", now)
    if child.asked_verify is Verify.RESTORE and check.level is not Verify.RESTORE:
        why = Reason.NO_VERIFY_SERVER
        return _patched(child, ConditionStatus.FALSE, why, f"{text} {why.__doc__}", f"{level}, {why}", now)
    return _patched(child, ConditionStatus.TRUE, Reason.VERIFIED, text, level, now)


def _patched(
    child: Child, on: ConditionStatus, reason: Reason, message: str, column: str | None, now: datetime
) -> ExplainBackup:
    before = _verified(child)
    since = before.last_transition_time if before is not None and before.status == on else None
    condition = Condition(
        type="Verified",
        status=on,
        reason=str(reason),
        message=message,
        last_transition_time=since or now.replace(microsecond=0),
        observed_generation=before.observed_generation if before is not None else None,
    )
    others = [c for c in child.status.conditions or () if c.type != "Verified"]
    # A merge patch replaces a list as a whole.
    patch: Json = {"conditions": [c.to_dict() for c in (*others, condition)], "verified": column}
    return ExplainBackup(child.key, child.uid, patch)
