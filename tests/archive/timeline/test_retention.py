"""What is kept and what goes (rule 1.8, 1.9)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from chain_builder import CLUSTER, START, differential, found_damaged, full, incremental, moment, piece
from chain_builder import record as made
from chain_histories import DAY, RULES, after, chains, question
from hypothesis import given
from hypothesis import strategies as st

from lucid_storage.archive.manifest import BackupKind, RetentionRules
from lucid_storage.archive.recorded import Recorded, Trust
from lucid_storage.archive.restore_path import RestorePath, to_backup, to_second
from lucid_storage.archive.retention import Outcome, Question, Verdict, deletion_order, judge
from lucid_storage.archive.retention_rules import RuleBook


def daily(n: int, **more: Any) -> list[Recorded]:
    return [full(f"f{day}", day * DAY, **more) for day in range(n)]


def kept(records: list[Recorded], asked: Question) -> list[str]:
    return [v.record.id for v in judge(records, asked) if v.outcome is Outcome.KEEP]


def verdict(records: list[Recorded], asked: Question, record_id: str) -> Verdict:
    return next(v for v in judge(records, asked) if v.record.id == record_id)


def test_days_keep_what_is_younger() -> None:
    assert kept(daily(10), question(9.5, RetentionRules(days=3))) == ["f7", "f8", "f9"]


def test_keep_last_counts_good_ones_only() -> None:
    records = [*daily(5), full("bad", 6 * DAY, passed=False)]
    assert kept(records, question(40, RetentionRules(keep_last=2))) == ["f3", "f4"]


def test_keep_daily_weekly_and_monthly_keep_the_newest_full_of_each() -> None:
    records = [full(f"f{n}", n * DAY // 2) for n in range(120)]  # two a day for 60 days from 2026-03-01
    assert kept(records, question(300, RetentionRules(keep_daily=2))) == ["f117", "f119"]
    assert kept(records, question(300, RetentionRules(keep_monthly=2))) == ["f61", "f119"]
    weekly = kept(records, question(300, RetentionRules(keep_weekly=2)))
    assert [records[int(r[1:])].manifest.completed_at.isocalendar()[1] for r in weekly] == [17, 18]


def test_any_rule_keeps() -> None:
    rules = RetentionRules(days=2, keep_monthly=1, keep_last=1)
    found = verdict(daily(5), question(4.5, rules), "f4")
    assert found.outcome is Outcome.KEEP
    assert len(found.because) >= 3


def test_the_last_good_one_stays_however_old() -> None:
    records = [*daily(3), full("bad", 5 * DAY, passed=False)]
    assert kept(records, question(3000, RetentionRules(days=1))) == ["f2"]
    assert not verdict(records, question(3000, RetentionRules(days=1)), "f2").ruled


def test_last_good_is_per_timeline() -> None:
    records = [full("old", DAY, timeline="t0"), *daily(3, timeline="t1")]
    assert kept(records, question(3000, RetentionRules(days=1))) == ["old", "f2"]


@pytest.mark.parametrize("rules", [{"days": 2}, {"keep_last": 3}, {"keep_daily": 2}])
def test_fulls_that_lack_mongodb_push_out_no_full_that_holds_it(rules: dict[str, int]) -> None:
    """MongoDB failed night after night, and Redis was fine: each of those is proved, and none brings MongoDB back."""
    both = ("mongodb", "redis")
    good = full("good", DAY, engines=both)
    since = piece(DAY, 2 * DAY)
    partly = [
        made(BackupKind.FULL, f"p{n}", to=None, engines=both, completed_at=moment(n * DAY))
        for n in range(3, 10)
    ]
    found = kept([good, since, *partly], question(10, RetentionRules(**rules)))
    assert {"good", since.id} <= set(found)
    assert partly[-1].id in found


def test_slices_stay_from_the_oldest_full_that_days_keeps() -> None:
    records = [*daily(10), *(piece(d * DAY - 60, (d + 1) * DAY - 60) for d in range(1, 10))]
    found = kept(records, question(9.5, RetentionRules(days=3, keep_monthly=5)))
    assert [r for r in found if r.startswith("s")] == [
        piece(d * DAY - 60, (d + 1) * DAY - 60).id for d in (7, 8, 9)
    ]


def test_keep_monthly_keeps_fulls_without_the_slices_between() -> None:
    records = [full("f1", DAY), piece(DAY, 2 * DAY), full("f2", 40 * DAY), piece(40 * DAY, 41 * DAY)]
    found = kept(records, question(60, RetentionRules(days=5, keep_monthly=2)))
    assert found == ["f1", "f2", piece(40 * DAY, 41 * DAY).id]


def test_the_slices_since_the_last_full_outlive_a_suspended_schedule() -> None:
    records = [full("f1", DAY), *(piece(d * DAY, (d + 1) * DAY) for d in range(1, 90))]
    assert len(kept(records, question(91, RetentionRules(days=7)))) == 90


def test_the_base_and_slices_of_a_kept_incremental_stay_and_say_why() -> None:
    records = [
        full("f1", DAY),
        piece(DAY, 2 * DAY),
        piece(2 * DAY, 9 * DAY),
        incremental("i1", 9 * DAY, "f1"),
        full("f2", 10 * DAY),
    ]
    asked = question(12, RetentionRules(days=4))
    assert kept(records, asked) == [r.id for r in records]
    base = verdict(records, asked, "f1")
    assert not base.ruled
    assert base.because == ("the backup i1 builds on it",)
    assert base.expires_at == START + timedelta(days=5)


def test_a_differential_needs_its_base_and_no_slices() -> None:
    records = [
        full("f1", DAY),
        piece(DAY, 9 * DAY),
        differential("d1", DAY, 9 * DAY, "f1"),
        full("f2", 10 * DAY),
    ]
    assert kept(records, question(12, RetentionRules(days=4))) == ["f1", "d1", "f2"]


def test_what_somebody_reads_is_not_taken_away() -> None:
    records = [*daily(4), piece(0, 100)]
    held = frozenset({"f1", piece(0, 100).id})
    assert kept(records, question(100, RetentionRules(days=1), held=held)) == ["f1", "f3", piece(0, 100).id]


def test_another_cluster_is_left_alone_until_adopted() -> None:
    records = [*daily(2, cluster="cluster-b"), *[full("own", 2 * DAY)]]
    assert kept(records, question(100, RetentionRules(days=1))) == ["f0", "f1", "own"]
    adopted = Question(
        now=moment(100 * DAY),
        own_clusters=frozenset({CLUSTER, "cluster-b"}),
        rules=RuleBook({"nightly": RetentionRules(days=1)}),
    )
    assert kept(records, adopted) == ["own"]


@pytest.mark.parametrize("trust", [Trust.BROKEN, Trust.KEY_MISSING])
def test_what_cannot_be_authenticated_stays_never_counts_and_blocks_what_it_may_need(trust: Trust) -> None:
    records = [
        *daily(3),
        incremental("i1", 5 * DAY, "?", trust=trust),
        *[full("f9", 9 * DAY), full("f10", 10 * DAY)],
    ]
    assert kept(records, question(100, RetentionRules(days=1))) == ["f0", "f1", "f2", "i1", "f10"]


def test_a_full_whose_key_is_missing_blocks_only_itself() -> None:
    records = [*daily(3), full("locked", 5 * DAY, trust=Trust.KEY_MISSING), full("f9", 9 * DAY)]
    assert kept(records, question(100, RetentionRules(days=1))) == ["locked", "f9"]


def test_a_manifest_that_cannot_be_parsed_blocks_the_chain() -> None:
    assert len(kept(daily(5), question(100, RetentionRules(days=1), unreadable=True))) == 5


def test_the_rules_in_the_newest_manifest_hold_when_the_schedule_is_gone() -> None:
    old, new = RetentionRules(days=2), RetentionRules(days=5)
    records = [*daily(8, rules=old), full("f8", 8 * DAY, rules=new)]
    assert kept(records, question(8.5)) == ["f4", "f5", "f6", "f7", "f8"]


def test_a_backup_by_hand_has_days_of_its_own() -> None:
    records = [full("hand", DAY, schedule=None, retention_days=10), full("other", 2 * DAY, schedule=None)]
    asked = question(20, RetentionRules(days=1))
    assert kept(records, asked) == ["other"]
    assert verdict(records, asked, "hand").outcome is Outcome.EXPIRE


def test_what_was_deleted_with_its_data_goes_as_soon_as_nothing_needs_it() -> None:
    records = [full("f1", DAY), incremental("i1", 2 * DAY, "f1"), piece(DAY, 2 * DAY), full("f2", 3 * DAY)]
    marked = frozenset({"f1"})
    assert "f1" in kept(records, question(3.5, RetentionRules(days=2), marked=marked))
    found = verdict(records, question(30, RetentionRules(days=2), marked=marked), "f1")
    assert found.outcome is Outcome.PRUNE


def test_a_check_that_may_be_running_protects_for_a_day() -> None:
    records = [full("f1", DAY, passed=None), full("f2", 2 * DAY)]
    rules = RetentionRules(keep_last=1)
    assert kept(records, question(1.5, rules)) == ["f1", "f2"]
    assert kept(records, question(2.5, rules)) == ["f2"]


def test_slices_without_a_full_wait_for_it_on_the_newest_timeline_alone() -> None:
    records = [piece(0, 60, timeline="t0"), piece(90, 120, timeline="t1")]
    assert kept(records, question(30, RetentionRules(days=1))) == [piece(90, 120).id]


def weekly(**seventh: Any) -> list[Recorded]:
    """A full each week, an incremental and a slice each day; `seventh` of the full of day 7."""
    fulls = [full("f0", 0), full("f7", 7 * DAY, **seventh), full("f14", 14 * DAY)]
    others = [incremental(f"i{n}", n * DAY, "f0" if n < 7 else "f7") for n in range(1, 14) if n != 7]
    return [*fulls, *others, *(piece(n * DAY, (n + 1) * DAY) for n in range(15))]


def test_what_leads_to_a_kept_restore_point_stays_when_its_base_is_found_damaged() -> None:
    records = weekly(passed=False)
    asked = question(14.5, RetentionRules(days=7))
    remaining = after(records, asked)
    assert {f"i{n}" for n in range(8, 14)} <= reachable(remaining)
    assert "its own base is damaged" in verdict(records, asked, "f0").because[0]


def test_the_seconds_behind_a_damaged_full_that_days_keeps_stay_restorable() -> None:
    records = [r for r in weekly(passed=False) if r.kind is not BackupKind.INCREMENTAL]
    asked = question(15, RetentionRules(days=14))
    remaining = after(records, asked)
    for day in range(7, 15):
        assert isinstance(to_second(remaining, moment(day * DAY)), RestorePath)
    assert verdict(records, asked, "f0").because == ("the full f7 after it is not good",)


def test_a_damaged_full_keeps_none_before_it_that_does_not_lead_on() -> None:
    records = [r for r in weekly(passed=False) if r.id not in ("s259200-345600", "i8")]
    records = [r for r in records if r.kind is not BackupKind.INCREMENTAL]
    assert "f0" not in kept(records, question(15, RetentionRules(days=14)))


def test_a_differential_over_a_damaged_slice_stays_as_long_as_something_is_restored_through_it() -> None:
    records = [
        full("f0", 0),
        found_damaged(piece(0, DAY)),
        differential("d2", 0, 2 * DAY, "f0", schedule=None, retention_days=1),
        piece(DAY, 3 * DAY),
        incremental("i3", 3 * DAY, "f0"),
        full("f9", 9 * DAY),
    ]
    assert "i3" in reachable(after(records, question(9.5, RetentionRules(days=8))))


# Properties


def reachable(records: list[Recorded]) -> set[str]:
    return {
        r.id
        for r in records
        if r.kind is not BackupKind.SLICE and r.good and isinstance(to_backup(records, r.id), RestorePath)
    }


@given(chains(), RULES, st.integers(0, 120))
def test_no_kept_backup_ever_loses_what_it_needs(
    records: list[Recorded], rules: RetentionRules, day: int
) -> None:
    remaining = after(records, question(day, rules))
    before = reachable(records)
    assert {r.id for r in remaining if r.id in before} == reachable(remaining)


@given(chains(), RULES, st.integers(0, 10_000))
def test_the_last_good_one_of_a_timeline_is_never_deleted(
    records: list[Recorded], rules: RetentionRules, day: int
) -> None:
    remaining = {r.id for r in after(records, question(day, rules))}
    for timeline in {r.manifest.timeline for r in records}:
        good = [r for r in records if r.manifest.timeline == timeline and r.id in reachable(records)]
        if good:
            assert max(good, key=lambda r: r.moment).id in remaining


@given(chains(), RULES, st.integers(0, 120))
def test_a_second_look_deletes_nothing_more(records: list[Recorded], rules: RetentionRules, day: int) -> None:
    once = after(records, question(day, rules))
    assert after(once, question(day, rules)) == once


@given(chains(), RULES, st.integers(0, 120), st.integers(0, 60))
def test_what_may_go_today_may_go_tomorrow(
    records: list[Recorded], rules: RetentionRules, day: int, later: int
) -> None:
    today = {r.id for r in after(records, question(day, rules))}
    tomorrow = {r.id for r in after(records, question(day + later, rules))}
    assert tomorrow <= today


@given(chains(), st.integers(1, 30), st.integers(0, 90))
def test_every_second_since_the_oldest_full_within_days_stays_restorable(
    records: list[Recorded], days: int, day: int
) -> None:
    asked = question(day, RetentionRules(days=days))
    now = asked.now
    remaining = after(records, asked)
    young = [
        r
        for r in records
        if r.kind is BackupKind.FULL
        and r.good
        and r.manifest.origin.schedule == "nightly"
        and r.manifest.completed_at + timedelta(days=days) > now
    ]
    for base in young:
        assert base.to is not None
        first = base.to.optime.seconds
        for second in range(first, first + 4 * DAY, DAY // 3):
            when = datetime.fromtimestamp(second, UTC)
            could = isinstance(to_second(records, when, base.manifest.timeline), RestorePath)
            assert not could or isinstance(to_second(remaining, when, base.manifest.timeline), RestorePath)


@given(chains(), RULES, st.integers(0, 120), st.integers(0, 100))
def test_a_deletion_that_is_cut_off_leaves_no_kept_backup_without_its_base(
    records: list[Recorded], rules: RetentionRules, day: int, steps: int
) -> None:
    order = deletion_order(judge(records, question(day, rules)))
    gone = {r.id for r in order[:steps]}
    left = [r for r in records if r.id not in gone]
    for record in left:
        base = record.manifest.base
        if base is not None and base in {r.id for r in records}:
            assert base not in gone
