"""The engines of a restore beside MongoDB: each takes the full that is nearest before the moment.

They write when everything of MongoDB is staged, and before it is swapped; none of them can be taken back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from lucid_storage.archive.manifest import EngineRecord, Manifest, ObjectKind, StoredObject
from lucid_storage.archive.recorded import Recorded
from lucid_storage.archive.restore_path import nearest_full
from lucid_storage.errors import LucidError, Reason, RefusedError
from lucid_storage.jobs import elastic_restore, redis_restore
from lucid_storage.jobs.contract import Source
from lucid_storage.jobs.elastic_reach import made_by
from lucid_storage.jobs.elastic_restore import ElasticRestoreRun
from lucid_storage.jobs.redis_restore import RedisPlan, RedisRestoreRun
from lucid_storage.jobs.restore_marker import redis_identity
from lucid_storage.jobs.volume_restoring import VolumesOfRestore
from lucid_storage.models.backup import BackupEngine
from lucid_storage.models.orders import EngineOutcome, PlannedItem, PlannedVolume, RestoreOrder
from lucid_storage.models.restore import ElasticRestore, RedisRestore
from lucid_storage.models.settings import StoreSettings

OpenSource = Callable[[Manifest, StoredObject], Source]

_OBJECTS: Mapping[BackupEngine, ObjectKind] = {
    BackupEngine.REDIS: ObjectKind.REDIS_RDB,
    BackupEngine.ELASTICSEARCH: ObjectKind.ELASTICSEARCH_EXPORT,
}


@dataclass(slots=True)
class OtherEngine:
    """One engine of one restore."""

    engine: BackupEngine
    manifest: Manifest
    record: EngineRecord
    order: RestoreOrder
    settings: StoreSettings
    open_source: OpenSource
    report: Callable[[int, int], None]
    cancelled: threading.Event
    redis_plan: RedisPlan | None = None
    """What was found out beforehand."""

    def plan(self) -> tuple[list[PlannedItem], LucidError | None]:
        """What is written, and what blocks it. Reads only."""
        if self.engine is BackupEngine.VOLUMES:
            return self._volumes().plan()
        if self.engine is BackupEngine.ELASTICSEARCH:
            planned = elastic_restore.plan(self._elastic())
            items = [
                PlannedItem(target=one.target, documents=one.documents, overwrites=one.overwrites or None)
                for one in planned.indices
            ]
            return items, planned.blocked
        assert self.record.redis is not None
        note = "keys that exist are replaced" if self.order.drop_existing else "keys that exist are skipped"
        item = PlannedItem(target="redis keys", documents=self.record.redis.keys, note=note)
        try:
            redis_restore.check(self._redis())
        except LucidError as error:
            return [item], error
        return [item], None

    def make_ready(self) -> None:
        """What can be found out before anything of the restore is written, other engines' too. Raises LucidError."""
        if self.engine is BackupEngine.REDIS:
            self.redis_plan = redis_restore.ready(self._redis())

    def server(self) -> str | None:
        """What tells the store from others; None where that is no matter. Raises LucidError."""
        if self.engine is BackupEngine.ELASTICSEARCH:
            return elastic_restore.server(self._elastic())
        if self.engine is BackupEngine.REDIS:
            return redis_identity(_configured(self.settings.redis(), "Redis", "REDIS_URL"))
        return None

    def restore(self) -> EngineOutcome:
        """Blocks until it is done. Raises LucidError."""
        if self.engine is BackupEngine.VOLUMES:
            return self._volumes().restore()
        if self.engine is BackupEngine.ELASTICSEARCH:
            done = elastic_restore.restore(self._elastic())
            return EngineOutcome(
                engine=self.engine,
                ok=True,
                message=" ".join(done.notes)[:300] or None,
                documents=done.documents,
                size_bytes=done.bytes,
            )
        restored = redis_restore.restore(self._redis(), self.redis_plan)
        return EngineOutcome(
            engine=self.engine,
            ok=True,
            message=restored.describe(),
            documents=restored.restored + restored.replaced,
            size_bytes=restored.bytes,
        )

    def settle(self, *, whole: bool) -> None:
        """The last act, when all engines are complete; `whole` unless something of the restore is left to do."""
        if self.engine is BackupEngine.VOLUMES:
            self._volumes().settle(whole=whole)

    def volumes(self) -> tuple[PlannedVolume, ...]:
        """What the operator makes claims from; none for another engine."""
        return self._volumes().planned() if self.engine is BackupEngine.VOLUMES else ()

    def _volumes(self) -> VolumesOfRestore:
        return VolumesOfRestore(
            self.order, self.manifest, self.record, self.open_source, self.report, self.cancelled
        )

    def _redis(self) -> RedisRestoreRun:
        assert self.record.redis is not None
        return RedisRestoreRun(
            url=_configured(self.settings.redis(), "Redis", "REDIS_URL"),
            record=self.record.redis,
            open_source=self._open,
            selection=self.order.redis or RedisRestore(),
            drop_existing=self.order.drop_existing,
            allowed=self.order.key_patterns,
            report=self.report,
            cancelled=self.cancelled,
        )

    def _elastic(self) -> ElasticRestoreRun:
        assert self.record.elasticsearch is not None
        return ElasticRestoreRun(
            run=self.order.run,
            url=_configured(self.settings.elasticsearch(), "Elasticsearch", "ELASTICSEARCH_URL"),
            record=self.record.elasticsearch,
            open_source=self._open,
            deadline_seconds=self.order.deadline_seconds,
            index_patterns=self.order.index_patterns,
            namespace=self.order.owner.namespace,
            origin=made_by(self.manifest),
            selection=self.order.elasticsearch or ElasticRestore(),
            drop_existing=self.order.drop_existing,
            report=self.report,
            cancelled=self.cancelled,
        )

    def _open(self) -> Source:
        kind = _OBJECTS[self.engine]
        return self.open_source(self.manifest, next(o for o in self.manifest.objects if o.kind is kind))


def other_engines(
    order: RestoreOrder,
    records: Sequence[Recorded],
    wanted: Recorded,
    settings: StoreSettings,
    open_source: OpenSource,
    report: Callable[[int, int], None],
    cancelled: threading.Event,
) -> Iterator[OtherEngine]:
    """Those that the order names. Raises RefusedError when no backup holds one of them."""
    for engine in order.engines:
        if engine is BackupEngine.MONGODB:
            continue
        found = _holding(engine, records, wanted, order.point_in_time)
        record = next(r for r in found.manifest.engines if r.engine == engine)
        if record.elasticsearch is not None and not any(
            o.kind is ObjectKind.ELASTICSEARCH_EXPORT for o in found.manifest.objects
        ):
            raise RefusedError(
                "The backup of Elasticsearch is a snapshot in its own repository; restore it there, or restore a backup"
                " made with method Export.",
                reason=Reason.NOT_SUPPORTED,
            )
        yield OtherEngine(engine, found.manifest, record, order, settings, open_source, report, cancelled)


def _holding(
    engine: BackupEngine, records: Sequence[Recorded], wanted: Recorded, moment: datetime | None
) -> Recorded:
    if moment is None and any(record.engine == engine for record in wanted.manifest.engines):
        return wanted
    same_chain = [r for r in records if r.manifest.timeline == wanted.manifest.timeline] or records
    found = nearest_full(same_chain, engine, moment or wanted.manifest.completed_at)
    if found is None:
        raise RefusedError(
            f"No good full backup holds {engine} at that moment; leave it out of engines, or choose a later moment.",
            reason=Reason.RESTORE_BLOCKED,
        )
    return found


def _configured(url: str | None, store: str, variable: str) -> str:
    if url is None:
        raise LucidError(
            f"No {store} is configured: set {variable} in the connection's Secret, or leave it out of engines.",
            reason=Reason.NOT_CONFIGURED,
        )
    return url
