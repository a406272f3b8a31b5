"""The proof by a restore into a scratch place (rule 1.11).

MongoDB is restored on the server of BACKUP_VERIFY_URI, from the full through all slices up to the backup's own end,
into databases of its own that are dropped afterwards. The server that was read may be named there only when the data
are less than a fifth of its oplog: every document that is loaded, and all that is replayed, goes through it.
Elasticsearch is loaded under reserved names on the cluster that was read, which has no oplog. For Redis and for volumes
there is no scratch place: the check before read and compared all of them, and a backup that holds one is proved no
further than that.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace

from lucid_storage.archive.manifest import (
    ElasticRecord,
    EngineRecord,
    Manifest,
    MongoRecord,
    ObjectKind,
    ProofLevel,
)
from lucid_storage.archive.restore_path import Blocked, RestorePath, to_backup
from lucid_storage.errors import DestinationError, LucidError, Reason
from lucid_storage.jobs.contract import CancelledError, Source
from lucid_storage.jobs.destination import Place
from lucid_storage.jobs.elastic_reach import made_by
from lucid_storage.jobs.elastic_restore import ElasticRestoreRun
from lucid_storage.jobs.elastic_restore import prove as prove_elasticsearch
from lucid_storage.jobs.mongodb_restore import MongoRestoreRun
from lucid_storage.jobs.mongodb_restore import prove as prove_mongodb
from lucid_storage.jobs.mongodb_restore_plan import make_plan
from lucid_storage.jobs.mongodb_restore_targets import NoDatabaseError
from lucid_storage.jobs.mongodb_versions import Versions
from lucid_storage.jobs.notes import Note
from lucid_storage.jobs.proof_servers import crowded, crowded_elasticsearch, too_large
from lucid_storage.jobs.proving import with_this
from lucid_storage.jobs.reporting import Reporter
from lucid_storage.jobs.worker import Stop
from lucid_storage.models.orders import BackupOrder, RestoreOrder
from lucid_storage.models.settings import SettingsError, StoreSettings
from lucid_storage.stores.mongodb.dump.pinning import pin
from lucid_storage.stores.mongodb.restore.scratch import scratch_name
from lucid_storage.stores.mongodb.restore.target import Target

VERIFY_VARIABLE = "BACKUP_VERIFY_URI"
ENDING_SECONDS = 60
"""That a worker may take beyond its deadline to end."""

_FAILING = frozenset(
    {
        Reason.ARCHIVE_DAMAGED,
        Reason.CONTENT_REFUSED,
        Reason.COUNT_MISMATCH,
        Reason.DUPLICATE_KEYS,
        Reason.NO_BASE,
        Reason.OPLOG_GAP,
        Reason.REPLAY_REFUSED,
        Reason.VERIFY_FAILED,
    }
)
"""What a backup itself can be at fault for. Anything else is about the server, a login, a key, or what one restore can
do at once.
"""


def prove_by_restore(
    order: BackupOrder,
    place: Place,
    manifest: Manifest,
    environ: Mapping[str, str],
    reporter: Reporter,
    stop: Stop,
) -> tuple[ProofLevel, str, Note | None]:
    """The level that all engines reached, what is wrong (empty when nothing), and why no higher level was reached.

    Called after Checksum passed. A verify server that is away or refuses makes no backup bad: the level stays Checksum.
    """
    note: Note | None = None
    try:
        for record in manifest.engines:
            refused = _prove(order, place, manifest, record, environ, reporter, stop)
            note = note or refused
    except (DestinationError, CancelledError):
        raise
    except LucidError as error:
        if stop.event.is_set():
            raise
        if error.reason in _FAILING:
            return ProofLevel.RESTORE, error.message, None
        return ProofLevel.CHECKSUM, "", Note(Reason.NO_VERIFY_SERVER, error.message)
    return (ProofLevel.RESTORE if note is None else ProofLevel.CHECKSUM), "", note


def _prove(
    order: BackupOrder,
    place: Place,
    manifest: Manifest,
    record: EngineRecord,
    environ: Mapping[str, str],
    reporter: Reporter,
    stop: Stop,
) -> Note | None:
    """Why it cannot be tried; None when it was restored. Raises LucidError when that failed."""
    if record.mongodb is not None:
        return _mongodb(order, place, manifest, record.mongodb, environ, reporter, stop)
    if record.elasticsearch is not None:
        return _elasticsearch(order, place, manifest, record.elasticsearch, environ, reporter, stop)
    return Note(
        Reason.NO_VERIFY_SERVER,
        f"What the backup holds of {record.engine} was read back and compared, and was not restored: there is no"
        " scratch place for that; ask for verify: Checksum, or make a backup of its own of it.",
    )


def _mongodb(
    order: BackupOrder,
    place: Place,
    manifest: Manifest,
    record: MongoRecord,
    environ: Mapping[str, str],
    reporter: Reporter,
    stop: Stop,
) -> Note | None:
    uri = environ.get(VERIFY_VARIABLE)
    if not uri:
        return Note(
            Reason.NO_VERIFY_SERVER,
            "No server for restore proofs is configured; set BACKUP_VERIFY_URI to a MongoDB that is not the one which"
            " is backed up.",
        )
    try:
        plan = make_plan(whole_order(order, manifest.id), _path(place, manifest), place.source)
    except NoDatabaseError:
        return Note(
            Reason.NO_VERIFY_SERVER,
            "The backup was read back and compared, and not restored, since it holds no database of MongoDB; see that"
            " spec.mongodb names what is to be backed up.",
        )
    with closing(pin(uri)) as member:
        unfit = too_large(member, record, plan)
        version = member.version
    unfit = unfit or crowded(uri, plan)
    if unfit is not None:
        return Note(Reason.NO_VERIFY_SERVER, unfit)
    scratch = {name: scratch_name(order.run, n) for n, name in enumerate(sorted(plan.targets))}

    def check() -> None:
        if stop.event.is_set():
            raise CancelledError("The check was stopped.")

    run = MongoRestoreRun(
        run=order.run,
        uri=uri,
        plan=replace(plan, targets=scratch),
        open_source=place.source,
        owner={"namespace": order.owner.namespace, "name": order.owner.name, "uid": order.owner.uid},
        check=check,
        report=reporter.add,
    )
    try:
        prove_mongodb(run, order.deadline_seconds + ENDING_SECONDS)
    except LucidError as error:
        versions = _versions(error.reason, uri, version)
        if versions is None or not _of_its_version(error.reason, versions, record.version):
            raise
        return Note(
            Reason.NO_VERIFY_SERVER,
            f"BACKUP_VERIFY_URI is a MongoDB {versions}, and a {record.version} was read, of which it does not take all"
            f" ({error.message.rstrip('.')}); name one of the same version and features.",
        )
    return None


def _versions(reason: Reason, uri: str, program: str) -> Versions | None:
    """Of the verify server; None where what went wrong has nothing to do with them."""
    if reason not in (Reason.CONTENT_REFUSED, Reason.REPLAY_REFUSED):
        return None
    with Target(uri) as target:
        return Versions(program, target.compatibility())


def _of_its_version(reason: Reason, versions: Versions, read: str) -> bool:
    """Whether a verify server of these may refuse what the one that was read takes."""
    return versions.differ(read) if reason is Reason.CONTENT_REFUSED else versions.older(read)


def _path(place: Place, manifest: Manifest) -> RestorePath:
    """Raises LucidError: a backup that nothing leads to is not good, unless it is a key that is away."""
    path = to_backup(with_this(place.records(), manifest), manifest.id)
    if isinstance(path, Blocked):
        blocked = path.reason is Reason.RESTORE_BLOCKED
        raise LucidError(path.message, reason=Reason.VERIFY_FAILED if blocked else path.reason)
    return path


def whole_order(order: BackupOrder, backup_id: str) -> RestoreOrder:
    """All of its MongoDB. It goes under names of our own, so what the namespace may write is no matter."""
    return RestoreOrder(
        run=order.run,
        owner=order.owner,
        destination=order.destination,
        chain=order.chain,
        deadline_seconds=order.deadline_seconds,
        ordered_at=order.ordered_at,
        backup_id=backup_id,
    )


def _elasticsearch(
    order: BackupOrder,
    place: Place,
    manifest: Manifest,
    record: ElasticRecord,
    environ: Mapping[str, str],
    reporter: Reporter,
    stop: Stop,
) -> Note | None:
    """Why it cannot be tried. Raises LucidError when it cannot be loaded or is not what the manifest says."""
    try:
        url = StoreSettings.read(environ).elasticsearch()
    except SettingsError as error:
        raise LucidError(str(error), reason=Reason.SECRET_INVALID) from error
    if url is None:
        raise LucidError("No Elasticsearch is configured to load it on; set ELASTICSEARCH_URL.")
    exports = [stored for stored in manifest.objects if stored.kind is ObjectKind.ELASTICSEARCH_EXPORT]

    def open_source() -> Source:
        return place.source(manifest, exports[0])

    run = ElasticRestoreRun(
        run=order.run,
        url=url,
        record=record,
        open_source=open_source,
        deadline_seconds=order.deadline_seconds,
        index_patterns=order.index_patterns,
        namespace=order.owner.namespace,
        origin=made_by(manifest),
        report=reporter.add,
        cancelled=stop.event,
    )
    unfit = crowded_elasticsearch(run)
    if unfit is not None:
        return Note(Reason.NO_VERIFY_SERVER, unfit)
    prove_elasticsearch(run)
    return None
