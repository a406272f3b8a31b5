"""What figures do to a status: when they move, the two thresholds, the history and the forecast. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from lucid_storage.errors import Reason
from lucid_storage.kinds import figures as rules
from lucid_storage.kinds.contract import Notice
from lucid_storage.kinds.volume.desired import VolumeDesired
from lucid_storage.kinds.volume.observed import Figures
from lucid_storage.models.base import Condition, ConditionStatus
from lucid_storage.models.quantity import to_text
from lucid_storage.models.volume import UsageSample, VolumeStatus

HISTORY = 48
HYSTERESIS = 3
"""Percent below a threshold at which its condition ends: a volume that swings around it makes no noise."""
SHORTEST = timedelta(minutes=30)
"""Of a history that a forecast is made from."""
FARTHEST = timedelta(days=5 * 365)
"""Beyond this a forecast says nothing."""
FORECAST_CHANGE = 0.25
"""Of the time that is left: by how much a forecast must change to be told."""

AHEAD = timedelta(minutes=5)
"""Figures from later than this were told by a node whose clock ran ahead, as one without a battery may."""

WARNING, CRITICAL = "UsageWarning", "UsageCritical"


@dataclass(frozen=True, slots=True)
class Alarm:
    """Which thresholds are passed."""

    warning: bool = False
    critical: bool = False


def alarm_in(conditions: Sequence[Condition] | None) -> Alarm:
    """What was told last."""
    on = {c.type for c in conditions or () if c.status is ConditionStatus.TRUE}
    return Alarm(WARNING in on, CRITICAL in on)


def alarm_of(desired: VolumeDesired, figures: Figures, before: Alarm) -> Alarm:
    """Bytes and inodes count alike: without either nothing can be written."""
    percent = max(figures.percent, figures.inode_percent or 0)
    return Alarm(
        _passed(percent, desired.warning_percent, before.warning),
        _passed(percent, desired.critical_percent, before.critical),
    )


def _passed(percent: int, threshold: int, before: bool) -> bool:
    return percent >= (threshold - HYSTERESIS if before else threshold)


def noted(
    desired: VolumeDesired, figures: Figures | None, status: VolumeStatus, now: datetime
) -> tuple[VolumeStatus, tuple[Notice, ...]]:
    """The status with new figures, where they move it, and what is worth an Event."""
    if figures is None:
        return status, ()
    if status.stats_time is not None and figures.at <= status.stats_time:
        if status.stats_time - now <= AHEAD:
            return status, ()
        status = _since_then(status, figures)
    before = alarm_in(status.conditions)
    after = alarm_of(desired, figures, before)
    full_at = forecast(status.history or (), figures)
    moved = (
        status.stats_time is None
        or after != before
        or figures.source != status.usage_source
        or figures.capacity != status.capacity_bytes
        # By the clock that told both times: a node's may be ahead of this one.
        or (rules.due(status.stats_time, figures.at) and _tells_more(status, figures, full_at, now))
    )
    if not moved:
        return status, ()
    return _written(status, figures, full_at), _notices(desired, figures, before, after)


def _since_then(status: VolumeStatus, figures: Figures) -> VolumeStatus:
    """Without the times of a clock that ran ahead, until which no figure would be newer and no threshold passed."""
    history = [sample for sample in status.history or () if sample.at < figures.at]
    return status.model_copy(update={"stats_time": None, "history": history or None})


def _tells_more(status: VolumeStatus, figures: Figures, full_at: datetime | None, now: datetime) -> bool:
    if rules.moved(status.used_bytes, figures.used):
        return True
    if full_at is None or status.full_at is None:
        return status.full_at is not None and status.full_at <= now
    left = max((status.full_at - now).total_seconds(), 1.0)
    return abs((full_at - status.full_at).total_seconds()) > max(FORECAST_CHANGE * left, 3600.0)


def _written(status: VolumeStatus, figures: Figures, full_at: datetime | None) -> VolumeStatus:
    at = figures.at.replace(microsecond=0)
    history = [*(status.history or ()), UsageSample(at=at, used_bytes=figures.used)][-HISTORY:]
    return status.model_copy(
        update={
            "capacity_bytes": figures.capacity,
            "used_bytes": figures.used,
            "used": rules.size(figures.used),
            "use_percent": figures.percent,
            "use_summary": f"{figures.percent}%",
            "inodes_used_percent": figures.inode_percent,
            "usage_source": figures.source,
            "stats_time": at,
            "history": history,
            "full_at": full_at,
        }
    )


def _notices(desired: VolumeDesired, figures: Figures, before: Alarm, after: Alarm) -> tuple[Notice, ...]:
    said = f"{_filled(figures.percent, figures.inode_percent)} of the volume {desired.name}."
    if after.critical and not before.critical:
        return (Notice(CRITICAL, f"In use: {said}", warning=True),)
    if after.warning and not before.warning:
        return (Notice(WARNING, f"In use: {said}", warning=True),)
    if before.warning and not after.warning:
        return (Notice("UsageNormal", f"In use again: {said}"),)
    return ()


def _filled(percent: int, inodes: int | None) -> str:
    if inodes is not None and inodes > percent:
        return f"{inodes}% of the inodes ({percent}% of the bytes)"
    return f"{percent}% of the bytes"


def rows(desired: VolumeDesired, status: VolumeStatus) -> list[tuple[str, bool, Reason, str]]:
    """The two conditions, from the figures that status shows; none before there are figures."""
    if status.use_percent is None:
        return []
    shown = Alarm(
        _shown(status, desired.warning_percent, WARNING), _shown(status, desired.critical_percent, CRITICAL)
    )
    advice = _advice(desired, status)
    used = _filled(status.use_percent, status.inodes_used_percent)
    return [
        _row(WARNING, shown.warning, desired.warning_percent, used, advice),
        _row(CRITICAL, shown.critical, desired.critical_percent, used, advice),
    ]


def _shown(status: VolumeStatus, threshold: int, kind: str) -> bool:
    before = alarm_in(status.conditions)
    percent = max(status.use_percent or 0, status.inodes_used_percent or 0)
    return _passed(percent, threshold, before.critical if kind == CRITICAL else before.warning)


def _row(
    kind: str, on: bool, threshold: int, used: str, advice: tuple[Reason, str]
) -> tuple[str, bool, Reason, str]:
    if not on:
        return (kind, False, Reason.USAGE_NORMAL, "")
    reason, words = advice
    return (kind, True, reason, f"{used} in use, at or above {threshold}%. {words}")


def _advice(desired: VolumeDesired, status: VolumeStatus) -> tuple[Reason, str]:
    growth = desired.growth
    if growth is None:
        way = (
            "set a larger spec.size"
            if status.expandable
            else "set a larger spec.size with resizeStrategy: Migrate"
        )
        return Reason.USAGE_HIGH, f"Free some space, or {way}."
    if not status.expandable:
        return (
            Reason.USAGE_HIGH,
            "autoExpand cannot work in this storage class. Free some space, or set a larger spec.size with"
            " resizeStrategy: Migrate.",
        )
    if status.requested_bytes is not None and status.requested_bytes >= growth.limit:
        return (
            Reason.MAX_SIZE_REACHED,
            f"autoExpand has reached its largest size, {to_text(growth.limit)}. Free some space, or raise"
            " autoExpand.maxSize (and VOLUME_MAX_SIZE where that is smaller).",
        )
    return Reason.USAGE_HIGH, "autoExpand makes it larger."


def forecast(history: Sequence[UsageSample], figures: Figures) -> datetime | None:
    """When the volume is full if it goes on like this; None when it does not grow, or too little is known.

    The median of the slopes between all pairs of samples (Theil and Sen): one clean-up or one burst does not turn it.
    """
    points = [(s.at.timestamp(), s.used_bytes) for s in history] + [(figures.at.timestamp(), figures.used)]
    if len(points) < 3 or points[-1][0] - points[0][0] < SHORTEST.total_seconds():
        return None
    slopes = [
        (later[1] - former[1]) / (later[0] - former[0])
        for i, former in enumerate(points)
        for later in points[i + 1 :]
        if later[0] > former[0]
    ]
    slope = median(slopes) if slopes else 0.0
    if slope <= 0 or figures.available / slope > FARTHEST.total_seconds():
        return None
    return (figures.at + timedelta(seconds=figures.available / slope)).replace(microsecond=0)
