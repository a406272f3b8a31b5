"""When a schedule runs: time zones, summer time, clocks that jump, an operator that was away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lucid_storage.errors import RefusedError
from lucid_storage.kinds.backupschedule.cron import Cron
from lucid_storage.kinds.backupschedule.slots import SlotDecision, child_name, decide
from lucid_storage.models.backupschedule import MissedRuns

CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def times(cron: Cron, after: str, count: int) -> list[str]:
    return [f"{t:%d %H:%M}" for t in islice(cron.after(at(after)), count)]


def look(cron: Cron, now: datetime, last: datetime | None, **more: Any) -> SlotDecision:
    return decide(cron, now=now, created_at=CREATED, last_slot=last, **more)


# Times


def test_a_time_that_summer_time_skips_comes_right_after_the_gap() -> None:
    assert times(Cron("30 2 * * *", "Europe/Berlin"), "2026-03-28", 3) == ["28 01:30", "29 01:00", "30 00:30"]


def test_a_time_that_comes_twice_counts_once() -> None:
    assert times(Cron("30 2 * * *", "Europe/Berlin"), "2026-10-24", 3) == ["24 00:30", "25 00:30", "26 01:30"]


def test_it_counts_once_also_when_looked_at_between_the_two() -> None:
    found = next(Cron("30 2 * * *", "Europe/Berlin").after(at("2026-10-25T00:45")))
    assert found == at("2026-10-26T01:30")


def test_every_hour_goes_on_through_both_changes() -> None:
    cron = Cron("@hourly", "Europe/Berlin")
    for start in ("2026-03-28T20:00", "2026-10-24T20:00"):
        steps = [b - a for a, b in pairwise(islice(cron.after(at(start)), 12))]
        assert set(steps) == {timedelta(hours=1)}


def test_a_day_that_a_zone_left_out_is_made_up_for_once() -> None:
    cron = Cron("0 2 * * *", "Pacific/Apia")  # went from 2011-12-29 to 2011-12-31
    found = list(islice(cron.after(at("2011-12-28T00:00")), 5))
    assert len(set(found)) == 5
    assert found == sorted(found)


@pytest.mark.parametrize(
    ("nickname", "expected"),
    [
        ("@hourly", "2026-01-01T01:00"),
        ("@daily", "2026-01-02T00:00"),
        ("@midnight", "2026-01-02T00:00"),
        ("@weekly", "2026-01-04T00:00"),
        ("@monthly", "2026-02-01T00:00"),
        ("@yearly", "2027-01-01T00:00"),
        ("@annually", "2027-01-01T00:00"),
    ],
)
def test_nicknames(nickname: str, expected: str) -> None:
    assert next(Cron(nickname).after(at("2026-01-01T00:00"))) == at(expected)


@pytest.mark.parametrize(
    "expression", ["61 * * * *", "0 0 31 2 *", "0 0 * *", "* * * * * *", "a b c d e", "@never"]
)
def test_a_schedule_that_cannot_be_is_refused_with_a_sentence(expression: str) -> None:
    with pytest.raises(RefusedError, match=r"spec\.schedule.*@daily\."):
        Cron(expression)


@pytest.mark.parametrize("zone", ["Europe/Nowhere", "../etc/passwd", "Mars"])
def test_a_zone_that_does_not_exist_is_refused_with_a_sentence(zone: str) -> None:
    with pytest.raises(RefusedError, match=r"spec\.timeZone"):
        Cron("@daily", zone)


ZONES = st.sampled_from(
    [
        "Etc/UTC",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "America/Santiago",
        "Asia/Kathmandu",
        "Pacific/Apia",
        "Africa/Casablanca",
        "Africa/Cairo",
    ]
)
EXPRESSIONS = st.sampled_from(
    [
        "0 2 * * *",
        "30 2 * * *",
        "*/15 * * * *",
        "0 */6 * * *",
        "5,35 1-3 * * *",
        "0 0 1 * *",
        "0 0 * * 0",
        "30 0 * * mon-fri",
        "0 0 13 * 5",
        "* * * * *",
        "@hourly",
    ]
)
MOMENTS = st.datetimes(datetime(2010, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)).map(
    lambda t: t.replace(microsecond=0)
)


@given(EXPRESSIONS, ZONES, MOMENTS)
def test_times_are_in_order_and_each_comes_once(expression: str, zone: str, start: datetime) -> None:
    found = list(islice(Cron(expression, zone).after(start), 30))
    assert all(a < b for a, b in pairwise([start, *found]))
    assert all(t.second == 0 for t in found)


@given(EXPRESSIONS, ZONES, MOMENTS, st.integers(1, 20))
def test_beginning_anew_at_any_time_finds_the_same_times(
    expression: str, zone: str, start: datetime, skip: int
) -> None:
    cron = Cron(expression, zone)
    found = list(islice(cron.after(start), skip + 5))
    assert list(islice(cron.after(found[skip - 1]), 5)) == found[skip:]


def test_the_run_of_a_day_that_a_zone_left_out_comes_right_after_the_gap() -> None:
    """Samoa had no December 30 in 2011."""
    found = islice(Cron("0 2 * * *", "Pacific/Apia").after(datetime(2011, 12, 29, tzinfo=UTC)), 3)
    there = [t.astimezone(ZoneInfo("Pacific/Apia")) for t in found]
    assert [f"{t:%d %H:%M}" for t in there] == ["29 02:00", "31 00:00", "31 02:00"]


@given(
    st.sampled_from(["0 2 * * *", "30 2 * * *", "15 0 * * *", "45 23 * * *"]),
    ZONES,
    MOMENTS.filter(lambda moment: moment.year >= 2012),
)
def test_a_daily_run_comes_once_on_every_day(expression: str, zone: str, start: datetime) -> None:
    found = list(islice(Cron(expression, zone).after(start), 30))
    assert all(timedelta(hours=22) <= b - a <= timedelta(hours=49) for a, b in pairwise(found))


# Decisions


def test_a_slot_runs_once_when_it_is_due() -> None:
    cron = Cron("0 2 * * *")
    before = look(cron, at("2026-05-01T01:59:59"), at("2026-04-30T02:00"))
    assert (before.run, before.next_at) == (None, at("2026-05-01T02:00"))
    due = look(cron, at("2026-05-01T02:00:00"), before.handled)
    assert (due.run, due.missed, due.next_at) == (at("2026-05-01T02:00"), 0, at("2026-05-02T02:00"))
    assert look(cron, at("2026-05-01T02:00:01"), due.handled).run is None


def test_a_new_schedule_waits_for_its_first_slot() -> None:
    found = decide(
        Cron("0 2 * * *"), now=at("2026-05-01T12:00"), created_at=at("2026-05-01T12:00"), last_slot=None
    )
    assert (found.run, found.next_at) == (None, at("2026-05-02T02:00"))


def test_immediate_makes_the_first_one_at_once_and_only_once() -> None:
    cron, created = Cron("0 2 * * *"), at("2026-05-01T12:00:07")
    first = decide(cron, now=at("2026-05-01T12:00:09"), created_at=created, last_slot=None, immediate=True)
    assert first.run == created
    again = decide(
        cron, now=at("2026-05-01T12:00:30"), created_at=created, last_slot=first.handled, immediate=True
    )
    assert again.run is None


def test_what_is_asked_for_at_once_is_owed_while_a_new_schedule_is_suspended() -> None:
    cron, created = Cron("0 2 * * *"), at("2026-05-01T12:00:07")
    last = None
    for now in ("2026-05-01T12:00:09", "2026-05-02T02:00:10", "2026-05-09T08:20"):
        found = decide(cron, now=at(now), created_at=created, last_slot=last, immediate=True, suspend=True)
        assert (found.run, found.missed) == (None, 0)
        last = found.handled
    resumed, runs = at("2026-05-09T08:21"), []
    for minutes in (0, 1, 2):
        now_on = resumed + timedelta(minutes=minutes)
        found = decide(cron, now=now_on, created_at=created, last_slot=last, immediate=True)
        runs.append(found.run)
        last = found.handled
    assert runs == [created, None, None]
    assert found.next_at == at("2026-05-10T02:00")


def test_two_hundred_missed_slots_are_made_up_for_by_one() -> None:
    found = look(Cron("0 * * * *"), at("2026-05-09T08:20"), at("2026-05-01T00:00"))
    assert (found.run, found.missed) == (at("2026-05-09T08:00"), 199)
    assert look(Cron("0 * * * *"), at("2026-05-09T08:21"), found.handled).run is None


def test_skip_waits_for_the_next_slot() -> None:
    cron = Cron("0 * * * *")
    found = look(cron, at("2026-05-09T08:20"), at("2026-05-01T00:00"), missed_runs=MissedRuns.SKIP)
    assert (found.run, found.missed) == (None, 200)
    on_time = look(cron, at("2026-05-09T09:00:20"), found.handled, missed_runs=MissedRuns.SKIP)
    assert on_time.run == at("2026-05-09T09:00")


def test_too_late_counts_as_missed() -> None:
    cron, deadline = Cron("0 * * * *"), timedelta(seconds=600)
    last = at("2026-05-09T07:00")
    assert look(cron, at("2026-05-09T08:10"), last, starting_deadline=deadline).run == at("2026-05-09T08:00")
    late = look(cron, at("2026-05-09T08:11"), last, starting_deadline=deadline)
    assert (late.run, late.missed, late.next_at) == (None, 1, at("2026-05-09T09:00"))


def test_a_suspended_schedule_runs_nothing_and_makes_up_for_nothing_afterwards() -> None:
    cron = Cron("0 * * * *")
    found = look(cron, at("2026-05-09T08:20"), at("2026-05-01T00:00"), suspend=True)
    assert (found.run, found.missed) == (None, 0)
    resumed = look(cron, at("2026-05-09T08:30"), found.handled)
    assert (resumed.run, resumed.next_at) == (None, at("2026-05-09T09:00"))


def test_a_clock_that_was_years_ahead_does_not_stop_the_schedule() -> None:
    cron = Cron("0 2 * * *")
    wrong = look(cron, at("2036-05-01T02:00:10"), at("2026-05-01T02:00"))
    assert wrong.run is not None
    right = look(cron, at("2026-05-02T01:00"), wrong.handled)
    assert (right.run, right.next_at) == (None, at("2026-05-02T02:00"))
    assert look(cron, at("2026-05-02T02:00"), right.handled).run == at("2026-05-02T02:00")


def test_a_clock_put_back_a_little_repeats_no_slot() -> None:
    cron = Cron("0 2 * * *")
    done = look(cron, at("2026-05-01T02:00:10"), at("2026-04-30T02:00"))
    back = look(cron, at("2026-05-01T01:55"), done.handled)
    assert (back.run, back.next_at) == (None, at("2026-05-02T02:00"))
    assert look(cron, at("2026-05-01T02:00:30"), back.handled).run is None


def test_a_slot_that_a_clock_hours_ahead_had_handled_runs_in_its_time() -> None:
    cron = Cron("0 2 * * *")
    ahead = look(cron, at("2026-05-02T02:00:10"), at("2026-05-01T02:00"))  # the first of May, 14:00
    back = look(cron, at("2026-05-01T20:00"), ahead.handled)
    assert (back.run, back.next_at, back.early_until) == (None, at("2026-05-02T02:00"), ahead.run)
    assert look(cron, at("2026-05-02T02:00:05"), back.handled).run == at("2026-05-02T02:00")


@given(
    EXPRESSIONS,
    ZONES,
    MOMENTS,
    st.lists(st.integers(0, 3 * 86_400), min_size=1, max_size=25),
    st.sampled_from(list(MissedRuns)),
)
def test_every_look_runs_at_most_one_slot_and_each_slot_once(
    expression: str, zone: str, start: datetime, steps: list[int], missed: MissedRuns
) -> None:
    cron, now, last, ran = Cron(expression, zone), start, None, []
    for step in steps:
        now += timedelta(seconds=step)
        found = decide(cron, now=now, created_at=start, last_slot=last, missed_runs=missed)
        assert found.next_at > now
        assert found.handled is not None
        assert last is None or found.handled >= last
        last = found.handled
        if found.run is not None:
            assert start < found.run <= now
            ran.append(found.run)
    assert ran == sorted(set(ran))


@settings(max_examples=40)
@given(EXPRESSIONS, ZONES, MOMENTS, st.integers(-20 * 365, 20 * 365))
def test_after_any_jump_of_the_clock_the_next_slot_but_one_runs(
    expression: str, zone: str, start: datetime, days: int
) -> None:
    """Never none for ever: from any remembered slot on, the clock needs at most two slots to be followed again."""
    cron = Cron(expression, zone)
    last = start + timedelta(days=days)
    first, second = islice(cron.after(start), 2)
    found = decide(cron, now=start, created_at=start - timedelta(days=400), last_slot=last)
    found = decide(cron, now=first, created_at=start - timedelta(days=400), last_slot=found.handled)
    again = decide(cron, now=second, created_at=start - timedelta(days=400), last_slot=found.handled)
    assert again.run == second


@settings(max_examples=20)
@given(
    st.sampled_from(["0 2 * * *", "*/15 * * * *", "30 0 * * mon-fri", "* * * * *", "@hourly"]),
    ZONES,
    MOMENTS,
    st.integers(601, 3 * 365 * 86_400),
)
def test_after_a_clock_that_was_ahead_every_slot_runs(
    expression: str, zone: str, start: datetime, seconds: int
) -> None:
    cron = Cron(expression, zone)
    slots = list(islice(cron.after(start), 4))
    last = start + timedelta(seconds=seconds)
    found = decide(cron, now=start, created_at=CREATED, last_slot=last)
    assert (found.run, found.missed, found.early_until) == (None, 0, last)
    for slot in slots:
        found = decide(cron, now=slot, created_at=CREATED, last_slot=found.handled)
        assert (found.run, found.missed, found.early_until) == (slot, 0, None)


# Names


def test_a_name_comes_from_the_slot_alone() -> None:
    slot = at("2026-05-01T02:00")
    assert child_name("nightly", slot) == "nightly-20260501-020000"
    assert child_name("nightly", slot, 2) == "nightly-20260501-020000-2"


@given(st.from_regex(r"\A[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?\Z"), MOMENTS)
def test_a_name_is_one_of_kubernetes_and_short_enough_for_a_label(schedule: str, slot: datetime) -> None:
    name = child_name(schedule, slot)
    assert len(name) <= 63
    assert name[0].isalnum()
    assert name[-1].isalnum()
    assert ".-" not in name.removeprefix(schedule) or schedule.endswith(".")


def test_long_names_that_begin_alike_stay_apart() -> None:
    slot = at("2026-05-01T02:00")
    assert child_name("a" * 100, slot) != child_name("a" * 99, slot)
