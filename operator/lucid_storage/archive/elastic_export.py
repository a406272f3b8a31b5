"""The stream of an Elasticsearch export: definitions, documents and proofs of both, as records with a length.

    magic "LUCIDES1", then records: kind (1 byte), length (4 bytes, big endian), payload
    H  header, JSON
    T  template or component template, JSON
    I  index, JSON {"number": ..., "definition": ...}; all of them come before the first document
    D  documents: number of the index, count (4 bytes each), then the documents
    E  end of an index, JSON {"number", "documents", "bytes", "contentHash"}
    Z  end, JSON {"records", "indices", "documents", "bytes", "xxh3": of every byte before this record}

A document is its sequence number and primary term (8 bytes each), then version (8), length of the id (2), length of the
routing plus 1 or 0 where there is none (2), length of the source (4), id, routing, source. Its hash is the XXH3-128 of
all from the version on; the content hash of an index is their sum modulo 2^128, so it knows no order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from struct import Struct
from typing import Any, Protocol

from xxhash import xxh3_128, xxh3_128_intdigest

from lucid_storage.archive.content import damaged

MAGIC = b"LUCIDES1"
FORMAT = 1
LARGEST_RECORD = 512 * 1024 * 1024
"""Far above any page; a longer one is no record of ours."""

Document = tuple[bytes, bytes | None, int, int, int, bytes]
"""id, routing, version, sequence number, primary term, source."""

_RECORD = Struct(">cI")
_BLOCK = Struct(">II")
_STAMP = Struct(">qq")
_HEAD = Struct(">qHHI")
_MODULUS = 1 << 128


class Writing(Protocol):
    """Where an export is written to."""

    def write(self, data: bytes | bytearray | memoryview, /) -> object: ...


class Reading(Protocol):
    """Where an export is read from."""

    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(slots=True)
class IndexTally:
    """What passed of one index."""

    documents: int = 0
    bytes: int = 0
    """Of the sources."""
    hash: int = 0

    @property
    def content_hash(self) -> str:
        """32 hexadecimal digits."""
        return f"{self.hash:032x}"

    def add(self, other: IndexTally) -> None:
        """Takes what another one counted."""
        self.documents += other.documents
        self.bytes += other.bytes
        self.hash = (self.hash + other.hash) % _MODULUS


def pack(number: int, documents: Iterable[Document]) -> tuple[bytes, IndexTally]:
    """The payload of one D record, and what is in it. Needs no lock, so that several threads can pack."""
    parts, tally, total = [b""], IndexTally(), 0
    for identifier, routing, version, sequence, term, source in documents:
        length = 0 if routing is None else len(routing) + 1
        packed = b"".join(
            (_HEAD.pack(version, len(identifier), length, len(source)), identifier, routing or b"", source)
        )
        total += xxh3_128_intdigest(packed)
        tally.documents += 1
        tally.bytes += len(source)
        parts += (_STAMP.pack(sequence, term), packed)
    tally.hash = total % _MODULUS
    parts[0] = _BLOCK.pack(number, tally.documents)
    return b"".join(parts), tally


def unpack(payload: bytes) -> tuple[int, list[Document], IndexTally]:
    """Number of the index, its documents, and what they are. Raises LucidError(ArchiveDamaged)."""
    try:
        number, count = _BLOCK.unpack_from(payload)
        at, total, size = _BLOCK.size, 0, 0
        view = memoryview(payload)
        documents: list[Document] = []
        for _ in range(count):
            sequence, term = _STAMP.unpack_from(payload, at)
            begin = at + _STAMP.size
            version, id_length, routing_length, source_length = _HEAD.unpack_from(payload, begin)
            id_at = begin + _HEAD.size
            routing_at = id_at + id_length
            source_at = routing_at + max(routing_length - 1, 0)
            at = source_at + source_length
            total += xxh3_128_intdigest(view[begin:at])
            size += source_length
            routing = payload[routing_at:source_at] if routing_length else None
            documents.append(
                (payload[id_at:routing_at], routing, version, sequence, term, payload[source_at:at])
            )
    except Exception as error:
        raise damaged("a block of documents is cut off") from error
    if at != len(payload):
        raise damaged("a block of documents has another length than it says")
    return number, documents, IndexTally(count, size, total % _MODULUS)


class ExportWriter:
    """Writes one export. For one thread at a time."""

    def __init__(self, sink: Writing, header: Mapping[str, Any]) -> None:
        self._sink = sink
        self._digest = xxh3_128()
        self._records = 0
        self._indices: dict[int, IndexTally] = {}
        self._total = IndexTally()
        self._put(MAGIC)
        self._record(b"H", _json({"format": FORMAT, **header}))

    def template(self, text: str) -> None:
        """`text` is JSON."""
        self._record(b"T", text.encode())

    def index(self, number: int, definition: str) -> None:
        """`definition` is JSON. Before the first document."""
        self._indices[number] = IndexTally()
        self._record(b"I", f'{{"number":{number},"definition":{definition}}}'.encode())

    def documents(self, number: int, payload: bytes, tally: IndexTally) -> None:
        """What `pack` made."""
        self._indices[number].add(tally)
        self._record(b"D", payload)

    def end_index(self, number: int) -> IndexTally:
        """No more documents of it."""
        tally = self._indices[number]
        self._total.documents += tally.documents
        self._total.bytes += tally.bytes
        self._record(b"E", _json(_end(number, tally)))
        return tally

    def end(self) -> None:
        """The last record. Without it a reader refuses the whole."""
        last = {
            "records": self._records,
            "indices": len(self._indices),
            "documents": self._total.documents,
            "bytes": self._total.bytes,
            "xxh3": self._digest.hexdigest(),
        }
        self._record(b"Z", _json(last))

    def _record(self, kind: bytes, payload: bytes) -> None:
        self._records += 1
        self._put(_RECORD.pack(kind, len(payload)))
        self._put(payload)

    def _put(self, data: bytes) -> None:
        self._digest.update(data)
        self._sink.write(data)


@dataclass(frozen=True, slots=True)
class TemplateRead:
    """A template, as JSON."""

    text: str


@dataclass(frozen=True, slots=True)
class IndexRead:
    """An index whose documents follow. `definition` is JSON."""

    number: int
    definition: str


@dataclass(frozen=True, slots=True)
class DocumentsRead:
    """Some documents of one index. They count only when the whole stream was read without an error."""

    number: int
    documents: list[Document]
    bytes: int


@dataclass(frozen=True, slots=True)
class IndexEnd:
    """All documents of one index have passed, and are what was written."""

    number: int
    tally: IndexTally


Event = TemplateRead | IndexRead | DocumentsRead | IndexEnd


@dataclass(slots=True)
class _State:
    digest: xxh3_128 = field(default_factory=xxh3_128)
    records: int = 0
    open: dict[int, IndexTally] = field(default_factory=dict)
    ended: dict[int, IndexTally] = field(default_factory=dict)


class ExportReader:
    """Reads one export and checks all of it. Raises LucidError(ArchiveDamaged) for anything but the whole."""

    def __init__(self, source: Reading) -> None:
        self._source = source
        self._state = _State()
        magic = self._take(len(MAGIC))
        if magic != MAGIC:
            raise damaged("it is no export of Elasticsearch")
        self._state.digest.update(magic)
        kind, payload = self._next()
        self.header = _object(payload)
        if kind != b"H":
            raise damaged("it does not begin with a header")
        if self.header.get("format") != FORMAT:
            raise damaged(f"its format {self.header.get('format')} is not known to this version")

    def events(self) -> Iterator[Event]:
        """Everything in the order of the stream. Returns after the last record, when all was right."""
        state = self._state
        while True:
            digest, records = state.digest.hexdigest(), state.records
            kind, payload = self._next()
            if kind == b"D":
                number, documents, tally = unpack(payload)
                self._opened(number).add(tally)
                yield DocumentsRead(number, documents, tally.bytes)
            elif kind == b"T":
                yield TemplateRead(_text(payload))
            elif kind == b"I":
                yield self._begun(payload)
            elif kind == b"E":
                yield self._ended(_object(payload))
            elif kind == b"Z":
                return self._finish(_object(payload), records, digest)
            else:
                raise damaged("it holds a record of an unknown kind")

    def _begun(self, payload: bytes) -> IndexRead:
        text = _text(payload)
        number = _object(payload).get("number")
        prefix = f'{{"number":{number},"definition":'
        if not isinstance(number, int) or number in self._state.open or not text.startswith(prefix):
            raise damaged("the description of an index is wrong")
        self._state.open[number] = IndexTally()
        return IndexRead(number, text[len(prefix) : -1])

    def _opened(self, number: int) -> IndexTally:
        tally = self._state.open.get(number)
        if tally is None:
            raise damaged("it holds documents of an index that it does not describe")
        return tally

    def _ended(self, said: dict[str, Any]) -> IndexEnd:
        tally = self._opened(number := int(said.get("number", -1)))
        if said != _end(number, tally):
            raise damaged("the documents of an index are not those that were written")
        del self._state.open[number]
        self._state.ended[number] = tally
        return IndexEnd(number, tally)

    def _finish(self, said: dict[str, Any], records: int, digest: str) -> None:
        ended = self._state.ended.values()
        expected = {
            "records": records,
            "indices": len(ended),
            "documents": sum(tally.documents for tally in ended),
            "bytes": sum(tally.bytes for tally in ended),
            "xxh3": digest,
        }
        if said != expected or self._state.open:
            raise damaged("its end does not fit what came before")
        if self._source.read(1):
            raise damaged("something follows its end")

    def _next(self) -> tuple[bytes, bytes]:
        head = self._take(_RECORD.size)
        kind, length = _RECORD.unpack(head)
        if length > LARGEST_RECORD:
            raise damaged("a record is longer than any")
        payload = self._take(length)
        self._state.digest.update(head)
        self._state.digest.update(payload)
        self._state.records += 1
        return kind, payload

    def _take(self, size: int) -> bytes:
        data = self._source.read(size)
        if len(data) == size:
            return data
        pieces, got = [data], len(data)
        while got < size:
            if not (piece := self._source.read(size - got)):
                raise damaged("it is cut off")
            pieces.append(piece)
            got += len(piece)
        return b"".join(pieces)


def _end(number: int, tally: IndexTally) -> dict[str, Any]:
    return {
        "number": number,
        "documents": tally.documents,
        "bytes": tally.bytes,
        "contentHash": tally.content_hash,
    }


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise damaged("a record is no text") from error


def _object(payload: bytes) -> dict[str, Any]:
    try:
        found = json.loads(payload)
    except ValueError as error:
        raise damaged("a record is no JSON") from error
    if not isinstance(found, dict):
        raise damaged("a record is no JSON object")
    return found
