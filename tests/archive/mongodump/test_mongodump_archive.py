"""The archive format: what is written is read, what mongodump lays down is read, what is harmed is refused
(rule 1.12).
"""

import io
import struct
import tracemalloc
from collections.abc import Iterable, Iterator
from typing import Any

import bson
import pytest
from bson import Binary, Code, Decimal128, Int64, ObjectId, Regex
from bson.datetime_ms import DatetimeMS
from hypothesis import given
from hypothesis import strategies as st

from lucid_storage.archive.content import Tally, document_hash, documents
from lucid_storage.archive.mongodump import (
    OPLOG,
    ArchiveReader,
    ArchiveWriter,
    Chunk,
    CollectionEntry,
    End,
    Namespace,
    Prelude,
)
from lucid_storage.errors import LucidError, Reason

A = Namespace("shop", "orders")
B = Namespace("shop", "weird name.é$x")


def crc_bit_by_bit(data: bytes) -> int:
    """CRC-64/XZ from its definition: reflected ECMA-182 polynomial, all bits set before and inverted after."""
    crc = 0xFFFFFFFFFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0xC96C5795D7870F42 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFFFFFFFFFF


def header(database: str, collection: str, end: bool = False, crc: int = 0) -> bytes:
    signed = struct.unpack("<q", struct.pack("<Q", crc))[0]
    return bson.encode({"db": database, "collection": collection, "EOF": end, "CRC": Int64(signed)})


def entry(database: str, collection: str, metadata: str = "", type_: str = "") -> bytes:
    return bson.encode(
        {"db": database, "collection": collection, "metadata": metadata, "size": 2, "type": type_}
    )


ONE, TWO, THREE = (bson.encode({"_id": number, "text": "x" * number}) for number in (1, 2, 3))
POINT = bson.encode({"_id": ObjectId(), "control": {"version": 1}})
OP = bson.encode({"op": "i", "ns": "shop.orders", "o": {"_id": 1}})
FLAGS = (
    '{"options":{"validator":{"n":{"$type":"int"}}},"indexes":[{"v":{"$numberInt":"2"},'
    '"key":{"_id":{"$numberInt":"1"}},"name":"_id_"}],"uuid":"00112233445566778899aabbccddeeff",'
    '"collectionName":"orders","type":"collection"}'
)
STOP = b"\xff\xff\xff\xff"


def as_mongodump_lays_it_down() -> bytes:
    """From the published layout alone, byte by byte: nothing of our writer is in it."""
    head = bson.encode(
        {
            "concurrent_collections": 4,
            "version": "0.1",
            "server_version": "6.0.5",
            "tool_version": "100.9.4",
        }
    )
    prelude = [
        b"\x6d\xe2\x99\x81",
        head,
        entry("shop", "orders", FLAGS, "collection"),
        entry("shop", "spare", '{"indexes":[],"collectionName":"spare","type":"collection"}', "collection"),
        entry("shop", "weather", '{"indexes":[],"collectionName":"weather"}', "timeseries"),
        entry("shop", "cheap", '{"options":{"viewOn":"orders","pipeline":[]},"indexes":[]}', "view"),
        entry("", "oplog"),
        STOP,
    ]
    blocks = [
        header("shop", "orders") + ONE + TWO + STOP,
        header("shop", "system.buckets.weather") + POINT + STOP,
        header("shop", "orders") + THREE + STOP,
        header("shop", "spare", True, crc_bit_by_bit(b"")) + STOP,
        header("shop", "orders", True, crc_bit_by_bit(ONE + TWO + THREE)) + STOP,
        header("shop", "system.buckets.weather", True, crc_bit_by_bit(POINT)) + STOP,
        header("shop", "cheap", True, crc_bit_by_bit(b"")) + STOP,
        header("", "oplog") + OP + STOP,
        header("", "oplog", True, crc_bit_by_bit(OP)) + STOP,
    ]
    return b"".join(prelude + blocks)


class Dribble:
    """A source that gives at most so many bytes at a time."""

    def __init__(self, data: bytes, at_most: int) -> None:
        self._in, self._at_most = io.BytesIO(data), at_most

    def read(self, size: int = -1, /) -> bytes:
        return self._in.read(min(size, self._at_most))


def read_all(source: Any) -> tuple[Prelude, dict[Namespace, list[bytes]], dict[Namespace, Tally]]:
    reader = ArchiveReader(source)
    found: dict[Namespace, list[bytes]] = {}
    ended: dict[Namespace, Tally] = {}
    for part in reader.parts():
        if isinstance(part, Chunk):
            found.setdefault(part.namespace, []).extend(map(bytes, documents(part.data)))
        else:
            ended[part.namespace] = part.tally
    return reader.prelude, found, ended


def write(prelude: Prelude, blocks: Iterable[tuple[Namespace, bytes]]) -> bytes:
    out = io.BytesIO()
    writer = ArchiveWriter(out, prelude)
    tallies = {prelude.place(e): Tally() for e in prelude.collections}
    for namespace, data in blocks:
        tallies[namespace].add(data)
        writer.block(namespace, data)
    for namespace, tally in tallies.items():
        writer.end(namespace, tally.crc)
    writer.finish()
    return out.getvalue()


def refused(data: bytes) -> bool:
    try:
        read_all(io.BytesIO(data))
    except LucidError as error:
        assert error.reason is Reason.ARCHIVE_DAMAGED
        return True
    return False


@pytest.mark.parametrize("at_most", [1, 7, 4096, 10**9])
def test_an_archive_of_mongodump_is_read_however_the_stream_is_cut(at_most: int) -> None:
    prelude, found, ended = read_all(Dribble(as_mongodump_lays_it_down(), at_most))
    assert prelude.server_version == "6.0.5"
    assert [(*e.namespace, e.type) for e in prelude.collections] == [
        ("shop", "orders", "collection"),
        ("shop", "spare", "collection"),
        ("shop", "weather", "timeseries"),
        ("shop", "cheap", "view"),
        ("", "oplog", ""),
    ]
    orders = prelude.collections[0]
    assert orders.options == {"validator": {"n": {"$type": "int"}}}
    assert orders.indexes == ({"v": 2, "key": {"_id": 1}, "name": "_id_"},)
    assert orders.uuid == "00112233445566778899aabbccddeeff"
    assert prelude.collections[3].options == {"viewOn": "orders", "pipeline": []}
    assert prelude.collections[4].options is None
    assert found == {
        A: [ONE, TWO, THREE],
        Namespace("shop", "system.buckets.weather"): [POINT],
        OPLOG: [OP],
    }
    assert ended[A].documents == 3
    assert ended[Namespace("shop", "spare")].documents == 0


def test_cut_anywhere_it_is_refused() -> None:
    whole = as_mongodump_lays_it_down()
    assert not refused(whole)
    assert [size for size in range(len(whole)) if not refused(whole[:size])] == []


def test_any_flipped_bit_behind_the_list_of_collections_is_refused() -> None:
    whole = as_mongodump_lays_it_down()
    begin = whole.index(STOP)
    # The list has no checksum in this format; the archive's own hash and seal cover it.
    kept = []
    for at in range(begin, len(whole)):
        for bit in range(8):
            harmed = bytearray(whole)
            harmed[at] ^= 1 << bit
            if not refused(bytes(harmed)):
                kept.append((at, bit, whole[at - 20 : at + 4]))
    # Only the checksum field of a header that does not end a collection is without meaning.
    assert all(b"CRC\0" in near for _, _, near in kept), kept


@pytest.mark.parametrize(
    "harm",
    [
        lambda a: a.replace(ONE + TWO, TWO + ONE),
        lambda a: a.replace(header("shop", "orders") + THREE + STOP, b""),
        lambda a: a.replace(ONE, b""),
        lambda a: a + header("shop", "orders") + ONE + STOP,
        lambda a: a + b"\0",
        lambda a: a.replace(STOP + header("shop", "orders") + THREE, STOP + STOP + THREE),
        lambda a: a[: -len(STOP)] + ONE + STOP,
        lambda a: a.replace(b'"_id_"}]', b'"_id_"}{'),
        lambda a: a.replace(b"0.1\0", b"9.9\0"),
        lambda a: b"\x1f\x8b\x08\0" + a[4:],
    ],
    ids=[
        "documents swapped",
        "a block missing",
        "a document missing",
        "a block behind the end",
        "a byte behind the end",
        "a terminator twice",
        "documents behind an end",
        "metadata that are no JSON",
        "another version",
        "another magic",
    ],
)
def test_what_is_not_as_it_was_written_is_refused(harm: Any) -> None:
    whole = as_mongodump_lays_it_down()
    harmed = harm(whole)
    assert harmed != whole
    assert refused(harmed)


def test_every_type_in_options_and_indexes_comes_back_as_it_was() -> None:
    options = {
        "validator": {"$and": [{"a": Regex("^x", "i")}, {"b": Int64(3)}, {"c": 3}, {"d": 3.0}]},
        "collation": {"locale": "de", "strength": 1},
        "when": DatetimeMS(-62135596800001),
        "decimal": Decimal128("1.10"),
        "code": Code("x", {"y": 1}),
        "binary": Binary(b"\0\1", 128),
        "text": 'Grüße \U0001f600 " \\ \n',
    }
    index = {
        "v": 2,
        "key": {"z": -1, "a": "text", "m": 1.0},
        "partialFilterExpression": {"n": {"$gt": Int64(1)}},
    }
    made = CollectionEntry(B, options, (index,), "ab" * 16, "collection", 12)
    prelude, _, _ = read_all(io.BytesIO(write(Prelude("6.0.5", "test", (made,)), [])))
    (back,) = prelude.collections
    assert back == made
    assert list(back.indexes[0]["key"].items()) == [("z", -1), ("a", "text"), ("m", 1.0)]  # type: ignore[attr-defined]
    assert isinstance(back.indexes[0]["key"]["m"], float)  # type: ignore[index]
    assert isinstance(back.options["validator"]["$and"][1]["b"], Int64)  # type: ignore[index]
    assert not isinstance(back.options["validator"]["$and"][2]["c"], Int64)  # type: ignore[index]


documents_of = st.lists(
    st.dictionaries(st.text(max_size=5).filter(lambda k: "\0" not in k), st.integers(-9, 9)).map(bson.encode),
    max_size=6,
)


@given(st.lists(st.tuples(st.sampled_from([A, B, OPLOG]), documents_of), max_size=12), st.integers(1, 50))
def test_interleaved_collections_come_apart_as_they_went_in(
    blocks: list[tuple[Namespace, list[bytes]]], at_most: int
) -> None:
    prelude = Prelude(
        "6.0.5", "test", (CollectionEntry(A, {}), CollectionEntry(B, {}), CollectionEntry(OPLOG))
    )
    archive = write(prelude, [(namespace, b"".join(docs)) for namespace, docs in blocks if docs])
    _, found, ended = read_all(Dribble(archive, at_most))
    for namespace in (A, B, OPLOG):
        went_in = [doc for place, docs in blocks if place == namespace for doc in docs]
        assert found.get(namespace, []) == went_in
        assert ended[namespace].documents == len(went_in)
        assert ended[namespace].crc == crc_bit_by_bit(b"".join(went_in))


@given(documents_of, st.randoms())
def test_the_content_hash_knows_no_order_and_gives_a_replaced_copy_back(
    docs: list[bytes], shuffler: Any
) -> None:
    straight, mixed = Tally(), Tally()
    straight.add(b"".join(docs))
    shuffled = list(docs)
    shuffler.shuffle(shuffled)
    for doc in shuffled:
        mixed.add(doc)
    assert mixed.content_hash == straight.content_hash
    extra = bson.encode({"_id": "again"})
    mixed.add(extra)
    assert mixed.content_hash != straight.content_hash
    mixed.take_out(extra)
    assert (mixed.content_hash, mixed.documents, mixed.bytes) == (
        straight.content_hash,
        straight.documents,
        straight.bytes,
    )
    assert int(straight.content_hash, 16) == sum(map(document_hash, docs)) % 2**128


def test_two_equal_documents_are_not_none() -> None:
    once, none, twice = Tally(), Tally(), Tally()
    once.add(ONE)
    twice.add(ONE + ONE)
    assert len({once.content_hash, none.content_hash, twice.content_hash}) == 3


def test_a_writer_that_forgot_a_collection_does_not_finish() -> None:
    writer = ArchiveWriter(io.BytesIO(), Prelude("6.0.5", "test", (CollectionEntry(A, {}),)))
    with pytest.raises(ValueError, match="not ended"):
        writer.finish()
    with pytest.raises(ValueError, match="not in the prelude"):
        writer.block(B, ONE)


def test_what_is_empty_begins_before_it_ends() -> None:
    """mongorestore takes an oplog's first header for its beginning alone, and would wait for its end for ever."""
    out = io.BytesIO()
    writer = ArchiveWriter(out, Prelude("6.0.5", "test", (CollectionEntry(A, {}),)))
    writer.end(A, 0)
    assert out.getvalue().endswith(STOP + header(*A) + STOP + header(*A, True) + STOP)
    _, found, tallies = read_all(io.BytesIO(out.getvalue()))
    assert (found.get(A, []), tallies[A].documents) == ([], 0)


class Endless:
    """An archive of one collection with many documents, made as it is read."""

    def __init__(self, document: bytes, copies: int) -> None:
        prelude = write(Prelude("6.0.5", "test", (CollectionEntry(A, {}),)), [])
        begin = prelude[: prelude.index(STOP) + 4]
        self._parts = self._stream(begin, document, copies)
        self._left = b""

    def _stream(self, begin: bytes, document: bytes, copies: int) -> Iterator[bytes]:
        tally = Tally()
        yield begin
        for _ in range(copies):
            tally.add(document)
            yield header(*A) + document + STOP
        yield header(*A, True, tally.crc) + STOP

    def read(self, size: int = -1, /) -> bytes:
        while len(self._left) < size:
            part = next(self._parts, b"")
            if not part:
                break
            self._left += part
        answer, self._left = self._left[:size], self._left[size:]
        return answer


def test_memory_of_the_reader_is_bounded_by_the_largest_document() -> None:
    large = bson.encode({"_id": 1, "x": b"\1" * (16 * 1024 * 1024 - 100)})
    source = Endless(large, 12)
    tracemalloc.start()
    ends = [part for part in ArchiveReader(source).parts() if isinstance(part, End)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert ends[0].tally.documents == 12
    assert peak < 5 * 16 * 1024 * 1024, f"{peak / 2**20:.0f} MiB"
