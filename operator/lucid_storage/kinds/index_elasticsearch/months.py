"""The calendar of a monthly series: names of indices, and when their months end. Pure; months are those of UTC."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

SUFFIX = "-{YYYY.MM}"

_MONTH = re.compile(r"(20[0-9]{2})\.(0[1-9]|1[0-2])", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """One month between 2000.01 and 2099.12."""

    year: int
    number: int

    @classmethod
    def at(cls, moment: datetime) -> Month:
        """The month that a moment with a time zone lies in."""
        utc = moment.astimezone(UTC)
        return cls(utc.year, utc.month)

    @property
    def next(self) -> Month:
        return Month(self.year + 1, 1) if self.number == 12 else Month(self.year, self.number + 1)

    @property
    def end(self) -> datetime:
        """The first moment that is no longer in it."""
        following = self.next
        return datetime(following.year, following.number, 1, tzinfo=UTC)

    @property
    def end_milliseconds(self) -> int:
        """Its end since the epoch: the origination date of its index."""
        return int(self.end.timestamp()) * 1000

    def __str__(self) -> str:
        return f"{self.year}.{self.number:02d}"


def stem_of(pattern: str) -> str:
    """`lucid-sessions` of `lucid-sessions-{YYYY.MM}`."""
    return pattern.removesuffix(SUFFIX)


def index_name(stem: str, month: Month) -> str:
    return f"{stem}-{month}"


def month_of(stem: str, name: str) -> Month | None:
    """The month of an index of the series; None for every other name, such as one of `{stem}-archive-...`."""
    if not name.startswith(f"{stem}-"):
        return None
    found = _MONTH.fullmatch(name[len(stem) + 1 :])
    return Month(int(found[1]), int(found[2])) if found else None


def wildcard(stem: str) -> str:
    """The narrowest wildcard that all indices of the series match; Elasticsearch has no other sign than `*`.

    `lucid-sessions-20*.*` leaves `lucid-sessions-archive-2026.11` to its own series.
    """
    return f"{stem}-20*.*"


def seconds_to_next_month(now: datetime) -> float:
    return (Month.at(now).end - now).total_seconds()
