"""What becomes of a Restore next. Pure.

Pending -> Queued -> Planning -> Loading -> Replaying -> Swapping -> Completed. Until Swapping a failure, a cancel or a
deletion leaves the target as it was; from there it only rolls forward, and nothing stops it (rule 2.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from lucid_storage.errors import LucidError, Reason
from lucid_storage.kinds import figures
from lucid_storage.kinds.backup.plan import LASTING, PATIENCE, POLL_SECONDS, QUEUE_SECONDS
from lucid_storage.kinds.backup.results import parsed
from lucid_storage.kinds.contract import Notice
from lucid_storage.kinds.oneshot import Said, Standing, Step
from lucid_storage.kinds.restore.actions import Discard, DropOld, Mark, StartWorker, StopWorker, Swap
from lucid_storage.kinds.restore.desired import (
    RestoreDesired,
    again,
    job_name,
    restore_id,
    run_id,
    worker_request,
)
from lucid_storage.kinds.workers.state import ABSENT, WorkerPhase, WorkerState
from lucid_storage.kube.resources import Resource
from lucid_storage.models.orders import Progress, RestorePlanned, RestoreResult
from lucid_storage.models.restore import PlannedTarget, RestorePhase, RestorePlan, RestoreStatus
from lucid_storage.stores.mongodb.restore.port import Marker
from lucid_storage.stores.mongodb.types import Topology

Plan = Step[RestoreStatus]

FINISHED = frozenset({RestorePhase.COMPLETED, RestorePhase.FAILED, RestorePhase.CANCELLED})
WORKING = frozenset({RestorePhase.PLANNING, RestorePhase.LOADING, RestorePhase.REPLAYING})
SWAP_SECONDS = 5.0
"""Between two attempts to go on with a swap."""


@dataclass(frozen=True, slots=True)
class RestoreObserved:
    """What is known of the surroundings. Only what the phase needs is filled in."""

    desired: RestoreDesired | None = None
    trouble: LucidError | None = None
    """Why the work cannot go on now."""
    cluster: str = ""
    topology: Topology | None = None
    identity: str | None = None
    spec_hash: str = ""
    marker: Marker | None = None
    behind: str | None = None
    worker: WorkerState = ABSENT
    """Of the Job that the phase is about."""
    earlier: WorkerState = ABSENT
    """Of the run before this one."""
    unfit: LucidError | None = None
    """Why the swap cannot begin, where it has not."""
    settled: bool = False
    """The journal of the run is gone: nothing of it is left to drop."""


def plan(resource: Resource, observed: RestoreObserved, status: RestoreStatus, now: datetime) -> Plan:
    """The next step."""
    if status.phase is RestorePhase.SWAPPING:
        return _swap(resource, observed, status, now)
    if status.phase in (RestorePhase.FAILED, RestorePhase.CANCELLED) and _left_behind(status):
        if observed.trouble is not None:
            return Step(status, None, hold=True, retry=True)
        return Step(status, None, _left_behind(status), hold=True)
    if resource.deleted is not None:
        return _leave(observed, status)
    if status.phase in FINISHED:
        return _after(resource, observed, status, now)
    if status.run is None:
        return _before(resource, observed, status, now)
    if resource.spec.get("cancel"):
        return _cancel(observed, status, now)
    return _during(resource, observed, status, now)


def hindered(resource: Resource, status: RestoreStatus, error: LucidError, now: datetime) -> Plan:
    """What an error means: before the swap it may end the restore, in it and after it the work is tried again."""
    if status.phase is RestorePhase.SWAPPING:
        said = f"The swap goes on by itself as soon as it can: {error.message}"
        return Step(
            status,
            Said(Standing.UNDER_WAY, error.reason, said),
            hold=True,
            recheck_seconds=SWAP_SECONDS,
            retry=True,
        )
    if status.phase in FINISHED or resource.deleted is not None:
        blocked = (
            Said(Standing.BLOCKED, error.reason, error.message) if resource.deleted is not None else None
        )
        return Step(status, blocked, hold=resource.held, retry=True)
    since = status.started_at or now
    if status.run is None and (error.reason in LASTING or now - since > PATIENCE):
        return _failed(status, error.reason, error.message, now)
    standing = Standing.BLOCKED if error.stalled else Standing.UNDER_WAY
    waiting = status.model_copy(
        update={
            "phase": status.phase or RestorePhase.PENDING,
            "started_at": status.started_at or _second(now),
        }
    )
    return Step(waiting, Said(standing, error.reason, error.message), hold=status.run is not None, retry=True)


# Before


def _before(resource: Resource, observed: RestoreObserved, status: RestoreStatus, now: datetime) -> Plan:
    if resource.spec.get("cancel"):
        return _ended(status, RestorePhase.CANCELLED, Reason.CANCELLED, "Cancelled before it began.", now)
    if observed.trouble is not None:
        return hindered(resource, status, observed.trouble, now)
    status = status.model_copy(
        update={
            "phase": status.phase or RestorePhase.PENDING,
            "started_at": status.started_at or _second(now),
        }
    )
    if resource.paused:
        said = "The annotation stops it before it begins; remove it to go on."
        return Step(status, Said(Standing.BLOCKED, Reason.PAUSED, said))
    if done_before(resource, observed):
        return _already(observed, status, now)
    desired = observed.desired
    assert desired is not None
    if observed.topology is Topology.SHARDED:
        said = (
            "Restores into a sharded deployment are not supported; restore into a replica set and move the data from"
            " there."
        )
        return _failed(status, Reason.SHARDED_UNSUPPORTED, said, now)
    if observed.earlier.alive:
        said = "The worker of the run before this one is still there; it is waited for."
        return Step(status, Said(Standing.UNDER_WAY, Reason.QUEUED, said), recheck_seconds=QUEUE_SECONDS)
    if observed.behind is not None:
        return _queued(observed, status)
    return _begin(resource, desired, observed, status)


def done_before(resource: Resource, observed: RestoreObserved) -> bool:
    """A marker in this server of this very Restore, and nobody asks for another run (rule 2.10)."""
    marker = observed.marker
    return (
        marker is not None
        and marker.identity == (observed.identity or "")
        and marker.spec_hash == observed.spec_hash
        and marker.run_again == again(resource)
    )


def _already(observed: RestoreObserved, status: RestoreStatus, now: datetime) -> Plan:
    assert observed.marker is not None
    done = status.model_copy(
        update={
            "phase": RestorePhase.COMPLETED,
            "run": observed.marker.run,
            "run_again": observed.marker.run_again or None,
            "server_identity": observed.identity,
            "completed_at": _second(now),
        }
    )
    said = (
        "This restore was carried out in this server before; nothing was written. To run it again, set the annotation"
        " storage.lucid-blockchain.org/run-again to a new value."
    )
    return Step(
        done,
        Said(Standing.DONE, Reason.ALREADY_RESTORED, said),
        notices=(Notice("AlreadyRestored", said),),
    )


def _queued(observed: RestoreObserved, status: RestoreStatus) -> Plan:
    queued = status.model_copy(
        update={
            "phase": RestorePhase.QUEUED,
            "queued_behind": observed.behind,
            "server_identity": observed.identity,
        }
    )
    said = f"Waits for {observed.behind}: one dump or restore at a time for each deployment."
    notices = (Notice("Queued", said),) if status.phase is not RestorePhase.QUEUED else ()
    return Step(
        queued, Said(Standing.UNDER_WAY, Reason.QUEUED, said), notices=notices, recheck_seconds=QUEUE_SECONDS
    )


def _begin(
    resource: Resource, desired: RestoreDesired, observed: RestoreObserved, status: RestoreStatus
) -> Plan:
    run = run_id(resource.uid, again(resource))
    request = worker_request(desired, run, observed.cluster, observed.identity, plan_only=True)
    moment = desired.spec.point_in_time
    begun = status.model_copy(
        update={
            "phase": RestorePhase.PLANNING,
            "backup": desired.shown,
            "point_in_time": f"{moment:%Y-%m-%dT%H:%M:%SZ}" if moment is not None else None,
            "id": restore_id(resource.uid),
            "run": run,
            "run_again": again(resource) or None,
            "backup_id": desired.backup_id,
            "job_name": request.name,
            "server_identity": observed.identity,
            "queued_behind": None,
        }
    )
    said = Said(Standing.UNDER_WAY, Reason.RUNNING, f"The Job {request.name} plans the restore.")
    return Step(begun, said, (StartWorker(request),), hold=True, notices=(Notice("Started", said.message),))


# While a worker is at it


def _during(resource: Resource, observed: RestoreObserved, status: RestoreStatus, now: datetime) -> Plan:
    worker = observed.worker
    if worker.phase is WorkerPhase.ENDED:
        return _judged(resource, observed, status, now)
    if worker.phase is WorkerPhase.LOST:
        reason = Reason.DEADLINE_EXCEEDED if worker.overdue else Reason.WORKER_LOST
        said = f"The worker {status.job_name} gave no result ({worker.message}); the target is as it was."
        return _given_up(observed, status, reason, said, now)
    if worker.phase is WorkerPhase.ABSENT and status.progress is not None:
        said = f"The Job {status.job_name} was removed before it gave its result; the target is as it was."
        return _given_up(observed, status, Reason.WORKER_LOST, said, now)
    if worker.phase in {WorkerPhase.ABSENT, WorkerPhase.SUSPENDED}:
        if observed.trouble is not None or observed.desired is None:
            error = observed.trouble or LucidError("The Restore cannot be read.")
            return hindered(resource, status, error, now)
        planning = status.phase is RestorePhase.PLANNING
        request = worker_request(
            observed.desired, status.run or "", observed.cluster, status.server_identity, plan_only=planning
        )
        begun = Said(Standing.UNDER_WAY, Reason.RUNNING, f"The Job {request.name} is being started.")
        return Step(status, begun, (StartWorker(request),), hold=True)
    return _progress(status, worker)


def _progress(status: RestoreStatus, worker: WorkerState) -> Plan:
    phase = status.phase
    progress = worker.progress
    if progress is not None and phase is not RestorePhase.PLANNING:
        phase = next(
            (p for p in (RestorePhase.LOADING, RestorePhase.REPLAYING) if p == progress.phase), phase
        )
    seen = status.model_copy(
        update={
            "phase": phase,
            "progress": _shown(progress) if progress is not None else status.progress or "0%",
        }
    )
    said = f"Job {status.job_name}: {worker.message or 'at work'}."
    return Step(seen, Said(Standing.UNDER_WAY, Reason.RUNNING, said), hold=True, recheck_seconds=POLL_SECONDS)


def _shown(progress: Progress) -> str:
    if progress.total_bytes:
        return f"{min(99, 100 * progress.done_bytes // progress.total_bytes)}%"
    return figures.size(progress.done_bytes)


def _judged(resource: Resource, observed: RestoreObserved, status: RestoreStatus, now: datetime) -> Plan:
    result = parsed(RestoreResult, observed.worker.result, status.run)
    if result is None or result.reason is Reason.CANCELLED:
        said = "The worker was ended by somebody else, as happens when a node is drained; the target is as it was."
        return _given_up(observed, status, Reason.WORKER_LOST, said, now)
    if status.phase is RestorePhase.PLANNING:
        return _planned(resource, observed, status, result, now)
    if not result.ok:
        return _given_up(observed, status, result.reason or Reason.INTERNAL_ERROR, result.message, now)
    if not result.databases:
        return _without_swap(status, result, now)
    staged = status.model_copy(
        update={
            "phase": RestorePhase.SWAPPING,
            "progress": None,
            "databases": list(result.databases),
            "timeline": result.timeline,
            "loaded_bytes": result.loaded_bytes,
            "loaded_documents": result.loaded_documents,
            "replayed_operations": result.replayed_operations,
        }
    )
    said = (
        "Everything is staged and compared; the collections are swapped now, and nothing stops that any more."
    )
    swap = Swap(status.run or "", result.databases, bool(resource.spec.get("dropExisting")))
    return Step(
        staged,
        Said(Standing.UNDER_WAY, Reason.RUNNING, said),
        (swap,),
        hold=True,
        notices=(Notice("Swapping", said),),
    )


def _without_swap(status: RestoreStatus, result: RestoreResult, now: datetime) -> Plan:
    """Nothing of MongoDB was restored: what the worker wrote is live."""
    done = status.model_copy(
        update={"phase": RestorePhase.COMPLETED, "progress": "100%", "completed_at": _second(now)}
    )
    said = " ".join(f"{e.engine}: {e.message or f'{e.documents} documents'}" for e in result.engines)
    return Step(
        done,
        Said(Standing.DONE, Reason.COMPLETED, said or "Restored."),
        notices=(Notice("Completed", said or "Restored."),),
    )


def _planned(
    resource: Resource,
    observed: RestoreObserved,
    status: RestoreStatus,
    result: RestoreResult,
    now: datetime,
) -> Plan:
    dry = bool(resource.spec.get("dryRun"))
    if not result.ok or result.plan is None:
        reason = result.reason or Reason.INTERNAL_ERROR
        blocked = status.model_copy(update={"plan": RestorePlan(blocked_by=result.message[:1024])})
        if dry:
            return _dry(blocked, result.message, now)
        return _failed(blocked, reason, result.message, now)
    told = status.model_copy(
        update={
            "plan": restore_plan(result.plan),
            "timeline": result.timeline,
            "databases": list(result.databases),
            "point_in_time": f"{result.restored_to:%Y-%m-%dT%H:%M:%SZ}" if result.restored_to else None,
        }
    )
    if dry:
        return _dry(told, result.plan.blocked_by or "", now)
    if result.plan.blocked_by is not None:
        return _failed(
            told, result.plan.blocked_reason or Reason.RESTORE_BLOCKED, result.plan.blocked_by, now
        )
    loading = told.model_copy(
        update={
            "phase": RestorePhase.LOADING,
            "progress": None,
            "job_name": job_name(resource, "restore", status.run or ""),
        }
    )
    said = f"Planned; the Job {loading.job_name} loads the data beside the live ones."
    return Step(loading, Said(Standing.UNDER_WAY, Reason.RUNNING, said), hold=True, recheck_seconds=0.1)


def _dry(status: RestoreStatus, blocked: str, now: datetime) -> Plan:
    done = status.model_copy(
        update={"phase": RestorePhase.COMPLETED, "progress": None, "completed_at": _second(now)}
    )
    said = "Only planned, as dryRun asks; status.plan says what it would do."
    if blocked:
        said = f"Only planned, as dryRun asks. It could not run now: {blocked}"
    return Step(done, Said(Standing.DONE, Reason.PLANNED, said), notices=(Notice("Planned", said),))


def restore_plan(planned: RestorePlanned) -> RestorePlan:
    """As status has it."""
    return RestorePlan(
        chain=list(planned.chain),
        slices=planned.slices,
        read_bytes=planned.read_bytes,
        needed_bytes=planned.needed_bytes,
        free_bytes=planned.free_bytes,
        targets=[
            PlannedTarget(target=t.target, documents=t.documents, overwrites=t.overwrites, note=t.note)
            for t in planned.targets
        ],
        target_count=planned.target_count,
        cut_transactions=planned.cut_transactions,
        warnings=[warning[:512] for warning in planned.warnings],
        blocked_by=planned.blocked_by[:1024] if planned.blocked_by else None,
    )


# The swap


def _swap(resource: Resource, observed: RestoreObserved, status: RestoreStatus, now: datetime) -> Plan:
    """From here it only rolls forward, unless it turns out that it may not begin at all."""
    databases = tuple(status.databases or ())
    if observed.unfit is not None:
        step = _ended(status, RestorePhase.FAILED, observed.unfit.reason, observed.unfit.message, now)
        return Step(step.status, step.said, _left_behind(status), hold=True, notices=step.notices)
    if status.swapped is None:
        if observed.trouble is not None:
            return hindered(resource, status, observed.trouble, now)
        late = " It can no longer be cancelled." if resource.spec.get("cancel") else ""
        said = Said(Standing.UNDER_WAY, Reason.RUNNING, f"The collections are being swapped.{late}")
        swap = Swap(status.run or "", databases, bool(resource.spec.get("dropExisting")))
        return Step(status, said, (swap,), hold=True)
    if observed.marker is None or observed.marker.run != status.run:
        said = Said(Standing.UNDER_WAY, Reason.RUNNING, "The collections are in place.")
        return Step(status, said, (Mark(databases),), hold=True)
    kept = timedelta(minutes=int(resource.spec.get("keepOldMinutes", 60)))
    done = status.model_copy(
        update={
            "phase": RestorePhase.COMPLETED,
            "progress": "100%",
            "completed_at": _second(now),
            "old_until": _second(now + kept),
        }
    )
    aside = status.moved_aside or []
    until = f"{done.old_until:%Y-%m-%dT%H:%M:%SZ}"
    said_text = f"{status.swapped} collections are in place; the replaced ones stay until {until}."
    if aside:
        said_text += f" Made meanwhile and moved aside, never dropped: {', '.join(aside[:3])}."
    said = Said(Standing.DONE, Reason.COMPLETED, said_text)
    seconds = kept.total_seconds()
    return Step(done, said, notices=(Notice("Completed", said_text),), recheck_seconds=seconds + 1)


# Giving up, leaving, afterwards


def _given_up(
    observed: RestoreObserved, status: RestoreStatus, reason: Reason, message: str, now: datetime
) -> Plan:
    step = _ended(status, RestorePhase.FAILED, reason, message, now)
    return Step(step.status, step.said, _undone(observed, status), hold=True, notices=step.notices)


def _left_behind(status: RestoreStatus) -> tuple[Discard, ...]:
    """What a run staged; status names its databases until that is dropped."""
    if status.run is None or not status.databases:
        return ()
    return (Discard(status.run, tuple(status.databases)),)


def _undone(observed: RestoreObserved, status: RestoreStatus) -> tuple[StopWorker | Discard, ...]:
    """Whatever a run left behind before its swap."""
    actions: list[StopWorker | Discard] = [*_left_behind(status)]
    lost = observed.worker.phase is WorkerPhase.LOST and not observed.worker.over
    if status.job_name is not None and lost:
        actions.insert(0, StopWorker(status.job_name, observed.worker.message))
    return tuple(actions)


def _cancel(observed: RestoreObserved, status: RestoreStatus, now: datetime) -> Plan:
    said = Said(Standing.UNDER_WAY, Reason.CANCELLED, "It is being stopped; the target stays as it was.")
    step = _stopped(observed, status, said)
    if step is not None:
        return step
    done = _ended(
        status, RestorePhase.CANCELLED, Reason.CANCELLED, "Cancelled; the target is as it was.", now
    )
    return Step(done.status, done.said, _undone(observed, status), hold=True, notices=done.notices)


def _stopped(observed: RestoreObserved, status: RestoreStatus, said: Said) -> Plan | None:
    """What is left to do until the worker is gone; None when that is so."""
    worker = observed.worker
    if worker.phase is WorkerPhase.STOPPING:
        return Step(status, said, hold=True, recheck_seconds=POLL_SECONDS / 2)
    if status.job_name is not None and worker.alive:
        return Step(
            status, said, (StopWorker(status.job_name, "it is cancelled"),), hold=True, recheck_seconds=1.0
        )
    return None


def _leave(observed: RestoreObserved, status: RestoreStatus) -> Plan:
    said = Said(Standing.UNDER_WAY, Reason.DELETING, "It is being deleted; its worker ends first.")
    if status.phase in WORKING:
        step = _stopped(observed, status, said)
        if step is not None:
            return step
        gone = status.model_copy(update={"phase": RestorePhase.CANCELLED})
        return Step(gone, said, _undone(observed, status), hold=True, recheck_seconds=0.1)
    return Step(status, None)


def _after(resource: Resource, observed: RestoreObserved, status: RestoreStatus, now: datetime) -> Plan:
    if again(resource) != (status.run_again or "") and again(resource) and not resource.spec.get("cancel"):
        fresh = RestoreStatus(
            phase=RestorePhase.PENDING, id=status.id, backup=status.backup, conditions=status.conditions
        )
        said = Said(Standing.UNDER_WAY, Reason.QUEUED, "Another run was asked for by annotation.")
        old = _old(status)
        return Step(fresh, said, (old,) if old is not None else (), recheck_seconds=0.1)
    if status.old_until is None or status.run is None:
        return Step(status, None)
    if now < status.old_until:
        return Step(status, None, recheck_seconds=(status.old_until - now).total_seconds() + 1)
    drop = _old(status)
    if drop is None or observed.settled:
        return Step(status.model_copy(update={"old_until": None}), None)
    if observed.trouble is not None:
        return Step(status, None, recheck_seconds=QUEUE_SECONDS * 4)
    return Step(status, None, (drop,))


def _old(status: RestoreStatus) -> DropOld | None:
    if status.old_until is None or status.run is None or not status.databases:
        return None
    return DropOld(status.run, tuple(status.databases))


def _failed(status: RestoreStatus, reason: Reason, message: str, now: datetime) -> Plan:
    return _ended(status, RestorePhase.FAILED, reason, message, now)


def _ended(status: RestoreStatus, phase: RestorePhase, reason: Reason, message: str, now: datetime) -> Plan:
    done = status.model_copy(
        update={"phase": phase, "completed_at": _second(now), "progress": None, "queued_behind": None}
    )
    return Step(
        done,
        Said(Standing.FAILED, reason, message),
        notices=(Notice(str(reason), message, warning=phase is RestorePhase.FAILED),),
    )


def _second(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)
