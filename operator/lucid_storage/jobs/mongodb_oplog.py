"""A stretch of the oplog on its way into the destination: cut to the selection, counted, ended where it must end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from lucid_storage.archive.manifest import Closing, OperationCount, OplogPoint, Optime
from lucid_storage.jobs.mongodb_scope import MongoScope
from lucid_storage.stores.mongodb.dump.entries import Counts, EntryFilter, Header, Looked
from lucid_storage.stores.mongodb.dump.oplog import Oplog
from lucid_storage.stores.mongodb.dump.optimes import EntryPoint, OpTime, sha256

WRITE_BYTES = 1024 * 1024
"""Entries are handed on in pieces of about this size."""

_FIELDS = {"i": "inserts", "u": "updates", "d": "deletes", "c": "commands"}


@dataclass(slots=True)
class Stretch:
    """What was written of a stretch."""

    to: EntryPoint
    """Its last entry, whether that was written or not."""
    entries: int = 0
    bytes: int = 0
    counts: Counts = field(default_factory=Counter)
    closing: Closing | None = None
    """The timeline ends here, since the next entry ends it; that entry is not written."""

    @property
    def operations(self) -> tuple[OperationCount, ...]:
        return operation_counts(self.counts)


def operation_counts(counts: Counts) -> tuple[OperationCount, ...]:
    """By collection, in order of their names."""
    found: dict[str, dict[str, int]] = {}
    for (namespace, op), count in counts.items():
        name = _FIELDS.get(op)
        if name is not None:
            row = found.setdefault(namespace, {})
            row[name] = row.get(name, 0) + count
    return tuple(
        OperationCount.model_validate({"namespace": name, **row}) for name, row in sorted(found.items())
    )


def copy(
    raws: Iterable[memoryview],
    start: EntryPoint,
    entry_filter: EntryFilter,
    write: Callable[[bytes | bytearray], object],
    *,
    judge: Callable[[OpTime, Header], Closing | None] = lambda _, __: None,
    skip: Callable[[Looked], bool] = lambda _: False,
    check: Callable[[], None] = lambda: None,
) -> Stretch:
    """Writes the entries of `raws` that belong to the selection. Constant memory.

    `judge` names the reason for which a stretch ends just before a command, or raises. `skip` leaves entries out.
    """
    stretch = Stretch(start)
    pending = bytearray()
    last: tuple[OpTime, memoryview] | None = None
    for raw in raws:
        looked = entry_filter.look(raw)
        closings = [judge(looked.optime, about) for about in looked.commands] if looked.commands else ()
        closing = next(filter(None, closings), None) if closings else None
        if closing is not None:
            stretch.closing = closing
            if last is None:
                # A stretch must end behind where it begins, or nobody could tell that it is there. Nothing can be
                # restored to the second of a closing, so it does no harm that the entry itself is not in it.
                last = looked.optime, raw
            break
        last = looked.optime, raw
        if skip(looked):
            continue
        for what, count in looked.counts.items():
            stretch.counts[what] += count
        if looked.kept is not None:
            stretch.entries += 1
            stretch.bytes += len(looked.kept)
            pending += looked.kept
        if len(pending) >= WRITE_BYTES:
            check()
            write(pending)
            pending = bytearray()
    if pending:
        write(pending)
    if last is not None:
        stretch.to = EntryPoint(last[0], sha256(last[1]))
    return stretch


def entry_filter(scope: MongoScope, oplog: Oplog) -> EntryFilter:
    return EntryFilter(scope.wanted, scope.wanted_database, oplog.chain)


def recorded(point: EntryPoint) -> OplogPoint:
    """As manifests have it."""
    return OplogPoint(optime=recorded_optime(point.optime), sha256=point.sha256)


def recorded_optime(optime: OpTime) -> Optime:
    return Optime(seconds=optime.seconds, counter=optime.counter, term=optime.term)


def entry_point(point: OplogPoint) -> EntryPoint:
    """The opposite of `recorded`."""
    optime = point.optime
    return EntryPoint(OpTime(optime.seconds, optime.counter, optime.term), point.sha256)
