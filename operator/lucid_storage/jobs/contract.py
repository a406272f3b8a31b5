"""How the parts of a backup worker meet: each engine takes its data in a thread of its own through a BackupRun."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lucid_storage.archive.manifest import CollectionRecord, EngineRecord, ObjectKind, StoredObject
from lucid_storage.errors import LucidError
from lucid_storage.models.orders import BackupOrder


class Sink(Protocol):
    """One object on its way into the destination: compressed, sealed and uploaded in parts as it is written."""

    def write(self, data: bytes | bytearray | memoryview, /) -> object:
        """Takes all of it; blocks while the destination is slow. Raises LucidError(DestinationUnavailable)."""

    def finish(self) -> StoredObject:
        """Returns when the destination confirmed size and checksum of the whole."""

    def abort(self) -> None:
        """Leaves nothing behind; harmless after finish."""


class Source(Protocol):
    """One object on its way back: downloaded, authenticated, opened, decompressed."""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes, b"" at the authenticated end. Raises LucidError(ArchiveDamaged) for anything else."""

    def close(self) -> None: ...


class CancelledError(LucidError):
    """The worker was told to stop."""


@dataclass(slots=True)
class BackupRun:
    """What an engine needs for one backup."""

    order: BackupOrder
    open_object: Callable[[ObjectKind, str], Sink]
    """Kind and part (often "") of an object that is created in the backup's folder."""
    report: Callable[[int, int], None]
    """Adds bytes read from the store and documents to the progress."""
    expect: Callable[[int], None]
    """Adds bytes that will be read."""
    cancelled: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raises CancelledError when the run is to end. Called between batches."""
        if self.cancelled.is_set():
            raise CancelledError("The run was stopped.")


@dataclass(frozen=True, slots=True)
class Taken:
    """What an engine took."""

    record: EngineRecord
    objects: tuple[StoredObject, ...]
    documents: int
    size_bytes: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came out of an archive that was read whole, to be compared with the manifest."""

    collections: Sequence[CollectionRecord] = ()
    documents: int = 0
    size_bytes: int = 0
