"""Which backups the rules of their schedules keep: days, keepLast, keepDaily, keepWeekly, keepMonthly (rule 1.9).

A schedule that is gone is asked through the newest manifest that it left. A backup made by hand has days of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo

from lucid_storage.archive.manifest import BackupKind, RetentionRules
from lucid_storage.archive.recorded import Recorded

DEFAULT_DAYS = 30
"""Where neither schedule nor backup says (BACKUP_RETENTION_DAYS)."""


@dataclass(frozen=True, slots=True)
class RuleBook:
    """The rules of all schedules of a chain."""

    schedules: Mapping[str, RetentionRules] = field(default_factory=dict)
    """Of those that there are."""
    default_days: int = DEFAULT_DAYS
    time_zone: tzinfo = UTC
    """Of days, weeks and months."""


@dataclass(slots=True)
class Kept:
    """What the rules keep."""

    reasons: dict[str, list[str]]
    """By id of the record, parts of a sentence."""
    with_slices: list[Recorded]
    """Those from which on slices are kept too: by days, else by keepLast."""
    expires: dict[str, datetime]
    """When the days of a record are over, where days alone decide."""


def apply(book: RuleBook, backups: Sequence[Recorded], now: datetime) -> Kept:
    """What the rules keep of backups in order of time. Slices are no backups."""
    kept = Kept({r.id: [] for r in backups}, [], {})
    recorded = _recorded(backups)
    groups: dict[str | None, list[Recorded]] = {}
    for record in backups:
        groups.setdefault(record.manifest.origin.schedule, []).append(record)
    for schedule, members in groups.items():
        if schedule is None:
            for record in members:
                own = RetentionRules(days=record.manifest.retention_days or book.default_days)
                _keep_young([record], own, now, kept)
            continue
        rules = _of_schedule(book, book.schedules.get(schedule) or recorded.get(schedule))
        _keep_young(members, rules, now, kept)
        _keep_last(members, rules, kept)
        _keep_periods(members, rules, book.time_zone, kept)
    return kept


def keeps_unread(book: RuleBook, record: Recorded, readable: Sequence[Recorded], now: datetime) -> bool:
    """Whether the rules would keep slices behind a full that cannot be read now, if it were a good one.

    For keepLast it counts readable ones alone: of two that cannot be read, nobody knows which is good.
    """
    origin = record.manifest.origin
    if origin.schedule is None:
        rules = RetentionRules(days=record.manifest.retention_days or book.default_days)
    else:
        known = book.schedules.get(origin.schedule) or _recorded(readable).get(origin.schedule)
        rules = _of_schedule(book, known or record.manifest.retention)
    if rules.days is not None:
        return record.manifest.completed_at + timedelta(days=rules.days) > now
    if rules.keep_last is None:
        return False
    newer = [
        r
        for r in readable
        if r.good and r.manifest.origin.schedule == origin.schedule and r.moment > record.moment
    ]
    return any(len(_of(newer, engine)) < rules.keep_last for engine in record.engines)


def _of_schedule(book: RuleBook, rules: RetentionRules | None) -> RetentionRules:
    if rules is None or rules == RetentionRules():
        return RetentionRules(days=book.default_days)
    return rules


def _recorded(backups: Iterable[Recorded]) -> dict[str, RetentionRules]:
    found: dict[str, RetentionRules] = {}
    # The newest comes last; a good one outlives the bad ones, so that the answer stays when those are gone.
    for record in sorted(backups, key=lambda r: r.good):
        origin, rules = record.manifest.origin, record.manifest.retention
        if origin.schedule is not None and rules is not None:
            found[origin.schedule] = rules
    return found


def _keep_young(members: Sequence[Recorded], rules: RetentionRules, now: datetime, kept: Kept) -> None:
    if rules.days is None:
        return
    for record in members:
        over = record.manifest.completed_at + timedelta(days=rules.days)
        kept.expires[record.id] = over
        if over > now:
            kept.reasons[record.id].append(f"it is younger than {rules.days} days")
            kept.with_slices.append(record)


def _keep_last(members: Sequence[Recorded], rules: RetentionRules, kept: Kept) -> None:
    """Only good ones count, for each engine: a row of failures must not push out what can be restored."""
    if rules.keep_last is None:
        return
    good = [r for r in members if r.good]
    last = {r.id: r for engine in _engines(good) for r in _of(good, engine)[-rules.keep_last :]}
    for record in (r for r in good if r.id in last):
        kept.reasons[record.id].append(f"it is one of the last {rules.keep_last}")
        if rules.days is None:
            kept.with_slices.append(record)


def _keep_periods(members: Sequence[Recorded], rules: RetentionRules, zone: tzinfo, kept: Kept) -> None:
    """The newest good full of each of the newest days, weeks and months that have one."""
    periods: tuple[tuple[str, int | None, Callable[[datetime], tuple[int, ...]]], ...] = (
        ("day", rules.keep_daily, lambda t: (t.year, t.month, t.day)),
        ("week", rules.keep_weekly, lambda t: t.isocalendar()[:2]),
        ("month", rules.keep_monthly, lambda t: (t.year, t.month)),
    )
    fulls = [r for r in members if r.kind is BackupKind.FULL and r.good]
    for name, count, cut in periods:
        chosen: dict[str, Recorded] = {}
        for engine in _engines(fulls):
            newest: dict[tuple[int, ...], Recorded] = {}
            for record in _of(fulls, engine):  # a later one replaces an earlier one of the same period
                newest[cut(record.manifest.completed_at.astimezone(zone))] = record
            chosen |= {newest[p].id: newest[p] for p in sorted(newest, reverse=True)[: count or 0]}
        for key in chosen:
            kept.reasons[key].append(f"it is the newest full of its {name}")


def _engines(records: Sequence[Recorded]) -> list[str]:
    return sorted({engine for record in records for engine in record.engines})


def _of(records: Sequence[Recorded], engine: str) -> list[Recorded]:
    return [record for record in records if engine in record.engines]
