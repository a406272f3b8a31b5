"""A slice that a check found damaged is a gap in `recoverable`, however many slices follow (rule 1.11)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from schedule_builder import at, backup, children, look, schedule

from lucid_storage.kinds.backupschedule.children import made_by_hand
from lucid_storage.kinds.backupschedule.metrics import figures_of
from lucid_storage.kinds.backupschedule.plan import SchedulePlan
from lucid_storage.kinds.backupschedule.telling import columns
from lucid_storage.models.backupschedule import BackupScheduleStatus
from lucid_storage.models.pruning import ChainReport, Span
from lucid_storage.models.slicing import SliceReport

PITR: dict[str, Any] = {"pointInTime": {"enabled": True, "intervalSeconds": 600}}
FULL = backup("2026-05-02T02:00", timeline="t1", type="full")
FAILED = backup(
    "2026-05-02T06:00", "Failed", timeline="t1", type="incremental", kind="incremental", reason="VerifyFailed"
)


def words(to: str, timeline: str = "t1") -> SliceReport:
    return SliceReport(ok=True, timeline=timeline, to=at(to), written_at=at(to))


def heard(
    to: str, status: BackupScheduleStatus, *backups: Any, now: str = "", timeline: str = "t1"
) -> SchedulePlan:
    report = words(to, timeline)
    return look(schedule(**PITR), now or to, FULL, *backups, status=status, slicing=report)


def looked(status: BackupScheduleStatus, until: str, *spans: tuple[str, str]) -> BackupScheduleStatus:
    """What a look into the destination leaves: the last slice ended at `until`."""
    found = tuple(Span(first=at(a), last=at(b)) for a, b in spans)
    verified = found[-1].last if found else at("2026-05-02T02:01")
    chain = ChainReport(
        timeline="t1", based=True, recoverable=found, verified_to=verified, last_slice_to=at(until)
    )
    status = status.model_copy(deep=True)
    columns(schedule(**PITR), (), status, chain, at(until))
    return status


def windows(status: BackupScheduleStatus) -> list[tuple[datetime, datetime]]:
    return [(w.from_time, w.to) for w in status.recoverable or ()]


def start() -> BackupScheduleStatus:
    known = BackupScheduleStatus(last_slot=at("2026-05-02T02:00"), runs_since_full=0)
    return heard("2026-05-02T06:00", known).status


def holed() -> BackupScheduleStatus:
    """The slice at 03:00 is damaged; slices go on to 06:10."""
    return looked(start(), "2026-05-02T06:10", ("2026-05-02T02:01", "2026-05-02T02:59:59"))


def test_slices_behind_a_damaged_one_do_not_close_the_gap() -> None:
    status = holed()
    for minute in ("06:30", "09:00", "23:50"):
        step = heard(f"2026-05-02T{minute}", status, FAILED)
        status = step.status
        assert windows(status) == [(at("2026-05-02T02:01"), at("2026-05-02T02:59:59"))]
        assert status.verified_to == at("2026-05-02T02:59:59")
    assert status.rpo_seconds is not None
    assert status.rpo_seconds > 20 * 3600


def test_the_live_figure_does_not_close_the_gap_either() -> None:
    now = "2026-05-02T06:30"
    made = children(FULL, FAILED, now=at(now))
    for status, seconds in ((holed(), "02:59:59"), (start(), "06:29:59")):
        told = figures_of(schedule(**PITR), status, made, words(now), at(now))
        assert told.verified_to == at(f"2026-05-02T{seconds}")


def test_a_first_slice_that_is_damaged_leaves_nothing_to_grow() -> None:
    status = looked(start(), "2026-05-02T06:10")
    for minute in ("06:30", "06:40", "06:50"):
        status = heard(f"2026-05-02T{minute}", status, FAILED).status
        assert windows(status) == []
    assert status.slicer is not None
    assert status.slicer.last_slice_at == at("2026-05-02T06:50")


def test_a_full_behind_the_gap_begins_a_window_of_its_own() -> None:
    full = backup("2026-05-02T07:00", timeline="t1", type="full")
    status = heard("2026-05-02T07:20", holed(), FAILED, full).status
    old = (at("2026-05-02T02:01"), at("2026-05-02T02:59:59"))
    assert windows(status) == [old, (at("2026-05-02T07:01"), at("2026-05-02T07:19:59"))]
    later = heard("2026-05-02T07:40", status, FAILED, full).status
    assert windows(later) == [old, (at("2026-05-02T07:01"), at("2026-05-02T07:39:59"))]


def test_slices_go_on_where_the_last_look_left_no_gap() -> None:
    """The look was a moment behind what the slicing worker had told already."""
    status = looked(start(), "2026-05-02T05:50", ("2026-05-02T02:01", "2026-05-02T05:49:59"))
    later = heard("2026-05-02T06:20", status).status
    assert windows(later) == [(at("2026-05-02T02:01"), at("2026-05-02T06:19:59"))]


def test_a_slice_that_is_put_back_closes_the_gap_with_the_next_look() -> None:
    status = looked(holed(), "2026-05-02T07:00", ("2026-05-02T02:01", "2026-05-02T06:59:59"))
    assert windows(heard("2026-05-02T07:20", status, FAILED).status)[0][1] == at("2026-05-02T07:19:59")


def test_a_new_timeline_is_not_held_up_by_a_gap_in_the_old_one() -> None:
    full = backup("2026-05-02T07:00", timeline="t2", type="full")
    status = heard("2026-05-02T07:20", holed(), FAILED, full, timeline="t2").status
    assert windows(status)[1:] == [(at("2026-05-02T07:01"), at("2026-05-02T07:19:59"))]


def test_slices_that_go_on_behind_a_full_made_by_hand_leave_the_gap_before_it() -> None:
    """The oplog rolled over before 07:00, and that full is what the slicing worker found its way on from."""
    full = backup("2026-05-02T07:00", timeline="t1", type="full", chain="nightly")
    full = replace(full, annotations={}, created="2026-05-02T07:00:00Z")
    by_hand = tuple(made_by_hand("default", "nightly", [full]))
    now, report = "2026-05-02T07:20", words("2026-05-02T07:20")
    step = look(schedule(**PITR), now, FULL, status=start(), slicing=report, by_hand=by_hand)
    assert windows(step.status) == [
        (at("2026-05-02T02:01"), at("2026-05-02T05:59:59")),
        (at("2026-05-02T07:01"), at("2026-05-02T07:19:59")),
    ]
