"""What a Backup's plan can order."""

from __future__ import annotations

from dataclasses import dataclass

from lucid_storage.kinds.workers.launch import WorkerRequest


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Make the Job, once."""

    request: WorkerRequest

    def describe(self) -> str:
        return f"start the {self.request.command} worker {self.request.name}"


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
