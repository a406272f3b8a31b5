"""What a stream of BSON documents holds: counts, the archive format's checksum, and a hash that knows no order.

The hash of a collection is the sum, modulo 2^128, of the XXH3-128 of each document. So it is the same whatever order
documents come in, and a document can be taken out of it again: in a stream a second copy of an `_id` replaces the
first (rule 1.12). It finds accidents; against tampering stands the encryption.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct, error
from typing import Protocol

from fastcrc.crc64 import xz
from xxhash import xxh3_128_intdigest

from lucid_storage.errors import ArchiveDamagedError

SMALLEST_DOCUMENT = 5
LARGEST_DOCUMENT = 16 * 1024 * 1024 + 64 * 1024
"""A document of the server has 16 MiB at most, an entry of its oplog a few KiB more."""

PIECE_BYTES = 1024 * 1024

_MODULUS = 1 << 128
_size_at = Struct("<i").unpack_from


class Reading(Protocol):
    """Where a stream is read from."""

    def read(self, size: int = -1, /) -> bytes: ...


def damaged(what: str) -> ArchiveDamagedError:
    """Raised for data that are not what was written; `what` completes a sentence."""
    return ArchiveDamagedError(f"The archive is damaged: {what}. Use another backup.")


def documents(data: bytes | bytearray | memoryview) -> Iterator[memoryview]:
    """The documents that lie back to back in `data`, without a copy. Raises LucidError(ArchiveDamaged)."""
    view = memoryview(data)
    at, end = 0, len(view)
    while at < end:
        stop = at + _document_size(view, at, end)
        yield view[at:stop]
        at = stop


def streamed(source: Reading) -> Iterator[bytes]:
    """The documents of a stream that holds nothing else, to its checked end. Memory: one document and a piece.

    Raises LucidError(ArchiveDamaged).
    """
    buffer = bytearray()
    while piece := source.read(PIECE_BYTES):
        buffer += piece
        at = 0
        while len(buffer) - at >= SMALLEST_DOCUMENT:
            (size,) = _size_at(buffer, at)
            if not SMALLEST_DOCUMENT <= size <= LARGEST_DOCUMENT:
                raise damaged("what should be a document is none")
            if at + size > len(buffer):
                break
            if buffer[at + size - 1]:
                raise damaged("what should be a document is none")
            yield bytes(memoryview(buffer)[at : at + size])
            at += size
        del buffer[:at]
    if buffer:
        raise damaged("a document is cut off")


def _document_size(view: memoryview, at: int, end: int) -> int:
    try:
        (size,) = _size_at(view, at)
    except error:
        raise damaged("a document is cut off") from None
    if not SMALLEST_DOCUMENT <= size <= end - at or view[at + size - 1]:
        raise damaged("what should be a document is none")
    return int(size)


def document_hash(document: bytes | memoryview) -> int:
    """What one document adds to a Tally's hash."""
    return xxh3_128_intdigest(document)


class Tally:
    """Counts one collection's documents as they pass. For one thread."""

    __slots__ = ("_hash", "bytes", "crc", "documents")

    def __init__(self) -> None:
        self.documents = 0
        self.bytes = 0
        self.crc = 0
        """CRC-64/XZ over all documents, in the order of the stream."""
        self._hash = 0

    def add(self, data: bytes | bytearray | memoryview) -> int:
        """Takes whole documents that lie back to back; returns how many. Raises LucidError(ArchiveDamaged)."""
        view = memoryview(data)
        at, end, found, total = 0, len(view), 0, 0
        while at < end:
            # Spelled out, since this runs once a document: a call costs as much as the hash.
            try:
                stop = at + _size_at(view, at)[0]
            except error:
                raise damaged("a document is cut off") from None
            if stop > end or stop < at + SMALLEST_DOCUMENT or view[stop - 1]:
                raise damaged("what should be a document is none")
            total += xxh3_128_intdigest(view[at:stop])
            found += 1
            at = stop
        self.crc = xz(view, self.crc)
        self._hash = (self._hash + total) % _MODULUS
        self.documents += found
        self.bytes += end
        return found

    def add_split(self, split: Sequence[memoryview], joined: bytes) -> int:
        """Takes documents that are known to be whole: each for itself, and the same back to back; returns how many."""
        self.crc = xz(joined, self.crc)
        self._hash = (self._hash + sum(map(xxh3_128_intdigest, split))) % _MODULUS
        self.documents += len(split)
        self.bytes += len(joined)
        return len(split)

    def take_out(self, document: bytes | memoryview) -> None:
        """A copy that a later one replaced: no longer in the hash and the counts, still in the checksum."""
        self._hash = (self._hash - xxh3_128_intdigest(document)) % _MODULUS
        self.documents -= 1
        self.bytes -= len(document)

    @property
    def content_hash(self) -> str:
        """32 hexadecimal digits."""
        return f"{self._hash:032x}"
