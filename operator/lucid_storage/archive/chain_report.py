"""A chain in figures, for status and metrics: what can be restored, how far, and how much it takes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from lucid_storage.archive.continuity import last_verified_point, runs, windows
from lucid_storage.archive.manifest import BackupKind
from lucid_storage.archive.recorded import Recorded, good_fulls
from lucid_storage.models.pruning import ChainReport, Span

SPANS = 8
"""So many fit into a termination message beside the rest."""


def report(records: Sequence[Recorded], unreadable: int = 0) -> ChainReport:
    """Of a chain's manifests. `unreadable`: those that could not even be parsed."""
    readable = [r for r in records if r.readable]
    newest = max(readable, key=lambda r: (r.moment, r.kind is BackupKind.SLICE), default=None)
    timeline = newest.manifest.timeline if newest is not None else None
    slices = [r for r in readable if r.kind is BackupKind.SLICE and r.manifest.timeline == timeline]
    found = runs(readable, timeline)
    verified = last_verified_point(records)
    return ChainReport(
        timeline=timeline,
        closed=bool(found) and found[-1].closing is not None,
        based=bool(good_fulls(r for r in readable if r.manifest.timeline == timeline)),
        recoverable=tuple(Span(first=w.from_time, last=w.to) for w in windows(records)[-SPANS:]),
        verified_to=datetime.fromtimestamp(verified, UTC) if verified is not None else None,
        backups=sum(1 for r in readable if r.kind is not BackupKind.SLICE and r.good),
        slices=len(slices),
        slice_bytes=_stored(slices),
        stored_bytes=_stored(records),
        last_slice_at=max((r.manifest.completed_at for r in slices), default=None),
        unreadable=unreadable + sum(1 for r in records if not r.readable),
    )


def _stored(records: Sequence[Recorded]) -> int:
    return sum(o.stored_bytes for r in records for o in r.manifest.objects)
