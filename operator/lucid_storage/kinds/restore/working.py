"""A Restore while a worker plans or stages it. Pure."""

from __future__ import annotations

from datetime import datetime

from lucid_storage.errors import LucidError, Reason
from lucid_storage.kinds import figures
from lucid_storage.kinds.backup.observed import POLL_SECONDS
from lucid_storage.kinds.backup.results import parsed
from lucid_storage.kinds.contract import Notice
from lucid_storage.kinds.oneshot import Said, Standing, Step
from lucid_storage.kinds.restore.actions import MakeClaim, StartWorker, TakeClaim, Unmark
from lucid_storage.kinds.restore.claim_waits import claims_first
from lucid_storage.kinds.restore.desired import backup_name, job_name, wants_backup, worker_request
from lucid_storage.kinds.restore.ending import failed, given_up, hindered
from lucid_storage.kinds.restore.observed import (
    Plan,
    RestoreObserved,
    in_place,
    of_mongodb,
    saved,
    second,
    target_after,
)
from lucid_storage.kinds.restore.placing import swap
from lucid_storage.kinds.restore.volumes import Filling, restored_volumes
from lucid_storage.kinds.workers.state import WorkerPhase, WorkerState
from lucid_storage.kube.resources import Resource
from lucid_storage.models.orders import Progress, RestorePlanned, RestoreResult
from lucid_storage.models.restore import PlannedTarget, RestorePhase, RestorePlan, RestoreStatus


def during(resource: Resource, observed: RestoreObserved, status: RestoreStatus, now: datetime) -> Plan:
    """What its worker does or did."""
    worker = observed.worker
    if worker.phase not in {WorkerPhase.ABSENT, WorkerPhase.SUSPENDED}:
        status = status.model_copy(update={"trouble_since": None})
    if worker.phase is WorkerPhase.ENDED:
        return _judged(resource, observed, status, now)
    if worker.phase is WorkerPhase.LOST:
        reason = Reason.DEADLINE_EXCEEDED if worker.overdue else Reason.WORKER_LOST
        left = target_after(resource, status)
        said = f"The worker {status.job_name} gave no result ({worker.message}); {left}."
        return given_up(observed, status, reason, said, now)
    if worker.phase is WorkerPhase.ABSENT and status.progress is not None:
        left = target_after(resource, status)
        said = f"The Job {status.job_name} was removed before it gave its result; {left}."
        return given_up(observed, status, Reason.WORKER_LOST, said, now)
    if worker.phase in {WorkerPhase.ABSENT, WorkerPhase.SUSPENDED}:
        if observed.trouble is not None or observed.desired is None:
            error = observed.trouble or LucidError("The Restore cannot be read.")
            return hindered(resource, status, error, now)
        planning = status.phase is RestorePhase.PLANNING
        if observed.filling.make or observed.filling.take:
            return _claims(observed.filling, status)
        if observed.filling.waiting:
            return claims_first(observed, status, now)
        request = worker_request(
            observed.desired,
            status.run or "",
            observed.cluster,
            status.server_identity,
            run_again=status.run_again or "",
            plan_only=planning,
            filling=observed.filling,
        )
        begun = Said(Standing.UNDER_WAY, Reason.RUNNING, f"The Job {request.name} is being started.")
        # A marker that stood would make a target that is left incomplete AlreadyRestored.
        first = (Unmark(),) if not planning and in_place(resource) and observed.desired.mongodb else ()
        return Step(status, begun, (*first, StartWorker(request)), hold=True)
    return _progress(status, worker)


def _claims(filling: Filling, status: RestoreStatus) -> Plan:
    """Claims come first: the worker's pod mounts them."""
    made = [MakeClaim(wanted) for wanted in filling.make]
    taken = [TakeClaim(unfilled) for unfilled in filling.take]
    name = next(iter([*(m.wanted.name for m in made), *(t.unfilled.claim.name for t in taken)]))
    said = f"The claim {name} is being made for a restored volume."
    return Step(status, Said(Standing.UNDER_WAY, Reason.RUNNING, said), (*made, *taken), hold=True)


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
        left = target_after(resource, status)
        said = f"The worker was ended by somebody else, as happens when a node is drained; {left}."
        return given_up(observed, status, Reason.WORKER_LOST, said, now)
    if status.phase is RestorePhase.PLANNING:
        return _planned(resource, observed, status, result, now)
    if not result.ok:
        if result.reason is Reason.TARGET_CHANGED:
            # It is seen before anything is written, so nothing has to be taken back, wherever the connection leads.
            untouched = status.model_copy(update={"databases": None})
            return failed(untouched, result.reason, result.message, now)
        left = _left(resource, status, result)
        known = f"{result.message.rstrip('.')}{left}." if left else result.message
        return given_up(observed, status, result.reason or Reason.INTERNAL_ERROR, known, now)
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
            "skipped_users": list(result.skipped_users) or None,
            "plan": _counted(status.plan, result),
        }
    )
    said = (
        "Everything is staged and compared; the collections are swapped now, and nothing stops that any more."
    )
    return Step(
        staged,
        Said(Standing.UNDER_WAY, Reason.RUNNING, said),
        (swap(resource, status.run or "", result.databases),),
        hold=True,
        notices=(Notice("Swapping", said),),
    )


def _left(resource: Resource, status: RestoreStatus, result: RestoreResult) -> str:
    """What became of the target, as the end of a sentence. In place the worker knows whether MongoDB was touched."""
    kept = saved(status) if in_place(resource) else ""
    if result.reason is Reason.DEADLINE_EXCEEDED and not (in_place(resource) and of_mongodb(resource)):
        return f"; {target_after(resource, status)}{kept}"
    return kept


def _counted(plan: RestorePlan | None, result: RestoreResult) -> RestorePlan | None:
    """What expires is known exactly when everything is staged."""
    if plan is None or result.expiring_documents is None:
        return plan
    return plan.model_copy(update={"expiring_documents": result.expiring_documents})


def _without_swap(status: RestoreStatus, result: RestoreResult, now: datetime) -> Plan:
    """Nothing of MongoDB was restored: what the worker wrote is live."""
    done = status.model_copy(
        update={"phase": RestorePhase.COMPLETED, "progress": "100%", "completed_at": second(now)}
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
        if dry and reason is not Reason.INTERNAL_ERROR:
            return _dry(blocked, result.message, now)
        return failed(blocked, reason, result.message, now)
    told = status.model_copy(
        update={
            "plan": restore_plan(result.plan),
            "volumes": restored_volumes(result.plan.volumes),
            "timeline": result.timeline,
            "databases": list(result.databases),
            "point_in_time": f"{result.restored_to:%Y-%m-%dT%H:%M:%SZ}" if result.restored_to else None,
        }
    )
    if dry:
        return _dry(told, result.plan.blocked_by or "", now)
    if result.plan.blocked_by is not None:
        return failed(told, result.plan.blocked_reason or Reason.RESTORE_BLOCKED, result.plan.blocked_by, now)
    if wants_backup(resource.spec):
        return _protected_first(resource, told)
    loading = told.model_copy(
        update={
            "phase": RestorePhase.LOADING,
            "progress": None,
            "job_name": job_name(resource, "restore", status.run or ""),
        }
    )
    where = "over" if in_place(resource) else "beside"
    said = f"Planned; the Job {loading.job_name} loads the data {where} the live ones."
    return Step(loading, Said(Standing.UNDER_WAY, Reason.RUNNING, said), hold=True, recheck_seconds=0.1)


def _protected_first(resource: Resource, planned: RestoreStatus) -> Plan:
    """Back in line: the Backup needs the deployment for itself, and nothing is loaded before it is verified."""
    name = backup_name(resource, planned.run or "")
    waits = planned.model_copy(
        update={"phase": RestorePhase.PENDING, "progress": None, "backup_before": name}
    )
    said = f"Planned; the Backup {name} is made before anything is written."
    return Step(
        waits, Said(Standing.UNDER_WAY, Reason.QUEUED, said), hold=True, idle=True, recheck_seconds=0.1
    )


def _dry(status: RestoreStatus, blocked: str, now: datetime) -> Plan:
    done = status.model_copy(
        update={"phase": RestorePhase.COMPLETED, "progress": None, "completed_at": second(now)}
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
        expiring_documents=planned.expiring_documents,
        warnings=[warning[:512] for warning in planned.warnings],
        blocked_by=planned.blocked_by[:1024] if planned.blocked_by else None,
    )
