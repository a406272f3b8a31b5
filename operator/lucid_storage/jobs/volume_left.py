"""The users' attributes that a restore had to leave off, kept on the disk until what was unpacked was compared.

They are part of a volume's hash, so the comparison puts them back; every file can have some, so they are not in memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from pydantic import TypeAdapter

NAME: Final = ".lucid-attributes"
"""At the top of what is unpacked."""
_LINE: Final = TypeAdapter(tuple[str, tuple[tuple[str, str], ...]])

Attributes = tuple[tuple[bytes, bytes], ...]


class LeftOff:
    """Written in the order of a walk."""

    def __init__(self, folder: Path) -> None:
        self._place = folder / NAME
        self._file: BinaryIO | None = None

    def add(self, path: bytes, attributes: Attributes) -> None:
        """Of one entry. Raises OSError."""
        if not attributes:
            return
        if self._file is None:
            self._file = self._place.open("xb")
        pairs = [(name.hex(), value.hex()) for name, value in attributes]
        self._file.write(json.dumps((path.hex(), pairs)).encode() + b"\n")

    def close(self) -> None:
        """All is in the file. Raises OSError."""
        if self._file is not None:
            self._file.close()


def read(folder: Path) -> Iterator[tuple[bytes, Attributes]]:
    """Path and attributes of each entry that had to go without some. What the disk lost of them ends it: the hash will
    not be the manifest's. Raises OSError.
    """
    place = folder / NAME
    if not place.exists():
        return
    with place.open("rb") as file:
        for line in file:
            try:
                path, pairs = _LINE.validate_json(line)
                one = bytes.fromhex(path), tuple((bytes.fromhex(n), bytes.fromhex(v)) for n, v in pairs)
            except ValueError:
                return
            yield one


def remove(folder: Path) -> None:
    """When all was compared. Raises OSError."""
    (folder / NAME).unlink(missing_ok=True)
