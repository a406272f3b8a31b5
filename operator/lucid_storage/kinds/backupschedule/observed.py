"""What is known around a BackupSchedule when it is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lucid_storage.errors import LucidError
from lucid_storage.kinds.backupschedule.children import Child
from lucid_storage.kinds.backupschedule.retaining import Retaining
from lucid_storage.kinds.workers.state import ABSENT, WorkerState
from lucid_storage.kube.resources import Key
from lucid_storage.models.slicing import SliceReport


@dataclass(frozen=True, slots=True)
class ScheduleObserved:
    """What is known of the surroundings."""

    created_at: datetime
    children: tuple[Child, ...] = ()
    by_hand: tuple[Child, ...] = ()
    """Backups of its chain that no schedule made."""
    busy: bool = False
    """A backup or restore of the chain is under way, whoever made it."""
    prune: WorkerState = ABSENT
    retaining: Retaining | None = None
    """How a prune worker would be started; None when that cannot be now."""
    retention_trouble: str = ""
    slicing: SliceReport | None = None
    """The last words of the slicing worker."""
    slicing_trouble: str = ""
    """Why it does not run."""
    slicer_namespace: str = ""
    """Where it runs or is to run."""
    unfit: LucidError | None = None
    """Why no Backup can be made of the template now."""
    paused: bool = False
    elsewhere: frozenset[Key] = frozenset()
    """Its Backups whose data lie in another place or chain than it writes now."""
