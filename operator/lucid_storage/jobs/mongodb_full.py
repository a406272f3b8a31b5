"""A full dump of MongoDB: one stream in mongodump's archive format, with the oplog that makes it one moment.

Everything is read from one member. `from` is what a majority had before the first read, or the start of the oldest
transaction that was open then; `to` is what a majority had after the last read; the oplog in between makes the dump
consistent at `to` (rule 1.2).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

from lucid_storage import __version__
from lucid_storage.archive.content import Tally
from lucid_storage.archive.manifest import CollectionRecord, EngineRecord, MongoRecord, ObjectKind
from lucid_storage.archive.mongodump import OPLOG, ArchiveWriter, CollectionEntry, Namespace, Prelude
from lucid_storage.errors import LucidError, Reason, RefusedError, StoreUnavailableError
from lucid_storage.jobs.contract import BackupRun, Sink, Taken
from lucid_storage.jobs.mongodb_oplog import Stretch, copy, entry_filter, recorded, recorded_optime
from lucid_storage.jobs.mongodb_scope import MongoScope
from lucid_storage.models.backup import BackupEngine, ReadPreference
from lucid_storage.stores.mongodb.dump.entries import Header, Looked
from lucid_storage.stores.mongodb.dump.listing import (
    FoundCollection,
    collections,
    sees_all_databases,
    users_and_roles,
)
from lucid_storage.stores.mongodb.dump.member import PinnedMember
from lucid_storage.stores.mongodb.dump.oplog import Oplog, OplogGapError
from lucid_storage.stores.mongodb.dump.optimes import EntryPoint, OpTime
from lucid_storage.stores.mongodb.dump.parallel import READERS, ParallelReading
from lucid_storage.stores.mongodb.dump.pinning import newest, pin

logger = logging.getLogger(__name__)

ATTEMPTS = 2
"""A dump is begun again once: for definitions that changed under it, or for a member that was lost."""


class DefinitionsChangedError(LucidError):
    """Definitions changed during the dump in a way that the oplog cannot make good."""

    reason = Reason.DDL_DURING_DUMP


def take_full(run: BackupRun, uri: str, scope: MongoScope, preference: ReadPreference) -> Taken:
    """Writes `mongodb.archive`. Raises LucidError, and leaves nothing behind then."""
    for attempt in range(1, ATTEMPTS + 1):
        dump = _Dump(run, uri, scope)
        try:
            with closing(pin(uri, preference)) as member:
                return dump.take(member)
        except (DefinitionsChangedError, StoreUnavailableError) as error:
            if attempt == ATTEMPTS or run.cancelled.is_set():
                raise
            logger.warning("the dump begins again: %s", error.message)
            dump.forget_progress()
    raise AssertionError("unreachable")


@dataclass(frozen=True, slots=True)
class _Start:
    """Where the oplog of a dump begins."""

    at: EntryPoint
    inclusive: bool
    """It is the first entry of a transaction, and so part of it."""


class _Dump:
    """One attempt."""

    def __init__(self, run: BackupRun, uri: str, scope: MongoScope) -> None:
        self._run = run
        self._uri = uri
        self._scope = scope
        self._tallies: dict[Namespace, Tally] = {}
        self._expected = self._bytes = self._documents = 0
        self._notes: list[str] = []

    def take(self, member: PinnedMember) -> Taken:
        logger.info("reading from %s", member.host)
        oplog = Oplog(member)
        start = _start(member, oplog)
        found = self._listed(member)
        sink = self._run.open_object(ObjectKind.MONGODB_ARCHIVE, "")
        try:
            to, stretch = self._write(member, oplog, start, found, sink)
            self._note_absent(found, stretch)
            stored = sink.finish()
        except BaseException:
            sink.abort()
            raise
        record = MongoRecord(
            version=member.version,
            identity=member.identity().identity,
            member=member.host,
            from_optime=recorded_optime(start.at.optime),
            to=recorded(to),
            collections=tuple(self._record(one) for one in found),
            operations=stretch.operations,
        )
        taken_at = datetime.fromtimestamp(to.optime.seconds, UTC)
        engine = EngineRecord(engine=BackupEngine.MONGODB, taken_at=taken_at, mongodb=record)
        return Taken(engine, (stored,), self._documents, self._bytes, tuple(self._notes))

    def _note_absent(self, found: Sequence[FoundCollection], stretch: Stretch) -> None:
        """Raises RefusedError where a person named what is not there, and nothing else."""
        there = [*(one.namespace for one in found), *(row.namespace for row in stretch.operations)]
        said = self._scope.lacking(there)
        if not said:
            return
        if self._run.order.refuse_nothing and not there:
            raise RefusedError(
                f"{said}, so there is nothing to back up: correct spec.mongodb.", reason=Reason.INVALID_SPEC
            )
        self._notes.append(f"{said}: see whether spec.mongodb names what was meant.")

    def forget_progress(self) -> None:
        """What was told of this attempt does not count."""
        self._run.report(-self._bytes, -self._documents)
        self._run.expect(-self._expected)

    def _listed(self, member: PinnedMember) -> list[FoundCollection]:
        found = collections(member, self._scope.wanted, self._scope.wanted_database)
        if not self._scope.named and not sees_all_databases(member):
            self._notes.append(
                "Only databases that the login may read are in it: give it the role backup, or name them."
            )
        if self._scope.whole:
            users = users_and_roles(member)
            if users is None:
                self._notes.append("Users and roles are not in it: the login may not read them.")
            found += users or []
        self._expected = sum(one.bytes for one in found)
        self._run.expect(self._expected)
        return found

    def _write(
        self,
        member: PinnedMember,
        oplog: Oplog,
        start: _Start,
        found: Sequence[FoundCollection],
        sink: Sink,
    ) -> tuple[EntryPoint, Stretch]:
        entries = [_entry(one) for one in found]
        prelude = Prelude(
            member.version, f"lucid-storage {__version__}", (*entries, CollectionEntry(OPLOG)), READERS
        )
        writer = ArchiveWriter(sink, prelude)
        places = {id(one): prelude.place(entry) for one, entry in zip(found, entries, strict=True)}
        self._tallies = {place: Tally() for place in (*places.values(), OPLOG)}

        def seen(one: FoundCollection, documents: Sequence[memoryview], joined: bytes) -> None:
            count = self._tallies[places[id(one)]].add_split(documents, joined)
            self._run.report(len(joined), count)

        def written(one: FoundCollection, reply: bytes | None) -> None:
            if reply is None:
                writer.end(places[id(one)], self._tallies[places[id(one)]].crc)
            else:
                writer.block(places[id(one)], reply)

        reading = ParallelReading(member, seen)
        # mongorestore wants users and roles whole before anything else (mongo-tools, mongorestore.go, Restore).
        accounts = [one for one in found if one.database == "admin"]
        try:
            reading.run(accounts, written, self._run.check)
            for one in found:
                if one.type == "view":
                    writer.end(places[id(one)], 0)
            rest = (one for one in found if one.database != "admin" and one.type != "view")
            reading.run(rest, written, self._run.check)
        finally:
            self._documents = sum(tally.documents for tally in self._tallies.values())
            self._bytes = sum(tally.bytes for tally in self._tallies.values())
        latest = newest(self._uri)
        if latest is not None:
            member.catch_up(latest, self._run.check)
        to = oplog.last()
        stretch = self._append_oplog(oplog, start, to, writer, reading)
        writer.finish()
        return to, stretch

    def _append_oplog(
        self,
        oplog: Oplog,
        start: _Start,
        to: EntryPoint,
        writer: ArchiveWriter,
        reading: ParallelReading,
    ) -> Stretch:
        tally = self._tallies[OPLOG]
        names = _Names(self._scope, reading)

        def write(data: bytes | bytearray) -> None:
            tally.add(data)
            writer.block(OPLOG, data)

        def skip(looked: Looked) -> bool:
            """What the last pass over a capped collection has seen must not be inserted behind its end."""
            return any(
                op != "c"
                and namespace in reading.restarted
                and looked.optime.moment <= reading.restarted[namespace].moment
                for namespace, op in looked.counts
            )

        raws = oplog.entries(start.at, to.optime, inclusive=start.inclusive)
        try:
            stretch = copy(
                raws,
                start.at,
                entry_filter(self._scope, oplog),
                write,
                judge=names.judge,
                skip=skip,
                check=self._run.check,
            )
        except OplogGapError:
            raise OplogGapError(
                "The oplog rolled over while the full backup ran, so the backup cannot be made consistent. Enlarge the"
                " oplog (replSetResizeOplog), or back up when there are fewer writes."
            ) from None
        writer.end(OPLOG, tally.crc)
        lost = [one.namespace for one in reading.gone if one.namespace not in names.dropped]
        if lost:
            raise StoreUnavailableError(f"Reading {lost[0]} was ended by the server; it is tried again.")
        return stretch

    def _record(self, one: FoundCollection) -> CollectionRecord:
        tally = self._tallies[Namespace(one.database, one.place)]
        return CollectionRecord(
            database=one.database,
            name=one.name,
            type=one.type,
            capped=one.capped,
            documents=tally.documents,
            bytes=tally.bytes,
            index_bytes=one.index_bytes,
            indexes=len(one.indexes),
            content_hash=tally.content_hash,
        )


class _Names:
    """What became of names while the dump ran, by the commands of its oplog in their order."""

    def __init__(self, scope: MongoScope, reading: ParallelReading) -> None:
        self._scope = scope
        self._restarted = reading.restarted
        self._born: set[str] = set()
        """Collections that were made in this oplog, so that it holds all of them."""
        self.dropped: set[str] = set()

    def judge(self, at: OpTime, about: Header) -> None:
        """Raises DefinitionsChangedError for what the oplog cannot make good."""
        overtaken = self._restarted.get(about.namespace)
        made_anew = about.command in ("create", "drop") and overtaken and at.moment <= overtaken.moment
        if made_anew or (self._scope.disturbs(about) and not self._renamed_whole(about)):
            raise DefinitionsChangedError(
                f"{about.namespace} was changed by {about.command} while the backup ran, which cannot be made good"
                " from the oplog; make the backup when no collections are renamed or converted."
            )
        if about.command == "create":
            self._born.add(about.namespace)
        elif about.command in ("drop", "dropDatabase"):
            self._born.discard(about.namespace)
            self.dropped.add(about.namespace)
        elif about.command == "renameCollection" and about.target is not None:
            self._born.discard(about.namespace)
            self._born.add(about.target)
            self.dropped.add(about.target)

    def _renamed_whole(self, about: Header) -> bool:
        """A new collection takes the name of another, as `$out` and convertToCapped do it."""
        if about.command != "renameCollection" or about.target is None or about.namespace not in self._born:
            return False
        both = (about.namespace, about.target)
        return all(self._scope.wanted(name) and name not in self._restarted for name in both)


def _start(member: PinnedMember, oplog: Oplog) -> _Start:
    last = oplog.last()
    oldest = oplog.oldest_open(last.optime)
    if oldest is None:
        return _Start(last, inclusive=False)
    point = oplog.point(oldest)
    if point is None:
        raise OplogGapError(
            "A transaction is open whose beginning is no longer in the oplog; end it, or enlarge the oplog."
        )
    return _Start(point, inclusive=True)


def _entry(one: FoundCollection) -> CollectionEntry:
    return CollectionEntry(
        Namespace(one.database, one.name),
        options=one.options,
        indexes=one.indexes,
        uuid=one.uuid,
        type=one.type,
        size=one.documents,
    )
