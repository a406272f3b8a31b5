"""What kept incrementals and differentials are restored from: a full, slices, and differentials over damaged slices.

The full is the base that the manifest names, as long as that is good and leads there; else an older one may lead there
too, as slices never stop for a full (`restore_path.to_backup` goes the same ways).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lucid_storage.archive.continuity import Track, continues, end, sound, spans
from lucid_storage.archive.manifest import BackupKind, Optime
from lucid_storage.archive.recorded import Recorded, good_fulls

_BEFORE_ALL = Optime(seconds=0, counter=0)


class Lines:
    """How far the good fulls of one timeline lead."""

    def __init__(self, records: Sequence[Recorded]) -> None:
        self.fulls = good_fulls(records)
        pieces = spans(records)
        self.track = Track(pieces)
        """Over slices and differentials."""
        self._slices = Track([p for p in pieces if p.kind is BackupKind.SLICE])

    def leads(self, full: Recorded, to: Optime, *, by_slices: bool = True) -> bool:
        """Whether slices (or slices and differentials) go from a good full to `to` without a hole."""
        start = end(full.manifest)
        track = self._slices if by_slices else self.track
        return start.optime <= to <= track.reach(start).optime

    def leading_to(self, to: Optime) -> Recorded | None:
        """The newest good full from which slices go there."""
        return next((f for f in reversed(self.fulls) if self.leads(f, to)), None)


@dataclass(frozen=True, slots=True)
class _Start:
    """Where the restore of a backup begins, and what it reads on its way."""

    full: Recorded
    slices: bool = False
    differentials: bool = False


def by_timeline(records: Iterable[Recorded]) -> dict[str, Lines]:
    """The lines of each timeline."""
    groups: dict[str, list[Recorded]] = {}
    for record in records:
        groups.setdefault(record.manifest.timeline, []).append(record)
    return {timeline: Lines(members) for timeline, members in groups.items()}


def needed(
    ours: Sequence[Recorded], kept: Iterable[str], lines: dict[str, Lines]
) -> Iterator[tuple[str, str]]:
    """What those in `kept` are restored from: ids, each with the reason. An id may come more than once."""
    by_id = {r.id: r for r in ours}
    todo = [by_id[key] for key in kept if key in by_id and _builds(by_id[key])]
    seen = {r.id for r in todo}
    used: dict[str, list[tuple[Optime, Optime]]] = {}
    for record in todo:  # which grows
        name, to = record.manifest.origin.name, record.to
        base = by_id.get(record.manifest.base or "")
        if base is not None:
            yield base.id, f"the backup {name} builds on it"
        if to is None:
            continue
        start = _start(record, base, to.optime, lines[record.manifest.timeline])
        if start is not None and start.full is not base:
            yield start.full.id, f"the backup {name} is restored from it, as its own base is damaged or gone"
        if start.slices if start is not None else record.kind is BackupKind.INCREMENTAL:
            first = start.full if start is not None else base
            since = first.to.optime if first is not None and first.to is not None else _BEFORE_ALL
            used.setdefault(record.manifest.timeline, []).append((since, to.optime))
        if start is not None and start.differentials:
            since = end(start.full.manifest).optime
            for piece in ours:
                if piece.id not in seen and _bridges(piece, record.manifest.timeline, since, to.optime):
                    yield piece.id, f"the backup {name} needs it in the place of a damaged slice"
                    seen.add(piece.id)
                    todo.append(piece)
    # One that a check found damaged stays too: it may be put back, as the data of a failed backup may.
    merged = {timeline: _merged(parts) for timeline, parts in used.items()}
    for piece in ours:
        inside = merged.get(piece.manifest.timeline, ())
        if piece.kind is BackupKind.SLICE and any(_overlaps(piece, a, b) for a, b in inside):
            yield piece.id, "an incremental backup needs it"


def _builds(record: Recorded) -> bool:
    return record.kind in (BackupKind.INCREMENTAL, BackupKind.DIFFERENTIAL)


def _start(record: Recorded, base: Recorded | None, to: Optime, lines: Lines) -> _Start | None:
    """None where no good full leads there now."""
    own = [f for f in lines.fulls if base is not None and f.id == base.id]
    for full in (*own, *reversed(lines.fulls)):
        alone = record.kind is BackupKind.DIFFERENTIAL and record.manifest.prev is not None
        if alone and continues(record, end(full.manifest)):
            return _Start(full)
        if lines.leads(full, to):
            return _Start(full, slices=True)
        if lines.leads(full, to, by_slices=False):
            return _Start(full, slices=True, differentials=True)
    return None


def _bridges(piece: Recorded, timeline: str, since: Optime, to: Optime) -> bool:
    mine = piece.kind is BackupKind.DIFFERENTIAL and piece.manifest.timeline == timeline
    return mine and sound(piece) and _overlaps(piece, since, to)


def _overlaps(piece: Recorded, since: Optime, to: Optime) -> bool:
    prev, until = piece.manifest.prev, piece.to
    return prev is not None and until is not None and until.optime > since and prev.optime < to


def _merged(parts: Iterable[tuple[Optime, Optime]]) -> list[tuple[Optime, Optime]]:
    merged: list[tuple[Optime, Optime]] = []
    for start, stop in sorted(parts):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged
