"""A key that is away for a while costs no second (rule 1.8, 1.9)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from chain_builder import full, incremental, piece
from chain_histories import DAY, RULES, after, chains, question
from hypothesis import given
from hypothesis import strategies as st

from lucid_storage.archive.manifest import BackupKind, RetentionRules
from lucid_storage.archive.recorded import Recorded, Trust
from lucid_storage.archive.restore_path import RestorePath, to_second

UNREAD = (Trust.KEY_MISSING, Trust.BROKEN)


def unread(record: Recorded, trust: Trust = Trust.KEY_MISSING) -> Recorded:
    """As it is found where its key is not: its proof cannot be believed either."""
    return replace(record, trust=trust, proof=None)


def slices(first: int, last: int, timeline: str = "t1") -> list[Recorded]:
    return [piece(day * DAY, (day + 1) * DAY, timeline=timeline) for day in range(first, last)]


@pytest.mark.parametrize("trust", UNREAD)
@pytest.mark.parametrize("locked_slices", [0, 1])
@pytest.mark.parametrize("timeline", ["t1", "t2"])
def test_a_rotation_costs_no_slice_while_the_former_key_is_away(
    locked_slices: int, trust: Trust, timeline: str
) -> None:
    """f1 and the first slices are of k1, what follows of k2; the newest full may have begun another timeline."""
    pieces, newest = slices(1, 9), full("f2", 9 * DAY, timeline=timeline)
    since = slices(9, 10, timeline)
    locked = [unread(full("f1", DAY), trust), *(unread(p) for p in pieces[:locked_slices])]
    records = [*locked, *pieces[locked_slices:], newest, *since]
    rules = RetentionRules(days=30)
    remaining = {r.id for r in after(records, question(10, rules))}
    assert remaining == {r.id for r in records}


def test_behind_a_full_without_its_key_slices_go_when_its_days_are_over() -> None:
    records = [unread(full("f1", DAY)), *slices(1, 9), full("f2", 5 * DAY)]
    remaining = after(records, question(12, RetentionRules(days=10)))
    assert [r.id for r in remaining] == ["f1", *(p.id for p in slices(5, 9)), "f2"]


def test_keep_last_counts_what_can_be_read_before_it_lets_go_of_slices() -> None:
    locked = [unread(full("f1", DAY)), unread(full("f2", 2 * DAY))]
    for newer, begin in ((1, 1), (2, 4)):
        records = [*locked, *slices(1, 9), *(full(f"g{n}", (4 + n) * DAY) for n in range(newer))]
        remaining = after(records, question(90, RetentionRules(keep_last=2)))
        assert [r.id for r in remaining if r.kind is BackupKind.SLICE] == [p.id for p in slices(begin, 9)]


def test_behind_the_newest_full_slices_stay_when_its_key_is_away() -> None:
    """The schedule is suspended, and its days are long over."""
    records = [full("f0", 0), unread(full("f1", DAY)), *slices(0, 9)]
    remaining = {r.id for r in after(records, question(90, RetentionRules(days=2)))}
    assert remaining >= {p.id for p in slices(1, 9)}


def test_a_full_of_a_backup_made_by_hand_keeps_slices_for_its_own_days() -> None:
    records = [unread(full("f1", DAY, schedule=None, retention_days=40)), *slices(1, 9), full("f2", 9 * DAY)]
    assert len(after(records, question(40, RetentionRules(days=2)))) == len(records)
    assert len(after(records, question(42, RetentionRules(days=2)))) == 2


def test_what_somebody_else_wrote_holds_no_slices() -> None:
    """Neither a manifest of another cluster nor what was deleted together with its data."""
    foreign = unread(full("f1", DAY, cluster="cluster-b"))
    rules = RetentionRules(days=30)
    left = after([foreign, *slices(1, 9), full("f2", 9 * DAY)], question(10, rules))
    assert [r.id for r in left] == ["f1", "f2"]
    mine = [unread(full("f1", DAY)), *slices(1, 9), full("f2", 9 * DAY)]
    assert [r.id for r in after(mine, question(10, rules, marked=frozenset({"f1"})))] == ["f1", "f2"]


def test_an_unread_incremental_holds_the_slices_up_to_itself_as_before() -> None:
    records = [full("f1", DAY), *slices(1, 5), unread(incremental("i1", 3 * DAY, "f1")), full("f2", 6 * DAY)]
    remaining = {r.id for r in after(records, question(90, RetentionRules(days=1)))}
    assert remaining == {"f1", "i1", "f2", *(p.id for p in slices(1, 3))}


# Properties


@st.composite
def locked_chains(draw: st.DrawFn) -> tuple[list[Recorded], list[Recorded]]:
    """(with all keys, with some of them away): a history in which keys were rotated."""
    records = draw(chains())
    away = draw(st.sets(st.integers(0, 3)))
    turns = sorted(draw(st.sets(st.integers(0, len(records)), max_size=3)))
    trust = draw(st.sampled_from(UNREAD))
    found = []
    for n, record in enumerate(records):
        key = sum(turn <= n for turn in turns)
        found.append(unread(record, trust) if key in away else record)
    return records, found


@given(locked_chains(), st.integers(1, 30), st.integers(0, 90))
def test_no_slice_behind_an_unread_full_goes_before_the_days_of_that_full_are_over(
    histories: tuple[list[Recorded], list[Recorded]], days: int, day: int
) -> None:
    _, found = histories
    asked = question(day, RetentionRules(days=days))
    remaining = {r.id for r in after(found, asked)}
    for base in (r for r in found if r.kind is BackupKind.FULL and not r.readable):
        over = base.manifest.completed_at + timedelta(
            days=days if base.manifest.origin.schedule else asked.rules.default_days
        )
        assert base.id in remaining
        for slice_ in (r for r in found if r.kind is BackupKind.SLICE and over > asked.now):
            assert base.to is not None
            assert slice_.to is not None
            same = slice_.manifest.timeline == base.manifest.timeline
            assert not (same and slice_.to.optime > base.to.optime) or slice_.id in remaining


@given(locked_chains(), st.integers(1, 30), st.integers(0, 90))
def test_what_could_be_restored_with_all_keys_can_be_when_they_are_back(
    histories: tuple[list[Recorded], list[Recorded]], days: int, day: int
) -> None:
    records, found = histories
    asked = question(day, RetentionRules(days=days))
    remaining = {r.id for r in after(found, asked)}
    back = [r for r in records if r.id in remaining]
    for base in records:
        young = base.manifest.completed_at + timedelta(days=days) > asked.now
        if base.kind is not BackupKind.FULL or not base.good or not young:
            continue
        if base.manifest.origin.schedule is None:
            continue  # it has days of its own
        assert base.to is not None
        first = base.to.optime.seconds
        for second in range(first, first + 4 * DAY, DAY // 3):
            when = datetime.fromtimestamp(second, UTC)
            could = isinstance(to_second(records, when, base.manifest.timeline), RestorePath)
            assert not could or isinstance(to_second(back, when, base.manifest.timeline), RestorePath)


@given(locked_chains(), RULES, st.integers(0, 120))
def test_no_backup_goes_for_a_missing_key(
    histories: tuple[list[Recorded], list[Recorded]], rules: RetentionRules, day: int
) -> None:
    """No backup goes, and a second look finds nothing more to remove."""
    records, found = histories
    asked = question(day, rules)
    remaining = {r.id for r in after(found, asked)}
    assert {r.id for r in after(records, asked) if r.kind is not BackupKind.SLICE} <= remaining
    again = [r for r in found if r.id in remaining]
    assert {r.id for r in after(again, asked)} == remaining
