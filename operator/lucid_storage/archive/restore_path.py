"""What has to be read, in which order, to get to a moment or to a backup; or the gap that is in the way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from lucid_storage.archive.continuity import as_second, begin, continues, end, reach, spans, windows
from lucid_storage.archive.manifest import BackupKind, OplogPoint, Optime
from lucid_storage.archive.recorded import Recorded, Trust, good_fulls
from lucid_storage.errors import Reason

LAST_SECOND = LAST_COUNTER = 2**32 - 1
"""Of an optime's halves, which have 32 bits each. The last counter is the end of its second."""


@dataclass(frozen=True, slots=True)
class RestorePath:
    """A full, then slices and differentials in the order in which they are read."""

    full: Recorded
    then: tuple[Recorded, ...]
    until: Optime | None
    """The last entry that is applied, inclusive; entries up to the full's `to` are skipped. None without MongoDB."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why there is no path, as a sentence that says what can be asked for instead."""

    reason: Reason
    message: str


def to_second(
    records: Sequence[Recorded], moment: datetime, timeline: str | None = None
) -> RestorePath | Blocked:
    """The path to the end of a whole second; fractions are cut off (rule 1.2, 1.4).

    The newest good full with `to` at or before the moment from which an unbroken line of slices leads there.
    """
    second = math.floor(moment.timestamp())
    if not 0 <= second <= LAST_SECOND:
        return Blocked(
            Reason.RESTORE_BLOCKED,
            f"No backup is of a moment before 1970 or after 2106, as {moment.isoformat()} is; choose another one.",
        )
    chosen = [r for r in records if timeline is None or r.manifest.timeline == timeline]
    until = Optime(seconds=second, counter=LAST_COUNTER)
    for full in reversed([f for f in good_fulls(chosen) if end(f.manifest).optime <= until]):
        pieces = spans(chosen, full.manifest.timeline)
        if reach(full, pieces).optime.seconds > second:
            return RestorePath(full, _line(full, pieces, until), until)
    return _no_line(chosen, second)


def to_backup(records: Sequence[Recorded], backup_id: str) -> RestorePath | Blocked:
    """The path to a backup's own `to`."""
    wanted = next((r for r in records if r.id == backup_id), None)
    if wanted is None:
        return Blocked(Reason.RESTORE_BLOCKED, f"No backup with the id {backup_id} is in the destination.")
    refusal = _unusable(wanted)
    if refusal is not None:
        return refusal
    to = wanted.to
    if wanted.kind is BackupKind.FULL:
        return RestorePath(wanted, (), to.optime if to is not None else None)
    if to is None:
        return Blocked(
            Reason.ARCHIVE_DAMAGED, f"The manifest of the backup {backup_id} does not say where it ends."
        )
    timeline = [r for r in records if r.manifest.timeline == wanted.manifest.timeline]
    pieces = spans(timeline)
    fulls = [f for f in good_fulls(timeline) if end(f.manifest).optime <= to.optime]
    own_base = [f for f in fulls if f.id == wanted.manifest.base]
    ordered = (
        [*own_base, *reversed(fulls)] if wanted.kind is BackupKind.DIFFERENTIAL else list(reversed(fulls))
    )
    for full in ordered:
        if wanted.kind is BackupKind.DIFFERENTIAL and continues(wanted, end(full.manifest)):
            return RestorePath(full, (wanted,), to.optime)
        if reach(full, pieces).optime >= to.optime:
            return RestorePath(full, _line(full, pieces, to.optime), to.optime)
    return _no_base(records, wanted)


def nearest_full(records: Sequence[Recorded], engine: str, moment: datetime) -> Recorded | None:
    """For engines without an oplog: the newest good full that was taken at or before the moment."""
    taken = [
        (part.taken_at, record)
        for record in records
        if record.kind is BackupKind.FULL and record.good
        for part in record.manifest.engines
        if part.engine == engine and part.taken_at <= moment
    ]
    return max(taken, key=lambda t: t[0])[1] if taken else None


def _line(full: Recorded, pieces: Sequence[Recorded], until: Optime) -> tuple[Recorded, ...]:
    """From a full to `until`, which is in reach. Few and small: a differential is taken where it is wholly used."""
    line: list[Recorded] = []
    at: OplogPoint = end(full.manifest)
    while at.optime < until:
        following = [p for p in pieces if begin(p.manifest).optime <= at.optime and continues(p, at)]
        enough = [p for p in following if end(p.manifest).optime >= until]
        if enough:
            line.append(
                min(enough, key=lambda p: (end(p.manifest).optime, p.kind is BackupKind.DIFFERENTIAL))
            )
            break
        if not following:
            break
        line.append(max(following, key=lambda p: end(p.manifest).optime))
        at = end(line[-1].manifest)
    return tuple(line)


def _unusable(wanted: Recorded) -> Blocked | None:
    if wanted.trust is Trust.KEY_MISSING:
        return Blocked(Reason.KEY_MISSING, _key_sentence(wanted))
    if not wanted.readable:
        return Blocked(
            Reason.ARCHIVE_DAMAGED,
            f"The manifest of the backup {wanted.id} was changed after it was written; restore another backup.",
        )
    if wanted.proof is not None and not wanted.proof.passed:
        return Blocked(
            Reason.VERIFY_FAILED,
            f"The check of the backup {wanted.id} failed ({wanted.proof.message or 'no details'}); restore another.",
        )
    return None


def _key_sentence(record: Recorded) -> str:
    key = record.manifest.packing.key_id or "?"
    return (
        f"The backup {record.id} was written with the key {key}, which the Secret lacks or has other bytes for; put"
        " that key back under its id."
    )


def _missing_key(records: Sequence[Recorded], until: Optime) -> Recorded | None:
    """A record that may be the one that is missing, were there its key."""
    for record in records:
        to = record.to
        if record.trust is Trust.KEY_MISSING and (
            to is None or to.optime <= until or record.kind is not BackupKind.FULL
        ):
            return record
    return None


def _no_line(records: Sequence[Recorded], second: int) -> Blocked:
    until = Optime(seconds=second, counter=LAST_COUNTER)
    locked = _missing_key(records, until)
    if locked is not None:
        return Blocked(Reason.KEY_MISSING, _key_sentence(locked))
    asked = as_second(until)
    known = windows(records)
    earlier = [w for w in known if w.last < second]
    later = [w for w in known if w.first > second]
    if earlier and later:
        return Blocked(
            Reason.RESTORE_BLOCKED,
            f"{_text(asked)} lies in a gap: it can be restored up to {_text(earlier[-1].to)} and again from"
            f" {_text(later[0].from_time)}. Choose a moment on either side.",
        )
    if earlier:
        return Blocked(
            Reason.RESTORE_BLOCKED,
            f"The slices end before {_text(asked)}: the last second that can be restored is"
            f" {_text(earlier[-1].to)}. Choose that or an earlier one.",
        )
    if later:
        return Blocked(
            Reason.RESTORE_BLOCKED,
            f"No good full backup had ended at {_text(asked)}: the first second that can be restored is"
            f" {_text(later[0].from_time)}. Choose that or a later one.",
        )
    return Blocked(
        Reason.RESTORE_BLOCKED,
        "No second can be restored, as no slice follows a good full backup. Leave pointInTime out to restore the"
        " backup itself.",
    )


def _no_base(records: Sequence[Recorded], wanted: Recorded) -> Blocked:
    to = end(wanted.manifest)
    locked = _missing_key(records, to.optime)
    if locked is not None:
        return Blocked(Reason.KEY_MISSING, _key_sentence(locked))
    fulls = [f for f in good_fulls(records) if f.manifest.timeline == wanted.manifest.timeline]
    pieces = spans(records, wanted.manifest.timeline)
    reached = [reach(f, pieces).optime for f in fulls if end(f.manifest).optime <= to.optime]
    if not reached:
        return Blocked(
            Reason.NO_BASE, f"The full backup that the backup {wanted.id} builds on is gone or not good."
        )
    return Blocked(
        Reason.RESTORE_BLOCKED,
        f"The slices between {_text(as_second(max(reached)))} and {_text(as_second(to.optime))} are not whole, so the"
        f" backup {wanted.id} cannot be reached; restore an earlier one.",
    )


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
