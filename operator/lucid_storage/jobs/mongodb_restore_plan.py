"""What a restore of MongoDB will do, decided from manifests, the archive's list of collections and the oplog's slices.

Nothing is written. The same plan is made again when the work begins, so that nothing has to be carried over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from lucid_storage.archive.content import streamed
from lucid_storage.archive.manifest import CollectionRecord, Manifest, MongoRecord, ObjectKind, StoredObject
from lucid_storage.archive.mongodump import OPLOG, ArchiveReader, CollectionEntry, Prelude
from lucid_storage.archive.restore_path import LAST_COUNTER, RestorePath
from lucid_storage.errors import LucidError, NotAllowedError, Reason, RefusedError
from lucid_storage.jobs.contract import Source
from lucid_storage.models.meta import RESERVED_DATABASES
from lucid_storage.models.orders import RestoreOrder
from lucid_storage.stores.mongodb.restore.accounts import USERS
from lucid_storage.stores.mongodb.restore.catalog import Definition, Name, public_name, stageable
from lucid_storage.stores.mongodb.restore.entries import Moment
from lucid_storage.stores.mongodb.restore.lineage import Lineage, everything
from lucid_storage.stores.mongodb.restore.scanning import Scan

MOST_DATABASES = 64
"""That one restore writes: a status names them all."""
MOST_NAME_BYTES = 2048
"""Of their names together: the worker's result names them, and a termination message has 4,096 bytes."""
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
        pieces = [archive(self.path.full.manifest), *(o for p in self.path.then for o in oplogs(p.manifest))]
        return sum(stored.stored_bytes for stored in pieces)

    def options_of(self, record: CollectionRecord) -> Mapping[str, object]:
        """Of a collection, as the archive lists it."""
        place = (record.database, record.name)
        found = (entry.options for entry in self.prelude.collections if tuple(entry.namespace) == place)
        return next(found, None) or {}

    def target_of(self, record: CollectionRecord) -> tuple[str, str]:
        return self.targets[record.database], record.name


def make_plan(order: RestoreOrder, path: RestorePath, open_source: OpenSource) -> MongoPlan:
    """Raises LucidError for what cannot be restored as it was asked for."""
    mongodb = _mongodb(path.full.manifest)
    dump_end = (mongodb.to.optime.seconds, mongodb.to.optime.counter)
    until = (path.until.seconds, path.until.counter) if path.until is not None else dump_end
    prelude = _prelude(path.full.manifest, open_source)
    scan = Scan(dump_end, until)
    for _, raws in oplog_pieces(path, open_source):
        if not scan.feed(raws):
            break
    targets = choose_targets(order, _databases(mongodb, prelude) | scan.databases)
    if order.users_and_roles:
        _check_accounts(order, prelude)
    names = tuple((database, name) for database in targets for name in order.collections)
    lineage = scan.lineage(names) if names else everything(targets, _selected(path.full.manifest))
    records = tuple(r for r in mongodb.collections if r.database in targets and lineage.base(data_name(r)))
    _check_chosen(order, names, lineage, records, scan)
    return MongoPlan(
        path=path,
        until=until,
        dump_end=dump_end,
        prelude=prelude,
        targets=targets,
        lineage=lineage,
        records=records,
        cut_transactions=scan.cut(names) if names else 0,
        warnings=_warnings(order, prelude, records),
        moving=_moving(scan),
    )


def _check_accounts(order: RestoreOrder, prelude: Prelude) -> None:
    """Users and roles are of the whole deployment. Raises RefusedError, NotAllowedError."""
    if "*" not in order.database_patterns:
        raise NotAllowedError(
            "This namespace may not write all databases, so it restores no users and roles; leave usersAndRoles out.",
            reason=Reason.DATABASE_NOT_ALLOWED,
        )
    if order.source_database or order.target_database or order.collections:
        raise RefusedError(
            "Users and roles come back with everything only; leave out usersAndRoles, or sourceDatabase,"
            " targetDatabase and collections.",
            reason=Reason.RESTORE_BLOCKED,
        )
    if not any(tuple(found.namespace) == USERS for found in prelude.collections):
        raise RefusedError(
            "The backup holds no users: it is not of everything, or its login may not read them (the role backup may);"
            " leave usersAndRoles out.",
            reason=Reason.RESTORE_BLOCKED,
        )


def _moving(scan: Scan) -> frozenset[Name]:
    names = (name for event in scan.events for name in (event.name, event.to) if name is not None)
    return frozenset((database, public_name(name)) for database, name in names)


def choose_targets(order: RestoreOrder, found: frozenset[str]) -> dict[str, str]:
    """Which database of the backup goes where. Raises RefusedError, NotAllowedError."""
    databases = found - set(RESERVED_DATABASES)
    if order.source_database is not None:
        if order.source_database not in databases:
            raise RefusedError(
                f"The backup holds no database {order.source_database}; it holds {_some(databases)}. Name one of them"
                " in sourceDatabase.",
                reason=Reason.RESTORE_BLOCKED,
            )
        databases = frozenset({order.source_database})
    if order.target_database is not None and len(databases) > 1:
        raise RefusedError(
            f"The backup holds several databases ({_some(databases)}); name in sourceDatabase which of them goes to"
            f" {order.target_database}.",
            reason=Reason.RESTORE_BLOCKED,
        )
    targets = {database: order.target_database or database for database in sorted(databases)}
    for target in targets.values():
        if not any(fnmatchcase(target, pattern) for pattern in order.database_patterns):
            raise NotAllowedError(
                f"This namespace may not write the database {target}; choose another with targetDatabase.",
                reason=Reason.DATABASE_NOT_ALLOWED,
            )
    if not targets:
        raise RefusedError("The backup holds no database to restore.", reason=Reason.RESTORE_BLOCKED)
    if (
        len(targets) > MOST_DATABASES
        or sum(len(name.encode()) for name in targets.values()) > MOST_NAME_BYTES
    ):
        raise RefusedError(
            f"The backup holds {len(targets)} databases, and one Restore writes at most {MOST_DATABASES}, with names of"
            f" {MOST_NAME_BYTES} bytes together; make one Restore for each, with sourceDatabase.",
            reason=Reason.RESTORE_BLOCKED,
        )
    return targets


def definitions(plan: MongoPlan) -> Iterator[Definition]:
    """What the archive says of its collections, the oplog and the server's own apart."""
    for found in plan.prelude.collections:
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
    """Each slice or differential with its entries, in order. Each is read to its checked end or given up."""
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
    return frozenset({record.database for record in mongodb.collections} | listed)


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
) -> None:
    """Every chosen collection must come from somewhere: the base, or a creation in the slices."""
    if not names:
        return
    found = {record.name for record in records}
    for event in scan.events:
        if lineage.created(event.moment, event.name):
            found.add(event.name[1])
        if event.to is not None and event.name[1] in found:
            found.add(event.to[1])
    missing = [
        name for name in order.collections if name not in {n.removeprefix("system.buckets.") for n in found}
    ]
    if missing:
        raise LucidError(
            f"The backup holds no collection {missing[0]} at that moment; correct collections, or choose another"
            " moment.",
            reason=Reason.RESTORE_BLOCKED,
        )


def _warnings(order: RestoreOrder, prelude: Prelude, records: Sequence[CollectionRecord]) -> tuple[str, ...]:
    chosen = {(record.database, record.name) for record in records}
    entries = [e for e in prelude.collections if tuple(e.namespace) in chosen]
    found = list(_IN_PLACE[order.drop_existing]) if order.in_place else []
    expiring = sorted(str(e.namespace) for e in entries if _expires(e))
    if expiring:
        found.append(
            f"Documents that are past their time to live are deleted soon after the swap: {_some(expiring)}."
        )
    direct = sorted(
        str(e.namespace)
        for e in entries
        if e.type == "timeseries"
        or (e.type != "view" and not stageable(e.namespace.collection, e.options or {}))
    )
    if direct and not order.in_place:
        found.append(
            f"Loaded under their own name before the swap, since they cannot be renamed: {_some(direct)}."
        )
    if len(records) > 1 and not order.in_place:
        found.append("Collections are swapped one after another; the swap is not atomic over all of them.")
    if not order.in_place or order.drop_existing:
        found.append("Change streams on replaced collections end with the swap.")
    if order.users_and_roles:
        found.append(
            "Users and roles come last; those that are there, the operator's own and root users stay."
        )
    if order.collections:
        found.append("Transactions are restored as far as they wrote the chosen collections.")
    return tuple(found)


_IN_PLACE: Mapping[bool, tuple[str, ...]] = {
    True: (
        "InPlace: each collection is dropped and loaded under its own name; a failure leaves the target incomplete.",
    ),
    False: (
        "InPlace: only documents whose _id is absent are added; a failure leaves the target with some of them.",
        "Options, indexes and documents that are there stay as they are.",
    ),
}


def _expires(entry: CollectionEntry) -> bool:
    return "expireAfterSeconds" in (entry.options or {}) or any(
        "expireAfterSeconds" in i for i in entry.indexes
    )


def _some(names: Sequence[str] | frozenset[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
