"""MongoDB as an engine of the backup worker: what the oplog holds, and the full, incremental or differential itself."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from lucid_storage.archive.content import streamed
from lucid_storage.archive.decision import Decision, OplogView
from lucid_storage.archive.manifest import (
    BackupKind,
    Closing,
    EngineRecord,
    Manifest,
    MongoRecord,
    ObjectKind,
    OperationCount,
    OplogPoint,
    Optime,
)
from lucid_storage.archive.recorded import Recorded
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs.contract import BackupRun, Taken
from lucid_storage.jobs.destination import Place
from lucid_storage.jobs.mongodb_full import take_full
from lucid_storage.jobs.mongodb_line import Line, write_line
from lucid_storage.jobs.mongodb_looking import look
from lucid_storage.jobs.mongodb_oplog import (
    Stretch,
    copy,
    entry_filter,
    entry_point,
    operation_counts,
    recorded,
)
from lucid_storage.jobs.mongodb_scope import MongoScope
from lucid_storage.jobs.mongodb_slices import SliceWriter
from lucid_storage.jobs.results import selection_of
from lucid_storage.models.backup import BackupEngine, ReadPreference
from lucid_storage.models.orders import BackupOrder
from lucid_storage.stores.mongodb.dump.entries import Looked
from lucid_storage.stores.mongodb.dump.member import PinnedMember
from lucid_storage.stores.mongodb.dump.oplog import Oplog, OplogGapError
from lucid_storage.stores.mongodb.dump.pinning import pin


class MongoBackup:
    """One deployment, read from one member. A context manager; for one thread."""

    def __init__(self, order: BackupOrder, uri: str, place: Place | None = None) -> None:
        self._order = order
        self._uri = uri
        self._given_place = place
        self._scope = MongoScope(selection_of(order), order.database_patterns)
        self._member: PinnedMember | None = None
        self._latest: OplogPoint | None = None
        self._unended: dict[OplogPoint, OplogPoint] = {}
        """By the entry that a timeline goes on from: up to where nothing ended it."""

    def __enter__(self) -> Self:
        """Raises LucidError: NoOplog, ShardedUnsupported, TargetChanged, or what a connection can end with."""
        self._member = pin(self._uri, self._preference)
        expected = self._order.server_identity
        if expected is not None and self.identity != expected:
            self._member.close()
            raise LucidError(
                "The worker reached another MongoDB than the operator; check the hosts of the connection.",
                reason=Reason.TARGET_CHANGED,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.member.close()

    @property
    def member(self) -> PinnedMember:
        assert self._member is not None
        return self._member

    @property
    def identity(self) -> str:
        """Of the deployment, as the operator sees it."""
        return self.member.identity().identity

    @property
    def window_seconds(self) -> int:
        """How far the oplog reaches back."""
        return Oplog(self.member).window_seconds()

    def look(self, points: Sequence[OplogPoint]) -> OplogView:
        """The end of the oplog, and which points it holds. From here on the member is read that holds most of them."""
        seen = look(self._uri, self.member, self._preference, points)
        self._member, self._latest = seen.member, seen.view.last
        return seen.view

    def take(self, run: BackupRun, decision: Decision, records: Sequence[Recorded]) -> Taken:
        """The data that the decision asks for. Raises LucidError, and leaves nothing of it behind then."""
        match decision.kind:
            case BackupKind.INCREMENTAL:
                return self._incremental(run, decision, records)
            case BackupKind.DIFFERENTIAL:
                return self._differential(run, decision, records)
            case _:
                return take_full(run, self._uri, self._scope, self._preference)

    @property
    def _preference(self) -> ReadPreference:
        chosen = self._order.mongodb
        return chosen.read_preference if chosen is not None else ReadPreference.SECONDARY_PREFERRED

    @property
    def _place(self) -> Place:
        return self._given_place or Place.of(self._order, os.environ)

    # Slices of a chain, up to now

    def end_timeline(self, run: BackupRun, decision: Decision, until: OplogPoint | None = None) -> bool:
        """Whether the timeline that a full would join was ended behind its last slice, by a restore or a rename.

        The slices up to there are written first, as the next incremental would have done: whoever reads the chain then
        sees where it ends, and what came before stays restorable (rule 1.7). `until` is where the full ended, where it
        was made already: what ended the timeline later is behind the full. True as well where the oplog was lost
        meanwhile, or is of another history than that full; decide again then.
        """
        if decision.prev is None:
            return False
        if until is not None and self._foreign(until):
            return True
        with suppress(OplogGapError):
            if not self._ended(run, decision.prev, until or self._latest or self.look(()).last):
                return False
            self._slice(run, decision.timeline, decision.prev)
        return True

    def _foreign(self, at: OplogPoint) -> bool:
        """Whether the oplog reaches back behind this moment, and has not the entry that was there."""
        if at in self.look((at,)).held:
            return False
        first = Oplog(self.member).first()
        return first is not None and first.moment <= entry_point(at).optime.moment

    def _ended(self, run: BackupRun, prev: OplogPoint, until: OplogPoint) -> bool:
        """Whether a rename in (prev, until] ends a timeline. What was looked at once is not looked at again."""
        begin, oplog = entry_point(self._unended.get(prev, prev)), Oplog(self.member)
        found = oplog.renames(begin, entry_point(until).optime, run.check)
        looked = map(entry_filter(self._scope, oplog).look, found)
        if any(self._scope.closing(one.optime, about) for one in looked for about in one.commands):
            return True
        if not oplog.holds(entry_point(prev)):
            return True  # what came behind it was perhaps gone before it was looked at
        self._unended[prev] = until
        return False

    def _slice(self, run: BackupRun, timeline: str, prev: OplogPoint) -> Line:
        """Slices up to now or to the end of the timeline."""
        until = self._latest or self.look(()).last
        writer = SliceWriter(self._order, self._place, self._scope)
        return write_line(run, writer, self.member, timeline, prev, until, self.look)

    def _incremental(self, run: BackupRun, decision: Decision, records: Sequence[Recorded]) -> Taken:
        """A restore point behind slices."""
        assert decision.prev is not None
        line = self._slice(run, decision.timeline, decision.prev)
        _refuse_closed(line.closing)
        run.report(line.bytes, line.entries)
        record = self._record(_beginning(decision, records), line.to, _sum(line.slices), line.slices)
        return Taken(record, (), line.entries, line.bytes)

    # Differential: everything since the full in one object

    def _differential(self, run: BackupRun, decision: Decision, records: Sequence[Recorded]) -> Taken:
        """The slices since the full, then the oplog, in order and never compacted (rule 1.6)."""
        assert decision.prev is not None
        assert decision.tail is not None
        oplog = Oplog(self.member)
        entries = entry_filter(self._scope, oplog)
        after = (decision.prev.optime.seconds, decision.prev.optime.counter)
        sink = run.open_object(ObjectKind.MONGODB_OPLOG, "")

        def before(looked: Looked) -> bool:
            return looked.optime.moment <= after

        try:
            first = copy(
                self._slices(decision, records),
                entry_point(decision.prev),
                entries,
                sink.write,
                skip=before,
                check=run.check,
            )
            run.report(first.bytes, first.entries)
            until = oplog.last()
            second = copy(
                oplog.entries(entry_point(decision.tail), until.optime),
                entry_point(decision.tail),
                entries,
                sink.write,
                judge=self._scope.closing,
                check=run.check,
            )
            _refuse_closed(second.closing)
            run.report(second.bytes, second.entries)
            stored = sink.finish()
        except BaseException:
            sink.abort()
            raise
        operations = operation_counts(first.counts + second.counts)
        record = self._record(decision.prev.optime, recorded(second.to), operations)
        return Taken(record, (stored,), first.entries + second.entries, _bytes(first, second))

    def _slices(self, decision: Decision, records: Sequence[Recorded]) -> Iterator[memoryview]:
        """The entries of the slices that the differential takes its first part from."""
        known: Mapping[str, Recorded] = {record.id: record for record in records}
        for name in decision.copied:
            manifest = known[name].manifest
            for stored in manifest.objects:
                source = self._place.source(manifest, stored)
                try:
                    yield from (memoryview(raw) for raw in streamed(source))
                finally:
                    source.close()

    def _record(
        self,
        start: Optime,
        to: OplogPoint,
        operations: tuple[OperationCount, ...],
        slices: Sequence[Manifest] = (),
    ) -> EngineRecord:
        mongodb = MongoRecord(
            version=self.member.version,
            identity=self.identity,
            member=self.member.host,
            from_optime=start,
            to=to,
            operations=operations,
            slices_bytes=sum(o.stored_bytes for manifest in slices for o in manifest.objects),
            slices_plain_bytes=sum(o.plain_bytes for manifest in slices for o in manifest.objects),
        )
        taken_at = datetime.fromtimestamp(to.optime.seconds, UTC)
        return EngineRecord(engine=BackupEngine.MONGODB, taken_at=taken_at, mongodb=mongodb)


def _beginning(decision: Decision, records: Sequence[Recorded]) -> Optime:
    """Where the backup's own span begins: at the end of the one that it follows."""
    parent = next((record.to for record in records if record.id == decision.parent), None)
    assert decision.prev is not None
    return parent.optime if parent is not None else decision.prev.optime


def _sum(slices: Iterable[Manifest]) -> tuple[OperationCount, ...]:
    rows: dict[str, OperationCount] = {}
    for row in (row for manifest in slices if manifest.mongodb for row in manifest.mongodb.operations):
        had = rows.get(row.namespace, OperationCount(namespace=row.namespace))
        rows[row.namespace] = OperationCount(
            namespace=row.namespace,
            inserts=had.inserts + row.inserts,
            updates=had.updates + row.updates,
            deletes=had.deletes + row.deletes,
            commands=had.commands + row.commands,
        )
    return tuple(rows[name] for name in sorted(rows))


def _bytes(*stretches: Stretch) -> int:
    return sum(stretch.bytes for stretch in stretches)


def _refuse_closed(closing: Closing | None) -> None:
    if closing is not None:
        raise LucidError(
            f"The timeline ended with a restore or a rename ({closing}); what came before it is kept. Make a full"
            " backup.",
            reason=Reason.NO_BASE,
        )
