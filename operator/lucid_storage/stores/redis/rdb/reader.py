"""The bytes of an RDB file and its smallest parts: lengths and strings, with the checksum on the way.

Format: Redis's rdb.h and rdb.c (7.4). Lengths are big-endian, times, doubles and the checksum little-endian.
"""

from __future__ import annotations

from collections.abc import Callable

import anycrc  # type: ignore[import-untyped]  # has no types

from lucid_storage.errors import ArchiveDamagedError
from lucid_storage.stores.redis.rdb.lzf import decompressed

CRC64_JONES = anycrc.Model("CRC64-REDIS")
"""Reflected, polynomial 0xad93d23594c935a9, start 0: the one that RDB files and DUMP payloads end with."""
CHUNK_BYTES = 256 * 1024
MOST_STRING_BYTES = 512 * 1024 * 1024
"""A key is at most this long on a server with its defaults (proto-max-bulk-len)."""

_SMALL_HEAD_BYTES = 16
"""More than lengths and codes before and within a small key take: within it no index leaves the chunk."""
_INTEGER_BYTES = {0: 1, 1: 2, 2: 4}
_COMPRESSED = 3


class RdbError(ArchiveDamagedError):
    """The bytes are no whole RDB file that this version reads."""


class ByteReader:
    """Reads forward from `read`, which returns some bytes, at most as many as asked for, and b"" at the end.

    Keeps one chunk in memory, no more. Raises RdbError where the file ends too early.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._chunk = b""
        self._pos = 0
        self._before = 0  # bytes before the chunk
        self._crc = 0  # of those
        self._pass_on: Callable[[bytes], None] | None = None
        self._mark = 0
        self.unpacked = 0
        """Bytes that the compressed strings passed over so far are longer than what stands in the file."""
        self.around = 0
        """Bytes of memory that a server needs for the elements passed over so far, beside their content, at most."""

    @property
    def offset(self) -> int:
        """Bytes consumed so far."""
        return self._before + self._pos

    def checksum(self) -> int:
        """CRC-64 of all bytes consumed so far."""
        return int(CRC64_JONES.calc(memoryview(self._chunk)[: self._pos], self._crc))

    def at_end(self) -> bool:
        """Whether nothing follows."""
        return self._pos == len(self._chunk) and not self._refilled()

    def damaged(self, what: str) -> RdbError:
        """The error for damage at the present place. `what` is a clause."""
        return RdbError(f"The Redis data set is damaged at byte {self.offset}: {what}.")

    def pass_on(self, take: Callable[[bytes], None]) -> None:
        """From here on what is consumed goes to `take` as well, chunk by chunk."""
        self._pass_on, self._mark = take, self._pos

    def passed_on(self) -> None:
        """The end of that: `take` gets what is left."""
        take, self._pass_on = self._pass_on, None
        if take is not None:
            take(self._chunk[self._mark : self._pos])

    def _refilled(self) -> bool:
        """Only when the chunk is used up: takes the next one; False at the end."""
        if self._pass_on is not None:
            self._pass_on(self._chunk[self._mark :])
            self._mark = 0
        self._crc = CRC64_JONES.calc(self._chunk, self._crc)
        self._before += len(self._chunk)
        self._chunk, self._pos = self._read(CHUNK_BYTES), 0
        return bool(self._chunk)

    def _refill(self) -> None:
        if not self._refilled():
            raise self.damaged("it ends in the middle")

    def byte(self) -> int:
        if self._pos == len(self._chunk):
            self._refill()
        value = self._chunk[self._pos]
        self._pos += 1
        return value

    def take(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        if self._pos + size <= len(self._chunk):
            self._pos += size
            return self._chunk[self._pos - size : self._pos]
        pieces = []
        while size:
            if self._pos == len(self._chunk):
                self._refill()
            piece = self._chunk[self._pos : self._pos + size]
            self._pos += len(piece)
            size -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def skip(self, size: int) -> None:
        """Past `size` bytes, of which no more than a chunk is in memory."""
        while self._pos + size > len(self._chunk):
            size -= len(self._chunk) - self._pos
            self._pos = len(self._chunk)
            self._refill()
        self._pos += size

    def length(self) -> int:
        """A length, count or number."""
        size, encoding = self._length()
        if encoding is not None:
            raise self.damaged("a length has the form of a string")
        return size

    def _length(self) -> tuple[int, int | None]:
        """A length, or a special encoding of the string that follows."""
        first = self.byte()
        kind = first >> 6
        if kind == 0:
            return first, None
        if kind == 1:
            return (first & 0x3F) << 8 | self.byte(), None
        if first == 0x80:
            return int.from_bytes(self.take(4), "big"), None
        if first == 0x81:
            return int.from_bytes(self.take(8), "big"), None
        if kind == 2:
            raise self.damaged("a length has an unknown form")
        return 0, first & 0x3F

    def skip_strings(self, count: int) -> None:
        """Past `count` strings. The short ones, most of all, without a further call."""
        chunk, pos, end = self._chunk, self._pos, len(self._chunk)
        while count:
            if pos + 1 < end:
                first = chunk[pos]
                if first < 0x40:
                    after = pos + 1 + first
                elif first < 0x80:
                    after = pos + 2 + ((first & 0x3F) << 8 | chunk[pos + 1])
                else:
                    after = end + 1
                if after <= end:
                    pos = after
                    count -= 1
                    continue
            self._pos = pos
            self._skip_string()
            count -= 1
            chunk, pos, end = self._chunk, self._pos, len(self._chunk)
        self._pos = pos

    def _skip_string(self) -> None:
        size, encoding = self._length()
        if encoding is not None:
            size = self._encoded_bytes(encoding)
        self.skip(size)

    def _encoded_bytes(self, encoding: int) -> int:
        if encoding in _INTEGER_BYTES:
            return _INTEGER_BYTES[encoding]
        if encoding != _COMPRESSED:
            raise self.damaged("a string has an unknown encoding")
        size = self.length()
        self.unpacked += self.length() - size
        return size

    def skip_small_keys(self, kinds: frozenset[int], expires: int) -> int:
        """How many keys it went past: as many as lie whole in the chunk, have a value of one string (its type one of
        `kinds`) and nothing but an expiry (the code `expires`) before them.

        One flat loop: most data sets are made of such keys, and a call for each part of them would make the
        count slower than the server is.
        """
        chunk, pos = self._chunk, self._pos
        end, count = len(chunk) - _SMALL_HEAD_BYTES, 0
        while pos < end:
            at = pos
            if chunk[at] == expires:
                at += 9
            if chunk[at] not in kinds:
                break
            first = chunk[at + 1]
            if first < 0x40:
                at += 2 + first
            elif first < 0x80:
                at += 3 + ((first & 0x3F) << 8 | chunk[at + 2])
            else:
                break
            if at >= end:
                break
            first = chunk[at]
            if first < 0x40:
                at += 1 + first
            elif first < 0x80:
                at += 2 + ((first & 0x3F) << 8 | chunk[at + 1])
            elif first == 0xC3:  # compressed: two lengths, of which the first counts
                packed, at = chunk[at + 1], at + 2
                if packed >= 0x80:
                    break
                if packed >= 0x40:
                    packed, at = (packed & 0x3F) << 8 | chunk[at], at + 1
                plain = chunk[at]
                if plain >= 0x80:
                    break
                at += packed + (1 if plain < 0x40 else 2)
            elif 0xC0 <= first <= 0xC2:
                at += 1 + (1 << (first & 3))
            else:
                break
            if at > end:
                break
            pos = at
            count += 1
        self._pos = pos
        return count

    def string(self) -> bytes:
        """A string in plain bytes. For keys, names and the like; values are kept as they are."""
        size, encoding = self._length()
        if encoding is None:
            return self.take(self._bounded(size))
        if encoding in _INTEGER_BYTES:
            number = int.from_bytes(self.take(_INTEGER_BYTES[encoding]), "little", signed=True)
            return str(number).encode()
        if encoding != _COMPRESSED:
            raise self.damaged("a string has an unknown encoding")
        size, plain_size = self._bounded(self.length()), self._bounded(self.length())
        plain = decompressed(self.take(size), plain_size)
        if plain is None:
            raise self.damaged("a compressed string cannot be read")
        return plain

    def _bounded(self, size: int) -> int:
        if size > MOST_STRING_BYTES:
            raise self.damaged("a key is longer than Redis allows")
        return size
