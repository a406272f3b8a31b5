"""Reads the archive of a volume back, strictly: whatever we would not have written is damage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from lucid_storage.archive.volume_tar import BLOCK, ESCAPED, LARGEST_ID, MODE_BITS, XATTR, EntryType, TarEntry
from lucid_storage.errors import ArchiveDamagedError

READ_BYTES: Final = 1024 * 1024
LARGEST_HEADER: Final = 64 * 1024 * 1024
"""Of extended headers and sparse maps: more is no archive of ours."""
_SIGNED: Final = 2**63
"""Sizes and seconds are below it: off_t and time_t."""


class TarReader:
    """Reads what `header` writes, entry by entry. Anything else raises ArchiveDamagedError."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._left = 0
        self._pad = 0
        self._entry: TarEntry | None = None

    def entries(self) -> Iterator[TarEntry]:
        """Each entry; its contents are to be read before the next one is asked for, or are skipped."""
        while True:
            self._skip()
            block = self._exact(BLOCK)
            if block == bytes(BLOCK):
                if self._exact(BLOCK) != bytes(BLOCK):
                    raise _damaged("its end is not one")
                self._to_end()
                return
            records: dict[bytes, bytes] = {}
            if _flag(block) == b"x":
                records = _records(self._sized(block, LARGEST_HEADER))
                block = self._exact(BLOCK)
            yield self._begun(block, records)

    def contents(self) -> Iterator[tuple[int, bytes]]:
        """(offset, bytes) of the present entry's contents, in order."""
        if self._entry is None or self._entry.type is not EntryType.FILE:
            return
        for offset, length in self._entry.stored:
            at = offset
            while at < offset + length:
                data = self._exact(min(READ_BYTES, offset + length - at))
                self._left -= len(data)
                yield at, data
                at += len(data)

    def _begun(self, block: bytes, records: Mapping[bytes, bytes]) -> TarEntry:
        try:
            entry, stored = self._parsed(block, records)
        except (ValueError, KeyError) as error:
            raise _damaged("a header cannot be read") from error
        if entry.type is not EntryType.FILE and stored:
            raise _damaged("an entry without contents has some")
        self._entry, self._left, self._pad = entry, stored, -stored % BLOCK
        return entry

    def _parsed(self, block: bytes, records: Mapping[bytes, bytes]) -> tuple[TarEntry, int]:
        """The entry, and how many bytes of contents follow. Raises ValueError, KeyError."""
        _check_sum(block)
        kind = EntryType(_flag(block).decode("ascii"))
        size = _number(records.get(b"size"), block[124:136], _SIGNED - 1)
        name = records.get(b"path", _text(block[0:100]))
        ranges, real = None, size
        if records.get(b"GNU.sparse.major") == b"1":
            name, real = (
                records[b"GNU.sparse.name"],
                _number(records[b"GNU.sparse.realsize"], b"", _SIGNED - 1),
            )
            ranges, used = self._map(size, real)
            size -= used
        if ranges is not None and sum(length for _, length in ranges) != size:
            raise ValueError
        link = records.get(b"linkpath", _text(block[157:257]))
        if b"\x00" in link or (kind is EntryType.HARDLINK and not (link := safe_path(link))):
            raise ValueError
        mtime = records.get(b"mtime")
        entry = TarEntry(
            path=safe_path(name),
            type=kind,
            mode=_number(None, block[100:108], MODE_BITS),
            uid=_number(records.get(b"uid"), block[108:116], LARGEST_ID),
            gid=_number(records.get(b"gid"), block[116:124], LARGEST_ID),
            mtime_ns=_nanoseconds(mtime) if mtime is not None else _octal(block[136:148]) * 1_000_000_000,
            size=real if kind is EntryType.FILE else 0,
            link=link,
            xattrs=_attributes(records),
            ranges=ranges,
            device=(_octal(block[329:337]), _octal(block[337:345])),
        )
        return entry, size

    def _map(self, stored: int, real: int) -> tuple[tuple[tuple[int, int], ...], int]:
        """The ranges of a sparse file, and how many bytes the map takes. Raises ValueError."""
        text, used = b"", 0
        wanted: int | None = None
        while wanted is None or text.count(b"\n") < 1 + 2 * wanted:
            if used + BLOCK > min(stored, LARGEST_HEADER):
                raise ValueError
            text += self._exact(BLOCK)
            used += BLOCK
            if wanted is None and b"\n" in text:
                wanted = int(text.partition(b"\n")[0])
        numbers = [int(n) for n in text.split(b"\n")[1 : 1 + 2 * wanted]]
        ranges = tuple(zip(numbers[::2], numbers[1::2], strict=True))
        at = 0
        for offset, length in ranges:
            if offset < at or length < 0 or offset + length > real:
                raise ValueError
            at = offset + length
        return tuple(one for one in ranges if one[1]), used

    def _sized(self, block: bytes, most: int) -> bytes:
        try:
            _check_sum(block)
            size = _octal(block[124:136])
        except ValueError as error:
            raise _damaged("a header cannot be read") from error
        if size > most:
            raise _damaged("a header is larger than any of ours")
        data = self._exact(size)
        self._exact(-size % BLOCK)
        return data

    def _skip(self) -> None:
        left = self._left + self._pad
        while left:
            left -= len(self._exact(min(READ_BYTES, left)))
        self._left = self._pad = 0
        self._entry = None

    def _to_end(self) -> None:
        while rest := self._read(READ_BYTES):
            if rest.strip(b"\x00"):
                raise _damaged("something follows its end")

    def _exact(self, size: int) -> bytes:
        pieces, missing = [], size
        while missing:
            piece = self._read(missing)
            if not piece:
                raise _damaged("it ends too early")
            pieces.append(piece)
            missing -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def safe_path(name: bytes) -> bytes:
    """A path below the root. Raises ValueError for one that leads elsewhere."""
    path = name.removeprefix(b"./").removesuffix(b"/")
    if (
        path.startswith(b"/")
        or b"\x00" in path
        or any(p in (b"", b".", b"..") for p in path.split(b"/") if path)
    ):
        raise ValueError(name)
    return path


def _records(data: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 12)
        if space < 0 or not data[at:space].isdigit():
            raise _damaged("an extended header cannot be read")
        end = at + int(data[at:space])
        key, equals, value = data[space + 1 : end].partition(b"=")
        if not equals or not value.endswith(b"\n") or end <= space:
            raise _damaged("an extended header cannot be read")
        found[key] = value[:-1]
        at = end
    return found


def _attributes(records: Mapping[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    escaped = records.get(ESCAPED[0]) == ESCAPED[1]
    found = [(k.removeprefix(XATTR), v) for k, v in records.items() if k.startswith(XATTR)]
    if any(b"\x00" in k for k, _ in found):
        raise ValueError
    return tuple((k.replace(b"%3D", b"=").replace(b"%25", b"%") if escaped else k, v) for k, v in found)


def _nanoseconds(text: bytes) -> int:
    whole, _, rest = text.partition(b".")
    fraction = int((rest + b"000000000")[:9]) if rest else 0
    if not -_SIGNED <= int(whole) - (fraction > 0 and whole.startswith(b"-")) < _SIGNED:
        raise ValueError
    return int(whole) * 1_000_000_000 + (-fraction if whole.startswith(b"-") else fraction)


def _flag(block: bytes) -> bytes:
    return block[156:157]


def _text(field: bytes) -> bytes:
    return field.partition(b"\x00")[0]


def _number(decimal: bytes | None, octal: bytes, most: int) -> int:
    """Of a record, or of the field of a header where there is none. Raises ValueError for none of 0 to `most`."""
    number = _octal(octal) if decimal is None else int(decimal)
    if not 0 <= number <= most:
        raise ValueError
    return number


def _octal(field: bytes) -> int:
    text = field.strip(b"\x00 ") or b"0"
    if not text.isdigit():  # int() takes signs and more
        raise ValueError
    return int(text, 8)


def _check_sum(block: bytes) -> None:
    if block[257:262] != b"ustar" or sum(block) - sum(block[148:156]) + 8 * 32 != _octal(block[148:156]):
        raise ValueError("checksum")


def _damaged(what: str) -> ArchiveDamagedError:
    return ArchiveDamagedError(f"The archive of the volume cannot be read: {what}. Restore another backup.")
