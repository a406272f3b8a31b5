"""Conditions in kstatus form, bounded drift, and the guard against fights."""

from datetime import UTC, datetime, timedelta
from random import Random

from lucid_storage.errors import Reason
from lucid_storage.kinds import drift, figures
from lucid_storage.kinds.conditions import build
from lucid_storage.kinds.contract import Verdict
from lucid_storage.kinds.figures import FigureClock
from lucid_storage.kube.resources import Key
from lucid_storage.models.base import ConditionStatus

NOW = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)


def states(verdict: Verdict | None) -> dict[str, str]:
    made = build([], generation=3, now=NOW, verdict=verdict, message="")
    return {c.type: str(c.status) for c in made}


def test_ready_work_and_stall_exclude_one_another() -> None:
    assert states(None) == {"Ready": "True", "Reconciling": "False", "Stalled": "False"}
    working = Verdict(Reason.BUILDING, "building")
    assert states(working) == {"Ready": "False", "Reconciling": "True", "Stalled": "False"}
    stalled = Verdict(Reason.CONFLICT, "two", stalled=True)
    assert states(stalled) == {"Ready": "False", "Reconciling": "False", "Stalled": "True"}


def test_the_time_moves_with_the_status_and_not_with_the_reason() -> None:
    first = build([], generation=1, now=NOW, verdict=Verdict(Reason.BUILDING, "a"), message="")
    second = build(first, generation=2, now=LATER, verdict=Verdict(Reason.REPLACING, "b"), message="")
    assert second[0].last_transition_time == NOW.replace(microsecond=0)
    ready = build(second, generation=2, now=LATER, verdict=None, message="")
    assert ready[0].last_transition_time == LATER.replace(microsecond=0)
    assert {c.observed_generation for c in ready} == {2}


def test_a_long_message_is_cut() -> None:
    made = build(
        [], generation=1, now=NOW, verdict=Verdict(Reason.CONFLICT, "x" * 5000, stalled=True), message=""
    )
    assert all(len(c.message) <= 1024 for c in made)


def test_drift_in_status_is_bounded_and_keeps_its_first_time() -> None:
    before = [drift.entry("validator", {"a": 1}, {}, NOW)]
    found = [drift.entry("validator", {"a": 1}, {}, LATER)] + [
        drift.entry(f"field{n}", "x" * 1000, n, LATER) for n in range(50)
    ]
    kept = drift.merged(found, before)
    assert len(kept) == 20
    assert kept[0].since == NOW.replace(microsecond=0)
    assert all(len(e.expected) <= 256 for e in kept)


def test_more_than_twenty_corrections_in_ten_minutes_close_the_guard_for_good() -> None:
    guard = drift.FightGuard(1)
    assert all(guard.may_correct(float(second)) for second in range(20))
    assert not guard.may_correct(30.0)
    assert not guard.may_correct(100_000.0), "only a new generation or a restart opens it again"


def test_slow_corrections_are_no_fight() -> None:
    guard = drift.FightGuard(1)
    assert all(guard.may_correct(60.0 * minute) for minute in range(200))


def test_status_values_are_enumerated() -> None:
    assert {str(s) for s in ConditionStatus} == {"True", "False", "Unknown"}


def test_after_a_restart_known_figures_are_not_asked_for_all_at_once() -> None:
    clock = FigureClock(Random(1))
    keys = [Key("collections", "ns", f"c{n}") for n in range(100)]
    assert sum(clock.ask(key, NOW, known=True) for key in keys) == 0
    asked = sum(clock.ask(key, NOW + timedelta(minutes=5), known=True) for key in keys)
    assert 15 < asked < 55
    assert all(clock.ask(key, NOW + timedelta(minutes=40), known=True) for key in keys)


def test_figures_of_a_clock_that_ran_ahead_are_not_kept_until_that_time_comes() -> None:
    assert figures.due(NOW + timedelta(days=400), NOW)
    assert not figures.due(NOW - timedelta(minutes=14), NOW)
    assert figures.due(NOW - timedelta(minutes=15), NOW)


def test_figures_nobody_has_are_asked_for_at_once_and_then_every_quarter_of_an_hour() -> None:
    clock, key = FigureClock(), Key("collections", "ns", "c")
    assert clock.ask(key, NOW, known=False)
    assert clock.ask(key, NOW, known=False), "until somebody has them"
    assert not clock.ask(key, NOW + timedelta(minutes=14), known=True)
    assert clock.ask(key, NOW + timedelta(minutes=15), known=True)
