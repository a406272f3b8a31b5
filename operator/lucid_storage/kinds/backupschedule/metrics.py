"""Figures of a schedule for alerts: what went well last, what was proved last, what a disaster now would cost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from lucid_storage.kinds.backup_metrics import ScheduleFigures
from lucid_storage.kinds.backupschedule import slicing
from lucid_storage.kinds.backupschedule.children import Child, newest_good
from lucid_storage.kinds.backupschedule.cron import Cron
from lucid_storage.kinds.backupschedule.desired import ScheduleDesired
from lucid_storage.models.backupschedule import BackupScheduleStatus
from lucid_storage.models.slicing import SliceReport

LONGEST = timedelta(days=366 * 9)
"""February 29 comes at least every 8 years."""
WIDER = 8
"""Each further search for an earlier slot looks so many times as far back."""


def figures_of(
    desired: ScheduleDesired,
    status: BackupScheduleStatus,
    children: Sequence[Child],
    slices: SliceReport | None,
    now: datetime,
    by_hand: Sequence[Child] = (),
) -> ScheduleFigures:
    """What is known of a schedule now. Pure."""
    good = newest_good(children)
    sliced = slicing.wanted(desired)
    point_in_time = desired.spec.point_in_time
    level = status.last_verified_level
    newest = max(status.recoverable or (), key=lambda window: window.to, default=None)
    return ScheduleFigures(
        created_at=datetime.fromisoformat(desired.resource.created),
        interval_seconds=expected_interval(desired.cron, now).total_seconds(),
        suspended=desired.spec.suspend or desired.resource.paused,
        missed=status.missed or 0,
        success_at=status.last_successful_at,
        verified_at=status.last_verified_at,
        verified_level=level.value if level is not None else "",
        verified_to=_verified_to(status, (*children, *by_hand), slices),
        recoverable_from=newest.from_time if newest is not None else None,
        recoverable_to=newest.to if newest is not None else None,
        next_at=status.next_at,
        stored_bytes=good.status.stored_bytes if good is not None else None,
        seconds=_seconds(good) if good is not None else None,
        slice_interval_seconds=point_in_time.interval_seconds if point_in_time and sliced else None,
        oplog_window_seconds=slices.oplog_window_seconds if slices is not None and sliced else None,
    )


def expected_interval(cron: Cron, now: datetime) -> timedelta:
    """The longer one of the distances that meet in the slot before now: a weekend or a night without runs is
    expected, before it is over and while the first run after it is at work.
    """
    upcoming = cron.after(now)
    following, further = next(upcoming), next(upcoming)
    near = further - following
    last = _before(cron, following, near)
    if last is None:
        return near
    previous = _before(cron, last, near)
    return max(following - last, last - previous) if previous is not None else following - last


def _before(cron: Cron, slot: datetime, near: timedelta) -> datetime | None:
    """The slot before one, looked for ever further back; `near` is what is likely."""
    until, span = slot - timedelta(seconds=1), near
    while True:
        span = min(span * WIDER, LONGEST)
        found = cron.latest(until, slot - span)
        if found is not None or span == LONGEST:
            return found


def _verified_to(
    status: BackupScheduleStatus, children: Sequence[Child], slices: SliceReport | None
) -> datetime | None:
    """Live, where status moves but now and then."""
    known = status.verified_to
    window = slicing.reached(status, children, slices) if slices is not None else None
    return max(known, window.to) if window is not None and known is not None else known


def _seconds(good: Child) -> float | None:
    started, ended = good.status.started_at, good.status.completed_at
    if started is None or ended is None:
        return None
    return max(0.0, (ended - started).total_seconds())
