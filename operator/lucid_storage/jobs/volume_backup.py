"""Volumes as a part of a backup: each mounted claim becomes one archive; of a snapshot only the record is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from lucid_storage.archive.manifest import (
    EngineRecord,
    Manifest,
    ObjectKind,
    StoredObject,
    VolumeRecord,
    VolumeSnapshotRecord,
)
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs.contract import BackupRun, Source, Taken
from lucid_storage.jobs.volume_archive import Archived, hash_archive, write_archive
from lucid_storage.jobs.volume_usage import mounted
from lucid_storage.models.backup import BackupEngine
from lucid_storage.models.orders import VolumeSource
from lucid_storage.stores.filesystem import keeping
from lucid_storage.stores.filesystem.tree import walk


def take(run: BackupRun, environ: Mapping[str, str]) -> Taken:
    """Blocks until the destination confirmed all archives. Raises LucidError; the caller takes the others back."""
    records: list[VolumeRecord] = []
    objects: list[StoredObject] = []
    if not run.order.volumes:
        raise LucidError(
            "No volume is named; name Volumes in spec.volumes, or leave volumes out of engines.",
            reason=Reason.INVALID_SPEC,
        )
    for source in run.order.volumes:
        if source.snapshot is not None:
            records.append(_of_snapshot(source))
            continue
        begun = datetime.now(UTC)
        stored, archived, unchanged = _archive(run, environ, source)
        objects.append(stored)
        records.append(_record(source, begun, archived, unchanged=unchanged))
    return Taken(
        record=EngineRecord(
            engine=BackupEngine.VOLUMES,
            taken_at=min(record.taken_at for record in records),
            volumes=tuple(records),
        ),
        objects=tuple(objects),
        documents=sum(record.files for record in records),
        size_bytes=sum(record.bytes for record in records),
    )


def _archive(
    run: BackupRun, environ: Mapping[str, str], source: VolumeSource
) -> tuple[StoredObject, Archived, bool]:
    """The last says that nothing in the volume was changed between its beginning and its end."""
    root = mounted(environ, source.folder or source.claim)
    sink = run.open_object(ObjectKind.VOLUME_ARCHIVE, source.name)
    try:
        before = None if source.in_use else _stamp(root, run.check)
        archived = write_archive(root, sink, run.check, run.report)
        unchanged = before is not None and before == _stamp(root, run.check)
        return sink.finish(), archived, unchanged
    except LucidError as error:
        sink.abort()
        raise type(error)(f'Volume "{source.name}": {error.message}', reason=error.reason) from error
    except BaseException:
        sink.abort()
        raise


def _stamp(root: Path, check: Callable[[], None]) -> int:
    """Of everything in the volume but contents. A pod can come while it is read, and what it writes, moves or removes
    changes this, also where the reader has been already.
    """
    total = 0
    for node in walk(str(root)):
        check()
        total += keeping.stamp(node)
    return total


def _record(source: VolumeSource, begun: datetime, archived: Archived, *, unchanged: bool) -> VolumeRecord:
    digest, tree = archived.digest, archived.tree
    return VolumeRecord(
        name=source.name,
        claim=source.claim,
        claim_uid=source.claim_uid,
        requested_bytes=source.requested_bytes,
        storage_class=source.storage_class,
        access_modes=source.access_modes,
        taken_at=begun,
        entries=digest.entries,
        files=digest.files,
        bytes=digest.bytes,
        content_hash=digest.hexdigest(),
        changed=tree.changed,
        sockets=tree.sockets,
        leftovers=tree.leftovers,
        in_use=source.in_use,
        point_in_time=unchanged and not source.in_use and not tree.changed,
    )


def _of_snapshot(source: VolumeSource) -> VolumeRecord:
    snapshot = source.snapshot
    assert snapshot is not None
    return VolumeRecord(
        name=source.name,
        claim=source.claim,
        claim_uid=source.claim_uid,
        requested_bytes=max(source.requested_bytes, snapshot.size_bytes),
        storage_class=source.storage_class,
        access_modes=source.access_modes,
        taken_at=snapshot.taken_at,
        in_use=source.in_use,
        point_in_time=True,
        snapshot=VolumeSnapshotRecord(
            name=snapshot.name, uid=snapshot.uid, class_name=snapshot.class_name, driver=snapshot.driver
        ),
    )


def record_of(manifest: Manifest, name: str) -> VolumeRecord | None:
    """What a backup says about one volume."""
    return next((v for engine in manifest.engines for v in engine.volumes if v.name == name), None)


def check(source: Source, manifest: Manifest, stored: StoredObject) -> None:
    """A stored archive whole, compared with its manifest. Raises ArchiveDamagedError, LucidError(VerifyFailed)."""
    record = record_of(manifest, stored.part)
    found = hash_archive(source)
    if record is None or (found.entries, found.hexdigest()) != (record.entries, record.content_hash):
        raise LucidError(
            f'The archive of the volume "{stored.part}" holds {found.entries} entries, and they are not those that its'
            " manifest describes; make another backup, and check the destination.",
            reason=Reason.VERIFY_FAILED,
        )
