"""What becomes of a Backup's data when it is deleted, and when retention has passed. Pure."""

from __future__ import annotations

from datetime import datetime

from lucid_storage.errors import LucidError, Reason
from lucid_storage.kinds.backup.actions import DropSnapshots, KeepSnapshots, RemoveWorker, StartWorker
from lucid_storage.kinds.backup.ending import cancelled, cleaned, kept_because, stopped
from lucid_storage.kinds.backup.observed import (
    CLEANING,
    DELETE_AGAIN_MOST,
    POLL_SECONDS,
    BackupObserved,
    Plan,
)
from lucid_storage.kinds.backup.requests import prune_request
from lucid_storage.kinds.backup.results import FINISHED, WITH_DATA, expiry, holds, parsed
from lucid_storage.kinds.contract import Action, Notice
from lucid_storage.kinds.oneshot import Said, Standing, Step
from lucid_storage.kinds.workers.state import WorkerPhase, WorkerState
from lucid_storage.kube.resources import Resource
from lucid_storage.models.backup import BackupPhase, BackupStatus
from lucid_storage.models.base import DeletionPolicy
from lucid_storage.models.meta import SCHEDULE
from lucid_storage.models.pruning import PruneResult

SCHEDULE_SECONDS = 86_400.0
"""How often a Backup is looked at for a schedule that is gone."""
EXPIRED_SECONDS = 3600.0
"""How often one is looked at whose days are over and whose data are there."""
UNTIL = "The deletion waits for that; with deletionPolicy: Retain the object goes at once and its data stay."


# Deletion


def leave(resource: Resource, observed: BackupObserved, status: BackupStatus, now: datetime) -> Plan:
    """The resource is being deleted."""
    said = Said(Standing.UNDER_WAY, Reason.DELETING, "It is being deleted; its worker and data go first.")
    if status.phase not in FINISHED and status.run is not None:
        step = stopped(observed, status, said, now)
        if step is not None:
            return step
        step = cancelled(observed, status, now)
        return Step(step.status, step.said, hold=True, notices=step.notices, recheck_seconds=0.1)
    if not insists(resource, status):
        return cleaned(observed, status) if status.progress == CLEANING else Step(status, None)
    step = _deleted(observed, status, said, now)
    if step is not None:
        return step
    kept, how = _fate(observed, status)
    told = (
        f"Its data stay for now: {kept}" if kept is not None else f"Its data {how} (deletionPolicy: Delete)."
    )
    because = kept[:512] if kept is not None else None
    gone = status.model_copy(
        update={"phase": BackupPhase.EXPIRED, "progress": None, "retained_because": because}
    )
    stay = (KeepSnapshots(),) if kept is not None else ()
    actions: tuple[Action, ...] = (*_snapshots(status, kept), *stay, RemoveWorker(observed.prune_job))
    return Step(gone, said, actions, hold=True, notices=(Notice("Deleted", told),))


def insists(resource: Resource, status: BackupStatus) -> bool:
    """Whether the deletion waits until the data are gone."""
    if resource.spec.get("deletionPolicy") != DeletionPolicy.DELETE:
        return False
    stopped_at_work = status.phase is BackupPhase.CANCELLED and status.progress == CLEANING
    return stopped_at_work or holds(resource, status)


def _deleted(observed: BackupObserved, status: BackupStatus, said: Said, now: datetime) -> Plan | None:
    """Have prune workers remove the data until one did; None when that is so. Raises what hinders it."""
    prune, again = observed.prune, observed.prune_again
    # A time further ahead comes from a clock that was.
    waits = again is not None and now < again <= now + DELETE_AGAIN_MOST
    if prune.phase is WorkerPhase.ABSENT and again is not None and waits:
        return Step(status, None, hold=True, recheck_seconds=(again - now).total_seconds() + 0.1)
    if _none(prune):
        start = _start(observed, status, discard=status.phase is BackupPhase.CANCELLED)
        return Step(status, said if again is None else None, (start,), hold=True)
    why, unasked = _failure(prune, status), _only_expired(prune, status)
    if prune.alive or ((why is not None or unasked) and prune.going):
        return Step(status, said if again is None else None, hold=True, recheck_seconds=POLL_SECONDS)
    if unasked:
        return Step(status, said, (RemoveWorker(observed.prune_job),), hold=True)
    if why is None:
        return None
    stuck, notices = deletion_waits(status, Reason.DELETING, f"The data are not removed yet: {why}")
    return Step(status, stuck, (RemoveWorker(observed.prune_job),), hold=True, notices=notices)


def deletion_waits(status: BackupStatus, reason: Reason, why: str) -> tuple[Said, tuple[Notice, ...]]:
    """What a person reads whose deletion cannot go on; the Event once."""
    told = f"{why.rstrip('.')}. {UNTIL}"
    known = any(condition.message == told for condition in status.conditions or ())
    notices = () if known else (Notice("DeletionWaits", told, warning=True),)
    return Said(Standing.BLOCKED, reason, told), notices


# Afterwards


def after(resource: Resource, observed: BackupObserved, status: BackupStatus, now: datetime) -> Plan:
    """It ended: its data go in their time."""
    status = expiry(status, observed.keeping.days)
    hold = holds(resource, status)
    due = status.expires_at if observed.keeping.days is not None else None
    has_data = status.phase in WITH_DATA and status.manifest_sha256 is not None
    if has_data and observed.prune.phase is not WorkerPhase.ABSENT and (due is None or now < due):
        return _overtaken(observed, status, hold=hold)
    if status.phase is BackupPhase.EXPIRED or not has_data or due is None:
        # Nobody tells when the schedule goes that decides about it.
        again = SCHEDULE_SECONDS if has_data and SCHEDULE in resource.annotations else None
        return Step(status, None, hold=hold, recheck_seconds=again)
    if now < due:
        seconds = (due - now).total_seconds() + 1
        return Step(status, None, hold=hold, recheck_seconds=seconds)
    if not observed.prune_due:
        return Step(status, None, hold=hold, recheck_seconds=EXPIRED_SECONDS)
    if resource.paused and _none(observed.prune):
        return Step(status, None, hold=hold, recheck_seconds=EXPIRED_SECONDS)
    return _expire(observed, status, hold=hold)


def _overtaken(observed: BackupObserved, status: BackupStatus, *, hold: bool) -> Plan:
    """Its days were raised, or a schedule decides again, after a worker was made that removes its data: one that has
    not begun is stopped, and what one at work did is told.
    """
    prune, remove = observed.prune, RemoveWorker(observed.prune_job)
    if prune.alive and prune.phase is not WorkerPhase.WAITING and not _none(prune):
        return Step(status, None, hold=hold, recheck_seconds=POLL_SECONDS)
    kept, how = _fate(observed, status)
    if prune.phase is not WorkerPhase.ENDED or kept is not None or _failure(prune, status) is not None:
        return Step(status, None, (remove,), hold=hold)
    return _gone(observed, status, how)


def _expire(observed: BackupObserved, status: BackupStatus, *, hold: bool) -> Plan:
    """Retention has passed: the data go, the object stays. What hinders that is told as why they stay."""
    remove = RemoveWorker(observed.prune_job)
    if _none(observed.prune):
        if observed.trouble is not None:
            return Step(
                _retained(status, observed.trouble.message), None, hold=hold, recheck_seconds=EXPIRED_SECONDS
            )
        start = _start(observed, status, ruled=observed.keeping.ruled, due=status.expires_at)
        return Step(status, None, (start,), hold=hold)
    if observed.prune.alive:
        return Step(status, None, hold=hold, recheck_seconds=POLL_SECONDS)
    why = _failure(observed.prune, status)
    if why is not None:
        return Step(_retained(status, f"The data are not removed yet: {why}"), None, (remove,), hold=hold)
    kept, how = _fate(observed, status)
    if kept is not None:
        return Step(_retained(status, kept), None, (remove,), hold=hold)
    return _gone(observed, status, how)


def _gone(observed: BackupObserved, status: BackupStatus, how: str) -> Plan:
    gone = status.model_copy(
        update={"phase": BackupPhase.EXPIRED, "retained_because": None, "verified": None, "progress": None}
    )
    told = f"Retention has passed: its data {how}, and the object stays."
    expired = Said(Standing.DONE, Reason.EXPIRED, told, (("Verified", False, Reason.EXPIRED, told),))
    actions: tuple[Action, ...] = (*_snapshots(status, None), RemoveWorker(observed.prune_job))
    return Step(gone, expired, actions, notices=(Notice("Expired", told),))


def _retained(status: BackupStatus, because: str) -> BackupStatus:
    return status.model_copy(update={"retained_because": because[:512]})


# The prune worker


def _none(prune: WorkerState) -> bool:
    """Whether none was let begin."""
    return prune.phase in {WorkerPhase.ABSENT, WorkerPhase.SUSPENDED}


def _start(
    observed: BackupObserved,
    status: BackupStatus,
    *,
    discard: bool = False,
    ruled: bool = False,
    due: datetime | None = None,
) -> StartWorker:
    """A prune worker for the data. Raises LucidError where none can be made."""
    if observed.trouble is not None or observed.desired is None:
        raise observed.trouble or LucidError("The Backup cannot be read.")
    request = prune_request(
        observed.desired,
        observed.cluster,
        discard=discard,
        ruled=ruled,
        due=due,
        known_id=status.id or "",
        has_data=status.manifest_sha256 is not None,
        by_hand=observed.by_hand,
    )
    return StartWorker(request)


def _failure(prune: WorkerState, status: BackupStatus) -> str | None:
    """Why a prune worker that is over did not do its work; None when it did."""
    result = parsed(PruneResult, prune.result, status.run)
    if result is None:
        return f"{prune.message.rstrip('.') or 'its worker gave no result'}."
    return None if result.ok else result.message


def _only_expired(prune: WorkerState, status: BackupStatus) -> bool:
    """Whether the data are there still after a worker that came because their days were over: what is deleted has to be
    asked for anew, so that it is remembered.
    """
    result = parsed(PruneResult, prune.result, status.run)
    return result is not None and result.ok and result.expiry and status.id not in result.removed


def _fate(observed: BackupObserved, status: BackupStatus) -> tuple[str | None, str]:
    """Why the data are there still, or None; and what became of them otherwise: told only as far as it was seen."""
    result = parsed(PruneResult, observed.prune.result, status.run)
    if result is not None and status.id in result.missing and status.manifest_sha256 is not None:
        where = f" in {observed.desired.place.location}" if observed.desired is not None else ""
        return None, f"were not found{where}, so nothing was removed"
    return kept_because(observed, status), "were removed"


def _snapshots(status: BackupStatus, kept: str | None) -> tuple[DropSnapshots, ...]:
    """The part of the data that lies in the cluster and not in the destination."""
    in_cluster = any(engine.in_cluster for engine in status.engines or ())
    return (DropSnapshots(),) if in_cluster and kept is None else ()
