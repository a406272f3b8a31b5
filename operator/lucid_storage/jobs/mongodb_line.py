"""The line of slices that an incremental stands on, written up to a moment by whoever comes first (rule 1.5)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic

from lucid_storage.archive.decision import OplogView
from lucid_storage.archive.manifest import Closing, Manifest, OplogPoint
from lucid_storage.errors import LucidError
from lucid_storage.jobs.contract import BackupRun
from lucid_storage.jobs.destination import Place
from lucid_storage.jobs.mongodb_slices import SliceThereError, SliceWriter, Written
from lucid_storage.stores.mongodb.dump.member import PinnedMember
from lucid_storage.stores.mongodb.dump.oplog import OplogGapError

CUT_SECONDS = 30.0
"""How long a running slicing worker is waited for; then the slice is written here."""
CUT_POLL_SECONDS = 0.5


@dataclass(slots=True)
class Line:
    """Slices that follow one another."""

    to: OplogPoint
    slices: list[Manifest] = field(default_factory=list)
    entries: int = 0
    """Written here; what others wrote is not counted."""
    bytes: int = 0
    followed: bool = False
    """Somebody else wrote the last one."""

    @property
    def closing(self) -> Closing | None:
        return self.slices[-1].closing if self.slices else None

    def follow(self, written: Written, *, by_others: bool = False) -> None:
        self.slices.append(written.manifest)
        self.to = written.to
        self.entries += written.entries
        self.bytes += written.plain_bytes
        self.followed = by_others


def write_line(
    run: BackupRun,
    writer: SliceWriter,
    member: PinnedMember,
    timeline: str,
    prev: OplogPoint,
    until: OplogPoint,
    look: Callable[[Sequence[OplogPoint]], OplogView],
) -> Line:
    """Slices of (prev, until] or to the end of the timeline: by the slicing worker where one runs, else by this one.

    Raises OplogGapError where the last one is not of the history that `look` shows. The ones before it need no look of
    their own: each was written where the end of the one before was seen.
    """
    line = Line(prev)
    waiting_until = monotonic() + (CUT_SECONDS if run.order.slicing else 0)
    asked = False
    while line.closing is None and line.to.optime < until.optime:
        run.check()
        there = writer.there(timeline, line.to)
        if there is None and monotonic() < waiting_until:
            asked = asked or _ask_for_cut(writer.place, run.order.run)
            run.cancelled.wait(CUT_POLL_SECONDS)
            continue
        if there is not None:
            line.follow(Written(there), by_others=True)
            continue
        try:
            written = writer.write(member, timeline, line.to, run.check)
        except SliceThereError:
            continue
        if written is None:
            break
        line.follow(written)
    if line.followed and line.to not in look((line.to,)).held:
        raise OplogGapError(
            "The last slice is of another history than the oplog: MongoDB was put back to an earlier state, or another"
            " cluster writes into this chain. Make a full backup, and give each cluster a prefix of its own."
        )
    return line


def _ask_for_cut(place: Place, run: str) -> bool:
    """Whether the slicing worker was asked. A destination that refuses is no reason to wait."""
    with suppress(LucidError):
        place.store.put(place.folder.cut, json.dumps({"run": run}).encode())
    return True
