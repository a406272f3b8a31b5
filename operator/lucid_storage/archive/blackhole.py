"""A destination for tests and measurements: it counts and digests what it takes, and keeps none of it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

from lucid_storage.archive.destination import Digest, Entry
from lucid_storage.errors import ArchiveDamagedError, DestinationError


class BlackHoleStore:
    """Objects are known by size and digest only, so they cannot be read."""

    def __init__(self) -> None:
        self.objects: dict[str, Digest] = {}
        self._times: dict[str, datetime] = {}

    @property
    def location(self) -> str:
        return "black hole"

    def writer(self, path: str) -> BlackHoleWriter:
        return BlackHoleWriter(self, path)

    def keep(self, path: str, digest: Digest) -> None:
        """An object has arrived."""
        self.objects[path] = digest
        self._times[path] = datetime.now(UTC)

    def read(self, path: str, start: int, length: int) -> bytes:
        raise ArchiveDamagedError(f"{path} is in a black hole, bytes {start} to {start + length} too.")

    def get(self, path: str) -> bytes | None:
        if path not in self.objects:
            return None
        raise ArchiveDamagedError(f"{path} is in a black hole.")

    def head(self, path: str) -> Entry | None:
        digest = self.objects.get(path)
        return Entry(path, digest.size, self._times[path]) if digest is not None else None

    def put(self, path: str, data: bytes) -> None:
        self.keep(path, Digest(len(data), hashlib.sha256(data).hexdigest()))

    def put_if_absent(self, path: str, data: bytes) -> bool:
        digest = Digest(len(data), hashlib.sha256(data).hexdigest())
        if path not in self.objects:
            self.keep(path, digest)
        return self.objects[path] == digest

    def list(self, prefix: str) -> Iterator[Entry]:
        for path, digest in sorted(self.objects.items()):
            if path.startswith(f"{prefix}/" if prefix else ""):
                yield Entry(path, digest.size, self._times[path])

    def delete(self, path: str) -> None:
        self.objects.pop(path, None)

    def delete_abandoned(self, prefix: str, before: datetime | None) -> int:
        del prefix, before
        return 0


class BlackHoleWriter:
    """Counts and digests."""

    def __init__(self, store: BlackHoleStore, path: str) -> None:
        self._store = store
        self._path = path
        self._sha256 = hashlib.sha256()
        self._size = 0
        self._given_up = threading.Event()

    def write(self, data: bytes, /) -> None:
        if self._given_up.is_set():
            raise DestinationError("The upload was given up.")
        self._sha256.update(data)
        self._size += len(data)

    def finish(self, digest: Digest) -> None:
        if self._path in self._store.objects:
            raise DestinationError(f"{self._path} is there already; it was left as it is.")
        if digest != Digest(self._size, self._sha256.hexdigest()):
            raise ArchiveDamagedError(f"What arrived of {self._path} is not what was sent.")
        self._store.keep(self._path, digest)

    def abort(self) -> None:
        self._given_up.set()
