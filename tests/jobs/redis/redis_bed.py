"""Backups and restores of Redis as the worker runs them, with the object in memory."""

from __future__ import annotations

import io
import threading
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from jobs.memory_sink import MemorySink
from lucid_storage.archive.manifest import (
    BackupKind,
    Manifest,
    ObjectKind,
    Origin,
    Packing,
    RedisRecord,
    Selection,
)
from lucid_storage.jobs.contract import BackupRun, Taken
from lucid_storage.jobs.redis_backup import take
from lucid_storage.jobs.redis_restore import RedisRestored, RedisRestoreRun, restore
from lucid_storage.models.backup import BackupEngine, BackupType
from lucid_storage.models.orders import BackupOrder, Destination, Owner
from lucid_storage.models.restore import RedisRestore


class Kept(io.BytesIO):
    """An object on its way back."""


@dataclass
class Run:
    """One backup's run, with all that it was told."""

    sink: MemorySink = field(default_factory=lambda: MemorySink(ObjectKind.REDIS_RDB))
    opened: list[tuple[ObjectKind, str]] = field(default_factory=list)
    told: list[tuple[int, int]] = field(default_factory=list)
    expected: int = 0
    cancelled: threading.Event = field(default_factory=threading.Event)

    def take(self, server: Any, **options: Any) -> Taken:
        return take(self._run(), server if isinstance(server, str) else server.url, **options)

    def _run(self) -> BackupRun:
        owner = Owner(cluster="c", namespace="n", name="b", uid="u", spec_hash="h")
        order = BackupOrder(
            run="r",
            owner=owner,
            destination=Destination(),
            chain="manual",
            deadline_seconds=60,
            id=str(uuid.uuid4()),
            type=BackupType.FULL,
            engines=(BackupEngine.REDIS,),
        )
        return BackupRun(
            order=order,
            open_object=self._open,
            report=lambda size, documents: self.told.append((size, documents)),
            expect=self._expect,
            cancelled=self.cancelled,
        )

    def _open(self, kind: ObjectKind, part: str) -> MemorySink:
        self.opened.append((kind, part))
        return self.sink

    def _expect(self, size: int) -> None:
        self.expected += size


@dataclass
class Backup:
    """One backup that was taken."""

    taken: Taken
    data: bytes

    @classmethod
    def of(cls, server: Any) -> Backup:
        run = Run()
        return cls(run.take(server), bytes(run.sink.data))

    @property
    def record(self) -> RedisRecord:
        assert self.taken.record.redis is not None
        return self.taken.record.redis

    def manifest(self, **changes: Any) -> Manifest:
        record = self.taken.record.model_copy(update={"redis": self.record.model_copy(update=changes)})
        now = datetime.now(UTC)
        return Manifest(
            id="i",
            kind=BackupKind.FULL,
            timeline="t",
            origin=Origin(cluster="c", namespace="n", name="b", chain="manual"),
            selection=Selection(engines=("redis",)),
            packing=Packing(compression="none"),
            engines=(record,),
            started_at=now,
            completed_at=now,
            operator_version="0",
        )

    def run(self, server: Any, data: bytes | None = None, **options: Any) -> RedisRestoreRun:
        """`keys` and `exclude` are the patterns."""
        selection = RedisRestore(
            key_patterns=options.pop("keys", None), exclude_patterns=options.pop("exclude", None)
        )
        held = self.data if data is None else data
        return RedisRestoreRun(
            url=server if isinstance(server, str) else server.url,
            record=self.record,
            open_source=lambda: Kept(held),
            selection=selection,
            **options,
        )

    def restore(self, server: Any, **options: Any) -> RedisRestored:
        return restore(self.run(server, **options))


def used(client: Any) -> int:
    """As maxmemory counts it: without what waits for the append-only file, megabytes where the disk is slow."""
    memory = client.info("memory")
    return int(memory["used_memory"]) - int(memory["mem_not_counted_for_evict"])
