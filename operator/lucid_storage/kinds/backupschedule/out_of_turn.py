"""Fulls that no slot is waited for with: for slices that nothing is there to be replayed onto (rule 1.7). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from lucid_storage.errors import Reason
from lucid_storage.kinds.backupschedule import children as of
from lucid_storage.kinds.backupschedule import slots
from lucid_storage.kinds.backupschedule.desired import ScheduleDesired
from lucid_storage.kinds.backupschedule.observed import ScheduleObserved
from lucid_storage.models.backup import BackupType

BEGAN = "began"
UNWRITTEN = timedelta(minutes=2)
"""A slicing worker that has nothing to write of its timeline yet has said so again since then, if it still holds."""
AT_ONCE_A_DAY = 4
"""Fulls out of turn for timelines that began. More are no accident: two clusters that write into one chain end each
other's timelines, slice by slice."""


def _cut_off(seen: ScheduleObserved, now: datetime) -> bool:
    """The slices go on, or are about to, without a full that they could be replayed onto, and there was one before.

    Before the first full nothing is cut off: that one comes at its slot.
    """
    return of.newest_good(seen.children) is not None and unbased(seen, now)


def unbased(seen: ScheduleObserved, now: datetime) -> bool:
    """Whether the slicing worker's timeline has no full, as far as it could know of one."""
    report = seen.slicing
    if report is None or report.timeline is None:
        return False
    fulls = [c for c in seen.children if c.good and c.status.type is BackupType.FULL]
    times = (c.status.completed_at for c in fulls if not c.early)
    ended = max(filter(None, times), default=None)
    if ended is not None and ended > (report.written_at or now - UNWRITTEN):
        return False  # the next slice says whether it goes on behind that full
    return report.closed or all(c.status.timeline != report.timeline for c in fulls)


@dataclass(frozen=True, slots=True)
class OutOfTurn:
    """A full that no slot is waited for with. It is made once: its name comes from what it is made for."""

    suffix: str
    because: str
    began: bool = False
    """For a timeline that began with slices."""


def out_of_turn(seen: ScheduleObserved, now: datetime) -> OutOfTurn | None:
    """What ended the timeline, or why it has nothing to build on (rule 1.7)."""
    if _cut_off(seen, now):
        assert seen.slicing is not None
        assert seen.slicing.timeline is not None
        timeline = seen.slicing.timeline[:8]
        if seen.slicing.closed:
            return OutOfTurn(f"closed-{timeline}", "A restore or a rename ended the timeline")
        return OutOfTurn(f"{BEGAN}-{timeline}", "The slices have no full yet", began=True)
    last = seen.children[-1] if seen.children else None
    if last is not None and last.ended and not last.good and last.reason == Reason.NO_BASE:
        return OutOfTurn(f"anew-{last.slot:%Y%m%d-%H%M%S}", f"The Backup {last.key.name} had no base")
    return None


def too_many(desired: ScheduleDesired, seen: ScheduleObserved, now: datetime) -> bool:
    """Whether timelines began so often within a day that one more full for the next of them helps nobody."""
    needed = out_of_turn(seen, now)
    if needed is None or not needed.began:
        return False
    lately = [c.key.name for c in seen.children if not c.early and now - c.slot < timedelta(days=1)]
    began = [name for name in lately if name == _began(desired, name.rpartition(f"-{BEGAN}-")[2])]
    return len(began) >= AT_ONCE_A_DAY


def _began(desired: ScheduleDesired, timeline: str) -> str:
    return slots.named(desired.name, f"{BEGAN}-{timeline}")
