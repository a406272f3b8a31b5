"""What can be restored, and how one gets there (rule 1.2, 1.3, 1.4, 1.6)."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from chain_builder import START, differential, full, incremental, moment, piece, point, record
from hypothesis import given
from hypothesis import strategies as st

from lucid_storage.archive.continuity import holes, restorable, rpo_seconds, runs, windows
from lucid_storage.archive.manifest import BackupKind, Closing
from lucid_storage.archive.recorded import Recorded, Trust
from lucid_storage.archive.restore_path import Blocked, RestorePath, nearest_full, to_backup, to_second
from lucid_storage.errors import Reason


def spans_of(records: list[Recorded]) -> list[tuple[int, int]]:
    base = int(START.timestamp())
    return [(w.first - base, w.last - base) for w in windows(records)]


def path(records: list[Recorded], second: float) -> tuple[str, list[str]]:
    found = to_second(records, moment(second))
    assert isinstance(found, RestorePath), found
    return found.full.id, [r.id for r in found.then]


def blocked(found: RestorePath | Blocked) -> Blocked:
    assert isinstance(found, Blocked), found
    assert found.message.endswith(".")
    return found


def test_slices_chain_by_entry_and_not_by_time_alone() -> None:
    whole = [piece(0, 10), piece(10, 20), piece(20, 30)]
    assert [len(r.slices) for r in runs(whole)] == [3]
    forked = [piece(0, 10), record(BackupKind.SLICE, "x", prev=point(10, history="other"), to=20)]
    assert [len(r.slices) for r in runs(forked)] == [1, 1]


def test_holes_are_found_between_runs() -> None:
    found = runs([piece(0, 10), piece(20, 30), piece(30, 40)])
    assert [(h.after, h.before) for h in holes(found)] == [(point(10), point(20))]


def test_recoverable_begins_with_the_first_full_and_ends_a_second_before_the_last_slice() -> None:
    records = [piece(0, 60), full("f1", 30), piece(60, 120)]
    assert spans_of(records) == [(30, 119)]


def test_a_window_needs_a_good_full() -> None:
    assert spans_of([full("f1", 10, passed=False), piece(0, 60)]) == []
    assert spans_of([full("f1", 10, passed=None), piece(0, 60)]) == []
    assert spans_of([full("f1", 10, trust=Trust.BROKEN), piece(0, 60)]) == []


def test_a_hole_makes_two_windows() -> None:
    records = [full("f1", 10), piece(10, 60), piece(80, 100), full("f2", 90), piece(100, 120)]
    assert spans_of(records) == [(10, 59), (90, 119)]


def test_a_differential_bridges_and_can_be_restored_to_the_second() -> None:
    records = [full("f1", 10), differential("d1", 10, 60, "f1"), piece(50, 100)]
    assert spans_of(records) == [(10, 99)]
    assert path(records, 40) == ("f1", ["d1"])
    assert path(records, 80) == ("f1", ["d1", "s50-100"])


def test_a_moment_uses_the_newest_full_that_had_ended() -> None:
    records = [full("f1", 10), piece(0, 60), full("f2", 70), piece(60, 120)]
    assert path(records, 69) == ("f1", ["s0-60", "s60-120"])
    assert path(records, 70) == ("f2", ["s60-120"])


def test_fractions_of_a_second_are_cut_off() -> None:
    records = [full("f1", 10), piece(10, 61)]
    assert path(records, 59.9) == ("f1", ["s10-61"])
    found = to_second(records, moment(59.9))
    assert isinstance(found, RestorePath)
    assert found.until is not None
    assert found.until.seconds == int(moment(59).timestamp())


def test_a_broken_line_of_the_newest_full_falls_back_to_an_older_one() -> None:
    bad = record(BackupKind.FULL, "f2", to=point(60, history="other"), prev=None)
    records = [full("f1", 10), piece(10, 60), bad, piece(60, 120)]
    assert path(records, 100) == ("f1", ["s10-60", "s60-120"])


def test_later_than_the_slices_is_refused_with_the_last_second() -> None:
    found = blocked(to_second([full("f1", 10), piece(10, 60)], moment(60)))
    assert found.reason is Reason.RESTORE_BLOCKED
    assert "2026-03-01T00:00:59Z" in found.message


def test_earlier_than_the_first_full_is_refused_with_the_first_second() -> None:
    found = blocked(to_second([full("f1", 10), piece(0, 60)], moment(9)))
    assert "2026-03-01T00:00:10Z" in found.message


def test_a_gap_is_named_with_both_sides() -> None:
    records = [full("f1", 10), piece(10, 60), full("f2", 90), piece(80, 120)]
    found = blocked(to_second(records, moment(75)))
    assert "2026-03-01T00:00:59Z" in found.message
    assert "2026-03-01T00:01:30Z" in found.message


def test_without_slices_a_moment_is_refused_with_the_way_out() -> None:
    assert "pointInTime" in blocked(to_second([full("f1", 10)], moment(10))).message


def test_a_missing_key_is_said_instead_of_a_gap() -> None:
    records = [full("f1", 10), piece(10, 60, trust=Trust.KEY_MISSING, key_id="k1"), piece(60, 90)]
    found = blocked(to_second(records, moment(70)))
    assert found.reason is Reason.KEY_MISSING
    assert "k1" in found.message


def test_a_backup_restores_its_own_end() -> None:
    records = [full("f1", 10), piece(0, 30), piece(30, 60), incremental("i1", 60, "f1")]
    found = to_backup(records, "f1")
    assert isinstance(found, RestorePath)
    assert (found.then, found.until) == ((), point(10).optime)
    found = to_backup(records, "i1")
    assert isinstance(found, RestorePath)
    assert ([r.id for r in found.then], found.until) == (["s0-30", "s30-60"], point(60).optime)


def test_a_differential_needs_nothing_but_its_base() -> None:
    records = [full("f1", 10), piece(20, 30), differential("d1", 10, 60, "f1")]
    found = to_backup(records, "d1")
    assert isinstance(found, RestorePath)
    assert (found.full.id, [r.id for r in found.then]) == ("f1", ["d1"])


@pytest.mark.parametrize(
    ("records", "wanted", "reason"),
    [
        ([], "nothing", Reason.RESTORE_BLOCKED),
        ([full("f1", 10, passed=False)], "f1", Reason.VERIFY_FAILED),
        ([full("f1", 10, trust=Trust.BROKEN)], "f1", Reason.ARCHIVE_DAMAGED),
        ([full("f1", 10, trust=Trust.KEY_MISSING, key_id="k")], "f1", Reason.KEY_MISSING),
        ([incremental("i1", 60, "f1")], "i1", Reason.NO_BASE),
        ([full("f1", 10), piece(20, 60), incremental("i1", 60, "f1")], "i1", Reason.RESTORE_BLOCKED),
    ],
)
def test_what_cannot_be_reached_says_why(records: list[Recorded], wanted: str, reason: Reason) -> None:
    assert blocked(to_backup(records, wanted)).reason is reason


def test_other_engines_take_their_nearest_earlier_full() -> None:
    records = [full("f1", 10), full("f2", 50), full("f3", 90, passed=False)]
    found = nearest_full(records, "mongodb", moment(95))
    assert found is not None
    assert found.id == "f2"
    assert nearest_full(records, "mongodb", moment(5)) is None


def test_rpo_counts_from_the_last_verified_point() -> None:
    records = [full("f1", 10), piece(10, 60)]
    assert rpo_seconds(records, moment(100)) == 41
    assert rpo_seconds([full("f1", 10)], moment(100)) == 90
    assert rpo_seconds([piece(10, 60), full("f1", 20, passed=False)], moment(100)) is None


def test_an_incremental_behind_a_hole_is_no_verified_point() -> None:
    records = [full("f1", 10), piece(20, 60), incremental("i1", 60, "f1")]
    assert [r.id for r in restorable(records)] == ["f1"]
    assert rpo_seconds(records, moment(100)) == 90


def test_a_closed_timeline_and_the_next_one_are_two_windows() -> None:
    records = [
        full("f1", 10),
        piece(10, 60, closing=Closing.RESTORE),
        piece(61, 90, timeline="t2"),
        full("f2", 70, timeline="t2"),
    ]
    assert spans_of(records) == [(10, 59), (70, 89)]


@given(st.data())
def test_a_second_is_in_a_window_exactly_when_a_path_leads_to_it(data: st.DataObject) -> None:
    """What `recoverable` claims and what a restore finds are one thing, whatever is missing or damaged."""
    cuts = sorted(data.draw(st.sets(st.integers(0, 60), min_size=2, max_size=12), label="cuts"))
    pieces = [piece(a, b) for a, b in pairwise(cuts)]
    kept = [p for p in pieces if data.draw(st.booleans() | st.just(True))]
    fulls = [
        full(f"f{n}", to, passed=data.draw(st.sampled_from([True, True, False])))
        for n, to in enumerate(data.draw(st.lists(st.integers(0, 60), max_size=4), label="fulls"))
    ]
    records = [*kept, *fulls]
    random.Random(data.draw(st.integers(0, 9))).shuffle(records)
    base = int(START.timestamp())
    claimed = {s - base for w in windows(records) for s in range(w.first, w.last + 1)}
    for second in range(62):
        found = to_second(records, moment(second))
        assert isinstance(found, RestorePath) == (second in claimed)
        if isinstance(found, RestorePath):
            at = found.full.to
            assert at is not None
            for span in found.then:
                assert span.manifest.prev is not None
                assert span.manifest.prev.optime <= at.optime
                assert span.to is not None
                assert span.to.optime > at.optime
                at = span.to
            assert at.optime.seconds - base > second


@pytest.mark.parametrize(
    "asked",
    [datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)],
)
def test_a_moment_that_no_optime_has_is_refused_and_no_error(asked: datetime) -> None:
    found = blocked(to_second([full("f1", 10), piece(10, 60)], asked))
    assert found.reason is Reason.RESTORE_BLOCKED
    assert f"{asked.year}-12-31" in found.message
