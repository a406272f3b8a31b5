"""The list of a volume's checksums: JSON lines in the order of a walk, with an end that proves the whole.

First line: format, the moment, whether it is authenticated. Then one line an entry. Last line: SHA-256 of everything
before it, or an HMAC by a key, so that a list that rotted or was changed is not believed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from hmac import compare_digest
from pathlib import Path
from typing import IO, Final

from lucid_storage.archive.keys import Key
from lucid_storage.errors import ArchiveDamagedError, LucidError, Reason

FORMAT: Final = 1


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
    """Writes beside the old list and takes its place at the end: a broken run leaves the old one."""

    def __init__(self, path: Path, at: datetime, key: Key | None) -> None:
        self._path = path
        self._draft = path.with_name(f"{path.name}.new")
        self._key = key
        self._sha256 = hashlib.sha256()
        self._file: IO[bytes] = self._draft.open("wb")
        self._line({"format": FORMAT, "at": at.isoformat(), "keyId": key.id if key is not None else None})

    def add(self, entry: Listed) -> None:
        """In order."""
        name = base64.b64encode(entry.path).decode()
        fields = (entry.mode, entry.uid, entry.gid, entry.mtime_ns, entry.ctime_ns, entry.size)
        self._line([name, entry.type, *fields, entry.content])

    def finish(self) -> None:
        """The new list is the list."""
        self._file.write(_seal(self._sha256, self._key) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._draft.replace(self._path)

    def abort(self) -> None:
        """The old list stays. Harmless after finish."""
        if not self._file.closed:
            self._file.close()
            self._draft.unlink(missing_ok=True)

    def _line(self, value: object) -> None:
        line = json.dumps(value, separators=(",", ":")).encode() + b"\n"
        self._sha256.update(line)
        self._file.write(line)


@dataclass(frozen=True, slots=True)
class KnownList:
    """A list that was read through once and is whole."""

    path: Path
    at: datetime

    def entries(self) -> Iterator[Listed]:
        """In order."""
        with self.path.open("rb") as file:
            next(file)
            for line in file:
                value = json.loads(line)
                if isinstance(value, dict):
                    return
                name, kind, mode, uid, gid, mtime_ns, ctime_ns, size, content = value
                yield Listed(base64.b64decode(name), kind, mode, uid, gid, mtime_ns, ctime_ns, size, content)


def open_list(path: Path, key: Key | None) -> KnownList | None:
    """None when there is none yet. Raises ArchiveDamagedError, LucidError(KeyMissing)."""
    if not path.exists():
        return None
    sha256, last, first = hashlib.sha256(), b"", b""
    with path.open("rb") as file:
        for line in file:
            first = first or line
            sha256.update(last)
            last = line
    try:
        head = json.loads(first)
        at, key_id = datetime.fromisoformat(head["at"]), head["keyId"]
        readable = head["format"] == FORMAT
    except (ValueError, KeyError, TypeError):
        readable, at, key_id = False, datetime.min, None
    if not readable:
        raise ArchiveDamagedError(
            f"{path.name} is no list of checksums that this version can read; remove it."
        )
    if key_id is not None and key is None:
        raise LucidError(f"The list was made with the key {key_id}; give it.", reason=Reason.KEY_MISSING)
    if not compare_digest(last.rstrip(b"\n"), _seal(sha256, key)):
        raise ArchiveDamagedError(
            f"{path.name} is not as it was written, so nothing can be compared with it: it was changed or rotted, or"
            " the key is another one. Remove it to begin anew."
        )
    return KnownList(path, at)


def _seal(sha256: hashlib._Hash, key: Key | None) -> bytes:
    if key is not None:
        return json.dumps({"hmacSha256": key.record_mac(b"volume\n" + sha256.digest())}).encode()
    return json.dumps({"sha256": sha256.hexdigest()}).encode()
