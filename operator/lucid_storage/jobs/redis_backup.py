"""Redis's part of a backup: its data set as one RDB file, counted and checked while it passes through."""

from __future__ import annotations

from lucid_storage.archive.manifest import EngineRecord, Manifest, ObjectKind, RedisRecord
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs.contract import BackupRun, Source, Taken
from lucid_storage.models.backup import BackupEngine
from lucid_storage.stores.redis.rdb.dataset import Contents, DataSet
from lucid_storage.stores.redis.rdb.reader import RdbError
from lucid_storage.stores.redis.replication import STALL_SECONDS, DataSetStream, Snapshot

LABEL = "backup"
NO_CHECKSUM = (
    "The server writes no checksum into its data sets (rdbchecksum no), so only the form was checked."
)


def take(
    run: BackupRun, url: str, *, ca_path: str | None = None, stall_seconds: float = STALL_SECONDS
) -> Taken:
    """Blocks until the destination confirmed the object. Raises LucidError; then nothing is left behind."""
    stream = DataSetStream(url, label=LABEL, ca_path=ca_path, stall_seconds=stall_seconds)
    try:
        run.expect(stream.snapshot.estimated_bytes)
        sink = run.open_object(ObjectKind.REDIS_RDB, "")
        size = 0

        def read(most: int) -> bytes:
            nonlocal size
            run.check()
            data = stream.read(most)
            sink.write(data)
            size += len(data)
            run.report(len(data), 0)
            return data

        try:
            contents = _counted(DataSet(read), stream.snapshot)
            stored = sink.finish()
        except BaseException:
            sink.abort()
            raise
    finally:
        stream.close()
    run.report(0, contents.total)
    return Taken(
        record=_record(stream.snapshot, contents),
        objects=(stored,),
        documents=contents.total,
        size_bytes=size,
        notes=(*stream.snapshot.notes, *(() if contents.checksummed else (NO_CHECKSUM,))),
    )


def check(source: Source, manifest: Manifest) -> None:
    """The stored file whole: its form, its checksum, and the keys that the manifest says.

    Also the most that `verify: Restore` does for Redis. Raises ArchiveDamagedError, LucidError(VerifyFailed).
    """
    record = next((e.redis for e in manifest.engines if e.redis is not None), None)
    contents = DataSet(source.read).count()
    found = (contents.total, len(contents.keys))
    if record is None or found != (record.keys, record.databases):
        expected = f"{record.keys} keys in {record.databases} databases" if record else "nothing"
        raise LucidError(
            f"The stored data set of Redis holds {found[0]} keys in {found[1]} databases, and its manifest says "
            f"{expected}; make another backup, and check the destination.",
            reason=Reason.VERIFY_FAILED,
        )


def _counted(data: DataSet, snapshot: Snapshot) -> Contents:
    try:
        return data.count()
    except RdbError as error:
        if error.reason is not Reason.ARCHIVE_DAMAGED:
            raise
        raise LucidError(
            f"Redis ({LABEL}) at {snapshot.member} sent a data set that cannot be used. {error.message}",
            reason=Reason.UNHEALTHY,
        ) from error


def _record(snapshot: Snapshot, contents: Contents) -> EngineRecord:
    return EngineRecord(
        engine=BackupEngine.REDIS,
        taken_at=snapshot.taken_at,
        redis=RedisRecord(
            version=snapshot.version,
            replication_id=snapshot.replication_id,
            offset=snapshot.offset,
            keys=contents.total,
            databases=len(contents.keys),
        ),
    )
