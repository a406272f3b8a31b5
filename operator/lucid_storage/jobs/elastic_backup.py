"""Elasticsearch's part of a backup: an export into our archive, or a snapshot into the servers' own repository."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from datetime import UTC, datetime
from time import sleep

from lucid_storage.archive.elastic_export import ExportReader, ExportWriter, IndexEnd, IndexRead
from lucid_storage.archive.manifest import (
    ElasticIndexRecord,
    ElasticRecord,
    EngineRecord,
    Manifest,
    ObjectKind,
)
from lucid_storage.errors import LucidError, Reason, RefusedError
from lucid_storage.jobs.contract import BackupRun, Sink, Source, Taken
from lucid_storage.jobs.elastic_reading import read_all
from lucid_storage.models.backup import BackupEngine, ElasticMethod, ElasticSelection
from lucid_storage.models.settings import StoreSettings
from lucid_storage.stores.elasticsearch.backup.cluster import identity
from lucid_storage.stores.elasticsearch.backup.definitions import Definition, matching_templates, unfit
from lucid_storage.stores.elasticsearch.backup.http import ElasticHttp
from lucid_storage.stores.elasticsearch.backup.names import Allowed
from lucid_storage.stores.elasticsearch.backup.points import Point, close_points, open_point, primaries
from lucid_storage.stores.elasticsearch.backup.rawjson import NotJsonError
from lucid_storage.stores.elasticsearch.backup.selection import Selected, choose, read_again
from lucid_storage.stores.elasticsearch.backup.snapshots import (
    check_repository,
    delete_snapshot,
    take_snapshot,
)

logger = logging.getLogger(__name__)

LABEL = "backup"


def connect(run: BackupRun, url: str | None = None) -> ElasticHttp:
    """The server of the settings, or of `url`. Raises LucidError(NotConfigured)."""
    url = url or StoreSettings.read(os.environ).elasticsearch()
    if url is None:
        raise LucidError(
            "Elasticsearch is not configured; set ELASTICSEARCH_URL or take it out of engines.",
            reason=Reason.NOT_CONFIGURED,
        )

    def pause(seconds: float) -> None:
        run.cancelled.wait(seconds)
        run.check()

    return ElasticHttp(url, LABEL, pause)


def take(run: BackupRun, url: str | None = None) -> Taken:
    """Blocks until the destination confirmed the object. Raises LucidError; then nothing is left behind."""
    http = connect(run, url)
    try:
        wanted = run.order.elasticsearch or ElasticSelection()
        found = choose(http, wanted.indices or (), Allowed(run.order.index_patterns))
        if wanted.method is ElasticMethod.SNAPSHOT:
            assert wanted.repository is not None
            return _snapshot(run, http, found, wanted.repository)
        return _export(run, http, found)
    finally:
        http.close()


def snapshot_name(backup_id: str) -> str:
    """Of the snapshot that a backup takes."""
    return f"lucid-{backup_id}"


def delete_taken(manifest: Manifest, url: str) -> bool:
    """For retention: deletes the snapshot that a backup made in the servers' repository; False when there is none.

    The objects in the destination are not its business. Raises LucidError when the server cannot be asked now.
    """
    record = next((e.elasticsearch for e in manifest.engines if e.elasticsearch is not None), None)
    if record is None or record.repository is None or record.snapshot is None:
        return False
    http = ElasticHttp(url, "prune", sleep)
    try:
        origin = manifest.origin
        made_by = snapshot_origin(manifest.id, origin.cluster, origin.namespace, origin.chain)
        deleted = delete_snapshot(http, record.repository, record.snapshot, made_by)
    finally:
        http.close()
    if deleted is None:
        logger.warning(
            "the snapshot %s in the repository %s does not say that the backup %s made it; it stays",
            record.snapshot,
            record.repository,
            manifest.id,
        )
    return bool(deleted)


def snapshot_origin(backup_id: str, cluster: str, namespace: str, chain: str) -> dict[str, str]:
    """What a snapshot says of itself: a manifest is believed only where it lies, so it can name only its own."""
    return {"backup": backup_id, "cluster": cluster, "namespace": namespace, "chain": chain}


def _export(run: BackupRun, http: ElasticHttp, found: Selected) -> Taken:
    for one in found.indices:
        if why := unfit(one):
            raise RefusedError(
                f"The index {one.target} {why}; use the method Snapshot, or name the others in"
                " elasticsearch.indices.",
                reason=Reason.NOT_SUPPORTED,
            )
    who, version = identity(http)
    points: list[Point] = []
    sink = run.open_object(ObjectKind.ELASTICSEARCH_EXPORT, "")
    try:
        for one in found.indices:
            run.check()
            points.append(open_point(http, one.name))
        taken_at = datetime.now(UTC)
        indices = read_again(http, found.indices)
        run.expect(sum(point.average * point.documents for point in points))
        writer, note = _begin(http, sink, indices, who, version, "Export", taken_at)
        tallies = read_all(run, http, points, writer)
        writer.end()
        stored = sink.finish()
    except BaseException:
        sink.abort()
        raise
    finally:
        close_points(http, points)
    records = tuple(
        ElasticIndexRecord(
            name=one.target, documents=tally.documents, bytes=tally.bytes, content_hash=tally.content_hash
        )
        for one, tally in zip(indices, tallies, strict=True)
    )
    record = ElasticRecord(version=version, identity=who, method="Export", indices=records)
    return Taken(
        record=_engine(taken_at, record),
        objects=(stored,),
        documents=sum(r.documents for r in records),
        size_bytes=sum(r.bytes for r in records),
        notes=(*found.notes, *([note] if note else ())),
    )


def _snapshot(run: BackupRun, http: ElasticHttp, found: Selected, repository: str) -> Taken:
    """The data go into the repository; our object holds the definitions, since a restore makes the aliases itself."""
    check_repository(http, repository, writing=True)
    if not found.indices:  # an empty list would mean all to the server
        raise RefusedError(
            "There is no index to take a snapshot of; change elasticsearch.indices.",
            reason=Reason.INVALID_SPEC,
        )
    who, version = identity(http)
    taken_at = datetime.now(UTC)
    sizes = {one.name: primaries(http, one.name) for one in found.indices}
    run.expect(sum(size for size, _ in sizes.values()))
    told = 0

    def report(done: int, _total: int) -> None:
        nonlocal told
        run.report(done - told, 0)
        told = done

    names = [one.name for one in found.indices]
    owner = run.order.owner
    origin = snapshot_origin(run.order.id, owner.cluster, owner.namespace, run.order.chain)
    taken = take_snapshot(http, repository, snapshot_name(run.order.id), names, origin, run.check, report)
    try:
        sink = run.open_object(ObjectKind.ELASTICSEARCH_EXPORT, "")
        try:
            writer, note = _begin(http, sink, found.indices, who, version, "Snapshot", taken_at)
            for number in range(len(found.indices)):
                writer.end_index(number)
            writer.end()
            stored = sink.finish()
        except BaseException:
            sink.abort()
            raise
    except BaseException:
        with suppress(LucidError):  # what went wrong first is what has to be told
            delete_snapshot(http, repository, taken.name, origin)
        raise
    records = tuple(
        ElasticIndexRecord(name=one.target, documents=sizes[one.name][1], bytes=sizes[one.name][0])
        for one in found.indices
    )
    record = ElasticRecord(
        version=version,
        identity=who,
        method="Snapshot",
        indices=records,
        repository=repository,
        snapshot=taken.name,
    )
    return Taken(
        record=_engine(taken_at, record),
        objects=(stored,),
        documents=sum(r.documents for r in records),
        size_bytes=taken.bytes,
        notes=(
            *found.notes,
            *([note] if note else ()),
            f"The snapshot in {repository} is not encrypted by this backup.",
        ),
    )


def _begin(
    http: ElasticHttp,
    sink: Sink,
    indices: tuple[Definition, ...],
    who: str,
    version: str,
    method: str,
    taken_at: datetime,
) -> tuple[ExportWriter, str | None]:
    header = {"cluster": who, "version": version, "method": method, "takenAt": taken_at.isoformat()}
    writer = ExportWriter(sink, header)
    templates, note = matching_templates(http, (one.target for one in indices))
    for template in templates:
        writer.template(template.text())
    for number, one in enumerate(indices):
        writer.index(number, one.text())
    return writer, note


def _engine(taken_at: datetime, record: ElasticRecord) -> EngineRecord:
    return EngineRecord(engine=BackupEngine.ELASTICSEARCH.value, taken_at=taken_at, elasticsearch=record)


def check(source: Source, manifest: Manifest) -> None:
    """Reads an export whole and compares it with the manifest (level Checksum).

    Raises LucidError(ArchiveDamaged) for what cannot be read and LucidError(VerifyFailed) for other contents.
    """
    record = next(e.elasticsearch for e in manifest.engines if e.elasticsearch is not None)
    expected = {one.name: one for one in record.indices}
    names: dict[int, str] = {}
    for event in ExportReader(source).events():
        if isinstance(event, IndexRead):
            names[event.number] = _target(event)
        elif isinstance(event, IndexEnd):
            _compare(names[event.number], event, expected.pop(names[event.number], None), record.method)
    if expected:
        raise _different(f"{len(expected)} indices are missing, {min(expected)} among them")


def _target(event: IndexRead) -> str:
    try:
        return Definition.parse(event.definition).target
    except NotJsonError as error:
        raise LucidError(
            "The archive is damaged: an index is described wrongly. Use another backup.",
            reason=Reason.ARCHIVE_DAMAGED,
        ) from error


def _compare(name: str, end: IndexEnd, record: ElasticIndexRecord | None, method: str) -> None:
    if record is None:
        raise _different(f"the index {name} is in the archive and not in the manifest")
    if method == "Snapshot":
        return  # its documents lie in the servers' repository
    if (end.tally.documents, end.tally.content_hash) != (record.documents, record.content_hash):
        raise _different(
            f"{name} has {end.tally.documents} documents in the archive and {record.documents} in the manifest,"
            " or others"
        )


def _different(what: str) -> LucidError:
    return LucidError(
        f"The backup is not what was read from the store: {what}. Make another one, and check the destination.",
        reason=Reason.VERIFY_FAILED,
    )
