"""What the slices of a chain hold without a hole, and which seconds can be restored from them.

Two parts belong together when one begins with exactly the entry that the other ended with, by optime and hash
(rule 1.3). Nothing else counts as continuous, not the name of the timeline either.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate, pairwise

from lucid_storage.archive.manifest import BackupKind, Closing, Manifest, OplogPoint, Optime
from lucid_storage.archive.recorded import Recorded, good_fulls, of_kind


@dataclass(frozen=True, slots=True)
class Run:
    """Slices without a hole between them, in order. Never empty."""

    slices: tuple[Recorded, ...]

    @property
    def start(self) -> OplogPoint:
        """Exclusive."""
        return begin(self.slices[0].manifest)

    @property
    def end(self) -> OplogPoint:
        return end(self.slices[-1].manifest)

    @property
    def closing(self) -> Closing | None:
        return self.slices[-1].manifest.closing


@dataclass(frozen=True, slots=True)
class Hole:
    """Between two runs of one timeline."""

    after: OplogPoint
    before: OplogPoint


@dataclass(frozen=True, slots=True)
class Window:
    """Seconds of which each can be restored, both ends included."""

    first: int
    last: int

    @property
    def from_time(self) -> datetime:
        return datetime.fromtimestamp(self.first, UTC)

    @property
    def to(self) -> datetime:
        return datetime.fromtimestamp(self.last, UTC)


def begin(manifest: Manifest) -> OplogPoint:
    """Where a slice or differential begins, exclusive."""
    if manifest.prev is None:
        raise ValueError(f"the manifest {manifest.id} of kind {manifest.kind} does not say where it begins")
    return manifest.prev


def end(manifest: Manifest) -> OplogPoint:
    """Where a backup of MongoDB ends."""
    if manifest.mongodb is None:
        raise ValueError(f"the manifest {manifest.id} of kind {manifest.kind} does not say where it ends")
    return manifest.mongodb.to


def sound(record: Recorded) -> bool:
    """Whether a slice or differential can be used as a span of the oplog."""
    manifest = record.manifest
    return record.good and manifest.prev is not None and manifest.mongodb is not None


def runs(records: Iterable[Recorded], timeline: str | None = None) -> tuple[Run, ...]:
    """The runs of a timeline (or of all), in order of time."""
    slices = [s for s in of_kind(records, BackupKind.SLICE) if sound(s)]
    following: dict[OplogPoint, Recorded] = {}
    for piece in slices:  # of two that begin alike the longer one is taken, which comes later
        if timeline is None or piece.manifest.timeline == timeline:
            following[begin(piece.manifest)] = piece
    ends = {end(piece.manifest) for piece in following.values()}
    found = []
    for start in sorted((p for p in following if p not in ends), key=lambda p: p.optime):
        chain, at = [], start
        while at in following:
            chain.append(following.pop(at))
            at = end(chain[-1].manifest)
        found.append(Run(tuple(chain)))
    return tuple(found)


def holes(found: Sequence[Run]) -> tuple[Hole, ...]:
    """Between the runs of one timeline."""
    return tuple(Hole(earlier.end, later.start) for earlier, later in pairwise(found))


def continues(span: Recorded, at: OplogPoint) -> bool:
    """Whether a slice or differential goes on from `at`: it begins there exactly, or holds `at` inside of it.

    Slices never stop for a full, so a full usually ends inside of one. The entry there was looked for when the later of
    both was written; what can still be seen is whether a primary was elected in another history.
    """
    start, stop = begin(span.manifest), end(span.manifest)
    if start.optime == at.optime:
        return start.sha256 == at.sha256 and at.optime < stop.optime
    if not start.optime < at.optime < stop.optime:
        return False
    terms = [optime.term for optime in (start.optime, at.optime, stop.optime) if optime.term >= 0]
    return terms == sorted(terms)


def spans(records: Iterable[Recorded], timeline: str | None = None) -> list[Recorded]:
    """Slices and differentials of a timeline (or of all) that can be read, in order of where they begin."""
    kinds = (BackupKind.SLICE, BackupKind.DIFFERENTIAL)
    found = [r for r in records if r.kind in kinds and sound(r)]
    chosen = (r for r in found if timeline is None or r.manifest.timeline == timeline)
    return sorted(chosen, key=lambda r: (begin(r.manifest).optime, end(r.manifest).optime))


class Track:
    """How far slices and differentials lead. `pieces` as `spans` returns them, of one timeline.

    From many fulls the same pieces are gone over: what two ways share is walked once, since a year of slices is long.
    """

    def __init__(self, pieces: Sequence[Recorded]) -> None:
        self._pieces = pieces
        self._begins = [_place(begin(p.manifest).optime) for p in pieces]
        self._furthest = list(accumulate((_place(end(p.manifest).optime) for p in pieces), max))
        """Where the one ends that ends last, of each and those before it."""
        self._known: dict[tuple[int, int, int, str, int], OplogPoint] = {}

    def reach(self, start: OplogPoint) -> OplogPoint:
        """How far one can go from an entry of the oplog, such as the end of a full."""
        at, index = start, bisect_right(self._furthest, _place(start.optime))
        passed = []
        while True:
            state = (at.optime.seconds, at.optime.counter, at.optime.term, at.sha256, index)
            if state in self._known:
                at = self._known[state]
                break
            passed.append(state)
            best, index = self._next(at, index)
            if best.optime <= at.optime:
                break
            at = best
        self._known.update(dict.fromkeys(passed, at))
        return at

    def _next(self, at: OplogPoint, index: int) -> tuple[OplogPoint, int]:
        """Where those end that go on from `at`, and the first piece that begins behind it."""
        best, place = at, _place(at.optime)
        while index < len(self._pieces) and self._begins[index] <= place:
            piece = self._pieces[index]
            if continues(piece, at) and end(piece.manifest).optime > best.optime:
                best = end(piece.manifest)
            index += 1
        return best, index


def _place(optime: Optime) -> tuple[int, int]:
    """Sorts as the optime does, and faster."""
    return optime.seconds, optime.counter


def reach(full: Recorded, pieces: Sequence[Recorded]) -> OplogPoint:
    """How far one can go from one full. `pieces` as `spans` returns them."""
    return Track(pieces).reach(end(full.manifest))


def windows(records: Sequence[Recorded]) -> tuple[Window, ...]:
    """What can be restored to the second, the oldest first, with what lies between left out (rule 1.4)."""
    found: list[Window] = []
    for timeline in {r.manifest.timeline for r in records}:
        track = Track(spans(records, timeline))
        for full in good_fulls(r for r in records if r.manifest.timeline == timeline):
            # The last second may have gone on after the last entry that was seen.
            last = track.reach(end(full.manifest)).optime.seconds - 1
            first = end(full.manifest).optime.seconds
            if first <= last:
                found.append(Window(first, last))
    return _merged(found)


def _merged(found: Iterable[Window]) -> tuple[Window, ...]:
    merged: list[Window] = []
    for window in sorted(found, key=lambda w: (w.first, w.last)):
        if merged and window.first <= merged[-1].last:
            merged[-1] = Window(merged[-1].first, max(merged[-1].last, window.last))
        else:
            merged.append(window)
    return tuple(merged)


def restorable(records: Sequence[Recorded], tracks: Mapping[str, Track] | None = None) -> list[Recorded]:
    """The good backups whose own `to` can be reached from a good full, the oldest first. No slices. `tracks`: those of
    each timeline, where they are known.
    """
    tracks = dict(tracks or {})
    # By timeline: where fulls end, in order, and how far the furthest of each and those before it leads.
    reached: dict[str, tuple[list[tuple[int, int]], list[tuple[int, int]]]] = {}
    for full in good_fulls(records):
        timeline, at = full.manifest.timeline, end(full.manifest)
        if timeline not in tracks:
            tracks[timeline] = Track(spans(records, timeline))
        starts, furthest = reached.setdefault(timeline, ([], []))
        starts.append(_place(at.optime))
        furthest.append(max([_place(tracks[timeline].reach(at).optime), *furthest[-1:]]))
    found = []
    for record in of_kind(records, BackupKind.FULL, BackupKind.INCREMENTAL, BackupKind.DIFFERENTIAL):
        if not record.good:
            continue
        if record.kind is BackupKind.FULL or (
            record.to is not None
            and _inside(_place(record.to.optime), *reached.get(record.manifest.timeline, ([], [])))
        ):
            found.append(record)
    return found


def _inside(
    place: tuple[int, int], starts: Sequence[tuple[int, int]], furthest: Sequence[tuple[int, int]]
) -> bool:
    before = bisect_right(starts, place)
    return before > 0 and place <= furthest[before - 1]


def last_verified_point(records: Sequence[Recorded]) -> int | None:
    """The newest second that good backups hold, in seconds since 1970; None when there is no good one."""
    points = [window.last for window in windows(records)]
    whole = (
        r
        for r in restorable(records)
        if (r.to is not None or "mongodb" not in r.manifest.selection.engines) and not r.unread
    )
    points += [r.moment[0] for r in whole]
    return max(points, default=None)


def rpo_seconds(records: Sequence[Recorded], now: datetime) -> int | None:
    """What a disaster now would cost, in seconds; None when there is no good backup."""
    point = last_verified_point(records)
    return max(0, int(now.timestamp()) - point) if point is not None else None


def as_second(optime: Optime) -> datetime:
    """The second of an optime, for people."""
    return datetime.fromtimestamp(optime.seconds, UTC)
