"""How a Backup ends, and what becomes of what a run uploaded that came to nothing. Pure.

The end is written before anything is cleaned up: whoever waits for the deployment waits for no bucket. The clean-up is
one prune worker, and status says while it is due; what it cannot remove, later ones of the chain find.
"""

from __future__ import annotations

from datetime import datetime

from lucid_storage.errors import Reason
from lucid_storage.kinds.backup.actions import KeepSnapshots, RemoveWorker, StartWorker, StopWorker
from lucid_storage.kinds.backup.desired import look_name
from lucid_storage.kinds.backup.observed import CLEANING, POLL_SECONDS, BackupObserved, Plan, second
from lucid_storage.kinds.backup.requests import prune_request
from lucid_storage.kinds.backup.results import (
    completed,
    expiry,
    finished,
    holds,
    in_cluster,
    parsed,
    without_snapshots,
)
from lucid_storage.kinds.contract import Notice
from lucid_storage.kinds.oneshot import Said, Standing, Step
from lucid_storage.kinds.workers.state import WorkerPhase
from lucid_storage.kube.resources import Resource
from lucid_storage.models.backup import BackupPhase, BackupStatus, BackupType
from lucid_storage.models.orders import BackupResult
from lucid_storage.models.pruning import PruneResult

LATER = "A later prune of the chain removes what has no manifest, once it is older than a day."


def judged(resource: Resource, observed: BackupObserved, status: BackupStatus, now: datetime) -> Plan:
    """The end by the worker's last words."""
    result = parsed(BackupResult, observed.worker.result, status.run)
    if result is None:
        said = "The worker's last words cannot be understood; the log of its pod may say more."
        return ended(status, BackupPhase.FAILED, Reason.WORKER_LOST, said, now)
    if result.reason is Reason.CANCELLED:
        said = "The worker was told to end by somebody else, as happens when a node is drained."
        if result.manifest_sha256 is None:
            return ended(status, BackupPhase.FAILED, Reason.WORKER_LOST, said, now)
        told = f"{said} {result.message}"
        result = result.model_copy(update={"reason": Reason.WORKER_LOST, "message": told})
    if result.reason is Reason.QUEUED and status.job_name == look_name(resource):
        return _begun_anew(status, "It was not made before, so it is made now.")
    if result.reason is Reason.QUEUED and status.type is not BackupType.FULL:
        return _asked_anew(status, result)
    if in_cluster(result) and not observed.snapshots:
        result = without_snapshots(result)
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
    snapshots = in_cluster(done)  # which are seen to next, and before the object can go
    return Step(
        expiry(done, observed.keeping.days),
        said_of,
        hold=holds(resource, done) or snapshots,
        notices=(notice,),
        recheck_seconds=0.1 if snapshots else None,
    )


def _asked_anew(status: BackupStatus, result: BackupResult) -> Plan:
    """Nothing was made, since only a full can be: it stands in line for the deployment now, and its next worker has a
    Job of its own.
    """
    because = f"{result.message.rstrip('.')}, so" if result.message else "There is nothing to build on, so"
    said = f"{because} it becomes a full backup as soon as no other is under way."
    full = status.model_copy(update={"type": BackupType.FULL})
    return _begun_anew(full, said, Notice("BecomesFull", said))


def _begun_anew(status: BackupStatus, said: str, *notices: Notice) -> Plan:
    """As before it began. Its id stays, which tells that a worker was at it."""
    waiting = status.model_copy(
        update={
            "phase": BackupPhase.PENDING,
            "run": None,
            "job_name": None,
            "started_at": None,
            "progress": None,
        }
    )
    return Step(waiting, Said(Standing.UNDER_WAY, Reason.QUEUED, said), notices=notices, recheck_seconds=0.1)


def given_up(status: BackupStatus, reason: Reason, message: str, now: datetime) -> Plan:
    """The end of a worker that is over and gave no result. What it uploaded goes, a manifest that it wrote stays."""
    step = ended(status, BackupPhase.FAILED, reason, message, now)
    return _to_clean(step) if status.id is not None else step


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
    return stopped(observed, status, said, now) or cancelled(observed, status, now)


def stopped(observed: BackupObserved, status: BackupStatus, said: Said, now: datetime) -> Plan | None:
    """What is left to do until no worker of the run is at work any more; None when that is so."""
    worker, job = observed.worker, status.job_name
    if worker.phase is WorkerPhase.STOPPING:
        return Step(status, said, hold=True, recheck_seconds=POLL_SECONDS / 2)
    over = worker.phase in {WorkerPhase.ENDED, WorkerPhase.LOST} and worker.going
    if job is None or worker.phase is WorkerPhase.ABSENT or over:
        return None
    if worker.phase is not WorkerPhase.SUSPENDED:
        status = status.model_copy(update={"started_at": status.started_at or second(now)})
    return Step(status, said, (StopWorker(job, "it is cancelled"),), hold=True)


def cancelled(observed: BackupObserved, status: BackupStatus, now: datetime) -> Plan:
    """Its worker is gone, and nobody waits for it any more."""
    worker = observed.worker
    if worker.phase is WorkerPhase.LOST and not worker.over:
        told = f"Cancelled. Its worker may still be there ({worker.message}), so nothing was removed. {LATER}"
    elif status.started_at is None:
        told = "Cancelled; nothing was uploaded."
    else:
        told = "Cancelled; what was uploaded is being removed."
        return _to_clean(ended(status, BackupPhase.CANCELLED, Reason.CANCELLED, told, now))
    return ended(status, BackupPhase.CANCELLED, Reason.CANCELLED, told, now)


def _to_clean(step: Plan) -> Plan:
    """Written first; the next look cleans up."""
    status = step.status.model_copy(update={"progress": CLEANING})
    return Step(status, step.said, hold=True, notices=step.notices, recheck_seconds=0.1)


def cleaned(observed: BackupObserved, status: BackupStatus) -> Plan:
    """Have what a run uploaded removed, once. What hinders that holds up nothing."""
    prune = observed.prune
    if prune.phase in {WorkerPhase.ABSENT, WorkerPhase.SUSPENDED}:
        if observed.trouble is not None or observed.desired is None:
            return not_cleaned(status, observed.trouble.message if observed.trouble is not None else "")
        unfinished = status.phase is BackupPhase.FAILED
        request = prune_request(
            observed.desired,
            observed.cluster,
            discard=True,
            known_id=status.id or "",
            unfinished=unfinished,
            by_hand=observed.by_hand,
        )
        return Step(status, None, (StartWorker(request),), hold=True)
    if prune.alive:
        return Step(status, None, hold=True, recheck_seconds=POLL_SECONDS)
    remove = (RemoveWorker(observed.prune_job),)
    result = parsed(PruneResult, prune.result, status.run)
    if result is None or not result.ok:
        step = not_cleaned(status, prune.message if result is None else result.message)
        return Step(step.status, step.said, remove, notices=step.notices)
    over = status.model_copy(update={"progress": None})
    if status.phase is BackupPhase.FAILED:
        return Step(over, None, remove)
    kept = kept_because(observed, status)
    told = "what was uploaded is removed" if kept is None else f"its data stay for now: {kept.rstrip('.')}"
    said = Said(Standing.FAILED, Reason.CANCELLED, f"Cancelled; {told}.")
    if kept is None:
        return Step(over, said, remove)
    return Step(over.model_copy(update={"retained_because": kept[:512]}), said, (KeepSnapshots(), *remove))


def not_cleaned(status: BackupStatus, why: str) -> Plan:
    """The end without a clean-up."""
    over = status.model_copy(update={"progress": None})
    told = f"What was uploaded is not removed: {(why or 'the Backup cannot be read').rstrip('.')}. {LATER}"
    said = None
    if status.phase is BackupPhase.CANCELLED:
        said = Said(Standing.FAILED, Reason.CANCELLED, f"Cancelled. {told}")
    return Step(over, said, notices=(Notice("NotCleanedUp", told, warning=True),))


def kept_because(observed: BackupObserved, status: BackupStatus) -> str | None:
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


def failed(status: BackupStatus, reason: Reason, message: str, now: datetime) -> Plan:
    """The end in Failed."""
    return ended(status, BackupPhase.FAILED, reason, message, now)


def ended(status: BackupStatus, phase: BackupPhase, reason: Reason, message: str, now: datetime) -> Plan:
    """The end without success."""
    done, said = finished(status, phase, reason, message, now)
    return Step(done, said, notices=(Notice(str(reason), message, warning=phase is BackupPhase.FAILED),))
