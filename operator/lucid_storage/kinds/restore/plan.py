"""What becomes of a Restore next. Pure.

Pending -> Queued -> Planning -> Loading -> Replaying -> Swapping -> Completed. Until Swapping a failure, a cancel or a
deletion leaves the target as it was; from there it only rolls forward, and nothing stops it (rule 2.2).
"""

from __future__ import annotations

from datetime import UTC, datetime

from lucid_storage.errors import Reason
from lucid_storage.kinds.backup.observed import QUEUE_SECONDS
from lucid_storage.kinds.contract import Notice
from lucid_storage.kinds.oneshot import Said, Standing, Step
from lucid_storage.kinds.protection import WATCH_SECONDS, Need, Seen
from lucid_storage.kinds.protection import Standing as Protected
from lucid_storage.kinds.restore.actions import MakeBackup, StartWorker, StopWorker
from lucid_storage.kinds.restore.claim_waits import claims_first
from lucid_storage.kinds.restore.desired import (
    RestoreDesired,
    again,
    backup_needs,
    job_name,
    next_run,
    restore_id,
    this_run,
    worker_request,
)
from lucid_storage.kinds.restore.ending import (
    after,
    cancel,
    cleaned,
    ended,
    failed,
    hindered,
    leave,
    left_behind,
)
from lucid_storage.kinds.restore.observed import (
    FINISHED,
    WORKING,
    Plan,
    RestoreObserved,
    done_before,
    second,
)
from lucid_storage.kinds.restore.placing import placed
from lucid_storage.kinds.restore.working import during
from lucid_storage.kinds.workers.state import WorkerPhase
from lucid_storage.kube.resources import Resource
from lucid_storage.models.meta import RUN_AGAIN
from lucid_storage.models.restore import RestorePhase, RestoreStatus
from lucid_storage.stores.mongodb.types import Topology


def plan(resource: Resource, observed: RestoreObserved, status: RestoreStatus, now: datetime) -> Plan:
    """The next step."""
    if status.phase is RestorePhase.SWAPPING:
        return placed(resource, observed, status, now)
    if status.phase in (RestorePhase.FAILED, RestorePhase.CANCELLED) and left_behind(status):
        return cleaned(observed, status)
    if resource.deleted is not None:
        return leave(observed, status)
    if status.phase in FINISHED:
        return after(resource, observed, status, now)
    if resource.spec.get("cancel") and status.run is not None:
        return cancel(resource, observed, status, now)
    if status.phase not in WORKING:
        return _before(resource, observed, status, now)
    return during(resource, observed, status, now)


# Before


def _before(resource: Resource, observed: RestoreObserved, status: RestoreStatus, now: datetime) -> Plan:
    # What ends before it begins was the answer to this value too, and is not tried again for it.
    status = status.model_copy(update={"run_again": again(resource) or None})
    if resource.spec.get("cancel"):
        return ended(status, RestorePhase.CANCELLED, Reason.CANCELLED, "Cancelled before it began.", now)
    if observed.trouble is not None:
        return hindered(resource, status, observed.trouble, now)
    status = status.model_copy(
        update={
            "phase": status.phase or RestorePhase.PENDING,
            "started_at": status.started_at or second(now),
            # Of a run whose Job could not be made the trouble is over when the Job is there, or is not tried any more.
            "trouble_since": status.trouble_since if status.run is not None else None,
        }
    )
    if resource.paused:
        said = "The annotation stops it before it begins; remove it to go on."
        calm = status.model_copy(update={"trouble_since": None, "claims_since": None})
        return Step(calm, Said(Standing.BLOCKED, Reason.PAUSED, said), idle=True)
    if done_before(resource, observed):
        return _already(observed, status, now)
    desired = observed.desired
    assert desired is not None
    status = _of_this_run(resource, observed, status)
    if observed.topology is Topology.SHARDED:
        said = (
            "Restores into a sharded deployment are not supported; restore into a replica set and move the data from"
            " there."
        )
        return failed(status, Reason.SHARDED_UNSUPPORTED, said, now)
    if status.backup_before is not None:
        needs = backup_needs(desired, status.databases or (), status.plan)
        unprotected = _unprotected(desired, needs, observed, status, now)
        if unprotected is not None:
            return unprotected
    if observed.earlier.alive:
        return _ended_first(observed, status)
    if observed.filling.waiting:
        return claims_first(observed, status, now)
    if observed.behind is not None:
        return _queued(observed, status)
    return _begin(resource, desired, observed, status, now)


def _of_this_run(resource: Resource, observed: RestoreObserved, status: RestoreStatus) -> RestoreStatus:
    """Without what an earlier run planned: on another server, or for another value of the annotation, nothing of it
    holds, its Backup neither.
    """
    if status.run in (None, this_run(resource, status, observed.identity)):
        return status
    return status.model_copy(
        update={
            "plan": None,
            "databases": None,
            "volumes": None,
            "timeline": None,
            "backup_before": None,
            "progress": None,
        }
    )


def _ended_first(observed: RestoreObserved, status: RestoreStatus) -> Plan:
    said = "The worker of the run before this one is still there; it is waited for."
    stop: tuple[StopWorker, ...] = ()
    if status.job_name is not None and observed.earlier.phase is WorkerPhase.SUSPENDED:
        stop = (StopWorker(status.job_name, "its run is over"),)  # it would never begin, and so never end
    else:
        status = status.model_copy(update={"trouble_since": None})
    return Step(status, Said(Standing.UNDER_WAY, Reason.QUEUED, said), stop, recheck_seconds=QUEUE_SECONDS)


def _unprotected(
    desired: RestoreDesired,
    needs: tuple[Need, ...],
    observed: RestoreObserved,
    status: RestoreStatus,
    now: datetime,
) -> Plan | None:
    """As long as the Backup that backupBefore asks for is not verified; None when it is."""
    seen, name = observed.protection or Seen(Protected.ABSENT), status.backup_before or ""
    if seen.standing is Protected.DONE:
        return None
    if seen.standing in {Protected.FAILED, Protected.STALE}:
        why = seen.message or f"The Backup {name} is older than a day."
        said = (
            f"{why.rstrip('.')}. Nothing was restored, and the target is as it was: see to that, then ask for another"
            f" run with the annotation {RUN_AGAIN}, or create a Restore with backupBefore: false."
        )
        step = failed(status, Reason.BACKUP_UNAVAILABLE, said, now)
        return Step(step.status, step.said, left_behind(status), hold=True, notices=step.notices)
    waits = status.model_copy(update={"phase": RestorePhase.PENDING, "queued_behind": None})
    if not needs:
        nothing = Said(
            Standing.UNDER_WAY, Reason.QUEUED, "It overwrites nothing that a Backup would have to hold."
        )
        unneeded = waits.model_copy(update={"backup_before": None})
        return Step(unneeded, nothing, hold=True, idle=True, recheck_seconds=0.1)
    text = seen.message or f"Waits for the Backup {name}, which backupBefore asks for."
    said_of = Said(Standing.UNDER_WAY, Reason.QUEUED, text)
    make = MakeBackup(name, needs, desired.like)
    actions = (make,) if seen.standing is Protected.ABSENT else ()
    if not actions:
        waits = waits.model_copy(update={"trouble_since": None})
    return Step(waits, said_of, actions, hold=True, idle=True, recheck_seconds=WATCH_SECONDS)


def _already(observed: RestoreObserved, status: RestoreStatus, now: datetime) -> Plan:
    assert observed.marker is not None
    done = status.model_copy(
        update={
            "phase": RestorePhase.COMPLETED,
            "run": observed.marker.run,
            "run_again": observed.marker.run_again or None,
            "server_identity": observed.identity,
            "completed_at": second(now),
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
            "trouble_since": None,
        }
    )
    said = f"Waits for {observed.behind}: one dump or restore at a time for each deployment."
    notices = (Notice("Queued", said),) if status.phase is not RestorePhase.QUEUED else ()
    return Step(
        queued, Said(Standing.UNDER_WAY, Reason.QUEUED, said), notices=notices, recheck_seconds=QUEUE_SECONDS
    )


def _begin(
    resource: Resource,
    desired: RestoreDesired,
    observed: RestoreObserved,
    status: RestoreStatus,
    now: datetime,
) -> Plan:
    run, asked_at = next_run(resource, status, observed.identity, now)
    if status.plan is not None and (status.run, status.server_identity) == (run, observed.identity):
        return _load(resource, status)
    request = worker_request(
        desired, run, observed.cluster, observed.identity, run_again=again(resource), plan_only=True
    )
    moment = desired.spec.point_in_time
    begun = status.model_copy(
        update={
            "phase": RestorePhase.PLANNING,
            "backup": desired.shown,
            "point_in_time": f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if moment is not None else None,
            "id": restore_id(resource.uid),
            "run": run,
            "asked_at": asked_at,
            "backup_id": desired.backup_id,
            "job_name": request.name,
            "server_identity": observed.identity,
            "queued_behind": None,
            "claims_since": None,
        }
    )
    said = Said(Standing.UNDER_WAY, Reason.RUNNING, f"The Job {request.name} plans the restore.")
    notices = (Notice("Started", said.message),) if status.run is None else ()
    if status.server_identity is not None and status.run not in (None, run):
        notices = (Notice("PlannedAnew", f"It is planned anew, for the server {observed.identity}."),)
    return Step(begun, said, (StartWorker(request),), hold=True, notices=notices)


def _load(resource: Resource, status: RestoreStatus) -> Plan:
    """It was planned before it had to wait. The loading worker is started by the next look, and plans again itself."""
    job = job_name(resource, "restore", status.run or "")
    begun = status.model_copy(
        update={
            "phase": RestorePhase.LOADING,
            "job_name": job,
            "queued_behind": None,
            "progress": None,
            "claims_since": None,
        }
    )
    said = Said(Standing.UNDER_WAY, Reason.RUNNING, f"The Job {job} is being started.")
    return Step(begun, said, hold=True, recheck_seconds=0.1)
