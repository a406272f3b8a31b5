"""The archive format 0.1 of mongodump, written and read as a stream.

Magic; a prelude {header, one entry a collection, terminator}; then blocks {namespace header, documents, terminator},
those of several collections interleaved; an EOF header with a CRC-64 over its documents ends each collection. Layout
and field names: mongo-tools, common/archive. All that a reader gets is checked: framing, checksums, and that every
collection of the prelude came to its end.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple, Protocol

import bson
from bson.int64 import Int64

from lucid_storage.archive.content import LARGEST_DOCUMENT, SMALLEST_DOCUMENT, Tally, damaged
from lucid_storage.archive.mongodump_prelude import (
    BUCKETS,
    CollectionEntry,
    Namespace,
    Prelude,
    decoded,
    encoded,
    parsed,
)

__all__ = [
    "BUCKETS",
    "OPLOG",
    "ArchiveReader",
    "ArchiveWriter",
    "Chunk",
    "CollectionEntry",
    "End",
    "Namespace",
    "Prelude",
]

MAGIC = b"\x6d\xe2\x99\x81"
TERMINATOR = b"\xff\xff\xff\xff"
CHUNK_BYTES = 1024 * 1024
"""Documents are handed on in chunks of about this size; a larger document is a chunk of its own."""

_END = 0xFFFFFFFF
OPLOG = Namespace("", "oplog")

_size_at = Struct("<I").unpack_from


class Writing(Protocol):
    """Where an archive is written to."""

    def write(self, data: bytes | bytearray | memoryview, /) -> object: ...


class Reading(Protocol):
    """Where an archive is read from."""

    def read(self, size: int = -1, /) -> bytes: ...


class Chunk(NamedTuple):
    """Whole documents of one collection, back to back, in the order of the stream (see content.documents)."""

    namespace: Namespace
    data: memoryview
    documents: int
    """How many they are."""


class End(NamedTuple):
    """A collection is complete, and its checksum right."""

    namespace: Namespace
    tally: Tally


class ArchiveWriter:
    """Writes an archive. One thread at a time; counting and checksums are the caller's (content.Tally)."""

    def __init__(self, out: Writing, prelude: Prelude) -> None:
        self._out = out
        self._open = {prelude.place(entry) for entry in prelude.collections}
        self._silent = set(self._open)
        out.write(b"".join([MAGIC, *encoded(prelude), TERMINATOR]))

    def block(self, namespace: Namespace, data: bytes | bytearray | memoryview) -> None:
        """Whole documents, back to back."""
        if namespace not in self._open:
            raise ValueError(f"{namespace} is not in the prelude or has ended")
        self._silent.discard(namespace)
        self._out.write(_header(namespace, end=False, crc=0))
        self._out.write(data)
        self._out.write(TERMINATOR)

    def end(self, namespace: Namespace, crc: int) -> None:
        """No more documents of this collection."""
        if namespace in self._silent:
            # Of an oplog mongorestore takes the first header for its beginning alone, and misses that it is the end.
            self.block(namespace, b"")
        self._open.remove(namespace)
        self._out.write(_header(namespace, end=True, crc=crc) + TERMINATOR)

    def finish(self) -> None:
        """Raises ValueError when a collection of the prelude was not ended: no reader would take the archive."""
        if self._open:
            raise ValueError(f"not ended: {sorted(map(str, self._open))[:3]}")


class ArchiveReader:
    """Reads an archive of ours or of mongodump's. Memory: about a chunk and the largest document.

    Every method raises LucidError(ArchiveDamaged) for what is not an archive, whole and unharmed.
    """

    def __init__(self, source: Reading) -> None:
        self._in = _Buffered(source)
        if self._in.exactly(len(MAGIC)) != MAGIC:
            raise damaged("it does not begin like a mongodump archive")
        self.prelude = parsed(list(self._in.documents()))
        self._tallies = {self.prelude.place(entry): Tally() for entry in self.prelude.collections}
        if len(self._tallies) != len(self.prelude.collections):
            raise damaged("a collection is listed twice")

    def parts(self) -> Iterator[Chunk | End]:
        """Chunks and ends of all collections, in the order of the stream; exhausted at the checked end."""
        open_ = dict(self._tallies)
        while (header := self._in.document_or_end_of_stream()) is not None:
            namespace, end, crc = _parse_header(header)
            tally = open_.get(namespace)
            if tally is None:
                raise damaged("it holds a collection that its list lacks or that had ended")
            for chunk in self._in.chunks():
                if end:
                    raise damaged("documents follow the end of a collection")
                yield Chunk(namespace, chunk, tally.add(chunk))
            if end:
                if tally.crc != crc:
                    raise damaged("the checksum of a collection is wrong")
                del open_[namespace]
                yield End(namespace, tally)
        if open_:
            raise damaged("it ends before its collections do")


class _Buffered:
    """Splits a stream into documents and terminators."""

    def __init__(self, source: Reading) -> None:
        self._source = source
        self._data = b""
        self._at = 0

    def exactly(self, size: int) -> bytes:
        self._need(size)
        self._at += size
        return self._data[self._at - size : self._at]

    def document(self) -> bytes:
        """The next document, where one must follow."""
        self._need(4)
        size = self._size(self._at)
        if size == _END:
            raise damaged("a block has no header")
        return self.exactly(size)

    def document_or_end_of_stream(self) -> bytes | None:
        if self._at == len(self._data) and not self._more():
            return None
        return self.document()

    def documents(self) -> Iterator[bytes]:
        """One by one, up to the terminator."""
        while True:
            self._need(4)
            if self._size(self._at) == _END:
                self._at += 4
                return
            yield self.document()

    def chunks(self) -> Iterator[memoryview]:
        """All documents up to the terminator, as many at a time as are there."""
        while True:
            start = self._at
            ended = self._skip_documents()
            if self._at > start:
                yield memoryview(self._data)[start : self._at]
            if ended:
                self._at += 4
                return
            self._need(4)
            size = self._size(self._at)
            if size != _END:
                self._need(size)

    def _skip_documents(self) -> bool:
        """Moves behind the last document that is there as a whole; whether the terminator follows."""
        data, at, end = self._data, self._at, len(self._data) - 4
        while at <= end:
            (size,) = _size_at(data, at)
            if size == _END or not SMALLEST_DOCUMENT <= size <= end + 4 - at:
                break
            at += size
        self._at = at
        return at <= end and self._size(at) == _END

    def _size(self, at: int) -> int:
        size: int = _size_at(self._data, at)[0]
        if size != _END and not SMALLEST_DOCUMENT <= size <= LARGEST_DOCUMENT:
            raise damaged("what should be a document is none")
        return size

    def _need(self, size: int) -> None:
        while len(self._data) - self._at < size:
            if not self._more(size):
                raise damaged("it is cut off")

    def _more(self, size: int = 0) -> bool:
        """Reads on; what was passed is forgotten. Chunks that were handed out keep their own buffer."""
        rest = self._data[self._at :]
        parts, have = [rest], len(rest)
        while have < max(size, len(rest) + 1):
            part = self._source.read(max(CHUNK_BYTES, size - have))
            if not part:
                break
            parts.append(part)
            have += len(part)
        self._data, self._at = b"".join(parts), 0
        return have > len(rest)


def _header(namespace: Namespace, *, end: bool, crc: int) -> bytes:
    signed = crc - (1 << 64) if crc >> 63 else crc
    return bson.encode(
        {"db": namespace.database, "collection": namespace.collection, "EOF": end, "CRC": Int64(signed)}
    )


def _parse_header(data: bytes) -> tuple[Namespace, bool, int]:
    match decoded(data):
        case {"db": str(database), "collection": str(collection), "EOF": bool(end), "CRC": int(crc)}:
            return Namespace(database, collection), end, crc % (1 << 64)
    raise damaged("the header of a block cannot be read")
