"""How a Backup ends, and what becomes of it afterwards. Pure."""

from __future__ import annotations

from datetime import datetime

from lucid_storage.errors import LucidError, Reason
from lucid_storage.kinds.backup.actions import DropSnapshots, RemoveWorker, StartWorker, StopWorker
from lucid_storage.kinds.backup.observed import POLL_SECONDS, BackupObserved, Plan, second
from lucid_storage.kinds.backup.requests import prune_request
from lucid_storage.kinds.backup.results import FINISHED, WITH_DATA, completed, expiry, finished, parsed
from lucid_storage.kinds.contract import Action, Notice
from lucid_storage.kinds.oneshot import Said, Standing, Step
from lucid_storage.kinds.workers.state import WorkerPhase
from lucid_storage.kube.resources import Resource
from lucid_storage.models.backup import BackupPhase, BackupStatus, BackupType
from lucid_storage.models.base import DeletionPolicy
from lucid_storage.models.meta import SCHEDULE
from lucid_storage.models.orders import BackupResult
from lucid_storage.models.pruning import PruneResult

SCHEDULE_SECONDS = 86_400.0
"""How often a Backup is looked at for a schedule that is gone."""


def judged(resource: Resource, observed: BackupObserved, status: BackupStatus, now: datetime) -> Plan:
    """The end by the worker's last words."""
    result = parsed(BackupResult, observed.worker.result, status.run)
    if result is None:
        said = "The worker's last words cannot be understood; the log of its pod may say more."
        return ended(status, BackupPhase.FAILED, Reason.WORKER_LOST, said, now)
    if result.reason is Reason.CANCELLED:
        said = "The worker was told to end by somebody else, as happens when a node is drained."
        return ended(status, BackupPhase.FAILED, Reason.WORKER_LOST, said, now)
    if result.reason is Reason.QUEUED and status.type is not BackupType.FULL:
        return _asked_anew(status, result)
    left_out = observed.desired.left_out if observed.desired is not None else ""
    done, said_of = completed(status, result, left_out=left_out, encrypted=bool(status.encrypted))
    done = done.model_copy(
        update={
            "started_at": done.started_at or second(now),
            "completed_at": second(result.completed_at or now),
        }
    )
    failed = said_of.standing is Standing.FAILED
    notice = Notice(str(said_of.reason), said_of.message, warning=failed)
    return Step(expiry(done, observed.keeping.days), said_of, hold=holds(resource, done), notices=(notice,))


def _asked_anew(status: BackupStatus, result: BackupResult) -> Plan:
    """Nothing was made, since only a full can be: it stands in line for the deployment now, and its next worker has a
    Job of its own.
    """
    waiting = status.model_copy(
        update={
            "phase": BackupPhase.PENDING,
            "type": BackupType.FULL,
            "run": None,
            "job_name": None,
            "started_at": None,
            "progress": None,
        }
    )
    because = f"{result.message.rstrip('.')}, so" if result.message else "There is nothing to build on, so"
    said = f"{because} it becomes a full backup as soon as no other is under way."
    notices = (Notice("BecomesFull", said),)
    return Step(waiting, Said(Standing.UNDER_WAY, Reason.QUEUED, said), notices=notices, recheck_seconds=0.1)


def given_up(
    observed: BackupObserved, status: BackupStatus, reason: Reason, message: str, now: datetime
) -> Plan:
    """The end of a worker that is over and gave no result: what it uploaded goes first, a manifest that it wrote stays.

    What hinders the removal does not hold up the failure: every later prune of the chain finds what lies there.
    """
    prune = observed.prune
    if prune.phase in {WorkerPhase.ABSENT, WorkerPhase.SUSPENDED}:
        if observed.trouble is not None or observed.desired is None or status.id is None:
            return ended(status, BackupPhase.FAILED, reason, message, now)
        request = prune_request(
            observed.desired, observed.cluster, discard=True, known_id=status.id, unfinished=True
        )
        said = Said(Standing.UNDER_WAY, reason, f"{message} What it uploaded is being removed.")
        return Step(status, said, (StartWorker(request),), hold=True)
    if prune.alive:
        return Step(status, None, hold=True, recheck_seconds=POLL_SECONDS)
    step = ended(status, BackupPhase.FAILED, reason, message, now)
    return Step(step.status, step.said, (RemoveWorker(observed.prune_job),), notices=step.notices)


# Cancelling and leaving


def cancel(resource: Resource, observed: BackupObserved, status: BackupStatus, now: datetime) -> Plan:
    """The worker ends, then what it uploaded goes."""
    worker = observed.worker
    if worker.phase is WorkerPhase.ENDED:
        result = parsed(BackupResult, worker.result, status.run)
        if result is not None and result.reason is not Reason.CANCELLED:
            return judged(resource, observed, status, now)  # it was done before it could be stopped
    said = Said(
        Standing.UNDER_WAY, Reason.CANCELLED, "It is being stopped, and what was uploaded is removed."
    )
    step = _stopped(observed, status, said)
    if step is not None:
        return step
    kept = _kept_because(observed, status)
    told = "what was uploaded is removed" if kept is None else f"its data stay for now: {kept.rstrip('.')}"
    done = ended(status, BackupPhase.CANCELLED, Reason.CANCELLED, f"Cancelled; {told}.", now)
    if observed.prune.phase is WorkerPhase.ABSENT:
        return done
    return Step(done.status, done.said, (RemoveWorker(observed.prune_job),), notices=done.notices)


def _stopped(observed: BackupObserved, status: BackupStatus, said: Said) -> Plan | None:
    """What is left to do until nothing of the run is there any more; None when that is so."""
    worker, job = observed.worker, status.job_name
    if worker.phase is WorkerPhase.STOPPING:
        return Step(status, said, hold=True, recheck_seconds=POLL_SECONDS / 2)
    if job is not None and worker.phase is not WorkerPhase.ABSENT:
        return Step(status, said, (StopWorker(job, "it is cancelled"),), hold=True)
    if status.started_at is None:
        return None
    return _pruned(observed, status, said, discard=True)


def _pruned(
    observed: BackupObserved,
    status: BackupStatus,
    said: Said,
    *,
    discard: bool,
    ruled: bool = False,
    due: datetime | None = None,
) -> Plan | None:
    """Have a prune worker remove the data; None when it said that it did."""
    prune = observed.prune
    if prune.phase in {WorkerPhase.ABSENT, WorkerPhase.SUSPENDED}:
        if observed.trouble is not None or observed.desired is None:
            raise observed.trouble or LucidError("The Backup cannot be read.")
        known = status.id or ""
        request = prune_request(
            observed.desired, observed.cluster, discard=discard, ruled=ruled, due=due, known_id=known
        )
        return Step(status, said, (StartWorker(request),), hold=True)
    if prune.alive:
        return Step(status, said, hold=True, recheck_seconds=POLL_SECONDS)
    result = parsed(PruneResult, prune.result, status.run)
    if result is not None and result.ok:
        return None
    why = prune.message if result is None else result.message
    stuck = Said(Standing.BLOCKED, Reason.DELETING, f"The data are not removed yet: {why}")
    remove = RemoveWorker(observed.prune_job)
    return Step(status, stuck, (remove,), hold=True, retry=True)


def leave(resource: Resource, observed: BackupObserved, status: BackupStatus, now: datetime) -> Plan:
    """The resource is being deleted."""
    said = Said(Standing.UNDER_WAY, Reason.DELETING, "It is being deleted; its worker and data go first.")
    prune = observed.prune_job
    if status.phase not in FINISHED and status.run is not None:
        step = _stopped(observed, status, said)
        if step is not None:
            return step
        gone, _ = finished(status, BackupPhase.CANCELLED, Reason.CANCELLED, "", now)
        return Step(gone, said, (RemoveWorker(prune),), hold=True)
    if holds(resource, status):
        step = _pruned(observed, status, said, discard=False)
        if step is not None:
            return step
        kept = _kept_because(observed, status)
        told = (
            f"Its data stay for now: {kept}"
            if kept is not None
            else "Its data were removed (deletionPolicy: Delete)."
        )
        gone = status.model_copy(update={"phase": BackupPhase.EXPIRED})
        actions: tuple[Action, ...] = (*_snapshots(status, kept), RemoveWorker(prune))
        return Step(gone, said, actions, hold=True, notices=(Notice("Deleted", told),))
    return Step(status, None)


# Afterwards


def after(resource: Resource, observed: BackupObserved, status: BackupStatus, now: datetime) -> Plan:
    """It ended: its data go in their time."""
    status = expiry(status, observed.keeping.days)
    hold = holds(resource, status)
    due = status.expires_at if observed.keeping.days is not None else None
    has_data = status.phase in WITH_DATA and status.manifest_sha256 is not None
    if status.phase is BackupPhase.EXPIRED or not has_data or due is None:
        # Nobody tells when the schedule goes that decides about it.
        again = SCHEDULE_SECONDS if has_data and SCHEDULE in resource.annotations else None
        return Step(status, None, hold=hold, recheck_seconds=again)
    if now < due:
        seconds = (due - now).total_seconds() + 1
        return Step(status, None, hold=hold, recheck_seconds=seconds)
    if not observed.prune_due:
        return Step(status, None, hold=hold, recheck_seconds=3600)
    return _expire(observed, status, hold=hold)


def _expire(observed: BackupObserved, status: BackupStatus, *, hold: bool) -> Plan:
    """Retention has passed: the data go, the object stays."""
    remove = RemoveWorker(observed.prune_job)
    unsaid = Said(Standing.DONE, Reason.EXPIRED, "")
    ruled, due = observed.keeping.ruled, status.expires_at
    step = _pruned(observed, status, unsaid, discard=False, ruled=ruled, due=due)
    if step is not None:
        return Step(
            status, None, step.actions, hold=hold, recheck_seconds=step.recheck_seconds, retry=step.retry
        )
    kept = _kept_because(observed, status)
    if kept is not None:
        stays = status.model_copy(update={"retained_because": kept[:512]})
        return Step(stays, None, (remove,), hold=hold)
    gone = status.model_copy(
        update={"phase": BackupPhase.EXPIRED, "retained_because": None, "verified": None, "progress": None}
    )
    told = "Retention has passed: its data were removed, and the object stays."
    expired = Said(Standing.DONE, Reason.EXPIRED, told, (("Verified", False, Reason.EXPIRED, told),))
    actions: tuple[Action, ...] = (*_snapshots(status, None), remove)
    return Step(gone, expired, actions, notices=(Notice("Expired", told),))


def _kept_because(observed: BackupObserved, status: BackupStatus) -> str | None:
    """Why the data are there still after a prune worker was at it; None when they are gone."""
    result = parsed(PruneResult, observed.prune.result, status.run)
    if result is None or status.id in result.removed:
        return None
    for retained in result.retained:
        if retained.id == status.id:
            return retained.because
    if result.more:
        return "Other data have to be removed before it."
    return "Something in the chain cannot be read, so nothing was removed."


def _snapshots(status: BackupStatus, kept: str | None) -> tuple[DropSnapshots, ...]:
    """The part of the data that lies in the cluster and not in the destination."""
    in_cluster = any(engine.in_cluster for engine in status.engines or ())
    return (DropSnapshots(),) if in_cluster and kept is None else ()


def holds(resource: Resource, status: BackupStatus) -> bool:
    """Whether the deletion of the resource has data to remove."""
    return (
        resource.spec.get("deletionPolicy") == DeletionPolicy.DELETE
        and status.phase in WITH_DATA
        and status.manifest_sha256 is not None
    )


def failed(status: BackupStatus, reason: Reason, message: str, now: datetime) -> Plan:
    """The end in Failed."""
    return ended(status, BackupPhase.FAILED, reason, message, now)


def ended(status: BackupStatus, phase: BackupPhase, reason: Reason, message: str, now: datetime) -> Plan:
    """The end without success."""
    done, said = finished(status, phase, reason, message, now)
    return Step(done, said, notices=(Notice(str(reason), message, warning=phase is BackupPhase.FAILED),))
