"""Retention of a schedule: when its worker runs, and what its answer means for the objects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

from schedule_builder import SETTINGS, at, backup, look, schedule

from lucid_storage.kinds.backupschedule.actions import (
    DeleteBackup,
    DropSnapshots,
    ExplainBackup,
    RemovePrune,
    StartPrune,
)
from lucid_storage.kinds.backupschedule.desired import prune_run
from lucid_storage.kinds.backupschedule.plan import SchedulePlan
from lucid_storage.kinds.backupschedule.retaining import Retaining
from lucid_storage.kinds.workers.place import Place
from lucid_storage.kinds.workers.state import ABSENT, WorkerPhase, WorkerState
from lucid_storage.kube.resources import Resource
from lucid_storage.models.backupschedule import BackupScheduleStatus, RetentionStatus, SlicerStatus
from lucid_storage.models.orders import Destination
from lucid_storage.models.pruning import ChainReport, PruneOrder, PruneResult, Retained, Span
from lucid_storage.models.settings import Settings

READY = Retaining("cluster", Place(Destination(bucket="b")), {"nightly": {"days": 3}}, SETTINGS)
NOON = "2026-05-05T12:00"
FOUR = tuple(backup(f"2026-05-0{day}T02:00") for day in (2, 3, 4, 5))


def known() -> BackupScheduleStatus:
    return BackupScheduleStatus(last_slot=at("2026-05-05T02:00"), runs_since_full=0)


def started(step: SchedulePlan) -> list[PruneOrder]:
    orders = [a.request.order for a in step.actions if isinstance(a, StartPrune)]
    return [o for o in orders if isinstance(o, PruneOrder)]


def begun() -> SchedulePlan:
    return look(schedule(retention={"days": 3}), NOON, *FOUR, status=known(), retaining=READY)


def answered(
    result: PruneResult | str, *backups: Resource, phase: WorkerPhase = WorkerPhase.ENDED
) -> SchedulePlan:
    step = begun()
    text = result if isinstance(result, str) else result.model_dump_json(by_alias=True)
    state = WorkerState(phase, "it is odd", result=text)
    desired = schedule(retention={"days": 3})
    return look(desired, NOON, *(backups or FOUR), status=step.status, retaining=READY, prune=state)


def result(**more: Any) -> PruneResult:
    done = begun().status.retention
    assert done is not None
    return PruneResult(run=prune_run("uid-1", done.done or ""), ok=True, **more)


def test_a_worker_starts_after_each_good_backup_with_the_rules_and_the_ids_that_count() -> None:
    (order,) = started(begun())
    assert (order.sweep, order.rules, order.chain) == (True, {"nightly": {"days": 3}}, "nightly")
    assert set(order.known) == {f"id-{b.key.name}" for b in FOUR}
    assert order.remove == ()


def test_an_upload_is_left_over_only_when_no_worker_can_be_at_it_any_more() -> None:
    (order,) = started(begun())
    assert order.abandoned_seconds == 86_400
    patient = Settings.read({"BACKUP_DEADLINE_SECONDS": "172800"})
    ready = replace(READY, settings=patient)
    step = look(schedule(), NOON, *FOUR, status=known(), retaining=ready)
    assert started(step)[0].abandoned_seconds > 172_800


def test_the_slices_of_the_timeline_are_told() -> None:
    chain = ChainReport(timeline="t1", slices=7, slice_bytes=4096)
    desired = schedule(retention={"days": 3}, pointInTime={"enabled": True})
    status = begun().status.model_copy(update={"slicer": SlicerStatus(deployment="x")})
    text = result(chain=chain).model_dump_json(by_alias=True)
    state = WorkerState(WorkerPhase.ENDED, result=text)
    step = look(desired, NOON, *FOUR, status=status, retaining=READY, prune=state)
    assert step.status.slicer is not None
    assert (step.status.slicer.slices, step.status.slicer.stored_bytes) == (7, 4096)


def test_it_starts_once_for_a_backup_and_once_a_day() -> None:
    status = answered(result()).status
    desired = schedule(retention={"days": 3})
    assert started(look(desired, "2026-05-05T18:00", *FOUR, status=status, retaining=READY)) == []
    status.last_slot = at("2026-05-06T02:00")
    assert started(look(desired, "2026-05-06T03:00", *FOUR, status=status, retaining=READY))


def test_a_check_that_failed_has_the_chain_looked_at_at_once_and_once() -> None:
    """It may have found a damaged slice, which is a gap in what can be restored from now on."""
    status = answered(result()).status
    desired = schedule(retention={"days": 3})
    failed = backup("2026-05-05T14:00", "Failed", reason="VerifyFailed", manifestSha256="x")
    other = backup("2026-05-05T14:00", "Failed", reason="WorkerLost")
    assert started(look(desired, "2026-05-05T14:02", *FOUR, other, status=status, retaining=READY)) == []
    step = look(desired, "2026-05-05T14:02", *FOUR, failed, status=status, retaining=READY)
    assert started(step)
    assert step.status.retention is not None
    run = prune_run("uid-1", step.status.retention.done or "")
    text = PruneResult(run=run, ok=True).model_dump_json(by_alias=True)
    over = look(
        desired,
        "2026-05-05T14:03",
        *FOUR,
        failed,
        status=step.status,
        retaining=READY,
        prune=WorkerState(WorkerPhase.ENDED, result=text),
    )
    assert (
        started(look(desired, "2026-05-05T15:00", *FOUR, failed, status=over.status, retaining=READY)) == []
    )


def test_it_waits_while_something_reads_or_writes_backups() -> None:
    assert started(look(schedule(), NOON, *FOUR, status=known(), retaining=READY, busy=True)) == []


def test_nothing_is_removed_before_the_first_good_backup() -> None:
    bad = backup("2026-05-05T02:00", "Failed", reason="WorkerLost")
    assert started(look(schedule(), NOON, bad, status=known(), retaining=READY)) == []


def test_a_backup_that_came_to_nothing_is_not_taken_for_one_whose_data_are_gone() -> None:
    bad = backup("2026-05-05T02:00", "Failed", reason="WorkerLost")
    (order,) = started(look(schedule(), NOON, *FOUR[:3], bad, status=known(), retaining=READY))
    assert f"id-{bad.key.name}" not in order.known


def test_objects_go_whose_data_are_gone() -> None:
    gone = FOUR[0]
    step = answered(result(removed=(f"id-{gone.key.name}",)))
    deleted = [a.key for a in step.actions if isinstance(a, DeleteBackup)]
    assert deleted == [gone.key]
    assert any(isinstance(a, RemovePrune) for a in step.actions)
    assert step.status.retention is not None
    assert step.status.retention.job is None


def test_snapshots_go_before_the_object_that_would_look_for_them() -> None:
    engines = [{"engine": "volumes", "phase": "Completed", "inCluster": True}]
    gone, expired = (
        backup(f"2026-05-0{d}T02:00", p, engines=engines) for d, p in ((1, "Completed"), (2, "Expired"))
    )
    step = answered(result(removed=(f"id-{gone.key.name}", "of-nobody")), gone, expired, *FOUR[1:])
    deleted = [(a.key, a.snapshots_of) for a in step.actions if isinstance(a, DeleteBackup)]
    assert sorted(deleted) == [(b.key, f"id-{b.key.name}") for b in (gone, expired)]
    assert [a.backup_id for a in step.actions if isinstance(a, DropSnapshots)] == ["of-nobody"]


def test_snapshots_of_a_cancelled_backup_go_with_the_data_that_something_needed() -> None:
    gone = backup("2026-05-01T02:00", "Cancelled", retainedBecause="Another builds on it.")
    step = answered(result(removed=(f"id-{gone.key.name}",)), gone, *FOUR[1:])
    deleted = [(a.key, a.snapshots_of) for a in step.actions if isinstance(a, DeleteBackup)]
    assert deleted == [(gone.key, f"id-{gone.key.name}")]


def test_each_object_says_when_it_expires_or_why_it_stays() -> None:
    kept = FOUR[0]
    step = answered(
        result(retained=(Retained(id=f"id-{kept.key.name}", because="The backup x builds on it."),))
    )
    said = {a.key: a.status for a in step.actions if isinstance(a, ExplainBackup)}
    assert said[kept.key]["retainedBecause"] == "The backup x builds on it."
    assert said[kept.key]["expires"] == "kept"
    assert said[FOUR[3].key]["expires"] == "2026-05-08 02:01Z"
    assert said[FOUR[3].key]["expiresAt"] == "2026-05-08T02:01:00Z"
    assert "retainedBecause" not in said[FOUR[3].key]


def test_what_is_explained_already_is_not_written_again() -> None:
    done = tuple(
        backup(
            f"2026-05-0{day}T02:00",
            expires=f"2026-05-0{day + 3} 02:01Z",
            expiresAt=f"2026-05-0{day + 3}T02:01:00Z",
        )
        for day in (3, 4, 5)
    )
    step = answered(result(), *done)
    assert [a for a in step.actions if isinstance(a, ExplainBackup)] == []


def test_a_reason_that_is_over_is_taken_back() -> None:
    done = backup("2026-05-05T02:00", expires="kept", retainedBecause="old")
    step = answered(result(), *FOUR[:3], done)
    said = {a.key: a.status for a in step.actions if isinstance(a, ExplainBackup)}
    assert said[done.key]["retainedBecause"] is None


def test_the_figures_of_the_chain_come_into_status() -> None:
    span = Span(first=at("2026-05-02T02:01"), last=at("2026-05-05T11:50"))
    chain = ChainReport(
        timeline="t", based=True, recoverable=(span,), verified_to=span.last, backups=4, stored_bytes=9
    )
    status = answered(result(chain=chain)).status
    assert [(w.from_time, w.to) for w in status.recoverable or ()] == [(span.first, span.last)]
    assert (status.backups, status.stored_bytes, status.rpo_seconds) == (4, 9, 600)


def test_a_worker_without_a_result_is_said_and_tried_again_after_an_hour() -> None:
    step = answered("", phase=WorkerPhase.LOST)
    assert [n.reason for n in step.notices] == ["RetentionFailed"]
    desired = schedule(retention={"days": 3})
    assert started(look(desired, "2026-05-05T12:30", *FOUR, status=step.status, retaining=READY)) == []
    again = look(desired, "2026-05-05T13:01", *FOUR, status=step.status, retaining=READY)
    assert started(again)
    assert again.status.retention is not None
    first = begun().status.retention
    assert first is not None
    assert again.status.retention.job != first.job


def test_a_result_of_another_run_is_none() -> None:
    other = PruneResult(run="other", ok=True, removed=tuple(f"id-{b.key.name}" for b in FOUR))
    step = answered(other)
    assert [a for a in step.actions if isinstance(a, DeleteBackup)] == []


def test_a_job_that_somebody_deleted_is_noticed() -> None:
    step = begun()
    later = look(schedule(), NOON, *FOUR, status=step.status, retaining=READY, prune=ABSENT)
    assert later.status.retention is not None
    assert later.status.retention.job is None
    assert [n.reason for n in later.notices] == ["RetentionFailed"]


def test_more_to_remove_means_another_worker_at_once() -> None:
    status = answered(result(more=True)).status
    assert started(look(schedule(), "2026-05-05T12:01", *FOUR, status=status, retaining=READY))


def test_objects_of_failures_do_not_pile_up() -> None:
    failures = [backup(f"2026-05-{day:02d}T02:00", "Failed", reason="WorkerLost") for day in range(2, 16)]
    step = look(
        schedule(),
        "2026-05-15T12:00",
        *failures,
        status=BackupScheduleStatus(last_slot=at("2026-05-15T02:00")),
    )
    deleted = [a.key.name for a in step.actions if isinstance(a, DeleteBackup)]
    assert deleted == [f.key.name for f in failures[:4]]


def test_one_that_another_rule_keeps_beyond_its_days_tells_no_time_that_is_over() -> None:
    old = backup("2026-05-01T02:00", expires="2026-05-04 02:01Z", expiresAt="2026-05-04T02:01:00Z")
    step = answered(result(), old, *FOUR)
    said = {a.key: a.status for a in step.actions if isinstance(a, ExplainBackup)}
    assert said[old.key] == {"expiresAt": None, "expires": "by newer ones"}


def test_of_a_chain_that_no_worker_can_be_told_of_the_schedule_says_so_and_goes_on() -> None:
    many = replace(READY, by_hand=tuple(str(UUID(int=n)) for n in range(30_000)))
    step = look(schedule(retention={"days": 3}), NOON, *FOUR, status=known(), retaining=many)
    assert started(step) == []
    assert [n.reason for n in step.notices] == ["RetentionFailed"]
    assert step.status.retention is not None
    assert "more Backups than a worker can be told of" in (step.status.retention.message or "")
    again = look(schedule(retention={"days": 3}), NOON, *FOUR, status=step.status, retaining=many)
    assert again.notices == (), "not at each look"


def test_while_it_is_paused_nothing_is_removed_and_a_worker_at_it_is_heard() -> None:
    failed = [backup(f"2026-05-05T02:{n:02d}", phase="Failed") for n in range(20)]
    asked: dict[str, Any] = {"retaining": READY, "paused": True}
    step = look(schedule(retention={"days": 3}), NOON, *FOUR, *failed, status=known(), **asked)
    assert step.actions == ()
    over = WorkerState(
        WorkerPhase.ENDED, result=result(removed=("id-nightly-a",)).model_dump_json(by_alias=True)
    )
    heard = look(schedule(retention={"days": 3}), NOON, *FOUR, status=begun().status, prune=over, **asked)
    assert any(isinstance(a, RemovePrune) for a in heard.actions)


def test_a_worker_that_failed_by_a_clock_that_was_ahead_delays_the_next_one_by_nothing() -> None:
    ahead = RetentionStatus(message="The worker gave no result.", last_at=at("2027-05-05T12:00"))
    status = known().model_copy(update={"retention": ahead})
    assert started(look(schedule(), NOON, *FOUR, status=status, retaining=READY)) != []
