"""The list of a volume's checksums: JSON lines in the order of a walk, with an end that proves the whole.

First line: format, the moment, whether it is authenticated. Then one line an entry. Last line: SHA-256 of everything
before it, or an HMAC by a key, so that a list that rotted or was changed is not believed.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from hmac import compare_digest
from pathlib import Path
from typing import BinaryIO, Final

from lucid_storage.archive.keys import Key
from lucid_storage.archive.own_file import open_draft, open_own, put_in_place
from lucid_storage.errors import ArchiveDamagedError, LucidError, Reason

FORMAT: Final = 1
LONGEST_LINE: Final = 1024 * 1024
"""Bytes: a path, whose base64 is the longest part, is far shorter."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry of a volume, as it was when it was read."""

    path: bytes
    type: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    ctime_ns: int
    size: int
    content: str
    """Hash of a file's contents, target of a link; empty for others."""

    @property
    def place(self) -> list[bytes]:
        """Sorts entries as a walk meets them."""
        return self.path.split(b"/")


class ListWriter:
    """Writes beside the old list and takes its place at the end: a broken run leaves the old one. Raises OSError."""

    def __init__(self, path: Path, at: datetime, key: Key | None) -> None:
        self._path = path
        self._draft = draft_of(path)
        self._key = key
        self._sha256 = hashlib.sha256()
        self._file = open_draft(self._draft)
        self._line({"format": FORMAT, "at": at.isoformat(), "keyId": key.id if key is not None else None})

    def add(self, entry: Listed) -> None:
        """In order."""
        name = base64.b64encode(entry.path).decode()
        fields = (entry.mode, entry.uid, entry.gid, entry.mtime_ns, entry.ctime_ns, entry.size)
        self._line([name, entry.type, *fields, entry.content])

    def finish(self) -> None:
        """The new list is the list."""
        self._file.write(_seal(self._sha256, self._key) + b"\n")
        put_in_place(self._draft, self._file, self._path)

    def abort(self) -> None:
        """The old list stays. Harmless after finish."""
        if not self._file.closed:
            self._file.close()
            self._draft.unlink(missing_ok=True)

    def _line(self, value: object) -> None:
        line = json.dumps(value, separators=(",", ":")).encode() + b"\n"
        self._sha256.update(line)
        self._file.write(line)


def draft_of(path: Path) -> Path:
    """Where a list is written before it takes its place."""
    return path.with_name(f"{path.name}.new")


@dataclass(frozen=True, slots=True)
class KnownList:
    """A list that was read through once and is whole. It must be closed."""

    name: str
    at: datetime
    file: BinaryIO
    key: Key | None

    def entries(self) -> Iterator[Listed]:
        """In order. Raises ArchiveDamagedError when it is another list at its end than the one that was believed."""
        self.file.seek(0)
        lines = _Lines(self.file, self.name)
        try:
            for line in lines.content():
                if lines.count > 1:  # the first line is the head
                    yield _listed(line)
        except (ValueError, TypeError) as error:
            raise _not_as_written(self.name) from error
        if not lines.sealed(self.key):
            raise _not_as_written(self.name)

    def close(self) -> None:
        self.file.close()


def open_list(path: Path, key: Key | None) -> KnownList | None:
    """None when there is none yet. Raises ArchiveDamagedError, LucidError(KeyMissing), LucidError(AccessDenied)."""
    file = open_own(path)
    if file is None:
        return None
    try:
        return KnownList(path.name, _whole(file, path.name, key), file, key)
    except BaseException:
        file.close()
        raise


def _whole(file: BinaryIO, name: str, key: Key | None) -> datetime:
    """The moment of a list that is as it was written. Raises as `open_list` does."""
    lines, first = _Lines(file, name), b""
    for line in lines.content():
        first = first or line
    try:
        head = json.loads(first or lines.last)
        at, key_id = datetime.fromisoformat(head["at"]), head["keyId"]
        readable = head["format"] == FORMAT
    except (ValueError, KeyError, TypeError):
        readable, at, key_id = False, datetime.min, None
    if not readable:
        raise ArchiveDamagedError(f"{name} is no list of checksums that this version can read; remove it.")
    if key_id is not None and key is None:
        raise LucidError(f"The list was made with the key {key_id}; give it.", reason=Reason.KEY_MISSING)
    if not lines.sealed(key):
        raise _not_as_written(name)
    return at


class _Lines:
    """All lines of a list but the last, which is its seal."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._sha256 = hashlib.sha256()
        self.last = b""
        self.count = 0
        """Lines that were handed out."""

    def content(self) -> Iterator[bytes]:
        """Raises ArchiveDamagedError for a line that is longer than any of ours: it would be held in memory."""
        while line := self._file.readline(LONGEST_LINE):
            if len(line) == LONGEST_LINE:
                raise _not_as_written(self._name)
            if self.last:
                self._sha256.update(self.last)
                self.count += 1
                yield self.last
            self.last = line

    def sealed(self, key: Key | None) -> bool:
        """Whether the end proves what was read. To be asked at the end."""
        return compare_digest(self.last.rstrip(b"\n"), _seal(self._sha256, key))


def _listed(line: bytes) -> Listed:
    """Raises ValueError, TypeError."""
    name, kind, mode, uid, gid, mtime_ns, ctime_ns, size, content = json.loads(line)
    return Listed(base64.b64decode(name), kind, mode, uid, gid, mtime_ns, ctime_ns, size, content)


def _not_as_written(name: str) -> ArchiveDamagedError:
    return ArchiveDamagedError(
        f"{name} is not as it was written, so nothing can be compared with it: it was changed or rotted, or the key is"
        " another one. Remove it to begin anew."
    )


def _seal(sha256: hashlib._Hash, key: Key | None) -> bytes:
    if key is not None:
        return json.dumps({"hmacSha256": key.record_mac(b"volume\n" + sha256.digest())}).encode()
    return json.dumps({"sha256": sha256.hexdigest()}).encode()
