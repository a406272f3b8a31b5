"""Prometheus metrics of backups and restores: what became of each, and where every schedule stands.

All of it comes from statuses that the engine has just written or computed; nothing is asked for. A schedule's figures
are kept as values and turned into series when they are asked for, so that an object that is gone leaves none behind and
ages grow while nobody looks at the schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from time import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lucid_storage.kube.resources import Key
from lucid_storage.models.backup import BackupPhase, BackupType
from lucid_storage.models.restore import RestorePhase

BACKUP_RESULTS = (
    BackupPhase.COMPLETED,
    BackupPhase.PARTIALLY_FAILED,
    BackupPhase.FAILED,
    BackupPhase.CANCELLED,
)
RESTORE_RESULTS = (RestorePhase.COMPLETED, RestorePhase.FAILED, RestorePhase.CANCELLED)
DURATIONS = (1, 10, 60, 300, 900, 3600, 4 * 3600, 12 * 3600)
SIZES = tuple(1024**2 * 8**n for n in range(8))
"""1 MiB to 2 TiB."""
LABELS = ("resource_namespace", "schedule")
"""Not `namespace`: Prometheus gives that name to the namespace of the operator."""


class OutcomeMetrics:
    """How Backups and Restores ended. Every result is there from the start: a counter that is born at 1 has no rise."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._backups = Counter(
            "lucid_backups_total", "Backups that ended.", ["type", "result"], registry=registry
        )
        self._backup_failures = Counter(
            "lucid_backup_failures_total",
            "Backups that ended and did not complete.",
            ["type", "reason"],
            registry=registry,
        )
        self._backup_seconds = Histogram(
            "lucid_backup_duration_seconds",
            "From the start of the work to its end, the check included, of completed backups.",
            ["type"],
            buckets=DURATIONS,
            registry=registry,
        )
        self._backup_bytes = Histogram(
            "lucid_backup_stored_bytes",
            "Bytes in the destination of completed backups.",
            ["type"],
            buckets=SIZES,
            registry=registry,
        )
        self._restores = Counter(
            "lucid_restores_total", "Restores that ended.", ["result"], registry=registry
        )
        self._restore_failures = Counter(
            "lucid_restore_failures_total",
            "Restores that ended and did not complete.",
            ["reason"],
            registry=registry,
        )
        self._restore_seconds = Histogram(
            "lucid_restore_duration_seconds",
            "From the start of the work to its end, of completed restores.",
            buckets=DURATIONS,
            registry=registry,
        )
        for result in BACKUP_RESULTS:
            for kind in BackupType:
                self._backups.labels(kind, result)
        for outcome in RESTORE_RESULTS:
            self._restores.labels(outcome)

    def written(self, kind: str, spec: Mapping[str, Any], before: object, status: Mapping[str, Any]) -> None:
        """A status was written; `before` is the phase that it replaces. Counts an end once."""
        phase = status.get("phase")
        if phase == before:
            return
        if kind == "Backup" and phase in BACKUP_RESULTS and before not in BACKUP_RESULTS:
            self._backup_ended(str(status.get("type") or spec.get("type") or BackupType.FULL), status)
        if kind == "Restore" and phase in RESTORE_RESULTS and before not in RESTORE_RESULTS:
            self._restore_ended(status)

    def _backup_ended(self, kind: str, status: Mapping[str, Any]) -> None:
        self._backups.labels(kind, status["phase"]).inc()
        if status["phase"] != BackupPhase.COMPLETED:
            self._backup_failures.labels(kind, _reason(status)).inc()
            return
        seconds, stored = _seconds(status), status.get("storedBytes")
        if seconds is not None:
            self._backup_seconds.labels(kind).observe(seconds)
        if stored is not None:
            self._backup_bytes.labels(kind).observe(stored)

    def _restore_ended(self, status: Mapping[str, Any]) -> None:
        self._restores.labels(status["phase"]).inc()
        if status["phase"] != RestorePhase.COMPLETED:
            self._restore_failures.labels(_reason(status)).inc()
            return
        seconds = _seconds(status)
        if seconds is not None:
            self._restore_seconds.observe(seconds)


@dataclass(frozen=True, slots=True)
class ScheduleFigures:
    """Where a schedule stands. What is None has no series."""

    created_at: datetime
    interval_seconds: float
    """The longer one of the distances between the slots around now."""
    suspended: bool
    missed: int
    success_at: datetime | None = None
    verified_at: datetime | None = None
    verified_level: str = ""
    verified_to: datetime | None = None
    """The newest second that good backups hold."""
    recoverable_from: datetime | None = None
    recoverable_to: datetime | None = None
    """The newest span of seconds of which each can be restored."""
    next_at: datetime | None = None
    stored_bytes: int | None = None
    """Of the last good backup."""
    seconds: float | None = None
    """That the last good backup took."""
    slice_interval_seconds: int | None = None
    oplog_window_seconds: int | None = None


class ScheduleMetrics(Collector):
    """Series of schedules, made from their figures when Prometheus asks."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time) -> None:
        self._clock = clock
        self._figures: dict[Key, ScheduleFigures] = {}
        registry.register(self)

    def tell(self, key: Key, figures: ScheduleFigures) -> None:
        """What is known of a schedule now."""
        self._figures[key] = figures

    def no_next(self, key: Key) -> None:
        """It cannot be followed as it is now; what it made is told all the same."""
        figures = self._figures.get(key)
        if figures is not None:
            self._figures[key] = replace(figures, next_at=None)

    def forget(self, key: Key) -> None:
        """The schedule is gone."""
        self._figures.pop(key, None)

    def collect(self) -> Iterator[Metric]:
        """All series; a family without any is told too, for those who list the names."""
        for name, text, value in self._simple():
            family = GaugeMetricFamily(f"lucid_backup_schedule_{name}", text, labels=LABELS)
            for key, figures in self._figures.items():
                number = value(figures)
                if number is not None:
                    family.add_metric([key.namespace, key.name], float(number))
            yield family
        verified = GaugeMetricFamily(
            "lucid_backup_schedule_last_verified_timestamp_seconds",
            "When a backup was last checked, and how.",
            labels=(*LABELS, "level"),
        )
        for key, figures in self._figures.items():
            if figures.verified_at is not None:
                labels = [key.namespace, key.name, figures.verified_level]
                verified.add_metric(labels, figures.verified_at.timestamp())
        yield verified

    def _simple(self) -> list[tuple[str, str, Callable[[ScheduleFigures], float | None]]]:
        """(name, text, value) of those that need no label of their own."""
        return [
            ("created_timestamp_seconds", "When the schedule was made.", lambda f: _stamp(f.created_at)),
            (
                "last_success_timestamp_seconds",
                "When the last good backup ended.",
                lambda f: _stamp(f.success_at),
            ),
            ("next_timestamp_seconds", "When the next run is due.", lambda f: _stamp(f.next_at)),
            ("interval_seconds", "Expected time between two runs now.", lambda f: f.interval_seconds),
            ("rpo_seconds", "Seconds since the last verified point.", self._rpo),
            (
                "recoverable_from_timestamp_seconds",
                "The first second of the newest span that can be restored to the second.",
                lambda f: _stamp(f.recoverable_from),
            ),
            (
                "recoverable_to_timestamp_seconds",
                "The last second of the newest span that can be restored to the second.",
                lambda f: _stamp(f.recoverable_to),
            ),
            ("suspended", "Whether no new backups are made.", lambda f: f.suspended),
            ("missed_runs", "Runs that did not take place.", lambda f: f.missed),
            (
                "last_size_bytes",
                "Bytes of the last good backup in the destination.",
                lambda f: f.stored_bytes,
            ),
            ("last_duration_seconds", "How long the last good backup took.", lambda f: f.seconds),
            (
                "slice_interval_seconds",
                "Time between two slices, where pointInTime is on.",
                lambda f: f.slice_interval_seconds,
            ),
            (
                "oplog_window_seconds",
                "Seconds of history that the server's oplog holds, where pointInTime is on.",
                lambda f: f.oplog_window_seconds,
            ),
        ]

    def _rpo(self, figures: ScheduleFigures) -> float | None:
        since = _stamp(figures.verified_to)
        return max(0.0, self._clock() - since) if since is not None else None


def _stamp(moment: datetime | None) -> float | None:
    return moment.timestamp() if moment is not None else None


def _reason(status: Mapping[str, Any]) -> str:
    """Of the condition Ready: an enumerated word."""
    found = (c.get("reason") for c in status.get("conditions") or () if c.get("type") == "Ready")
    return str(next(found, None) or "Unknown")


def _seconds(status: Mapping[str, Any]) -> float | None:
    started, ended = status.get("startedAt"), status.get("completedAt")
    if started is None or ended is None:
        return None
    return max(0.0, (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds())
