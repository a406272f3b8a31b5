"""The wait for the storage to make the claims that a Restore fills: from a snapshot that can take hours. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from lucid_storage.errors import Reason
from lucid_storage.kinds.backup.observed import PATIENCE, QUEUE_SECONDS
from lucid_storage.kinds.oneshot import Said, Standing, Step
from lucid_storage.kinds.restore.ending import given_up
from lucid_storage.kinds.restore.observed import Plan, RestoreObserved, second
from lucid_storage.kinds.workers.state import WorkerPhase, WorkerState
from lucid_storage.models.restore import RestorePhase, RestoreStatus


def claims_first(observed: RestoreObserved, status: RestoreStatus, now: datetime) -> Plan:
    """No pod can be placed before a claim is there whose class makes it at once. Meanwhile it is in nobody's way."""
    assert observed.desired is not None
    claim = observed.filling.waiting[0]
    since = status.claims_since or second(now)
    limit = max(PATIENCE, timedelta(seconds=observed.desired.deadline_seconds))
    waits = status.model_copy(
        update={
            "phase": RestorePhase.PENDING,
            "queued_behind": None,
            "trouble_since": None,
            "claims_since": since,
        }
    )
    if now - since > limit:
        said = (
            f"The storage did not make the claim {claim} within {limit // timedelta(minutes=1)} minutes: see what"
            f" `kubectl describe persistentvolumeclaim {claim}` says, then restore again."
        )
        return given_up(observed, waits, Reason.CLAIM_NOT_BOUND, said, now)
    said = f"Waits for the storage to make the claim {claim}."
    return Step(
        waits,
        Said(Standing.UNDER_WAY, Reason.CLAIM_NOT_BOUND, said),
        hold=True,
        idle=True,
        recheck_seconds=QUEUE_SECONDS,
    )


def patient(worker: WorkerState, claim: str | None) -> WorkerState:
    """A worker that was given up is waited for while the storage makes `claim` for its pod: a class that waits for a
    consumer begins with that. The Job's deadline is behind it.
    """
    never_began = worker.pod is not None and not worker.over and not worker.overdue
    if worker.phase is not WorkerPhase.LOST or claim is None or not never_began:
        return worker
    return replace(worker, phase=WorkerPhase.WAITING, message=f"the storage is making the claim {claim}")
