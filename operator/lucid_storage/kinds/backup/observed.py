"""What a Backup's plan is made from, and how long it waits. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from lucid_storage.errors import LucidError, Reason
from lucid_storage.kinds.backup.desired import BackupDesired
from lucid_storage.kinds.backup.keeping import BY_OTHERS, Keeping
from lucid_storage.kinds.oneshot import Step
from lucid_storage.kinds.workers.state import ABSENT, WorkerState
from lucid_storage.models.backup import BackupPhase, BackupStatus
from lucid_storage.stores.mongodb.types import Topology

Plan = Step[BackupStatus]

PATIENCE = timedelta(hours=1)
"""How long what may mend itself (a store, a Secret, a quota) is waited for before a Backup or Restore is Failed."""
SNAPSHOT_HOLD = timedelta(seconds=30)
"""How long a deployment is held while the storage takes snapshots: that is the time between the engines of a backup."""
WORKING = frozenset({BackupPhase.RUNNING, BackupPhase.VERIFYING})
POLL_SECONDS = 2.0
CLEANING = "cleaning up"
"""`status.progress` of a Backup that ended and whose upload a prune worker is to remove, once."""
DELETE_AGAIN_MOST = timedelta(minutes=5)
"""The longest time between attempts to remove the data of what is being deleted."""
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
        Reason.CHAIN_MISMATCH,
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
    keeping: Keeping = BY_OTHERS
    """Who decides how long its data are kept."""
    by_hand: tuple[str, ...] = ()
    """Ids of other Backups of the chain that say so themselves."""
    prune_due: bool = False
    """Long enough after the last attempt to remove expired data."""
    snapshots: bool = False
    """Some that it consists of, or consisted of, are there."""
    owned: bool = False
    """Some of them go with the object."""
    prune_again: datetime | None = None
    """When removal is tried again for a deletion, after attempts that failed."""


def begun(status: BackupStatus) -> bool:
    """Whether a worker is or was at it. What once began never begins again."""
    return status.phase in WORKING or (status.started_at is not None and status.run is not None)


def snapshots_idle(status: BackupStatus, now: datetime) -> bool:
    """Whether the storage has taken so long for its snapshots that others go first."""
    return status.snapshots_since is not None and now - status.snapshots_since >= SNAPSHOT_HOLD


def second(moment: datetime) -> datetime:
    """As status has times."""
    return moment.replace(microsecond=0)
