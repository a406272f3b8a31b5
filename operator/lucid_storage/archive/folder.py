"""A folder on a volume as a destination: every object appears whole and durable under its name, or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from lucid_storage.archive.destination import SMALL_BYTES, Digest, Entry
from lucid_storage.archive.readback import ReadBack
from lucid_storage.errors import (
    ArchiveDamagedError,
    DestinationError,
    DestinationFullError,
    DestinationUnavailableError,
)

PARTIAL: Final = ".lucid-partial-"
"""Begins the name of a file that is being written; a listing leaves it out."""
CREATE_ATTEMPTS: Final = 20
"""Of a file in folders that others remove as soon as they are empty."""
_BLOCK = 4 * 1024 * 1024
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class FolderStore:
    """Objects are files below a folder."""

    def __init__(self, root: Path) -> None:
        """Raises DestinationError when the folder is not there: it is never made, for a volume may not be mounted."""
        self._root = root
        self._check_root()

    def _check_root(self) -> None:
        if not self._root.is_dir():
            raise DestinationError(
                f"The folder {self._root} is not there; mount the volume of the destination."
            )

    @property
    def location(self) -> str:
        return str(self._root)

    def writer(self, path: str) -> FolderWriter:
        return FolderWriter(self._file(path), self._root)

    def read(self, path: str, start: int, length: int) -> bytes:
        with _told("read", path):
            try:
                with self._file(path).open("rb", buffering=0) as file:
                    file.seek(start)
                    return _read_up_to(file.fileno(), length)
            except FileNotFoundError:
                raise ArchiveDamagedError(f"The object {path} is not in the destination any more.") from None

    def get(self, path: str) -> bytes | None:
        with _told("read", path):
            try:
                with self._file(path).open("rb", buffering=0) as file:
                    data = _read_up_to(file.fileno(), SMALL_BYTES + 1)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None
        if len(data) > SMALL_BYTES:
            raise ArchiveDamagedError(f"The object {path} is too large to be a manifest.")
        return data

    def head(self, path: str) -> Entry | None:
        with _told("read", path):
            try:
                found = self._file(path).stat()
            except (FileNotFoundError, NotADirectoryError):
                return None
        return Entry(path, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

    def put(self, path: str, data: bytes) -> None:
        self._put(path, data, replace=True)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        return self._put(path, data, replace=False) or self.get(path) == data

    def _put(self, path: str, data: bytes, *, replace: bool) -> bool:
        writer = self.writer(path)
        try:
            writer.write(data)
            return writer.place(Digest(len(data), hashlib.sha256(data).hexdigest()), replace=replace)
        finally:
            writer.abort()

    def list(self, prefix: str) -> Iterator[Entry]:
        for file in self._files(prefix):
            if not file.name.startswith(PARTIAL):
                entry = self.head(file.relative_to(self._root).as_posix())
                if entry is not None:
                    yield entry

    def delete(self, path: str) -> None:
        file = self._file(path)
        with _told("delete", path):
            try:
                file.unlink()
            except (FileNotFoundError, NotADirectoryError):
                return
            with suppress(FileNotFoundError):  # whoever deleted its last file removed the folder
                _sync_folder(file.parent)
            self._remove_empty(file.parent)

    def delete_abandoned(self, prefix: str, before: datetime | None) -> int:
        count = 0
        for file in self._files(prefix):
            if file.name.startswith(PARTIAL):
                with _told("delete", file.name), suppress(FileNotFoundError):
                    if before is None or file.stat().st_mtime < before.timestamp():
                        file.unlink()
                        count += 1
        return count

    def _files(self, prefix: str) -> Iterator[Path]:
        self._check_root()

        def failed(error: OSError) -> None:
            if error.errno not in {errno.ENOENT, errno.ENOTDIR}:
                raise error

        with _told("list", prefix):
            for folder, _, names in os.walk(self._file(prefix) if prefix else self._root, onerror=failed):
                yield from (Path(folder, name) for name in sorted(names))

    def _remove_empty(self, folder: Path) -> None:
        # A folder stands for nothing in a destination; a bucket has none either.
        while folder != self._root:
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent

    def _file(self, path: str) -> Path:
        parts = path.split("/")
        # Paths come from manifests too, so they must not lead out of the folder.
        if any(part in {"", ".", ".."} or "\0" in part for part in parts):
            raise DestinationError(f"{path!r} is no path of an object.")
        return self._root.joinpath(*parts)


class FolderWriter:
    """Writes beside the final name, and links it there when it is complete, durable and read back."""

    def __init__(self, target: Path, root: Path) -> None:
        self._target = target
        self._root = root
        self._partial = target.with_name(f"{PARTIAL}{uuid.uuid4().hex}")
        self._lock = threading.Lock()
        self._file = -1
        self._back: ReadBack | None = None
        self._given_up = threading.Event()

    def write(self, data: bytes, /) -> None:
        with _told("write", self._target.name), self._lock:
            rest = memoryview(data)
            back = self._open()
            while rest:
                rest = rest[os.write(self._file, rest[:_BLOCK]) :]
            back.wrote(len(data))

    def finish(self, digest: Digest) -> None:
        if not self.place(digest, replace=False):
            raise DestinationError(f"{self._target} is there already; it was left as it is.")

    def place(self, digest: Digest, *, replace: bool) -> bool:
        """False when there is a file already that is not to be replaced. Otherwise as `finish`."""
        try:
            with _told("write", self._target.name), self._lock:
                found = self._open().finish()
                self._raise_if_given_up()
                if found != digest:
                    raise ArchiveDamagedError(
                        f"The volume did not keep what was written to {self._target.name}; check its disk."
                    )
                if replace:
                    self._partial.replace(self._target)
                elif not self._link():
                    return False
                _sync_folder(self._target.parent)
        finally:
            self.abort()
        return True

    def abort(self) -> None:
        self._given_up.set()  # at once, for the lock is held while a large file is read back
        with self._lock:
            if self._back is not None:
                self._back.end()
            if self._file >= 0:
                os.close(self._file)
                self._file = -1
                with suppress(OSError):  # whoever prunes takes it
                    self._partial.unlink(missing_ok=True)

    def _open(self) -> ReadBack:
        self._raise_if_given_up()
        if self._back is None:
            self._file = self._create()
            self._back = ReadBack(self._file, self._given_up)
        return self._back

    def _create(self) -> int:
        for _ in range(CREATE_ATTEMPTS - 1):
            # Somebody removes a folder as an empty one before there is a file in it; mkdir can say then that it exists.
            with suppress(FileNotFoundError, FileExistsError):
                return self._create_once()
        return self._create_once()

    def _create_once(self) -> int:
        _make_folders(self._target.parent, self._root)
        return os.open(self._partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)

    def _raise_if_given_up(self) -> None:
        if self._given_up.is_set():
            raise DestinationError("The upload was given up.")

    def _link(self) -> bool:
        try:
            os.link(self._partial, self._target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # File systems without hard links (FAT, some network ones): not atomic against a second writer.
            if self._target.exists():
                return False
            self._partial.rename(self._target)
        return True


def _make_folders(folder: Path, root: Path) -> None:
    """Below the root, which is never made. Raises FileNotFoundError, FileExistsError when one is removed meanwhile."""
    missing = [f for f in (folder, *folder.parents) if root in f.parents and not f.exists()]
    for made in reversed(missing):
        made.mkdir(exist_ok=True)
        _sync_folder(made.parent)


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # file systems that have no such thing
            raise
    finally:
        os.close(file)


def _read_up_to(file: int, length: int) -> bytes:
    data = bytearray()
    while len(data) < length and (block := os.read(file, min(_BLOCK, length - len(data)))):
        data += block
    return bytes(data)


@contextmanager
def _told(what: str, name: str) -> Iterator[None]:
    """Errors of the system as sentences."""
    try:
        yield
    except OSError as error:
        words = os.strerror(error.errno) if error.errno else str(error)
        if error.errno in _FULL:
            raise DestinationFullError(
                f"The volume of the destination is full ({words}); make room or enlarge it."
            ) from None
        if error.errno in _FORBIDDEN:
            raise DestinationError(
                f"The volume of the destination refuses to {what} {name} ({words}); "
                f"mount it writable for the worker's user and group."
            ) from None
        raise DestinationUnavailableError(
            f"The volume of the destination failed to {what} {name} ({words}); check the volume."
        ) from None
