"""The contents of stored objects compared with what their manifest says of them.

Each check reads a source as far as its format goes; the caller reads on to the end, where checksum and
authentication are complete. A check raises ArchiveDamagedError for what cannot be read, LucidError(VerifyFailed) for
contents that are not those of the manifest. Formats are imported when they are met: a worker pays for its own only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lucid_storage.archive.manifest import Manifest, ObjectKind, StoredObject
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs.contract import Source

Check = Callable[[Source, Manifest, StoredObject], None]


def different(what: str) -> LucidError:
    """An object that can be read and holds something else."""
    return LucidError(
        f"The backup is not what was read from the store: {what}. Make another one, and check the destination.",
        reason=Reason.VERIFY_FAILED,
    )


def _mongodb_archive(source: Source, manifest: Manifest, stored: StoredObject) -> None:
    from lucid_storage.archive.mongodump import ArchiveReader, End

    assert manifest.mongodb is not None
    expected = {c.data_namespace: c for c in manifest.mongodb.collections if c.type != "view"}
    for part in ArchiveReader(source).parts():
        if not isinstance(part, End):
            continue
        record = expected.pop(str(part.namespace), None)
        if record is None:
            continue  # the oplog, users and roles
        if (part.tally.documents, part.tally.content_hash) != (record.documents, record.content_hash):
            raise different(
                f"{record.database}.{record.name} has {part.tally.documents} documents in the archive and"
                f" {record.documents} in the manifest, or others"
            )
    if expected:
        raise different(f"{len(expected)} collections are missing, {min(expected)} among them")


def _mongodb_oplog(source: Source, manifest: Manifest, stored: StoredObject) -> None:
    from lucid_storage.archive.content import streamed

    for _ in streamed(source):
        pass  # whole documents from the first to the last; which ones is settled by the stored object's checksum


def _redis_rdb(source: Source, manifest: Manifest, stored: StoredObject) -> None:
    from lucid_storage.jobs.redis_backup import check

    check(source, manifest)


def _elasticsearch_export(source: Source, manifest: Manifest, stored: StoredObject) -> None:
    from lucid_storage.jobs.elastic_backup import check

    check(source, manifest)


def _volume_archive(source: Source, manifest: Manifest, stored: StoredObject) -> None:
    from lucid_storage.jobs.volume_backup import check

    check(source, manifest, stored)


CHECKS: Mapping[ObjectKind, Check] = {
    ObjectKind.MONGODB_ARCHIVE: _mongodb_archive,
    ObjectKind.MONGODB_OPLOG: _mongodb_oplog,
    ObjectKind.REDIS_RDB: _redis_rdb,
    ObjectKind.ELASTICSEARCH_EXPORT: _elasticsearch_export,
    ObjectKind.VOLUME_ARCHIVE: _volume_archive,
}
