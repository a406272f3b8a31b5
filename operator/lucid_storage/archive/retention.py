"""What is kept in a chain, why, and what may go. A pure function over manifests; the time is an argument.

rule 1.8 and 1.9. A backup is kept if any rule keeps it, if a kept one needs it, if somebody reads it, or if it is
the last good one of its timeline. What cannot be authenticated or is not ours is never touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from lucid_storage.archive import retention_rules
from lucid_storage.archive.continuity import restorable
from lucid_storage.archive.manifest import BackupKind, Optime
from lucid_storage.archive.needs import Lines, by_timeline, needed
from lucid_storage.archive.recorded import Recorded, Trust, of_kind
from lucid_storage.archive.retention_rules import RuleBook

UNPROVED_GRACE = timedelta(days=1)
"""A backup without a proof may still be in its check, and slices without a full may wait for theirs."""


class Outcome(StrEnum):
    """What becomes of the data."""

    KEEP = "keep"
    EXPIRE = "expire"
    """Of a backup: the data go. The object goes too where a schedule made it, else it becomes Expired."""
    PRUNE = "prune"
    """Of a slice, or of a backup whose object was deleted: the data go."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one record, and why."""

    record: Recorded
    outcome: Outcome
    because: tuple[str, ...] = ()
    """Of what is kept: each reason as a part of a sentence, such as "it is younger than 30 days"."""
    ruled: bool = True
    """A rule keeps it. A kept one without that is expired in itself and stays for another reason."""
    expires_at: datetime | None = None
    """When its days are over; None where newer backups decide."""


@dataclass(frozen=True, slots=True)
class Question:
    """What has to be known besides the manifests."""

    now: datetime
    own_clusters: frozenset[str]
    """Our own cluster, and those taken over by `catalog --adopt`."""
    rules: RuleBook = field(default_factory=RuleBook)
    held: frozenset[str] = frozenset()
    """Ids that a running restore, check or incremental reads."""
    marked: frozenset[str] = frozenset()
    """Ids whose data are to go as soon as nothing needs them: their object was deleted, or its days are over."""
    only: frozenset[str] | None = None
    """Ids that the rules are asked about; all others stay unless they are marked. None: about all."""
    by_hand: frozenset[str] = frozenset()
    """Ids whose objects say themselves how long they are kept."""
    unreadable: bool = False
    """There are manifests that could not even be parsed, so that nobody knows what they need."""


class _Ledger:
    """Reasons to keep, collected by id."""

    def __init__(self, records: Sequence[Recorded], lines: Mapping[str, Lines]) -> None:
        self.reasons: dict[str, list[str]] = {r.id: [] for r in records}
        self._lines = lines
        self.floors: dict[str, Optime] = {}
        """By timeline: from where on its slices are kept."""

    def keep(self, record_id: str, reason: str) -> None:
        if record_id in self.reasons:
            self.reasons[record_id].append(reason)

    def lower(self, full: Recorded) -> None:
        """The seconds behind one that is not good are restored from an older one, if that leads there."""
        if full.good:
            self.lower_unread(full)
        elif full.kind is BackupKind.FULL and full.to is not None:
            older = self._lines[full.manifest.timeline].leading_to(full.to.optime)
            if older is not None:
                self.keep(older.id, f"the full {full.manifest.origin.name} after it is not good")
                self.lower_unread(older)

    def lower_unread(self, full: Recorded) -> None:
        """For one that nobody could judge yet, too."""
        to = full.to
        if to is None or full.kind is not BackupKind.FULL:
            return
        timeline = full.manifest.timeline
        self.floors[timeline] = min(to.optime, self.floors.get(timeline, to.optime))


def judge(records: Sequence[Recorded], question: Question) -> tuple[Verdict, ...]:
    """A verdict for every record of one chain, in the order given."""
    ours = [r for r in records if r.readable and r.manifest.origin.cluster in question.own_clusters]
    lines = by_timeline(ours)
    ledger = _Ledger(records, lines)
    backups = of_kind(ours, BackupKind.FULL, BackupKind.INCREMENTAL, BackupKind.DIFFERENTIAL)
    unmarked = [b for b in backups if b.id not in question.marked]
    kept = retention_rules.apply(question.rules, unmarked, question.now)
    ruled = {key for key, reasons in kept.reasons.items() if reasons}
    for key, reasons in kept.reasons.items():
        for reason in reasons:
            ledger.keep(key, reason)
    for record in kept.with_slices:
        ledger.lower(record)
    ruled |= _keep_unasked(unmarked, question, ledger)
    _keep_untouchable(records, question, ledger)
    _keep_in_use(unmarked, question, ledger)
    _keep_last_good(backups, ours, lines, ledger)
    _keep_behind_unread(records, unmarked, question, ledger)
    _keep_between(ours, question.now, ledger)
    staying = [key for key, reasons in ledger.reasons.items() if reasons]
    for key, reason in needed(ours, staying, lines):
        ledger.keep(key, reason)
    return tuple(_verdict(r, question, ledger, ruled, kept.expires.get(r.id)) for r in records)


def _verdict(
    record: Recorded, question: Question, ledger: _Ledger, ruled: set[str], expires_at: datetime | None
) -> Verdict:
    reasons = ledger.reasons[record.id]
    if reasons:
        because = tuple(dict.fromkeys(reasons))
        return Verdict(record, Outcome.KEEP, because, record.id in ruled, expires_at)
    pruned = record.kind is BackupKind.SLICE or record.id in question.marked
    return Verdict(record, Outcome.PRUNE if pruned else Outcome.EXPIRE, (), False, expires_at)


def deletion_order(verdicts: Iterable[Verdict]) -> list[Recorded]:
    """What goes, in an order in which nothing is ever without what it needs: fulls last, the newest first."""
    going = [v.record for v in verdicts if v.outcome is not Outcome.KEEP]
    going.sort(key=lambda r: r.moment, reverse=True)
    return sorted(going, key=lambda r: r.kind is BackupKind.FULL)


# Reasons besides the rules


def _keep_untouchable(records: Sequence[Recorded], question: Question, ledger: _Ledger) -> None:
    blocking = [r.moment for r in records if not r.readable and not _stands_alone(r)]
    limit = max(blocking, default=None)
    for record in records:
        if record.manifest.origin.cluster not in question.own_clusters:
            ledger.keep(record.id, "another cluster made it")
        elif not record.readable:
            ledger.keep(record.id, "its manifest cannot be authenticated")
        elif question.unreadable:
            ledger.keep(record.id, "a manifest of the chain cannot be read and may need it")
        elif limit is not None and record.moment <= limit:
            ledger.keep(record.id, "a backup that cannot be authenticated may need it")


def _stands_alone(record: Recorded) -> bool:
    """A full needs nothing. That it is one is believed of a manifest whose key is missing, not of a broken one."""
    return record.trust is Trust.KEY_MISSING and record.kind is BackupKind.FULL


def _keep_unasked(backups: Iterable[Recorded], question: Question, ledger: _Ledger) -> set[str]:
    """With the slices behind them, as if a rule kept them."""
    spared: set[str] = set()
    for record in backups:
        unasked = question.only is not None and record.id not in question.only
        if unasked or record.id in question.by_hand:
            ledger.keep(record.id, "nobody asked for its removal" if unasked else "its object says how long")
            ledger.lower(record)
            spared.add(record.id)
    return spared


def _keep_in_use(backups: Sequence[Recorded], question: Question, ledger: _Ledger) -> None:
    for held in question.held:
        ledger.keep(held, "a running restore, check or backup reads it")
    for record in backups:
        if record.proof is None and question.now - record.manifest.completed_at < UNPROVED_GRACE:
            ledger.keep(record.id, "its check may not have ended")


def _keep_last_good(
    backups: Sequence[Recorded], ours: Sequence[Recorded], lines: Mapping[str, Lines], ledger: _Ledger
) -> None:
    """Of each timeline and engine the newest good full and the newest point that can be restored.

    One that failed in part is no last good one of the engines that it lacks.
    """
    reachable = {r.id for r in restorable(ours, {name: one.track for name, one in lines.items()})}
    fulls: dict[tuple[str, str], Recorded] = {}
    points: dict[tuple[str, str], Recorded] = {}
    for record in backups:  # in order of time
        for engine in record.engines:
            place = (record.manifest.timeline, engine)
            if record.good and record.kind is BackupKind.FULL:
                fulls[place] = record
            if record.id in reachable:
                points[place] = record
    for record in (*fulls.values(), *points.values()):
        ledger.keep(record.id, "it is the last good one of its timeline")
    bases = [r for r in fulls.values() if r.to is not None] or list(fulls.values())
    newest = max(bases, key=lambda r: r.moment, default=None)
    if newest is not None:
        ledger.lower(newest)  # a suspended schedule must not cost the seconds since its last full


def _keep_behind_unread(
    records: Iterable[Recorded], readable: Sequence[Recorded], question: Question, ledger: _Ledger
) -> None:
    """A key that is away for a while must not cost the slices behind its fulls: they stay as if it were there.

    What such a manifest says of its timeline, end and days may be anybody's word. It can keep slices and delete none,
    and whoever can write it could keep all of them from retention with a file that is no manifest.
    """
    bases = [r for r in readable if r.good and r.kind is BackupKind.FULL and r.to is not None]
    newest = max((r.moment for r in bases), default=None)
    for record in records:
        if record.readable or record.manifest.origin.cluster not in question.own_clusters:
            continue
        if record.id in question.marked:
            continue
        unasked = question.only is not None and record.id not in question.only
        if (
            unasked
            or record.id in question.by_hand
            or newest is None
            or record.moment > newest
            or retention_rules.keeps_unread(question.rules, record, readable, question.now)
        ):
            ledger.lower_unread(record)


def _keep_between(ours: Sequence[Recorded], now: datetime, ledger: _Ledger) -> None:
    slices = of_kind(ours, BackupKind.SLICE)
    based = {r.manifest.timeline for r in ours if r.kind is BackupKind.FULL and r.good}
    newest = slices[-1].manifest.timeline if slices else None
    for piece in slices:
        timeline = piece.manifest.timeline
        floor, to = ledger.floors.get(timeline), piece.to
        if to is None:
            ledger.keep(piece.id, "it does not say where it ends")
        elif floor is not None and to.optime > floor:
            ledger.keep(piece.id, "it lies behind a full that is kept with its slices")
        elif timeline not in based and (
            timeline == newest or now - piece.manifest.completed_at < UNPROVED_GRACE
        ):
            ledger.keep(piece.id, "the full of its timeline may still be under way")
