"""Objects as streams: compressed, sealed and uploaded while they are written, and back again.

Each stage works in a thread of its own beside the one that writes or reads; what lies between them is bounded.
Compression, encryption, digests and requests all work outside of Python's global lock.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from lucid_storage.archive.compressing import compressor, decompressed
from lucid_storage.archive.destination import Digest, ObjectStore
from lucid_storage.archive.keys import Key, Keyring
from lucid_storage.archive.manifest import ObjectKind, Packing, StoredObject
from lucid_storage.archive.pipe import Pipe
from lucid_storage.archive.sealing import Sealer, opened
from lucid_storage.errors import ArchiveDamagedError, DestinationError, KeyMissingError
from lucid_storage.models.storage import Compression, CompressionAlgorithm

CHUNK_BYTES: Final = 1024 * 1024
"""What is handed to the next thread at once."""
AHEAD_BYTES: Final = 2 * CHUNK_BYTES
"""What may lie between two threads."""
FETCH_BYTES: Final = 4 * 1024 * 1024
"""What is asked of the destination at once when reading."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What an object is, wherever it lies: data sealed for another one do not open."""

    backup: str
    """Id of the manifest that it belongs to."""
    kind: ObjectKind
    part: str = ""

    @property
    def associated_data(self) -> bytes:
        """For the encryption. No field can hold a line break, so no two identities are alike."""
        if any("\n" in field for field in (self.backup, self.part)):
            raise ValueError("a line break in the identity of an object")
        return f"lucid-storage/v1/object\n{self.backup}\n{self.kind}\n{self.part}".encode()

    @classmethod
    def of(cls, manifest_id: str, stored: StoredObject) -> Identity:
        """Of an object that a manifest names."""
        return cls(manifest_id, stored.kind, stored.part)


class AbortedError(DestinationError):
    """The stream was given up by its owner."""


def packing_for(compression: Compression, key: Key | None) -> Packing:
    """How new objects are packed."""
    return Packing(
        compression=compression.algorithm,
        encrypted=key is not None,
        key_id=key.id if key is not None else None,
        key_fingerprint=key.fingerprint if key is not None else None,
    )


def key_for(packing: Packing, keyring: Keyring) -> Key | None:
    """The key that opens what was packed so; None where nothing is encrypted. Raises KeyMissingError."""
    if not packing.encrypted:
        return None
    if packing.key_id is None:
        raise KeyMissingError("The manifest says that the data are encrypted, and names no key.")
    return keyring.key(packing.key_id, packing.key_fingerprint)


def open_sink(
    store: ObjectStore,
    path: str,
    identity: Identity,
    packing: Packing,
    key: Key | None = None,
    level: int | None = None,
) -> PackedSink:
    """A sink for one object that is not there yet. It must come to `finish` or `abort`."""
    return PackedSink(store, path, identity, packing, _checked(packing, key), level)


def open_source(
    store: ObjectStore,
    path: str,
    identity: Identity,
    packing: Packing,
    key: Key | None = None,
    stored: StoredObject | None = None,
) -> PackedSource:
    """An object on its way back. With `stored`, size and checksum of the stored bytes must be those."""
    return PackedSource(store, path, identity, packing, _checked(packing, key), stored)


def _checked(packing: Packing, key: Key | None) -> Key | None:
    if packing.encrypted and key is None:
        raise KeyMissingError(f"The key {packing.key_id} is needed for encrypted data.")
    return key if packing.encrypted else None


class PackedSink:
    """Takes plain bytes from one thread at a time; another thread packs them, and the writer's own upload them."""

    def __init__(
        self,
        store: ObjectStore,
        path: str,
        identity: Identity,
        packing: Packing,
        key: Key | None,
        level: int | None,
    ) -> None:
        self._path = path
        self._identity = identity
        self._compressor = compressor(CompressionAlgorithm(packing.compression), level)
        self._sealer = Sealer(key, identity.associated_data) if key is not None else None
        self._writer = store.writer(path)
        self._sha256 = hashlib.sha256()
        self._stored = 0
        self._plain = 0
        self._pending = bytearray()
        self._ended = False
        self._pipe = Pipe(AHEAD_BYTES)
        self._thread = threading.Thread(target=self._run, name=f"pack {identity.kind}", daemon=True)
        self._thread.start()

    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        """Takes all of it; blocks while the destination is slow. Raises DestinationError."""
        if self._ended:
            raise ValueError("a write after the end")
        size = len(data)
        self._plain += size
        if size < CHUNK_BYTES:
            self._pending += data
            if len(self._pending) >= CHUNK_BYTES:
                self._hand_over()
            return
        self._hand_over()
        with memoryview(data) as view:
            for start in range(0, size, CHUNK_BYTES):
                self._pipe.put(bytes(view[start : start + CHUNK_BYTES]))

    def finish(self) -> StoredObject:
        """Returns when the destination confirmed size and checksum of the whole. Raises as the writer's `finish`."""
        self._ended = True
        self._hand_over()
        self._pipe.close()
        self._thread.join()
        self._pipe.raise_failure()
        return StoredObject(
            kind=self._identity.kind,
            part=self._identity.part,
            path=self._path,
            stored_bytes=self._stored,
            sha256=self._sha256.hexdigest(),
            plain_bytes=self._plain,
        )

    def abort(self) -> None:
        """Leaves nothing behind; harmless after finish."""
        self._pipe.fail(AbortedError("The upload was given up."))
        self._writer.abort()
        self._thread.join()

    def _hand_over(self) -> None:
        if self._pending:
            full, self._pending = self._pending, bytearray()
            self._pipe.put(full)

    def _run(self) -> None:
        try:
            for data in self._pipe:
                self._store(self._compressor.write(data))
            self._store(self._compressor.finish())
            for piece in self._sealer.finish() if self._sealer is not None else ():
                self._send(piece)
            self._writer.finish(Digest(self._stored, self._sha256.hexdigest()))
        except BaseException as error:  # noqa: BLE001  # raised in the thread that writes
            self._writer.abort()
            self._pipe.fail(error)

    def _store(self, packed: bytes) -> None:
        if self._sealer is None:
            self._send(packed)
            return
        for piece in self._sealer.write(packed):
            self._send(piece)

    def _send(self, piece: bytes) -> None:
        if piece:
            self._sha256.update(piece)
            self._stored += len(piece)
            self._writer.write(piece)


class PackedSource:
    """Gives plain bytes to one thread; two others fetch and open ahead of it."""

    def __init__(
        self,
        store: ObjectStore,
        path: str,
        identity: Identity,
        packing: Packing,
        key: Key | None,
        stored: StoredObject | None,
    ) -> None:
        self._store = store
        self._path = path
        self._identity = identity
        self._packing = packing
        self._key = key
        self._expected = stored
        self._sha256 = hashlib.sha256()
        self._fetched = Pipe(FETCH_BYTES)
        self._plain = Pipe(AHEAD_BYTES)
        self._rest = memoryview(b"")
        self._threads = [
            threading.Thread(target=self._fetch, name=f"fetch {identity.kind}", daemon=True),
            threading.Thread(target=self._open, name=f"open {identity.kind}", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes, b"" at the authenticated end. Raises ArchiveDamagedError or DestinationError."""
        if size < 0:
            return b"".join(iter(lambda: self.read(CHUNK_BYTES), b""))
        if not self._rest:
            self._rest = memoryview(self._plain.take() or b"")
        taken, self._rest = self._rest[:size], self._rest[size:]
        return bytes(taken)

    def close(self) -> None:
        """Ends the threads; harmless at any time."""
        self._fetched.fail(AbortedError("The download was given up."))
        self._plain.fail(AbortedError("The download was given up."))
        for thread in self._threads:
            thread.join()

    def _fetch(self) -> None:
        try:
            for data in self._ranges():
                self._sha256.update(data)
                self._fetched.put(data)
            self._compare()
            self._fetched.close()
        except BaseException as error:  # noqa: BLE001  # raised in the thread that reads
            self._fetched.fail(error)

    def _ranges(self) -> Iterator[bytes]:
        size = self._size()
        for start in range(0, size, FETCH_BYTES):
            wanted = min(FETCH_BYTES, size - start)
            data = self._store.read(self._path, start, wanted)
            if len(data) != wanted:
                raise ArchiveDamagedError(f"{self._path} became shorter while it was read.")
            yield data

    def _compare(self) -> None:
        if self._expected is not None and self._sha256.hexdigest() != self._expected.sha256:
            raise ArchiveDamagedError(f"{self._path} has another checksum than its manifest says.")

    def _size(self) -> int:
        found = self._store.head(self._path)
        if found is None:
            raise ArchiveDamagedError(f"The object {self._path} is not in the destination any more.")
        if self._expected is not None and found.size != self._expected.stored_bytes:
            raise ArchiveDamagedError(
                f"{self._path} has {found.size} bytes, and its manifest says {self._expected.stored_bytes}."
            )
        return found.size

    def _open(self) -> None:
        try:
            for piece in decompressed(self._opened(), CompressionAlgorithm(self._packing.compression)):
                for start in range(0, len(piece), CHUNK_BYTES):
                    self._plain.put(piece[start : start + CHUNK_BYTES])
            self._plain.close()
        except BaseException as error:  # noqa: BLE001  # raised in the thread that reads
            self._plain.fail(error)
            with suppress(BaseException):
                self._fetched.fail(error)

    def _opened(self) -> Iterator[bytes]:
        if self._key is None:
            return (bytes(piece) for piece in self._fetched)
        return opened(ExactReader(self._fetched).read, self._key, self._identity.associated_data)


class ExactReader:
    """Reads exact lengths from a pipe."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._buffer = bytearray()

    def read(self, size: int) -> bytes:
        """`size` bytes, fewer only at the end."""
        while len(self._buffer) < size and (piece := self._pipe.take()) is not None:
            self._buffer += piece
        with memoryview(self._buffer) as view:
            data = bytes(view[:size])
        del self._buffer[:size]
        return data
