"""Days that are raised, an annotation and a clock that was put back, while data are about to go (rule 1.9)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from backup_builder import ID, NOW, RUN, completed, later, observed, resource, worker
from test_backup_deletion_tries import hands

from lucid_storage.kinds.backup.actions import RemoveWorker, StartWorker
from lucid_storage.kinds.backup.keeping import Keeping
from lucid_storage.kinds.backup.observed import Plan
from lucid_storage.kinds.backup.plan import plan
from lucid_storage.kinds.workers.state import WorkerPhase
from lucid_storage.models.backup import BackupPhase
from lucid_storage.models.meta import PAUSED

GONE = {"ok": True, "expiry": True, "removed": [ID]}
KEPT = {"ok": True, "expiry": True, "retained": [{"id": ID, "because": "Another builds on it."}]}
FAILED = {"ok": False, "message": "The bucket is away."}


def raised(phase: WorkerPhase, days: int | None = 365, answer: object = None) -> Plan:
    """What is planned after 31 days of a Backup whose 30 days were raised meanwhile."""
    made = resource(retentionDays=365)
    result = json.dumps({"run": RUN, **answer}) if isinstance(answer, dict) else None
    seen = observed(made, keeping=Keeping(days), prune=worker(phase, result=result), prune_due=True)
    return plan(made, seen, completed(), later(days=31))


def test_what_went_before_the_days_were_raised_is_expired_and_not_complete() -> None:
    step = raised(WorkerPhase.ENDED, answer=GONE)
    assert step.status.phase is BackupPhase.EXPIRED
    assert [type(a) for a in step.actions] == [RemoveWorker]


@pytest.mark.parametrize("days", [365, None], ids=["raised", "a schedule decides now"])
@pytest.mark.parametrize("answer", [KEPT, FAILED, None], ids=["kept", "failed", "lost"])
def test_what_is_there_still_stays_for_its_new_days(answer: object, days: int | None) -> None:
    step = raised(WorkerPhase.ENDED if answer else WorkerPhase.LOST, days, answer)
    assert (step.status.phase, step.status.retained_because) == (BackupPhase.COMPLETED, None)
    assert [type(a) for a in step.actions] == [RemoveWorker]


def test_a_worker_that_has_not_begun_is_stopped_and_one_at_work_is_heard() -> None:
    for phase in (WorkerPhase.SUSPENDED, WorkerPhase.WAITING):
        assert [type(a) for a in raised(phase).actions] == [RemoveWorker]
    for phase in (WorkerPhase.RUNNING, WorkerPhase.STOPPING):
        step = raised(phase)
        assert step.actions == ()
        assert step.recheck_seconds is not None
        assert step.recheck_seconds < 60
    assert raised(WorkerPhase.ABSENT).actions == ()


async def test_the_worker_is_looked_at_until_it_is_over_also_when_the_days_are_raised() -> None:
    kind = hands()
    made, status = resource(), completed()
    [start] = plan(made, observed(prune_due=True), status, later(days=31)).actions
    assert isinstance(start, StartWorker)
    await kind.apply(made, status, start)
    assert (await kind.observe(resource(retentionDays=365), status, later(days=31))).prune_due
    await kind.apply(made, status, RemoveWorker(start.request.name))
    assert not (await kind.observe(resource(retentionDays=365), status, datetime.now(UTC))).prune_due


def test_while_it_is_paused_no_data_go_by_time() -> None:
    paused = resource(annotations={PAUSED: "true"})
    step = plan(paused, observed(paused, prune_due=True), completed(), later(days=31))
    assert (step.actions, step.status.phase) == ((), BackupPhase.COMPLETED)
    done = worker(WorkerPhase.ENDED, result=json.dumps({"run": RUN, **GONE}))
    heard = plan(paused, observed(paused, prune_due=True, prune=done), completed(), later(days=31))
    assert heard.status.phase is BackupPhase.EXPIRED


async def test_a_clock_that_was_ahead_delays_no_removal() -> None:
    kind = hands()
    made, status = resource(), completed()
    [start] = plan(made, observed(prune_due=True), status, later(days=31)).actions
    assert isinstance(start, StartWorker)
    await kind.apply(made, status, start)  # which notes the time of this machine
    await kind.apply(made, status, RemoveWorker(start.request.name))
    before = datetime.now(UTC) - timedelta(days=300)
    old = completed(completed_at=before - timedelta(days=31))
    assert (await kind.observe(made, old, before)).prune_due


def test_a_deletion_does_not_wait_for_a_time_that_a_clock_ahead_wrote_down() -> None:
    made = resource(deleted=NOW, held=True, deletionPolicy="Delete")
    waits = plan(made, observed(made, prune_again=later(minutes=5)), completed(), NOW)
    assert waits.actions == ()
    [start] = plan(made, observed(made, prune_again=later(days=300)), completed(), NOW).actions
    assert isinstance(start, StartWorker)
