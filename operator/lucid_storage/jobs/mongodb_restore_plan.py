"""What a restore of MongoDB will do, decided from manifests, the archive's list of collections and the oplog's slices.

Nothing is written. The same plan is made again when the work begins, so that nothing has to be carried over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from lucid_storage.archive.content import streamed
from lucid_storage.archive.manifest import CollectionRecord, Manifest, MongoRecord, ObjectKind, StoredObject
from lucid_storage.archive.mongodump import OPLOG, ArchiveReader, Prelude
from lucid_storage.archive.restore_path import LAST_COUNTER, RestorePath
from lucid_storage.errors import LucidError, Reason, RefusedError
from lucid_storage.jobs.contract import Source
from lucid_storage.jobs.mongodb_restore_targets import check_accounts, choose_targets
from lucid_storage.jobs.mongodb_restore_warnings import warnings_of
from lucid_storage.models.meta import RESERVED_DATABASES
from lucid_storage.models.orders import RestoreOrder
from lucid_storage.stores.mongodb.restore.catalog import Definition, Name, check_length, public_name
from lucid_storage.stores.mongodb.restore.entries import Moment
from lucid_storage.stores.mongodb.restore.expiring import Definitions, Expiring
from lucid_storage.stores.mongodb.restore.lineage import Change, Lineage, everything, split
from lucid_storage.stores.mongodb.restore.outcome import Made, Outcome, outcome
from lucid_storage.stores.mongodb.restore.scanning import Scan

SPACE_FACTOR = 1.2
"""Of data and indexes: what each member must have free (rule 2.8)."""

OpenSource = Callable[[Manifest, StoredObject], Source]


@dataclass(frozen=True, slots=True)
class MongoPlan:
    """A restore of MongoDB, decided."""

    path: RestorePath
    until: Moment
    dump_end: Moment
    prelude: Prelude
    targets: dict[str, str]
    """Databases of the backup, and what is written for each."""
    lineage: Lineage
    records: tuple[CollectionRecord, ...]
    """Collections of the base that are restored."""
    cut_transactions: int
    warnings: tuple[str, ...]
    moving: frozenset[Name] = frozenset()
    """Public names that the replay makes, drops or changes."""
    made: tuple[Made, ...] = ()
    """What the replay makes and the base does not have."""
    gone: frozenset[Name] = frozenset()
    """Public names of the base that nothing has at the restored moment."""
    expiring: tuple[Expiring, ...] = ()
    """Collections that have a TTL at the restored moment."""
    chosen: tuple[str, ...] = ()
    """Collections that were asked for; none means all."""

    @property
    def replays(self) -> bool:
        """Whether anything may change what the full backup holds: its own oplog, slices, a differential."""
        mongodb = self.path.full.manifest.mongodb
        written = (count.namespace for count in (mongodb.operations if mongodb is not None else ()))
        return bool(self.path.then) or any(self.lineage.base(split(name)) for name in written)

    def steady(self, name: Name) -> bool:
        """Whether a collection of the base has its name all the time."""
        return (name[0], public_name(name[1])) not in self.moving

    @property
    def databases(self) -> tuple[str, ...]:
        """That are written."""
        return tuple(sorted(set(self.targets.values())))

    @property
    def needed_bytes(self) -> int:
        """Free bytes that each member needs."""
        data = sum(record.bytes + record.index_bytes for record in self.records)
        replayed = sum(stored.plain_bytes for piece in self.path.then for stored in oplogs(piece.manifest))
        return int(SPACE_FACTOR * (data + replayed))

    @property
    def read_bytes(self) -> int:
        """Of the destination."""
        return sum(stored.stored_bytes for stored in self._objects)

    @property
    def loaded_bytes(self) -> int:
        """That a restore of everything writes: documents, and what is replayed."""
        return sum(stored.plain_bytes for stored in self._objects)

    @property
    def _objects(self) -> list[StoredObject]:
        return [archive(self.path.full.manifest), *(o for p in self.path.then for o in oplogs(p.manifest))]

    def options_of(self, record: CollectionRecord) -> Mapping[str, object]:
        """Of a collection, as the archive lists it."""
        place = (record.database, record.name)
        found = (entry.options for entry in self.prelude.collections if tuple(entry.namespace) == place)
        return next(found, None) or {}

    def target_of(self, record: CollectionRecord) -> tuple[str, str]:
        return self.place_of((record.database, record.name))

    def place_of(self, name: Name) -> Name:
        """Where a collection of the backup goes, both by their public names."""
        return self.targets[name[0]], name[1]


def make_plan(order: RestoreOrder, path: RestorePath, open_source: OpenSource) -> MongoPlan:
    """Raises LucidError for what cannot be restored as it was asked for."""
    mongodb = _mongodb(path.full.manifest)
    dump_end = (mongodb.to.optime.seconds, mongodb.to.optime.counter)
    until = (path.until.seconds, path.until.counter) if path.until is not None else dump_end
    prelude = _prelude(path.full.manifest, open_source)
    scan = Scan(dump_end, until)
    for _, raws in oplog_pieces(path, open_source):
        if not scan.feed(raws):
            for _ in raws:
                pass  # to the checked end
            break
    targets = choose_targets(order, _databases(mongodb, prelude) | scan.databases)
    if order.users_and_roles:
        check_accounts(order, prelude)
    names = tuple((database, name) for database in targets for name in order.collections)
    lineage = scan.lineage(names) if names else everything(targets, _selected(path.full.manifest))
    found = _outcome(mongodb, scan, lineage, frozenset(names))
    records = tuple(r for r in mongodb.collections if r.database in targets and lineage.base(data_name(r)))
    _check_chosen(order, names, lineage, records, scan, _written(mongodb))
    ends = [(r.database, r.name) for r in records if (r.database, r.name) not in found.gone]
    for database, name in (*ends, *(made.name for made in found.made)):
        check_length(targets[database], name)
    return MongoPlan(
        path=path,
        until=until,
        dump_end=dump_end,
        prelude=prelude,
        targets=targets,
        lineage=lineage,
        records=records,
        cut_transactions=scan.cut(names) if names else scan.cut_outside(lineage.base),
        warnings=warnings_of(order, prelude, records),
        expiring=Definitions(definitions(prelude), lineage).follow(scan.commands),
        moving=_moving(scan),
        made=found.made,
        gone=found.gone,
        chosen=order.collections,
    )


def _outcome(mongodb: MongoRecord, scan: Scan, lineage: Lineage, names: frozenset[Name]) -> Outcome:
    base = {(record.database, record.name): record.type for record in mongodb.collections}
    return outcome(base, scan.events, lineage, names.__contains__ if names else lineage.base)


def _moving(scan: Scan) -> frozenset[Name]:
    names = (name for event in scan.events for name in (event.name, event.to) if name is not None)
    return frozenset((database, public_name(name)) for database, name in names)


def definitions(prelude: Prelude) -> Iterator[Definition]:
    """What the archive says of its collections, the oplog and the server's own apart."""
    for found in prelude.collections:
        if found.namespace != OPLOG and found.namespace.database not in RESERVED_DATABASES:
            yield Definition(
                database=found.namespace.database,
                name=found.namespace.collection,
                type=found.type or "collection",
                options=found.options or {},
                indexes=tuple(found.indexes),
                uuid=bytes.fromhex(found.uuid) if found.uuid else None,
            )


def oplog_pieces(path: RestorePath, open_source: OpenSource) -> Iterator[tuple[Manifest, Iterator[bytes]]]:
    """Each slice or differential with its entries, in order. Size and checksum are compared at an object's end only."""
    for piece in path.then:
        for stored in oplogs(piece.manifest):
            source = open_source(piece.manifest, stored)
            try:
                yield piece.manifest, streamed(source)
            finally:
                source.close()


def archive(manifest: Manifest) -> StoredObject:
    """The dump of a full. Raises RefusedError."""
    for stored in manifest.objects:
        if stored.kind is ObjectKind.MONGODB_ARCHIVE:
            return stored
    raise RefusedError(
        f"The backup {manifest.id} holds no MongoDB data; choose another backup, or other engines.",
        reason=Reason.RESTORE_BLOCKED,
    )


def oplogs(manifest: Manifest) -> Sequence[StoredObject]:
    return [stored for stored in manifest.objects if stored.kind is ObjectKind.MONGODB_OPLOG]


def until_text(moment: Moment) -> str:
    """For people and logs."""
    seconds, counter = moment
    return str(seconds) if counter == LAST_COUNTER else f"{seconds}.{counter}"


def _mongodb(manifest: Manifest) -> MongoRecord:
    if manifest.mongodb is None:
        raise RefusedError(
            f"The backup {manifest.id} holds no MongoDB data; choose another backup, or other engines.",
            reason=Reason.RESTORE_BLOCKED,
        )
    return manifest.mongodb


def _prelude(manifest: Manifest, open_source: OpenSource) -> Prelude:
    source = open_source(manifest, archive(manifest))
    try:
        return ArchiveReader(source).prelude
    finally:
        source.close()


def _databases(mongodb: MongoRecord, prelude: Prelude) -> frozenset[str]:
    listed = {found.namespace.database for found in prelude.collections if found.namespace != OPLOG}
    written = {database for database, _ in _written(mongodb)}
    return frozenset({record.database for record in mongodb.collections} | listed | written)


def _written(mongodb: MongoRecord) -> set[Name]:
    """What was written or changed while the dump ran, by public names. One that was made then is in no list of the
    dump: its oplog alone holds it.
    """
    found = (count.namespace.partition(".") for count in mongodb.operations)
    return {(database, public_name(collection)) for database, _, collection in found}


def _selected(manifest: Manifest) -> list[Name]:
    found = (name.partition(".") for name in manifest.selection.collections)
    return [(database, collection) for database, _, collection in found]


def data_name(record: CollectionRecord) -> Name:
    """Where the documents of a collection lie: of a time series in its buckets."""
    prefix = "system.buckets." if record.type == "timeseries" else ""
    return record.database, f"{prefix}{record.name}"


def _check_chosen(
    order: RestoreOrder,
    names: Sequence[Name],
    lineage: Lineage,
    records: Sequence[CollectionRecord],
    scan: Scan,
    written: Set[Name],
) -> None:
    """Every chosen collection must come from somewhere: the base, a creation in its oplog or one in the slices."""
    if not names:
        return
    found = {record.name for record in records} | {name[1] for name in written if lineage.base(name)}
    for event in scan.events:
        viewed = event.change is Change.VIEWED and lineage.base(event.name)
        if viewed or lineage.created(event.moment, event.name):
            found.add(event.name[1])
        if event.to is not None and event.name[1] in found:
            found.add(event.to[1])
    refuse_missing(order.collections, found)


def refuse_missing(chosen: Sequence[str], found: Iterable[str]) -> None:
    """Raises LucidError (RestoreBlocked) when one of the chosen collections is not among those that were found."""
    there = {public_name(name) for name in found}
    missing = [name for name in chosen if name not in there]
    if missing:
        raise LucidError(
            f"The backup holds no collection {missing[0]} at that moment; correct collections, or choose another"
            " moment.",
            reason=Reason.RESTORE_BLOCKED,
        )
