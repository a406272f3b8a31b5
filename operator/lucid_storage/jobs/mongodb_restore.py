"""MongoDB's part of a restore: stage what was planned. The operator swaps (rule 2.9).

plan -> load -> compare with the manifest -> replay up to the moment -> indexes -> journal.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice

from lucid_storage.archive.content import damaged
from lucid_storage.archive.manifest import CollectionRecord
from lucid_storage.archive.mongodump import OPLOG, ArchiveReader, End
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs.contract import Source
from lucid_storage.jobs.mongodb_replayed import Unread, compare_operations, counts
from lucid_storage.jobs.mongodb_restore_plan import (
    MongoPlan,
    OpenSource,
    archive,
    data_name,
    definitions,
    oplog_pieces,
    oplogs,
    refuse_missing,
)
from lucid_storage.jobs.mongodb_versions import hint
from lucid_storage.stores.mongodb.restore import scratch
from lucid_storage.stores.mongodb.restore.accounts import Accounts
from lucid_storage.stores.mongodb.restore.catalog import Name
from lucid_storage.stores.mongodb.restore.comparing import Expected
from lucid_storage.stores.mongodb.restore.expiring import count_staged
from lucid_storage.stores.mongodb.restore.holding import Leases
from lucid_storage.stores.mongodb.restore.loading import Loader, documents_in
from lucid_storage.stores.mongodb.restore.pacing import SlicePace
from lucid_storage.stores.mongodb.restore.staging import InPlace, Staging
from lucid_storage.stores.mongodb.restore.target import Target

logger = logging.getLogger(__name__)

_DAMAGED = frozenset(
    {
        Reason.COUNT_MISMATCH,
        Reason.CONTENT_REFUSED,
        Reason.ARCHIVE_DAMAGED,
        Reason.REPLAY_REFUSED,
        Reason.KEY_MISSING,
    }
)
"""What another attempt with the same backup would find again."""

Report = Callable[[int, int], None]


def incomplete(reason: Reason) -> str:
    """What a failure in place leaves, and what to do about it."""
    again = "restore another backup over it" if reason in _DAMAGED else "restore again"
    return f"The target is incomplete, as strategy InPlace leaves it after a failure: {again}."


@dataclass(slots=True)
class MongoRestoreRun:
    """What a restore of MongoDB is told."""

    run: str
    uri: str
    plan: MongoPlan
    open_source: OpenSource
    owner: Mapping[str, str]
    check: Callable[[], None] = lambda: None
    """Raises when the run is to end."""
    report: Report = lambda _size, _documents: None
    phase: Callable[[str, int | None], None] = lambda _name, _total: None
    slices_reach: Callable[[], int | None] = lambda: None
    """The second that slices reach to, where some follow the target."""
    in_place: InPlace | None = None
    leases: Leases | None = None
    """Of the databases that are written."""
    accounts: bool = False
    """Users and roles too."""
    now: datetime | None = None
    """When it is known, what a TTL deletes at once is counted."""


@dataclass(frozen=True, slots=True)
class MongoStaged:
    """What lies ready."""

    databases: tuple[str, ...]
    collections: int
    documents: int
    bytes: int
    operations: int
    transactions: int
    cut_transactions: int
    skipped_users: tuple[str, ...] = ()
    expiring: int | None = None
    """Documents that are past their time to live."""


def stage(run: MongoRestoreRun) -> MongoStaged:
    """Everything up to the journal. Raises LucidError; the target is as it was then, or the message says otherwise."""
    with Target(run.uri, check=run.check) as target:
        target.pace = SlicePace(target, run.slices_reach).wait
        staging = Staging(
            target,
            run.run,
            run.plan.targets,
            run.plan.lineage,
            run.plan.dump_end,
            run.report,
            run.owner,
            run.in_place,
            run.leases,
        )
        try:
            return _staged(run, staging, target)
        except LucidError as error:
            # Who lost the right to write takes nothing back either: that is the operator's then.
            if error.reason is not Reason.WORKER_LOST:
                _discard(run, staging)
            mongodb = run.plan.path.full.manifest.mongodb
            if error.reason is Reason.CONTENT_REFUSED and mongodb is not None:
                error.message = f"{error.message}{hint(target, mongodb.version)}"
            if staging.touched:
                error.message = f"{error.message} {incomplete(error.reason)}"
            raise
        except BaseException:
            _discard(run, staging)
            raise


def prove(run: MongoRestoreRun, seconds: int) -> MongoStaged:
    """Everything up to the journal in databases of its own, which are dropped at the end, whatever it is.

    `run.plan.targets` must name scratch databases, and `seconds` is the longest that they are used: those of a worker
    that was killed, or could not drop them, are dropped by the next one after that. Raises LucidError when the backup
    cannot be restored or is not what its manifest says.
    """
    try:
        with Target(run.uri, check=run.check) as target:
            scratch.drop_ended(target)
            scratch.stamp(target, run.plan.databases, seconds)
            staging = Staging(
                target,
                run.run,
                run.plan.targets,
                run.plan.lineage,
                run.plan.dump_end,
                run.report,
                run.owner,
                swapped=False,
            )
            return _staged(run, staging, target)
    finally:
        _drop_scratch(run)


def _drop_scratch(run: MongoRestoreRun) -> None:
    """What was found out holds, whatever becomes of the databases that it was found out in."""
    try:
        with Target(run.uri) as target:
            scratch.drop(target, run.plan.databases)
    except LucidError as error:
        # By its stamp a later proof on this server drops what is left.
        logger.warning("the scratch databases of this proof stay for now: %s", error.message)


def _discard(run: MongoRestoreRun, staging: Staging) -> None:
    """With a connection of its own that may still act when the run was told to end."""
    try:
        with Target(run.uri) as target:
            staging.on(target).discard()
    except LucidError as error:
        # The operator drops what is left, by the run's id in its names.
        logger.warning("what was staged stays for now: %s", error.message)


def _staged(run: MongoRestoreRun, staging: Staging, target: Target) -> MongoStaged:
    plan = run.plan
    run.phase("Loading", sum(record.bytes for record in plan.records))
    staging.define(definitions(plan.prelude))
    accounts = Accounts() if run.accounts else None
    documents, size = _load(run, staging, accounts)
    run.phase("Replaying", sum(o.plain_bytes for p in plan.path.then for o in oplogs(p.manifest)))
    _replay_slices(run, staging)
    finished = staging.finish()
    if not staging.touched:
        # What was dropped while the full ran is in its list of collections, and not in the end. Where it was dropped in
        # place already, ending here would leave the others half done, and bring nothing back.
        names = (*(one.name[1] for one in finished), *(view.name for view in staging.catalog.views))
        refuse_missing(plan.chosen, names)
    own = filter(staging.replaces, finished)  # in others the TTLs of the backup are not switched on
    expiring = count_staged(target, own, run.now) if run.now is not None else None
    skipped = staging.keep(accounts) if accounts is not None else ()
    staging.ready(staging.merge(finished))
    return MongoStaged(
        databases=plan.databases,
        collections=len(finished),
        documents=documents,
        bytes=size,
        operations=staging.replayed.operations,
        transactions=staging.replayed.transactions,
        cut_transactions=staging.replayed.cut_transactions,
        skipped_users=skipped,
        expiring=expiring,
    )


def _load(run: MongoRestoreRun, staging: Staging, accounts: Accounts | None) -> tuple[int, int]:
    """The archive: documents, then the oplog of the time of the dump. Returns documents and bytes that were loaded."""
    manifest = run.plan.path.full.manifest
    source = run.open_source(manifest, archive(manifest))
    hashes: dict[Name, str] = {}
    documents = size = 0
    try:
        with staging.loader() as loader:
            dump_oplog = _documents(run, staging, loader, source, hashes, accounts)
            first = list(islice(dump_oplog, 1))
            # The oplog comes last: all documents were handed on.
            loader.flush()
            staging.check_loaded(loader)
            for found in staging.catalog:
                loaded = loader.loaded(found)
                documents, size = documents + loaded.documents, size + loaded.size
            staging.replay(chain(first, dump_oplog), run.plan.until)
            for _ in dump_oplog:
                pass  # to the checked end
            staging.compare(loader, _expected(run.plan.records), hashes)
            # What of the time of the dump was passed over is about collections that were gone when it listed them.
            replayed = staging.replayed
            compare_operations(run.plan, manifest, counts(replayed), replayed.passed_over)
    finally:
        source.close()
    return documents, size


def _documents(
    run: MongoRestoreRun,
    staging: Staging,
    loader: Loader,
    source: Source,
    hashes: dict[Name, str],
    accounts: Accounts | None,
) -> Iterator[bytes]:
    """Sends documents to the loader; what it yields is the oplog. Raises LucidError(ArchiveDamaged)."""
    replaying = False
    for part in ArchiveReader(source).parts():
        run.check()
        name = (part.namespace.database, part.namespace.collection)
        tracked = staging.tracked(name)
        if isinstance(part, End):
            hashes[name] = part.tally.content_hash
            if tracked is not None:
                loader.end(tracked)
        elif part.namespace == OPLOG:
            replaying = True
            yield from documents_in(part.data)
        elif replaying:
            raise damaged("documents follow the oplog of its time")
        elif tracked is not None:
            loader.add(tracked, part.data, part.documents)
        elif accounts is not None and accounts.takes(name):
            accounts.add(name, documents_in(part.data))


def _replay_slices(run: MongoRestoreRun, staging: Staging) -> None:
    """Slices and differentials in order, each entry once, up to the moment. Raises LucidError (CountMismatch)."""
    last = run.plan.dump_end
    for piece, raws in oplog_pieces(run.plan.path, run.open_source):
        unread, before = Unread(raws, last), counts(staging.replayed)
        if not staging.replay(unread, run.plan.until):
            # The rest is not replayed, and what was is believed only when the whole object was checked.
            for _ in raws:
                run.check()
            return
        prev = piece.prev
        if prev is not None and (prev.optime.seconds, prev.optime.counter) == last:
            compare_operations(run.plan, piece, counts(staging.replayed) - before)
        last = unread.last


def _expected(records: Iterable[CollectionRecord]) -> dict[Name, Expected]:
    return {
        data_name(record): Expected(record.documents, record.content_hash)
        for record in records
        if record.type != "view"
    }
