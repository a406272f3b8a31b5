"""What becomes of a Backup next. Pure.

Pending -> Queued -> Running -> Verifying -> an end, from which nothing leads back: a Backup runs once. Its run and its
Job's name are computed and stand in status before the Job is made, so whoever comes next finds its own work.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from lucid_storage.errors import LucidError, Reason
from lucid_storage.kinds import figures
from lucid_storage.kinds.backup.actions import RemoveWorker, StartWorker, StopWorker
from lucid_storage.kinds.backup.desired import (
    BackupDesired,
    backup_id,
    backup_request,
    prune_request,
    run_id,
)
from lucid_storage.kinds.backup.results import (
    FINISHED,
    WITH_DATA,
    completed,
    expiry,
    finished,
    parsed,
)
from lucid_storage.kinds.contract import Notice
from lucid_storage.kinds.oneshot import Said, Standing, Step
from lucid_storage.kinds.workers.state import ABSENT, WorkerPhase, WorkerState
from lucid_storage.kube.resources import Resource
from lucid_storage.models.backup import BackupPhase, BackupStatus
from lucid_storage.models.base import DeletionPolicy
from lucid_storage.models.orders import BackupResult, Progress, PruneResult
from lucid_storage.stores.mongodb.types import Topology

Plan = Step[BackupStatus]

PATIENCE = timedelta(hours=1)
"""How long a Backup waits for what may mend itself (a store, a Secret) before it is Failed."""
POLL_SECONDS = 2.0
QUEUE_SECONDS = 15.0
LASTING = frozenset(
    {
        Reason.INVALID_SPEC,
        Reason.NOT_IMPLEMENTED,
        Reason.NOT_SUPPORTED,
        Reason.NO_OPLOG,
        Reason.SHARDED_UNSUPPORTED,
        Reason.DATABASE_NOT_ALLOWED,
        Reason.INDEX_NOT_ALLOWED,
        Reason.KEYS_NOT_ALLOWED,
    }
)
"""Reasons that waiting does not mend, since a Backup's spec cannot be changed."""


@dataclass(frozen=True, slots=True)
class BackupObserved:
    """What is known of the surroundings. Only what the phase needs is filled in."""

    desired: BackupDesired | None = None
    trouble: LucidError | None = None
    """Why the work cannot begin now."""
    cluster: str = ""
    topology: Topology | None = None
    identity: str | None = None
    behind: str | None = None
    """Who has the deployment or came first; None when it is ours."""
    worker: WorkerState = ABSENT
    prune: WorkerState = ABSENT
    prune_job: str = ""
    retention_days: int | None = None
    """Of a backup that was made by hand."""
    prune_due: bool = False
    """Long enough after the last attempt to remove expired data."""


def plan(resource: Resource, observed: BackupObserved, status: BackupStatus, now: datetime) -> Plan:
    """The next step."""
    if resource.deleted is not None:
        return _leave(resource, observed, status, now)
    if status.phase in FINISHED:
        return _after(resource, observed, status, now)
    if status.run is None:
        return _before(resource, observed, status, now)
    if resource.spec.get("cancel"):
        return _cancel(resource, observed, status, now)
    return _during(resource, observed, status, now)


def hindered(resource: Resource, status: BackupStatus, error: LucidError, now: datetime) -> Plan:
    """What an error means before the work has begun, or while its Job cannot be made."""
    if status.phase in FINISHED or resource.deleted is not None:
        said = Said(Standing.BLOCKED, error.reason, error.message) if resource.deleted is not None else None
        return Step(status, said, hold=resource.held, retry=True)
    since = status.queued_at or now
    if error.reason in LASTING or now - since > PATIENCE:
        return _failed(status, error.reason, error.message, now)
    standing = Standing.BLOCKED if error.stalled else Standing.UNDER_WAY
    waiting = status.model_copy(
        update={"phase": status.phase or BackupPhase.PENDING, "queued_at": status.queued_at or _second(now)}
    )
    return Step(waiting, Said(standing, error.reason, error.message), hold=status.run is not None, retry=True)


# Before


def _before(resource: Resource, observed: BackupObserved, status: BackupStatus, now: datetime) -> Plan:
    if resource.spec.get("cancel"):
        return _ended(status, BackupPhase.CANCELLED, Reason.CANCELLED, "Cancelled before it began.", now)
    if observed.trouble is not None:
        return hindered(resource, status, observed.trouble, now)
    status = status.model_copy(
        update={"phase": status.phase or BackupPhase.PENDING, "queued_at": status.queued_at or _second(now)}
    )
    if resource.paused:
        said = "The annotation stops it before it begins; remove it to go on."
        return Step(status, Said(Standing.BLOCKED, Reason.PAUSED, said))
    desired = observed.desired
    assert desired is not None
    if observed.topology is Topology.STANDALONE:
        said = (
            "This MongoDB is no replica set, so it has no oplog that a consistent backup could be made with. Start it"
            " with --replSet and run rs.initiate(); one member is enough."
        )
        return _failed(status, Reason.NO_OPLOG, said, now)
    if observed.topology is Topology.SHARDED:
        said = (
            "Backups of a sharded deployment are not supported; use snapshots of all its volumes taken with the"
            " balancer stopped, or the backup tool of its vendor."
        )
        return _failed(status, Reason.SHARDED_UNSUPPORTED, said, now)
    if observed.behind is not None:
        return _queued(status, observed)
    return _begin(resource, desired, observed, status)


def _queued(status: BackupStatus, observed: BackupObserved) -> Plan:
    queued = status.model_copy(
        update={
            "phase": BackupPhase.QUEUED,
            "queued_behind": observed.behind,
            "server_identity": observed.identity,
        }
    )
    said = f"Waits for {observed.behind}: one dump at a time for each deployment."
    notices = (Notice("Queued", said),) if status.phase is not BackupPhase.QUEUED else ()
    return Step(
        queued,
        Said(Standing.UNDER_WAY, Reason.QUEUED, said),
        notices=notices,
        recheck_seconds=QUEUE_SECONDS,
    )


def _begin(
    resource: Resource, desired: BackupDesired, observed: BackupObserved, status: BackupStatus
) -> Plan:
    request = backup_request(desired, observed.cluster, observed.identity)
    begun = status.model_copy(
        update={
            "phase": BackupPhase.RUNNING,
            "id": backup_id(resource.uid),
            "run": run_id(resource.uid),
            "job_name": request.name,
            "chain": desired.chain,
            "type": desired.spec.type,
            "schedule": desired.schedule,
            "slot": desired.slot,
            "encrypted": desired.key_id is not None,
            "key_id": desired.key_id,
            "location": desired.place.location,
            "server_identity": observed.identity,
            "queued_behind": None,
        }
    )
    said = Said(Standing.UNDER_WAY, Reason.RUNNING, f"The Job {request.name} is being started.")
    return Step(begun, said, (StartWorker(request),), hold=True, notices=(Notice("Started", said.message),))


# While a worker is at it


def _during(resource: Resource, observed: BackupObserved, status: BackupStatus, now: datetime) -> Plan:
    worker = observed.worker
    if worker.phase is WorkerPhase.ENDED:
        return _judged(resource, observed, status, now)
    if worker.phase is WorkerPhase.LOST:
        return _lost(status, worker, now)
    if worker.phase is WorkerPhase.ABSENT and status.started_at is not None:
        said = f"The Job {status.job_name} was removed before it gave its result."
        return _ended(status, BackupPhase.FAILED, Reason.WORKER_LOST, said, now)
    if worker.phase in {WorkerPhase.ABSENT, WorkerPhase.SUSPENDED}:
        if observed.trouble is not None or observed.desired is None:
            error = observed.trouble or LucidError("The Backup cannot be read.")
            return hindered(resource, status, error, now)
        request = backup_request(observed.desired, observed.cluster, status.server_identity)
        starting = f"The Job {request.name} is being started."
        begun = Said(Standing.UNDER_WAY, Reason.RUNNING, starting)
        return Step(status, begun, (StartWorker(request),), hold=True)
    return _progress(status, worker, now)


def _progress(status: BackupStatus, worker: WorkerState, now: datetime) -> Plan:
    status = status.model_copy(update={"started_at": status.started_at or _second(now)})
    phase, said = BackupPhase.RUNNING, f"Job {status.job_name}: {worker.message or 'at work'}."
    if worker.progress is not None:
        verifying = worker.progress.phase == BackupPhase.VERIFYING
        phase = BackupPhase.VERIFYING if verifying else BackupPhase.RUNNING
        status = status.model_copy(update={"progress": _shown(worker.progress)})
    elif worker.phase is WorkerPhase.RUNNING and status.phase is BackupPhase.VERIFYING:
        phase = BackupPhase.VERIFYING
    reason = Reason.VERIFYING if phase is BackupPhase.VERIFYING else Reason.RUNNING
    if phase is BackupPhase.VERIFYING:
        said = f"Job {status.job_name}: the backup is written and is being checked."
    return Step(
        status.model_copy(update={"phase": phase}),
        Said(Standing.UNDER_WAY, reason, said),
        hold=True,
        recheck_seconds=POLL_SECONDS,
    )


def _shown(progress: Progress) -> str:
    if progress.total_bytes:
        return f"{min(99, 100 * progress.done_bytes // progress.total_bytes)}%"
    return figures.size(progress.done_bytes)


def _judged(resource: Resource, observed: BackupObserved, status: BackupStatus, now: datetime) -> Plan:
    result = parsed(BackupResult, observed.worker.result, status.run)
    if result is None:
        said = "The worker's last words cannot be understood; the log of its pod may say more."
        return _ended(status, BackupPhase.FAILED, Reason.WORKER_LOST, said, now)
    if result.reason is Reason.CANCELLED:
        said = "The worker was told to end by somebody else, as happens when a node is drained."
        return _ended(status, BackupPhase.FAILED, Reason.WORKER_LOST, said, now)
    left_out = observed.desired.left_out if observed.desired is not None else ""
    done, said_of = completed(status, result, left_out=left_out, encrypted=bool(status.encrypted))
    done = done.model_copy(
        update={
            "started_at": done.started_at or _second(now),
            "completed_at": _second(result.completed_at or now),
        }
    )
    failed = said_of.standing is Standing.FAILED
    notice = Notice(str(said_of.reason), said_of.message, warning=failed)
    return Step(
        expiry(done, observed.retention_days), said_of, hold=_holds(resource, done), notices=(notice,)
    )


def _lost(status: BackupStatus, worker: WorkerState, now: datetime) -> Plan:
    reason = Reason.DEADLINE_EXCEEDED if worker.overdue else Reason.WORKER_LOST
    said = f"The worker {status.job_name} gave no result: {worker.message}."
    step = _ended(status, BackupPhase.FAILED, reason, said, now)
    if worker.over or status.job_name is None:
        return step
    # What is said is written first: without its Job a lost worker would look like one that somebody removed.
    return Step(step.status, step.said, (StopWorker(status.job_name, worker.message),), notices=step.notices)


# Cancelling and leaving


def _cancel(resource: Resource, observed: BackupObserved, status: BackupStatus, now: datetime) -> Plan:
    worker = observed.worker
    if worker.phase is WorkerPhase.ENDED:
        result = parsed(BackupResult, worker.result, status.run)
        if result is not None and result.reason is not Reason.CANCELLED:
            return _judged(resource, observed, status, now)  # it was done before it could be stopped
    said = Said(
        Standing.UNDER_WAY, Reason.CANCELLED, "It is being stopped, and what was uploaded is removed."
    )
    step = _stopped(observed, status, said)
    if step is not None:
        return step
    done = _ended(
        status, BackupPhase.CANCELLED, Reason.CANCELLED, "Cancelled; what was uploaded is removed.", now
    )
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


def _pruned(observed: BackupObserved, status: BackupStatus, said: Said, *, discard: bool) -> Plan | None:
    """Have a prune worker remove the data; None when it said that it did."""
    prune = observed.prune
    if prune.phase in {WorkerPhase.ABSENT, WorkerPhase.SUSPENDED}:
        if observed.trouble is not None or observed.desired is None:
            raise observed.trouble or LucidError("The Backup cannot be read.")
        known = status.id or ""
        request = prune_request(observed.desired, observed.cluster, discard=discard, known_id=known)
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


def _leave(resource: Resource, observed: BackupObserved, status: BackupStatus, now: datetime) -> Plan:
    said = Said(Standing.UNDER_WAY, Reason.DELETING, "It is being deleted; its worker and data go first.")
    prune = observed.prune_job
    if status.phase not in FINISHED and status.run is not None:
        step = _stopped(observed, status, said)
        if step is not None:
            return step
        gone, _ = finished(status, BackupPhase.CANCELLED, Reason.CANCELLED, "", now)
        return Step(gone, said, (RemoveWorker(prune),), hold=True)
    if _holds(resource, status):
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
        return Step(gone, said, (RemoveWorker(prune),), hold=True, notices=(Notice("Deleted", told),))
    return Step(status, None)


# Afterwards


def _after(resource: Resource, observed: BackupObserved, status: BackupStatus, now: datetime) -> Plan:
    status = expiry(status, observed.retention_days)
    hold = _holds(resource, status)
    due = status.expires_at
    has_data = status.phase in WITH_DATA and status.manifest_sha256 is not None
    if status.phase is BackupPhase.EXPIRED or not has_data or due is None:
        return Step(status, None, hold=hold)
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
    step = _pruned(observed, status, unsaid, discard=False)
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
    return Step(gone, expired, (remove,), notices=(Notice("Expired", told),))


def _kept_because(observed: BackupObserved, status: BackupStatus) -> str | None:
    """Why the data are there still after a prune worker was at it; None when they are gone."""
    result = parsed(PruneResult, observed.prune.result, status.run)
    if result is None or status.id in result.removed:
        return None
    for retained in result.retained:
        if retained.id == status.id:
            return retained.because
    return "Something in the chain cannot be read, so nothing was removed."


def _holds(resource: Resource, status: BackupStatus) -> bool:
    """Whether the deletion of the resource has data to remove."""
    return (
        resource.spec.get("deletionPolicy") == DeletionPolicy.DELETE
        and status.phase in WITH_DATA
        and status.manifest_sha256 is not None
    )


def _failed(status: BackupStatus, reason: Reason, message: str, now: datetime) -> Plan:
    return _ended(status, BackupPhase.FAILED, reason, message, now)


def _ended(status: BackupStatus, phase: BackupPhase, reason: Reason, message: str, now: datetime) -> Plan:
    done, said = finished(status, phase, reason, message, now)
    return Step(done, said, notices=(Notice(str(reason), message, warning=phase is BackupPhase.FAILED),))


def _second(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)
