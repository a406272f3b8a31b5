"""The times that a schedule names, as moments in UTC.

Summer time is handled as Debian's cron does it (cron(8), "Notes"): a time of day that a clock change skips comes right
after the gap, one that comes twice counts once; schedules with a wildcard minute or hour follow the real time. The cron
library does that; what it may name twice or out of order around a change is put right here.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from lucid_storage.errors import Reason, RefusedError

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
DEFAULT_ZONE = "Etc/UTC"
SEARCH = (timedelta(days=2), timedelta(days=40), timedelta(days=400), timedelta(days=366 * 9))
"""How far back the latest time is looked for, step by step. February 29 comes at least every 8 years."""


class Cron:
    """One schedule in one time zone. Raises RefusedError when it or the zone cannot be used."""

    def __init__(self, expression: str, zone: str | None = None) -> None:
        self._expression = NICKNAMES.get(expression.strip().lower(), expression)
        self.zone_name = zone or DEFAULT_ZONE
        try:
            self.zone = ZoneInfo(self.zone_name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise RefusedError(
                f'spec.timeZone: there is no time zone "{zone}"; give a name such as Europe/Berlin.',
                reason=Reason.INVALID_SPEC,
            ) from None
        if len(self._expression.split()) != 5:
            raise _unusable(expression, "it needs five fields")
        try:
            found = next(self._raw(datetime(2000, 1, 1, tzinfo=UTC)), None)
        except CronSimError as error:
            raise _unusable(expression, str(error)) from None
        if found is None:
            raise _unusable(expression, "no day is like that")

    def after(self, moment: datetime) -> Iterator[datetime]:
        """All times after a moment, in order, each once."""
        last = moment
        for time in self._raw(moment):
            if time > last:
                last = time
                yield time

    def latest(self, until: datetime, since: datetime) -> datetime | None:
        """The last time in (since, until]; None when there is none."""
        for span in SEARCH:
            start = max(since, until - span)
            found = None
            for time in self.after(start):
                if time > until:
                    break
                found = time
            if found is not None or start == since:
                return found
        return None

    def _raw(self, moment: datetime) -> Iterator[datetime]:
        local = CronSim(self._expression, moment.astimezone(self.zone))
        for time in local:
            yield time.astimezone(UTC)


def _unusable(expression: str, why: str) -> RefusedError:
    return RefusedError(
        f'spec.schedule: "{expression}" cannot be used ({why}); write five fields such as 0 2 * * *, or @daily.',
        reason=Reason.INVALID_SPEC,
    )
