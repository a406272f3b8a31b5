"""What a Restore's plan can order."""

from __future__ import annotations

from dataclasses import dataclass, field

from lucid_storage.kinds.protection import Need
from lucid_storage.kinds.restore.volumes import UnfilledClaim, WantedClaim
from lucid_storage.kinds.workers.launch import WorkerRequest
from lucid_storage.models.backup import BackupTemplate


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Make the Job, once."""

    request: WorkerRequest

    def describe(self) -> str:
        return f"start the worker {self.request.name}"


@dataclass(frozen=True, slots=True)
class Unmark:
    """Say in the target server that what an earlier run restored is being written over."""

    def describe(self) -> str:
        return "take back the marker of the restore before this one"


@dataclass(frozen=True, slots=True)
class StopWorker:
    """End a worker and remove its Job."""

    job: str
    why: str

    def describe(self) -> str:
        return f"stop the worker {self.job}: {self.why}"


@dataclass(frozen=True, slots=True)
class MakeBackup:
    """Make the Backup that backupBefore asks for, once."""

    name: str
    needs: tuple[Need, ...]
    like: BackupTemplate | None = field(hash=False)
    """Whose place and key it uses."""

    def describe(self) -> str:
        return f"make the Backup {self.name} before anything is written"


@dataclass(frozen=True, slots=True)
class MakeClaim:
    """Make a claim for a restored volume, once."""

    wanted: WantedClaim

    def describe(self) -> str:
        return f"make the claim {self.wanted.name} for a restored volume"


@dataclass(frozen=True, slots=True)
class TakeClaim:
    """Make a claim that another run made the one of this run."""

    unfilled: UnfilledClaim

    def describe(self) -> str:
        return f"take over the claim {self.unfilled.claim.name}, which is being made from the same snapshot"


@dataclass(frozen=True, slots=True)
class Swap:
    """Put the staged collections in place, or go on with it."""

    run: str
    databases: tuple[str, ...]
    drop_existing: bool
    keep_minutes: int
    """How long what is replaced stays."""

    def describe(self) -> str:
        return f"swap what the run {self.run} staged in {', '.join(self.databases)}"


@dataclass(frozen=True, slots=True)
class Discard:
    """Drop what a run staged and did not swap."""

    run: str
    databases: tuple[str, ...]

    def describe(self) -> str:
        return f"drop what the run {self.run} staged"


@dataclass(frozen=True, slots=True)
class DropOld:
    """Drop the collections that a swap replaced."""

    run: str
    databases: tuple[str, ...]
    server: str | None
    """The deployment that they lie in."""

    def describe(self) -> str:
        return f"drop what the run {self.run} replaced"


@dataclass(frozen=True, slots=True)
class Mark:
    """Leave the marker of a finished restore in the target server."""

    databases: tuple[str, ...]

    def describe(self) -> str:
        return "leave the marker of the finished restore"
