"""A chain in figures, for status and metrics: what can be restored, how far, and how much it takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from lucid_storage.archive.continuity import as_second, last_verified_point, restorable, runs, windows
from lucid_storage.archive.manifest import BackupKind
from lucid_storage.archive.recorded import Recorded, Trust, good_fulls, of_kind
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
        last_slice_to=_end(r for r in records if r.manifest.timeline == timeline),
        unreadable=unreadable + sum(1 for r in records if not r.readable),
    )


def unrestorable(records: Sequence[Recorded]) -> list[Recorded]:
    """Backups that were found damaged, and proved ones of MongoDB that nothing leads to any more, the oldest first: a
    slice or a base of theirs is damaged or gone. Where a key is missing nobody knows that.
    """
    reached = {r.id for r in restorable(records)}
    locked = {r.manifest.timeline for r in records if r.trust is Trust.KEY_MISSING}
    return [
        r
        for r in of_kind(records, BackupKind.FULL, BackupKind.INCREMENTAL, BackupKind.DIFFERENTIAL)
        if _found_damaged(r)
        or (r.good and r.to is not None and r.id not in reached and r.manifest.timeline not in locked)
    ]


def _found_damaged(record: Recorded) -> bool:
    """A check of it failed, and none has passed since."""
    return record.readable and record.proof is not None and not record.proof.passed


def _end(records: Iterable[Recorded]) -> datetime | None:
    """Of slices, whoever can read them."""
    slices = of_kind(records, BackupKind.SLICE)
    return max((as_second(r.to.optime) for r in slices if r.to is not None), default=None)


def _stored(records: Sequence[Recorded]) -> int:
    return sum(o.stored_bytes for r in records for o in r.manifest.objects)
