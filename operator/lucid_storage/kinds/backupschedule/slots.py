"""Which slot of a schedule runs now, and which were missed. Pure: the time is an argument.

At most one run comes of one look, however long nobody looked. A clock that was wrong never stops the schedule: a last
slot that lies ahead comes from a clock that was, and the slots up to there had their backups too early. They run again
in their time, under names of their own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from lucid_storage.kinds.backupschedule.cron import Cron
from lucid_storage.models.backupschedule import MissedRuns

COUNTED = 1000
"""So many missed slots are counted; more are as many."""
ON_TIME = timedelta(seconds=120)
"""A run that begins so late was not missed: an operator may have been replaced meanwhile."""
LITTLE = timedelta(minutes=10)
"""A clock so little ahead made the backup of its slot early, which is no reason for another."""
NAME_LIMIT = 63
"""Of a child's name, which is also the value of a label."""


@dataclass(frozen=True, slots=True)
class SlotDecision:
    """What to do with the slots up to now."""

    run: datetime | None
    """Make the backup of this slot."""
    handled: datetime | None
    """No slot up to here is looked at again. None as long as the first backup, asked for at once, is still owed."""
    missed: int
    """Slots that nothing ran for."""
    next_at: datetime
    """The next slot."""
    early_until: datetime | None = None
    """The clock was put back: what was made for slots up to here was made too early."""


def decide(
    cron: Cron,
    *,
    now: datetime,
    created_at: datetime,
    last_slot: datetime | None,
    missed_runs: MissedRuns = MissedRuns.RUN_ONCE,
    starting_deadline: timedelta | None = None,
    suspend: bool = False,
    immediate: bool = False,
) -> SlotDecision:
    """What becomes of the slots in (last_slot, now]. Without a last slot they count from the creation on."""
    upcoming = next(cron.after(now))
    if last_slot is not None and (last_slot > upcoming or last_slot - now > LITTLE):
        return SlotDecision(None, now, 0, upcoming, early_until=last_slot)
    if last_slot is not None and last_slot > now:
        return SlotDecision(None, last_slot, 0, next(cron.after(last_slot)))
    if last_slot is None and immediate:
        if suspend:  # what passes meanwhile is made up for by that one backup
            return SlotDecision(None, None, 0, upcoming)
        first = min(created_at, now).replace(microsecond=0)
        return SlotDecision(first, now, 0, upcoming)
    since = last_slot if last_slot is not None else min(created_at, now)
    due = cron.latest(now, since)
    if due is None:
        return SlotDecision(None, since, 0, upcoming)
    if suspend:
        return SlotDecision(None, due, 0, upcoming)
    passed = sum(1 for time in islice(cron.after(since), COUNTED) if time < due)
    if _too_late(now - due, missed_runs, starting_deadline):
        return SlotDecision(None, due, passed + 1, upcoming)
    return SlotDecision(due, due, passed, upcoming)


def _too_late(late: timedelta, missed_runs: MissedRuns, deadline: timedelta | None) -> bool:
    if deadline is not None and late > deadline:
        return True
    return missed_runs is MissedRuns.SKIP and late > (deadline or ON_TIME)


def child_name(schedule: str, slot: datetime, again: int = 0) -> str:
    """Computed from the slot alone, so that a second attempt finds the first one's work. `slot` is in UTC.

    `again` says how often the clock was put back before a slot that had its backup too early.
    """
    return named(schedule, f"{slot:%Y%m%d-%H%M%S}" + (f"-{again}" if again else ""))


def named(schedule: str, suffix: str) -> str:
    """A child's name. Long names of schedules are cut, with a hash so that they stay apart."""
    room = NAME_LIMIT - len(suffix) - 1
    if len(schedule) > room:
        short = hashlib.sha256(schedule.encode()).hexdigest()[:8]
        schedule = f"{schedule[: room - 9].rstrip('-.')}-{short}"
    return f"{schedule}-{suffix}"
