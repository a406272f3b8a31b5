"""What Prometheus is told of a schedule: ages that grow, intervals that know weekends, nothing of what is gone."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from schedule_builder import KEY, at, backup, children, look, schedule

from lucid_storage.kinds.backup_metrics import ScheduleFigures, ScheduleMetrics
from lucid_storage.kinds.backupschedule.cron import Cron
from lucid_storage.kinds.backupschedule.metrics import expected_interval, figures_of
from lucid_storage.kube.resources import Key
from lucid_storage.models.backupschedule import BackupScheduleStatus, RecoverableWindow
from lucid_storage.models.slicing import SliceReport

NOW = "2026-05-06T12:00"


def figures(
    *backups: Any, slices: SliceReport | None = None, status: BackupScheduleStatus | None = None, **spec: Any
) -> ScheduleFigures:
    desired = schedule(**spec)
    told = look(desired, NOW, *backups, status=status).status
    return figures_of(desired, told, children(*backups, now=at(NOW)), slices, at(NOW))


def told(*known: tuple[Key, ScheduleFigures], now: str = NOW) -> dict[str, float]:
    """Series without the lucid_backup_schedule_ that all begin with, labels behind the name."""
    registry = CollectorRegistry()
    metrics = ScheduleMetrics(registry, clock=lambda: at(now).timestamp())
    for key, value in known:
        metrics.tell(key, value)
    return series(registry)


def series(registry: CollectorRegistry) -> dict[str, float]:
    samples = (sample for family in registry.collect() for sample in family.samples)
    return {
        " ".join([s.name.removeprefix("lucid_backup_schedule_"), *s.labels.values()]): s.value
        for s in samples
    }


def test_a_schedule_that_works_tells_what_went_well_last_and_how_it_was_proved() -> None:
    good = backup("2026-05-06T02:00", verify="Restore", storedBytes=4096)
    failed = backup("2026-05-05T02:00", "Failed", reason="OplogGap")
    ended = at("2026-05-06T02:01").timestamp()
    before = BackupScheduleStatus(
        last_slot=at("2026-05-06T02:00"), scheduled_as=schedule().scheduled_as, missed=3
    )
    assert told((KEY, figures(failed, good, status=before))) == {
        "created_timestamp_seconds default nightly": at("2026-05-01T00:00").timestamp(),
        "last_success_timestamp_seconds default nightly": ended,
        "last_verified_timestamp_seconds default nightly Restore": ended,
        "next_timestamp_seconds default nightly": at("2026-05-07T02:00").timestamp(),
        "interval_seconds default nightly": 86400,
        "rpo_seconds default nightly": (at(NOW) - at("2026-05-06T02:01")).total_seconds(),
        "suspended default nightly": 0,
        "missed_runs default nightly": 3,
        "last_size_bytes default nightly": 4096,
        "last_duration_seconds default nightly": 60,
    }


def test_a_schedule_without_a_good_backup_has_its_creation_and_no_success() -> None:
    values = told((KEY, figures(backup("2026-05-06T02:00", "Failed", reason="NoOplog"))))
    assert values["created_timestamp_seconds default nightly"] == at("2026-05-01T00:00").timestamp()
    missing = ("last_success", "last_verified", "rpo", "last_size", "last_duration")
    assert not [name for name in values if name.startswith(missing)]


def test_the_recovery_point_ages_while_nobody_looks() -> None:
    known = (KEY, figures(backup("2026-05-06T02:00")))
    rpo = "rpo_seconds default nightly"
    assert told(known, now="2026-05-06T13:00")[rpo] - told(known)[rpo] == 3600
    assert told(known, now="2026-05-05T00:00")[rpo] == 0, "a clock that went back"


def test_a_snapshot_that_nobody_read_back_is_no_recovery_point() -> None:
    snapshot = backup("2026-05-06T02:00", verified="Upload, SnapshotOnly", to=at("2026-05-06T02:00"))
    assert "rpo_seconds default nightly" not in told((KEY, figures(snapshot)))
    with_oplog = backup(
        "2026-05-06T02:00",
        verified="Upload, SnapshotOnly",
        to=at("2026-05-06T02:00"),
        toOptime="1.1",
    )
    assert "rpo_seconds default nightly" in told((KEY, figures(with_oplog)))


def test_the_newest_span_that_can_be_restored_is_told() -> None:
    spans = [("2026-05-01T00:00", "2026-05-02T00:00"), ("2026-05-03T00:00", "2026-05-06T11:00")]
    known = BackupScheduleStatus(
        recoverable=[RecoverableWindow(from_time=at(first), to=at(last)) for first, last in spans]
    )
    values = told((KEY, figures(status=known)))
    first, last = (f"recoverable_{end}_timestamp_seconds default nightly" for end in ("from", "to"))
    assert (values[first], values[last]) == (at(spans[1][0]).timestamp(), at(spans[1][1]).timestamp())
    assert first not in told((KEY, figures()))


def test_slices_move_the_recovery_point_and_tell_the_oplog() -> None:
    good = backup("2026-05-06T02:00", type="full", timeline="t-1")
    slices = SliceReport(
        ok=True,
        timeline="t-1",
        to=at("2026-05-06T11:55"),
        oplog_window_seconds=7200,
        written_at=at("2026-05-06T11:55"),
    )
    wanted = {"enabled": True, "intervalSeconds": 300}
    values = told((KEY, figures(good, slices=slices, pointInTime=wanted)))
    assert values["rpo_seconds default nightly"] == 301
    assert values["oplog_window_seconds default nightly"] == 7200
    assert values["slice_interval_seconds default nightly"] == 300
    other = slices.model_copy(update={"timeline": "t-2"})
    assert told((KEY, figures(good, slices=other, pointInTime=wanted)))["rpo_seconds default nightly"] > 3600


def test_without_point_in_time_there_is_nothing_about_slices() -> None:
    values = told((KEY, figures(pointInTime={"enabled": False})))
    assert not [name for name in values if name.startswith(("slice_interval", "oplog_window"))]


def test_a_suspended_schedule_says_so() -> None:
    assert told((KEY, figures(suspend=True)))["suspended default nightly"] == 1


def test_a_schedule_that_is_gone_leaves_no_series_and_the_others_stay() -> None:
    registry = CollectorRegistry()
    metrics = ScheduleMetrics(registry)
    other = Key("backupschedules", "default", "hourly")
    for key in (KEY, other):
        metrics.tell(key, figures(backup("2026-05-06T02:00")))
    metrics.forget(KEY)
    metrics.forget(KEY)
    left = series(registry)
    assert left
    assert {name.split()[2] for name in left} == {"hourly"}


def test_another_level_of_verification_takes_the_place_of_the_one_before() -> None:
    registry = CollectorRegistry()
    metrics = ScheduleMetrics(registry)
    for level in ("Restore", "Checksum"):
        metrics.tell(KEY, figures(backup("2026-05-06T02:00", verify=level)))
    levels = [name for name in series(registry) if name.startswith("last_verified")]
    assert levels == ["last_verified_timestamp_seconds default nightly Checksum"]


@pytest.mark.parametrize(
    ("cron", "now", "hours"),
    [
        ("0 2 * * *", "2026-05-06T03:00", 24),
        ("0 2 * * 1-5", "2026-05-10T12:00", 72),  # a Sunday
        ("0 2 * * 1-5", "2026-05-11T02:01", 72),  # the run after it is at work
        ("0 2 * * 1-5", "2026-05-12T02:01", 24),
        ("0 8-18 * * *", "2026-05-06T23:30", 14),
        ("0 8-18 * * *", "2026-05-06T08:01", 14),
        ("0 8-18 * * *", "2026-05-06T12:30", 1),
        ("0 2 1 * *", "2026-03-15T00:00", 31 * 24),
        ("0 0 29 2 *", "2026-05-06T00:00", (4 * 365 + 1) * 24),
    ],
)
def test_nights_and_weekends_without_runs_are_expected(cron: str, now: str, hours: int) -> None:
    assert expected_interval(Cron(cron), datetime.fromisoformat(f"{now}+00:00")) == timedelta(hours=hours)
