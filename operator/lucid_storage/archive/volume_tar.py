"""The archive of a volume: a POSIX pax archive that stock `tar --xattrs --xattrs-include='*'` reads.

Owners, modes, times to the nanosecond, links, extended attributes (records SCHILY.xattr.*, "%" and "=" in their names
as %25 and %3D: GNU tar, src/xheader.c, xattr_encode_keyword) and holes (GNU's sparse format 1.0) are kept. Formats:
POSIX.1-2017 pax, "pax Interchange Format"; GNU tar manual, "Storing Sparse Files".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

BLOCK: Final = 512
END: Final = bytes(2 * BLOCK)
MODE_BITS: Final = 0o7777
LARGEST_ID: Final = 2**32 - 2
"""Of a user or group: the number above it leaves an owner as it is (chown(2))."""
XATTR: Final = b"SCHILY.xattr."
ESCAPED: Final = (b"comment", b"names of attributes have %25 and %3D")
"""A record beside such a name. Without it, names are as they were written: archives of before have no escapes."""
_MAGIC: Final = b"ustar\x0000"
_OCTAL_ID: Final = 0o7777777
_OCTAL_SIZE: Final = 0o77777777777


class EntryType(StrEnum):
    """What an entry is; the value is its type flag."""

    FILE = "0"
    HARDLINK = "1"
    SYMLINK = "2"
    CHARACTER = "3"
    BLOCK = "4"
    DIRECTORY = "5"
    FIFO = "6"


@dataclass(frozen=True, slots=True)
class TarEntry:
    """One entry. Paths are bytes below the root, b"" for the root itself."""

    path: bytes
    type: EntryType
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int = 0
    """Of a file's contents, holes included."""
    link: bytes = b""
    """Target of a symbolic link; path of the entry that a hard link is another name of."""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    ranges: tuple[tuple[int, int], ...] | None = None
    """(offset, length) of what a sparse file holds; None where there are no holes."""
    device: tuple[int, int] = (0, 0)

    @property
    def stored(self) -> tuple[tuple[int, int], ...]:
        """The ranges whose bytes follow the header, in order."""
        return ((0, self.size),) if self.ranges is None else self.ranges


def header(entry: TarEntry) -> bytes:
    """Everything before an entry's contents."""
    name = entry.path + b"/" if entry.type is EntryType.DIRECTORY and entry.path else entry.path or b"./"
    records: dict[bytes, bytes] = {}
    sparse_map, size = b"", entry.size if entry.type is EntryType.FILE else 0
    if entry.ranges is not None:
        folder, _, base = name.rpartition(b"/")
        records |= {
            b"GNU.sparse.major": b"1",
            b"GNU.sparse.minor": b"0",
            b"GNU.sparse.name": name,
            b"GNU.sparse.realsize": b"%d" % entry.size,
        }
        sparse_map = _sparse_map(entry.ranges, entry.size)
        size = len(sparse_map) + sum(length for _, length in entry.ranges)
        name = (folder + b"/" if folder else b"") + b"GNUSparseFile.0/" + base
    if _long(name, 100):
        records[b"path"] = name
    if _long(entry.link, 100):
        records[b"linkpath"] = entry.link
    if entry.mtime_ns % 1_000_000_000 or not 0 <= entry.mtime_ns // 1_000_000_000 <= _OCTAL_SIZE:
        records[b"mtime"] = _seconds(entry.mtime_ns)
    if entry.uid > _OCTAL_ID:
        records[b"uid"] = b"%d" % entry.uid
    if entry.gid > _OCTAL_ID:
        records[b"gid"] = b"%d" % entry.gid
    if size > _OCTAL_SIZE:
        records[b"size"] = b"%d" % size
    names = {name: name.replace(b"%", b"%25").replace(b"=", b"%3D") for name, _ in entry.xattrs}
    if any(name != escaped for name, escaped in names.items()):
        records |= [ESCAPED]
    records |= {XATTR + names[name]: value for name, value in entry.xattrs}
    ustar = _ustar(entry, name, size)
    return (_extended(records) if records else b"") + ustar + sparse_map


def padding(entry: TarEntry) -> bytes:
    """What follows an entry's contents."""
    if entry.type is not EntryType.FILE:
        return b""
    return bytes(-sum(length for _, length in entry.stored) % BLOCK)


def _long(name: bytes, most: int) -> bool:
    return len(name) > most or not name.isascii()


def _seconds(nanoseconds: int) -> bytes:
    whole, rest = divmod(nanoseconds, 1_000_000_000)
    if whole < 0 and rest:  # decimals count away from zero
        whole, rest = whole + 1, 1_000_000_000 - rest
        return b"-%d.%09d" % (-whole, rest)
    return b"%d.%09d" % (whole, rest)


def _sparse_map(ranges: tuple[tuple[int, int], ...], size: int) -> bytes:
    ends_at = sum(ranges[-1]) if ranges else 0
    told = ranges if ranges and ends_at == size else (*ranges, (size, 0))
    text = b"%d\n" % len(told) + b"".join(b"%d\n%d\n" % one for one in told)
    return text + bytes(-len(text) % BLOCK)


def _extended(records: Mapping[bytes, bytes]) -> bytes:
    body = b"".join(_record(key, value) for key, value in records.items())
    shell = TarEntry(b"", EntryType.FILE, 0o644, 0, 0, 0)
    return _ustar(shell, b"PaxHeaders/entry", len(body), flag=b"x") + body + bytes(-len(body) % BLOCK)


def _record(key: bytes, value: bytes) -> bytes:
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _ustar(entry: TarEntry, name: bytes, size: int, *, flag: bytes | None = None) -> bytes:
    seconds = entry.mtime_ns // 1_000_000_000
    block = bytearray(BLOCK)
    block[0:100] = _field(name if name.isascii() else b"entry", 100)
    block[100:108] = b"%07o\x00" % (entry.mode & MODE_BITS)
    block[108:116] = b"%07o\x00" % (entry.uid if entry.uid <= _OCTAL_ID else 0)
    block[116:124] = b"%07o\x00" % (entry.gid if entry.gid <= _OCTAL_ID else 0)
    block[124:136] = b"%011o\x00" % (size if size <= _OCTAL_SIZE else 0)
    block[136:148] = b"%011o\x00" % (seconds if 0 <= seconds <= _OCTAL_SIZE else 0)
    block[148:156] = b" " * 8
    block[156:157] = flag or entry.type.encode()
    block[157:257] = _field(entry.link if entry.link.isascii() else b"entry", 100)
    block[257:265] = _MAGIC
    block[329:337] = b"%07o\x00" % (entry.device[0] & _OCTAL_ID)
    block[337:345] = b"%07o\x00" % (entry.device[1] & _OCTAL_ID)
    block[148:156] = b"%06o\x00 " % sum(block)
    return bytes(block)


def _field(text: bytes, size: int) -> bytes:
    return text[:size].ljust(size, b"\x00")
