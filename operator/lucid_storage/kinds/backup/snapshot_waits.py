"""The wait for the storage to take the snapshots of a Backup, before its worker begins. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from lucid_storage.errors import Reason
from lucid_storage.kinds.backup.actions import MakeSnapshot
from lucid_storage.kinds.backup.ending import failed
from lucid_storage.kinds.backup.observed import (
    PATIENCE,
    POLL_SECONDS,
    QUEUE_SECONDS,
    BackupObserved,
    Plan,
    second,
    snapshots_idle,
)
from lucid_storage.kinds.backup.volumes import WantedSnapshot
from lucid_storage.kinds.oneshot import Said, Standing, Step
from lucid_storage.models.backup import BackupPhase, BackupStatus


def snapshots_first(observed: BackupObserved, status: BackupStatus, now: datetime) -> Plan:
    """The storage's part of a backup comes first: the worker writes down what is ready. The deployment is held for it
    for a moment, so that the parts are of one time, and not as long as the storage pleases.

    Its time runs from when all are asked for; what hinders that is a trouble like any other.
    """
    assert observed.desired is not None
    waiting = observed.desired.volumes.waiting
    missing = tuple(MakeSnapshot(one) for one in waiting if not one.there)
    since = status.snapshots_since or (second(now) if not missing else None)
    status = status.model_copy(
        update={
            "phase": BackupPhase.PENDING,
            "queued_behind": None,
            "server_identity": observed.identity,
            "trouble_since": status.trouble_since if missing else None,
            "snapshots_since": since,
        }
    )
    untaken = next((one for one in waiting if not one.taken), None)
    deadline = timedelta(seconds=observed.desired.deadline_seconds)
    limit = PATIENCE if untaken is not None else max(PATIENCE, deadline)
    if since is not None and now - since > limit:
        return failed(status, Reason.UNHEALTHY, _no_snapshot(untaken or waiting[0], limit), now)
    idle = snapshots_idle(status, now)
    said = f"Waits for the storage to take the snapshot of {waiting[0].claim}."
    return Step(
        status,
        Said(Standing.UNDER_WAY, Reason.PROGRESSING, said),
        missing,
        recheck_seconds=QUEUE_SECONDS if idle else POLL_SECONDS,
        idle=idle,
    )


def _no_snapshot(wanted: WantedSnapshot, limit: timedelta) -> str:
    minutes = limit // timedelta(minutes=1)
    asked = f"kubectl describe volumesnapshot {wanted.name}"
    if wanted.taken:
        return (
            f"The storage took the snapshot of {wanted.claim} and did not finish it within {minutes} minutes; see what"
            f" `{asked}` says, or use method Archive."
        )
    return (
        f"Nobody took the snapshot of {wanted.claim} within {minutes} minutes: see whether a snapshot controller and"
        f" the driver of the class {wanted.class_name} run (`{asked}`), or use method Archive."
    )
