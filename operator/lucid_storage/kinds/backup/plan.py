"""What becomes of a Backup next. Pure.

Pending -> Queued -> Running -> Verifying -> an end, from which nothing leads back: a Backup runs once. Its run and its
Job's name are computed and stand in status before the Job is made, so whoever comes next finds its own work.
"""

from __future__ import annotations

from datetime import datetime

from lucid_storage.errors import LucidError, Reason
from lucid_storage.kinds import figures
from lucid_storage.kinds.backup.actions import (
    DropSnapshots,
    KeepSnapshots,
    StartWorker,
    StopWorker,
)
from lucid_storage.kinds.backup.desired import BackupDesired, backup_id, run_id
from lucid_storage.kinds.backup.ending import (
    cancel,
    cleaned,
    ended,
    failed,
    given_up,
    judged,
    not_cleaned,
)
from lucid_storage.kinds.backup.leaving import after, deletion_waits, insists, leave
from lucid_storage.kinds.backup.observed import (
    CLEANING,
    LASTING,
    PATIENCE,
    POLL_SECONDS,
    QUEUE_SECONDS,
    BackupObserved,
    Plan,
    begun,
    second,
)
from lucid_storage.kinds.backup.requests import backup_request
from lucid_storage.kinds.backup.results import FINISHED, may_have_snapshots
from lucid_storage.kinds.backup.snapshot_waits import snapshots_first
from lucid_storage.kinds.contract import Notice
from lucid_storage.kinds.oneshot import Said, Standing, Step
from lucid_storage.kinds.workers.state import WorkerPhase, WorkerState
from lucid_storage.kube.resources import Resource
from lucid_storage.models.backup import BackupPhase, BackupStatus, BackupType
from lucid_storage.models.orders import Progress
from lucid_storage.stores.mongodb.types import Topology


def plan(resource: Resource, observed: BackupObserved, status: BackupStatus, now: datetime) -> Plan:
    """The next step."""
    if status.phase in FINISHED and observed.snapshots:
        step = _settled(resource, observed, status)
        if step is not None:
            return step
    if resource.deleted is not None:
        return leave(resource, observed, status, now)
    if status.phase in FINISHED:
        if status.progress == CLEANING:
            return cleaned(observed, status)
        return after(resource, observed, status, now)
    if resource.spec.get("cancel") and status.run is not None:
        return cancel(resource, observed, status, now)
    if not begun(status):
        return _before(resource, observed, status, now)
    return _during(resource, observed, status, now)


def hindered(resource: Resource, status: BackupStatus, error: LucidError, now: datetime) -> Plan:
    """What an error means before the work has begun, or while its Job cannot be made."""
    if status.progress == CLEANING and not (resource.deleted is not None and insists(resource, status)):
        return not_cleaned(status, error.message)
    if resource.deleted is not None:
        if not insists(resource, status):
            blocked = Said(Standing.BLOCKED, error.reason, error.message)
            return Step(status, blocked, hold=resource.held, retry=True)
        blocked, notices = deletion_waits(status, error.reason, error.message)
        return Step(status, blocked, hold=resource.held, notices=notices, retry=True)
    if status.phase in FINISHED:
        return Step(status, None, hold=resource.held, retry=True)
    since = status.trouble_since or second(now)
    if error.reason in LASTING or now - since > PATIENCE:
        end = failed if status.started_at is None else given_up
        return end(status, error.reason, error.message, now)
    standing = Standing.BLOCKED if error.stalled else Standing.UNDER_WAY
    said = Said(standing, error.reason, error.message)
    if status.started_at is not None:
        # Its worker was there, so nothing leads back to the time before.
        return Step(status.model_copy(update={"trouble_since": since}), said, hold=True, retry=True)
    waiting = status.model_copy(
        update={
            "phase": BackupPhase.PENDING,
            "queued_behind": None,
            "queued_at": status.queued_at or second(now),
            "trouble_since": since,
        }
    )
    # Nothing of it runs: it is in nobody's way meanwhile, and is in line again when it can go on.
    held = status.run is not None
    return Step(waiting, said, hold=held, retry=True, idle=True)


def _settled(resource: Resource, observed: BackupObserved, status: BackupStatus) -> Plan | None:
    """What is left to do at its snapshots: they are data from the moment when it is a backup, whoever made it, and go
    when it is expired and no data of it stay. Until that is done it keeps its finalizer, since an object takes along
    what it owns.
    """
    if status.phase is BackupPhase.EXPIRED and status.retained_because is None:
        return Step(status, None, (DropSnapshots(),), hold=resource.held)
    data = status.manifest_sha256 is not None or status.phase is BackupPhase.CANCELLED
    if observed.owned and data and may_have_snapshots(status):
        return Step(status, None, (KeepSnapshots(),), hold=resource.held)
    return None


# Before


def _before(resource: Resource, observed: BackupObserved, status: BackupStatus, now: datetime) -> Plan:
    if resource.spec.get("cancel"):
        return ended(status, BackupPhase.CANCELLED, Reason.CANCELLED, "Cancelled before it began.", now)
    if observed.trouble is not None:
        return hindered(resource, status, observed.trouble, now)
    since = status.trouble_since
    status = status.model_copy(
        update={
            "phase": status.phase or BackupPhase.PENDING,
            "queued_at": status.queued_at or second(now),
            # Of a Job or a snapshot that could not be made it is over when that is there, or is not tried any more.
            "trouble_since": since if status.run is not None else None,
        }
    )
    if resource.paused:
        said = "The annotation stops it before it begins; remove it to go on."
        calm = status.model_copy(update={"trouble_since": None, "snapshots_since": None})
        return Step(calm, Said(Standing.BLOCKED, Reason.PAUSED, said), idle=True)
    desired = observed.desired
    assert desired is not None
    if observed.topology is Topology.STANDALONE:
        said = (
            "This MongoDB is no replica set, so it has no oplog that a consistent backup could be made with. Start it"
            " with --replSet and run rs.initiate(); one member is enough."
        )
        return failed(status, Reason.NO_OPLOG, said, now)
    if observed.topology is Topology.SHARDED:
        said = (
            "Backups of a sharded deployment are not supported; use snapshots of all its volumes taken with the"
            " balancer stopped, or the backup tool of its vendor."
        )
        return failed(status, Reason.SHARDED_UNSUPPORTED, said, now)
    if desired.looks:
        return _begin(resource, desired, observed, status)
    if observed.behind is not None:
        return _queued(status, observed)
    if desired.volumes.waiting:
        return snapshots_first(observed, status.model_copy(update={"trouble_since": since}), now)
    return _begin(resource, desired, observed, status)


def _queued(status: BackupStatus, observed: BackupObserved) -> Plan:
    queued = status.model_copy(
        update={
            "phase": BackupPhase.QUEUED,
            "queued_behind": observed.behind,
            "server_identity": observed.identity,
            "trouble_since": None,
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
            "type": BackupType.FULL if desired.becomes_full else desired.spec.type,
            "schedule": desired.schedule,
            "slot": desired.slot,
            "encrypted": desired.key_id is not None,
            "key_id": desired.key_id,
            "location": desired.place.location,
            # Who only looks has no deployment, and nobody waits for it.
            "server_identity": observed.identity if not desired.looks else status.server_identity,
            "queued_behind": None,
            "snapshots_since": None,
        }
    )
    said = Said(Standing.UNDER_WAY, Reason.RUNNING, f"The Job {request.name} is being started.")
    first = status.run is None and not desired.looks
    notices = (Notice("Started", said.message),) if first else ()
    return Step(begun, said, (StartWorker(request),), hold=True, notices=notices)


# While a worker is at it


def _during(resource: Resource, observed: BackupObserved, status: BackupStatus, now: datetime) -> Plan:
    worker = observed.worker
    if worker.phase not in {WorkerPhase.ABSENT, WorkerPhase.SUSPENDED}:
        status = status.model_copy(update={"trouble_since": None})
    if worker.phase is WorkerPhase.ENDED:
        return judged(resource, observed, status, now)
    if worker.phase is WorkerPhase.LOST:
        return _lost(observed, status, now)
    if worker.phase is WorkerPhase.ABSENT and status.started_at is not None:
        said = f"The Job {status.job_name} was removed before it gave its result."
        return given_up(status, Reason.WORKER_LOST, said, now)
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
    status = status.model_copy(update={"started_at": status.started_at or second(now)})
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


def _lost(observed: BackupObserved, status: BackupStatus, now: datetime) -> Plan:
    worker = observed.worker
    reason = Reason.DEADLINE_EXCEEDED if worker.overdue else Reason.WORKER_LOST
    said = f"The worker {status.job_name} gave no result: {worker.message}."
    if worker.over:
        return given_up(status, reason, said, now)
    step = ended(status, BackupPhase.FAILED, reason, said, now)
    if status.job_name is None:
        return step
    # What is said is written first: without its Job a lost worker would look like one that somebody removed.
    return Step(step.status, step.said, (StopWorker(status.job_name, worker.message),), notices=step.notices)
