"""Figures of schedules for alerts: what went well last, what was proved last, what a disaster now would cost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import islice

from prometheus_client import CollectorRegistry, Gauge

from lucid_storage.kinds.backupschedule import slicing
from lucid_storage.kinds.backupschedule.children import Child, newest_good
from lucid_storage.kinds.backupschedule.desired import ScheduleDesired
from lucid_storage.kube.resources import Key
from lucid_storage.models.backupschedule import BackupScheduleStatus
from lucid_storage.models.slicing import SliceReport

LABELS = ("namespace", "schedule")


class ScheduleMetrics:
    """Gauges by schedule; a schedule that is gone has none."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"lucid_backup_schedule_{name}", text, LABELS, registry=registry)

        self._success = gauge("last_success_timestamp_seconds", "When the last good backup ended.")
        self._verified = gauge("last_verified_timestamp_seconds", "When a backup was last checked.")
        self._interval = gauge("interval_seconds", "Between the next two runs: what is to be expected.")
        self._rpo = gauge("rpo_seconds", "Seconds since the last verified point.")
        self._next = gauge("next_timestamp_seconds", "When the next run is due.")
        self._suspended = gauge("suspended", "Whether no new backups are made.")
        self._size = gauge("last_size_bytes", "Bytes of the last good backup in the destination.")
        self._duration = gauge("last_duration_seconds", "How long the last good backup took.")
        self._missed = gauge("missed_runs", "Runs that did not take place.")
        self._window = gauge("oplog_window_seconds", "Seconds of history that the server's oplog holds.")
        self._all = (
            self._success,
            self._verified,
            self._interval,
            self._rpo,
            self._next,
            self._suspended,
            self._size,
            self._duration,
            self._missed,
            self._window,
        )
        self._known: set[Key] = set()

    def tell(
        self,
        key: Key,
        desired: ScheduleDesired,
        status: BackupScheduleStatus,
        children: Sequence[Child],
        slices: SliceReport | None,
        now: datetime,
    ) -> None:
        """What is known of a schedule now."""
        labels = (key.namespace, key.name)
        self._known.add(key)
        for gauge, moment in (
            (self._success, status.last_successful_at),
            (self._verified, status.last_verified_at),
            (self._next, status.next_at),
        ):
            if moment is not None:
                gauge.labels(*labels).set(moment.timestamp())
        following = list(islice(desired.cron.after(now), 2))
        if len(following) == 2:
            self._interval.labels(*labels).set((following[1] - following[0]).total_seconds())
        verified_to = status.verified_to
        if slices is not None and verified_to is not None and slicing.base_of(children, slices) is not None:
            verified_to = max(verified_to, slicing.last_second(slices))
        window = slices.oplog_window_seconds if slices is not None else None
        if window is not None:
            self._window.labels(*labels).set(window)
        if verified_to is not None:
            # Computed when it is asked for, so that it grows while nobody looks at the schedule.
            self._rpo.labels(*labels).set_function(
                lambda: max(0.0, datetime.now(verified_to.tzinfo).timestamp() - verified_to.timestamp())
            )
        self._suspended.labels(*labels).set(desired.spec.suspend)
        self._missed.labels(*labels).set(status.missed or 0)
        good = newest_good(children)
        if good is not None:
            self._size.labels(*labels).set(good.status.stored_bytes or 0)
            if good.status.started_at is not None and good.status.completed_at is not None:
                seconds = (good.status.completed_at - good.status.started_at).total_seconds()
                self._duration.labels(*labels).set(max(0.0, seconds))

    def forget(self, key: Key) -> None:
        """The schedule is gone."""
        if key not in self._known:
            return
        self._known.discard(key)
        for gauge in self._all:
            try:
                gauge.remove(key.namespace, key.name)
            except KeyError:
                continue  # this figure was never known
