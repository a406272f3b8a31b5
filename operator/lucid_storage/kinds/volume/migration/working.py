"""A worker that copies, from its start to its result; the same before the switch and in it. Pure."""

from __future__ import annotations

from collections.abc import Callable

from lucid_storage.errors import Reason
from lucid_storage.kinds.volume.migration.actions import StartCopy, StopCopy
from lucid_storage.kinds.volume.migration.observed import Case, Plan
from lucid_storage.kinds.workers.launch import WorkerRequest
from lucid_storage.kinds.workers.state import WorkerPhase
from lucid_storage.models.orders import Progress
from lucid_storage.models.volume_migration import MigrationStep
from lucid_storage.models.volume_work import VolumeCopyResult

POLL_SECONDS, SOON_SECONDS, UNFIT_SECONDS = 2.0, 0.5, 60.0
STEPS_OF_PROGRESS = 10
"""Percent between two writes of the progress that people read."""
STEPS_REACHED = 2
"""Percent that count as progress of a worker that is lost afterwards."""

Ended = Callable[[Case, VolumeCopyResult], Plan]
"""What a result means: a copy, or why there is none."""


def work(case: Case, request: WorkerRequest, ended: Ended) -> Plan:
    """Start the worker once, follow it, and hand over its result. Status names the Job before it is made."""
    worker, journal = case.answer.worker, case.migration
    if journal.job_name is None and worker.phase is not WorkerPhase.ABSENT:
        return cleared(case, request.name)
    if worker.phase in (WorkerPhase.ABSENT, WorkerPhase.SUSPENDED):
        return _start(case, request)
    if worker.phase is WorkerPhase.ENDED:
        return ended(case, _result(case))
    if worker.phase is WorkerPhase.LOST:
        said = f"The worker was lost: {worker.message}."
        reason = Reason.DEADLINE_EXCEEDED if worker.overdue else Reason.WORKER_LOST
        return ended(case, VolumeCopyResult(run=journal.run, ok=False, reason=reason, message=said))
    return _following(case)


def cleared(case: Case, job: str) -> Plan:
    """Have a Job that has nothing more to say removed, and wait until nothing of it is left."""
    worker = case.answer.worker
    return case.step(
        "Waits until the worker is gone.",
        actions=() if worker.going or worker.phase is WorkerPhase.STOPPING else (StopCopy(job),),
        seconds=SOON_SECONDS,
    )


def _start(case: Case, request: WorkerRequest) -> Plan:
    if case.answer.former:
        # Two that write to one volume could spoil what the other one has compared.
        pod = case.answer.former[0].name
        said = f"The next worker begins when the pod {pod} has ended, whose Job is gone."
        return case.step(said, seconds=POLL_SECONDS)
    if case.answer.unfit is not None:
        error = case.answer.unfit
        return case.step(error.message, reason=error.reason, blocked=error.stalled, seconds=UNFIT_SECONDS)
    refused = case.refused()
    if refused is not None:
        return refused
    case = case.noting(job_name=request.name)
    return case.step(_doing(case, None), actions=(StartCopy(request),), seconds=POLL_SECONDS)


def _following(case: Case) -> Plan:
    worker, progress = case.answer.worker, case.answer.worker.progress
    if worker.phase is WorkerPhase.STOPPING:
        return case.step("The worker is being ended by somebody.", seconds=POLL_SECONDS)
    if worker.phase is WorkerPhase.WAITING:
        return case.step(f"The worker waits: {worker.message}.", seconds=POLL_SECONDS)
    if case.migration.step is not MigrationStep.SWITCHING:
        verifying = progress is not None and progress.phase == MigrationStep.VERIFYING
        case = case.noting(
            step=MigrationStep.VERIFYING if verifying else MigrationStep.COPYING, progress=_percent(progress)
        )
        reached = _reached(progress, verifying=verifying)
        if reached > (case.migration.reached or 0):
            case = case.noting(reached=reached, attempts=None)
    return case.step(_doing(case, progress), seconds=POLL_SECONDS)


def _reached(progress: Progress | None, *, verifying: bool) -> int:
    """0 to 100 while copying, 100 to 200 while comparing."""
    if progress is None or not progress.total_bytes:
        return 0
    done = min(100, 100 * progress.done_bytes // progress.total_bytes) // STEPS_REACHED * STEPS_REACHED
    return done + 100 if verifying else done


def _doing(case: Case, progress: Progress | None) -> str:
    if case.migration.step is MigrationStep.SWITCHING:
        return "The last look whether anything changed since the copy, with the old volume out of everybody's reach."
    verb = (
        "compared with the old volume, byte by byte"
        if case.migration.step is MigrationStep.VERIFYING
        else f"copied to the class {case.migration.storage_class_name}"
    )
    percent = _percent(progress)
    return f"The data are being {verb}{f': {percent}' if percent else ''}."


def _percent(progress: Progress | None) -> str | None:
    if progress is None or not progress.total_bytes:
        return None
    done = 100 * progress.done_bytes // progress.total_bytes
    return f"{min(100, done // STEPS_OF_PROGRESS * STEPS_OF_PROGRESS)}%"


def _result(case: Case) -> VolumeCopyResult:
    text = case.answer.worker.result or ""
    try:
        result = VolumeCopyResult.model_validate_json(text)
    except ValueError:
        said = "The worker's result cannot be read; the operator and its workers must be of one release."
        return VolumeCopyResult(run=case.migration.run, ok=False, reason=Reason.INTERNAL_ERROR, message=said)
    if result.run == case.migration.run:
        return result
    said = "The worker told of another migration."
    return VolumeCopyResult(run=case.migration.run, ok=False, reason=Reason.WORKER_LOST, message=said)
