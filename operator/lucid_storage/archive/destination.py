"""Where archives lie: one interface for a bucket, a folder on a volume, and a black hole for tests.

Paths are relative to the bucket or folder. "Not there" is a value; everything else that stands in the way is a
DestinationError whose sentence says what to do. All operations block and may be used from several threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from lucid_storage.errors import DestinationError
from lucid_storage.models.orders import DESTINATION_FOLDER_VARIABLE, Destination

SMALL_BYTES: Final = 64 * 1024 * 1024
"""Largest object that `get` takes into memory: far above any manifest."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An object as a listing shows it."""

    path: str
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class Digest:
    """What was written, for the destination to confirm."""

    size: int
    sha256: str


class ObjectWriter(Protocol):
    """One object on its way. Nothing is visible under its path until `finish` returned, and nothing after `abort`."""

    def write(self, data: bytes, /) -> None:
        """Takes all of it; blocks while the destination is slow. From one thread at a time."""

    def finish(self, digest: Digest) -> None:
        """Makes the object visible and compares what the destination holds with `digest`.

        Raises DestinationError, also when there is an object of this path already, and ArchiveDamagedError when the
        destination holds something else; the object is gone then.
        """

    def abort(self) -> None:
        """Ends at once, from any thread, and leaves nothing behind; harmless after finish. Never raises."""


class ObjectStore(Protocol):
    """A place for objects. Every operation raises DestinationError."""

    @property
    def location(self) -> str:
        """For people: where it is, without secrets."""

    def writer(self, path: str) -> ObjectWriter:
        """An object that is not there yet is on its way."""

    def read(self, path: str, start: int, length: int) -> bytes:
        """Bytes [start, start + length), fewer at the end. Raises ArchiveDamagedError when there is no such object."""

    def get(self, path: str) -> bytes | None:
        """A whole small object; None when there is none."""

    def head(self, path: str) -> Entry | None:
        """Size and time of an object; None when there is none."""

    def put(self, path: str, data: bytes) -> None:
        """Writes a small object, over another one if need be."""

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Writes a small object unless one is there. True when it is there with this content, by whomever."""

    def list(self, prefix: str) -> Iterator[Entry]:
        """Objects below a folder, in no order that counts. Uploads that never ended are not among them."""

    def delete(self, path: str) -> None:
        """Removes an object; harmless when there is none."""

    def delete_abandoned(self, prefix: str, before: datetime | None) -> int:
        """Removes uploads below a folder that never ended, with `before` those alone that began earlier, by the
        destination's clock; returns how many.
        """


def open_store(destination: Destination, environ: Mapping[str, str]) -> ObjectStore:
    """The place that an order names, with the credentials of the worker's environment. Raises DestinationError."""
    # Each worker loads only what its destination needs: memory on small machines.
    if destination.bucket is not None:
        from lucid_storage.archive.s3 import S3Store  # noqa: PLC0415

        return S3Store.from_order(destination, environ)
    from lucid_storage.archive.folder import FolderStore  # noqa: PLC0415

    folder = environ.get(DESTINATION_FOLDER_VARIABLE)
    if not folder:
        raise DestinationError(
            f"Name a bucket, or set {DESTINATION_FOLDER_VARIABLE} to the folder of the volume."
        )
    return FolderStore(Path(folder))
