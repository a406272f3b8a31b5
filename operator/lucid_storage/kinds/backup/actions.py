"""What a Backup's plan can order."""

from __future__ import annotations

from dataclasses import dataclass

from lucid_storage.kinds.backup.volumes import WantedSnapshot
from lucid_storage.kinds.workers.launch import WorkerRequest


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Make the Job, once."""

    request: WorkerRequest

    def describe(self) -> str:
        return f"start the {self.request.command} worker {self.request.name}"


@dataclass(frozen=True, slots=True)
class MakeSnapshot:
    """Ask the storage for a snapshot of a volume, once."""

    wanted: WantedSnapshot

    def describe(self) -> str:
        return f"make the snapshot {self.wanted.name} of the claim {self.wanted.claim}"


@dataclass(frozen=True, slots=True)
class KeepSnapshots:
    """Have the snapshots that the backup consists of outlive the object."""

    def describe(self) -> str:
        return "keep the snapshots of the backup beyond its object"


@dataclass(frozen=True, slots=True)
class DropSnapshots:
    """Remove the snapshots that the backup consists of."""

    def describe(self) -> str:
        return "remove the snapshots of the backup"


@dataclass(frozen=True, slots=True)
class StopWorker:
    """End the worker and remove its Job."""

    job: str
    why: str

    def describe(self) -> str:
        return f"stop the worker {self.job}: {self.why}"


@dataclass(frozen=True, slots=True)
class RemoveWorker:
    """Remove the Job of a worker that ended."""

    job: str

    def describe(self) -> str:
        return f"remove the Job {self.job}, which is done"
