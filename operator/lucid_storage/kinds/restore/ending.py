"""How a Restore ends: its failures, what it waits for, cancelling, deletion, and what is left afterwards. Pure."""

from __future__ import annotations

from datetime import datetime

from lucid_storage.errors import LucidError, Reason
from lucid_storage.kinds.backup.observed import LASTING, PATIENCE, POLL_SECONDS, QUEUE_SECONDS
from lucid_storage.kinds.contract import Notice
from lucid_storage.kinds.oneshot import Said, Standing, Step
from lucid_storage.kinds.restore.actions import Discard, DropOld, StopWorker
from lucid_storage.kinds.restore.desired import again, next_moment
from lucid_storage.kinds.restore.observed import FINISHED, Plan, RestoreObserved, second, target_after
from lucid_storage.kinds.workers.state import WorkerPhase
from lucid_storage.kube.resources import Resource
from lucid_storage.models.restore import KeptRun, RestorePhase, RestoreStatus

MOST_KEPT = 16
"""Runs whose replaced collections are kept at a time; with more, another run waits until one's time is over."""
SWAP_SECONDS = 5.0
"""Between two attempts to go on with a swap."""
UNREACHABLE = frozenset({Reason.SECRET_NOT_FOUND, Reason.NAMESPACE_NOT_SERVED, Reason.TARGET_CHANGED})
"""A namespace that is going takes its Secrets along, and without a login to that server nobody can finish a swap."""


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
            must_finish=error.reason not in UNREACHABLE,
        )
    if status.phase in FINISHED or resource.deleted is not None:
        blocked = (
            Said(Standing.BLOCKED, error.reason, error.message) if resource.deleted is not None else None
        )
        return Step(status, blocked, hold=resource.held, retry=True)
    since = status.trouble_since or second(now)
    if error.reason in LASTING or now - since > PATIENCE:
        step = failed(status, error.reason, error.message, now)
        unclean = bool(left_behind(status))
        return Step(step.status, step.said, hold=unclean, notices=step.notices, retry=unclean)
    standing = Standing.BLOCKED if error.stalled else Standing.UNDER_WAY
    waiting = status.model_copy(
        update={
            "phase": RestorePhase.PENDING,
            "queued_behind": None,
            "started_at": status.started_at or second(now),
            "trouble_since": since,
        }
    )
    # Nothing of it runs: it is in nobody's way meanwhile, and is in line again when it can go on.
    held = status.run is not None
    return Step(waiting, Said(standing, error.reason, error.message), hold=held, retry=True, idle=True)


def given_up(
    observed: RestoreObserved, status: RestoreStatus, reason: Reason, message: str, now: datetime
) -> Plan:
    """The end before the swap; what was staged goes."""
    step = ended(status, RestorePhase.FAILED, reason, message, now)
    return Step(step.status, step.said, undone(observed, status), hold=True, notices=step.notices)


def left_behind(status: RestoreStatus) -> tuple[Discard, ...]:
    """What a run staged; status names its databases until that is dropped."""
    if status.run is None or not status.databases:
        return ()
    return (Discard(status.run, tuple(status.databases)),)


def cleaned(observed: RestoreObserved, status: RestoreStatus) -> Plan:
    """After a failure or a cancel: what was staged goes, and before that the worker that could stage more."""
    if observed.trouble is not None:
        return Step(status, None, hold=True, retry=True)
    if observed.worker.phase is WorkerPhase.STOPPING:
        return Step(status, None, hold=True, recheck_seconds=POLL_SECONDS)
    return Step(status, None, undone(observed, status), hold=True)


def undone(observed: RestoreObserved, status: RestoreStatus) -> tuple[StopWorker | Discard, ...]:
    """Whatever a run left behind before its swap."""
    actions: list[StopWorker | Discard] = [*left_behind(status)]
    worker = observed.worker
    lost = worker.phase is WorkerPhase.LOST and not worker.over
    if status.job_name is not None and (lost or worker.alive):
        actions.insert(0, StopWorker(status.job_name, worker.message or "its restore has ended"))
    return tuple(actions)


def cancel(resource: Resource, observed: RestoreObserved, status: RestoreStatus, now: datetime) -> Plan:
    """The worker ends, then what it staged goes."""
    left = target_after(resource, status)
    said = Said(Standing.UNDER_WAY, Reason.CANCELLED, f"It is being stopped; {left}.")
    step = _stopped(observed, status, said)
    if step is not None:
        return step
    done = ended(status, RestorePhase.CANCELLED, Reason.CANCELLED, f"Cancelled; {left}.", now)
    return Step(done.status, done.said, undone(observed, status), hold=True, notices=done.notices)


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


def leave(observed: RestoreObserved, status: RestoreStatus) -> Plan:
    """The resource is being deleted."""
    said = Said(Standing.UNDER_WAY, Reason.DELETING, "It is being deleted; its worker ends first.")
    if status.run is not None and status.phase not in FINISHED:
        step = _stopped(observed, status, said)
        if step is not None:
            return step
        gone = status.model_copy(update={"phase": RestorePhase.CANCELLED})
        # Its worker is gone: who waits for the deployment does not wait for what is still to be taken back.
        return Step(gone, said, undone(observed, status), hold=True, recheck_seconds=0.1, idle=True)
    return Step(status, None)


def after(resource: Resource, observed: RestoreObserved, status: RestoreStatus, now: datetime) -> Plan:
    """It ended: another run, or what it replaced is dropped in its time."""
    asked = (
        again(resource) != (status.run_again or "") and again(resource) and not resource.spec.get("cancel")
    )
    kept = _kept(status)
    if asked and len(kept) <= MOST_KEPT:
        fresh = RestoreStatus(
            phase=RestorePhase.PENDING,
            id=status.id,
            backup=status.backup,
            run_again=again(resource),
            asked_at=next_moment(status, now),
            job_name=status.job_name,  # a worker of the run before may still be there
            conditions=status.conditions,
            kept=kept or None,
        )
        said = Said(Standing.UNDER_WAY, Reason.QUEUED, "Another run was asked for by annotation.")
        return Step(fresh, said, recheck_seconds=0.1)
    if observed.settled:
        return Step(status.model_copy(update={"old_until": None}), None, recheck_seconds=0.1)
    if not kept:
        return Step(status.model_copy(update={"old_until": None}), None)
    first = min(kept, key=lambda one: one.until)
    if now < first.until:
        return Step(status, None, recheck_seconds=(first.until - now).total_seconds() + 1)
    if observed.trouble is not None:
        return Step(status, None, recheck_seconds=QUEUE_SECONDS * 4)
    return Step(status, None, (DropOld(first.run, tuple(first.databases), first.server_identity),))


def _kept(status: RestoreStatus) -> list[KeptRun]:
    """What this run and those before it replaced. Each stays its time, whatever is asked for meanwhile; while a run is
    at work nothing is dropped.
    """
    kept = list(status.kept or ())
    if status.old_until is not None and status.run is not None and status.databases:
        mine = KeptRun(
            run=status.run,
            databases=status.databases,
            until=status.old_until,
            server_identity=status.server_identity,
        )
        kept.append(mine)
    return kept


def failed(status: RestoreStatus, reason: Reason, message: str, now: datetime) -> Plan:
    """The end in Failed."""
    return ended(status, RestorePhase.FAILED, reason, message, now)


def ended(status: RestoreStatus, phase: RestorePhase, reason: Reason, message: str, now: datetime) -> Plan:
    """The end without success."""
    done = status.model_copy(
        update={"phase": phase, "completed_at": second(now), "progress": None, "queued_behind": None}
    )
    return Step(
        done,
        Said(Standing.FAILED, reason, message),
        notices=(Notice(str(reason), message, warning=phase is RestorePhase.FAILED),),
    )
