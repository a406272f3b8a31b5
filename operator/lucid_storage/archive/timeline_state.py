"""The current timeline of a chain, from its manifests alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lucid_storage.archive.continuity import Run, begin, continues, end, runs, sound
from lucid_storage.archive.manifest import BackupKind, OplogPoint
from lucid_storage.archive.recorded import Recorded, good_fulls, of_kind


@dataclass(frozen=True, slots=True)
class TimelineState:
    """The current timeline of a chain."""

    timeline: str
    first: Recorded
    records: tuple[Recorded, ...]
    run: Run | None
    """The newest one."""

    @property
    def closed(self) -> bool:
        return self.run is not None and self.run.closing is not None


def current(records: Sequence[Recorded]) -> TimelineState | None:
    """The timeline that reaches furthest. Slices of a timeline may come before its first full."""
    readable = [r for r in records if r.readable]
    newest = max(readable, key=lambda r: (r.moment, r.kind is BackupKind.SLICE), default=None)
    if newest is None:
        return None
    timeline = newest.manifest.timeline
    members = sorted((r for r in readable if r.manifest.timeline == timeline), key=lambda r: r.moment)
    found = runs(members)
    return TimelineState(timeline, members[0], tuple(members), found[-1] if found else None)


def line_end(state: TimelineState) -> OplogPoint | None:
    """Where the line of slices ends that a new one goes on from; without slices, where the newest good full does."""
    if state.run is not None:
        return state.run.end
    fulls = good_fulls(state.records)
    return end(fulls[-1].manifest) if fulls else None


def ends_behind(state: TimelineState, at: OplogPoint | None) -> list[Recorded]:
    """What ended behind an entry, the oldest first: backups, also those whose check is not over, and the newest slice.

    Without an entry all of them.
    """
    last = state.run.slices[-1:] if state.run is not None else ()
    found = [r for r in state.records if r.kind is not BackupKind.SLICE and r.to is not None]
    known = sorted((*found, *last), key=lambda r: r.moment)
    return [r for r in known if at is None or end(r.manifest).optime > at.optime]


def slices_from(state: TimelineState, start: OplogPoint) -> tuple[Recorded, ...]:
    """The slices of the newest run from the one that holds `start`; none when it does not hold it."""
    pieces = state.run.slices if state.run is not None else ()
    for n, piece in enumerate(pieces):
        if continues(piece, start):
            return pieces[n:]
        if begin(piece.manifest).optime > start.optime:
            break
    return ()


def parent_of(state: TimelineState) -> str | None:
    """The newest good backup of the timeline; slices are nobody's parent."""
    kinds = (BackupKind.FULL, BackupKind.INCREMENTAL, BackupKind.DIFFERENTIAL)
    backups = [
        r for r in of_kind(state.records, *kinds) if r.good and (r.kind is BackupKind.FULL or _ends(r))
    ]
    return backups[-1].id if backups else None


def _ends(record: Recorded) -> bool:
    return record.to is not None and (record.kind is not BackupKind.DIFFERENTIAL or sound(record))
