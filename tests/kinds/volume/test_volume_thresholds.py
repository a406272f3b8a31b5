"""The use of a volume: when status moves, the thresholds, and the forecast."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from volume_builders import LATER, NOW, claim, condition, figures, look, seen, settled, volume

from lucid_storage.kinds.oneshot import Step
from lucid_storage.kinds.volume.usage import HISTORY, forecast
from lucid_storage.models.volume import UsageSample, VolumeStatus


def at(percent: int, minutes: float = 0, **fields: int) -> dict[str, object]:
    return {"figures": figures(percent, at=NOW + timedelta(minutes=minutes), **fields)}


def after(*percents: int, every: timedelta = LATER) -> VolumeStatus:
    """The status after these figures, one look each."""
    status = VolumeStatus()
    for n, percent in enumerate(percents):
        when = NOW + n * every
        observed = seen(claim(), figures=figures(percent, at=when))
        status = settled(volume(), observed, status, now=when)
    return status


def alarms(step: Step[VolumeStatus]) -> tuple[bool | None, bool | None]:
    warning, critical = condition(step, "UsageWarning"), condition(step, "UsageCritical")
    return (warning[0] if warning else None, critical[0] if critical else None)


def test_columns_show_what_df_would() -> None:
    reserved = figures(50, available=4 * 1024**3)
    status = look(volume(), seen(claim(), figures=reserved)).status
    assert (status.used, status.use_summary, status.use_percent) == ("5.0Gi", "56%", 56)


def test_without_figures_there_is_no_usage_condition() -> None:
    assert alarms(look(volume(), seen(claim()))) == (None, None)


def test_figures_move_at_most_every_quarter_of_an_hour_and_by_a_tenth() -> None:
    status = after(40)

    def used(percent: int, minutes: float) -> int | None:
        now = NOW + timedelta(minutes=minutes)
        return look(volume(), seen(claim(), **at(percent, minutes)), status, now=now).status.use_percent

    assert used(60, 10) == 40
    assert used(43, 16) == 40
    assert used(45, 16) == 45


@pytest.mark.parametrize(
    "ahead", [timedelta(0), timedelta(seconds=90), timedelta(minutes=15), timedelta(days=1)]
)
def test_a_node_whose_clock_is_ahead_moves_figures_no_more_often(ahead: timedelta) -> None:
    """Logs that are rotated move them by more than a tenth each minute."""
    status, moves = VolumeStatus(), 0
    for minute in range(120):
        now = NOW + timedelta(minutes=minute)
        observed = seen(claim(), figures=figures(20 + minute % 2 * 20, at=now + ahead))
        found = settled(volume(), observed, status, now=now)
        moves += found.stats_time != status.stats_time
        status = found
    assert moves == 8


def test_a_threshold_is_told_at_once_with_an_event() -> None:
    step = look(volume(), seen(claim(), **at(81, 1)), after(40), now=NOW + timedelta(minutes=1))
    assert alarms(step) == (True, False)
    assert [n.reason for n in step.notices] == ["UsageWarning"]
    full = look(volume(), seen(claim(), **at(95, 1)), after(40), now=NOW + timedelta(minutes=1))
    assert alarms(full) == (True, True)
    assert [n.reason for n in full.notices] == ["UsageCritical"]


def test_a_volume_that_swings_around_a_threshold_makes_no_noise() -> None:
    status = after(81)
    for minute, percent in enumerate((79, 80, 78, 81, 77), start=1):
        step = look(
            volume(), seen(claim(), **at(percent, minute)), status, now=NOW + timedelta(minutes=minute)
        )
        assert (alarms(step), step.notices) == ((True, False), ())
    below = look(volume(), seen(claim(), **at(76, 9)), status, now=NOW + timedelta(minutes=9))
    assert alarms(below) == (False, False)
    assert [n.reason for n in below.notices] == ["UsageNormal"]


def test_thresholds_of_the_spec_win_over_those_of_the_settings() -> None:
    spec = {"thresholds": {"warningPercent": 50, "criticalPercent": 60}}
    assert alarms(look(volume(spec), seen(claim(), **at(55)))) == (True, False)


def test_inodes_count_as_bytes_do() -> None:
    crowded = figures(10, inodes_used=97, inodes=100)
    step = look(volume(), seen(claim(), figures=crowded))
    assert alarms(step) == (True, True)
    assert "97% of the inodes" in (condition(step, "UsageWarning") or (None, "", ""))[2]


def test_history_is_bounded() -> None:
    status = after(*(20 if n % 2 else 40 for n in range(HISTORY + 10)))
    assert len(status.history or ()) == HISTORY


def test_older_figures_than_those_shown_change_nothing() -> None:
    status = after(40, 60)
    assert look(volume(), seen(claim(), **at(99, -5)), status, now=NOW + LATER * 3).status.use_percent == 60


def test_figures_count_again_when_a_clock_that_ran_ahead_was_put_right() -> None:
    """Else no threshold would be passed for a day; what that clock told of the future is no history either."""
    ahead = NOW + timedelta(days=1)
    observed = seen(claim(), figures=figures(40, at=ahead))
    status = settled(volume(), observed, VolumeStatus(), now=NOW)
    step = look(volume(), seen(claim(), **at(85, 1)), status, now=NOW + timedelta(minutes=1))
    assert (step.status.use_percent, alarms(step)) == (85, (True, False))
    assert [sample.at for sample in step.status.history or ()] == [NOW + timedelta(minutes=1)]
    same = look(volume(), seen(claim(), figures=figures(86, at=ahead)), status, now=ahead)
    assert same.status.use_percent == 40


def samples(*percents: float, every: timedelta = timedelta(hours=1)) -> list[UsageSample]:
    gib = 1024**3
    return [UsageSample(at=NOW + n * every, used_bytes=int(p * gib / 10)) for n, p in enumerate(percents)]


def fills(*percents: float) -> datetime | None:
    hours = timedelta(hours=len(percents) - 1)
    return forecast(samples(*percents[:-1]), figures(int(percents[-1]), at=NOW + hours))


def test_a_steady_growth_is_forecast() -> None:
    found = fills(10, 20, 30, 40)
    assert found is not None
    assert abs(found - (NOW + timedelta(hours=9))) < timedelta(seconds=5)


@pytest.mark.parametrize("percents", [(40, 40, 40, 40), (40, 30, 20, 10), (10, 20)])
def test_no_growth_and_too_little_history_give_no_forecast(percents: tuple[float, ...]) -> None:
    assert fills(*percents) is None


def test_one_clean_up_does_not_turn_a_forecast() -> None:
    found = fills(10, 20, 30, 5, 50, 60, 70)
    assert found is not None
    assert timedelta(hours=6) < found - NOW < timedelta(hours=11)


def test_a_forecast_is_shown_and_moves_when_growth_stops() -> None:
    growing = after(20, 25, 30, 35, 40, every=timedelta(hours=1))
    assert growing.full_at is not None
    status = growing
    for day in range(1, 30):
        when = NOW + timedelta(days=day)
        observed = seen(claim(), figures=figures(41, at=when))
        status = settled(volume(), observed, status, now=when)
    assert status.full_at is None or status.full_at > NOW + timedelta(days=30)


@given(st.lists(st.integers(0, 100), min_size=1, max_size=60))
def test_any_history_gives_no_forecast_or_one_in_the_future(percents: list[int]) -> None:
    when = NOW + timedelta(hours=len(percents))
    found = forecast(samples(*percents), figures(50, at=when))
    assert found is None or found >= when
