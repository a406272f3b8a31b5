"""The stream of an export: what was written is read, and anything else is noticed."""

import io
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_storage.archive.elastic_export import (
    Document,
    DocumentsRead,
    Event,
    ExportReader,
    ExportWriter,
    IndexEnd,
    IndexRead,
    TemplateRead,
    pack,
)
from lucid_storage.errors import LucidError, Reason

DOCUMENTS: list[Document] = [
    (b"1", None, 1, 0, 1, b'{"a":1.0}'),
    (b"2", b"", 2, 1, 1, b"{}"),
    (b"3", b"route", 2**62, 2, 1, b' {"a":\n1} '),
]


def export(documents: list[Document] = DOCUMENTS) -> bytes:
    sink = io.BytesIO()
    writer = ExportWriter(sink, {"cluster": "c"})
    writer.template('{"component":false,"name":"t","body":{}}')
    writer.index(0, '{"name":"a","ratio":1.0}')
    writer.index(1, '{"name":"b"}')
    half = len(documents) // 2
    for number, part in ((0, documents[:half]), (1, documents), (0, documents[half:])):
        writer.documents(number, *pack(number, part))
    writer.end_index(1)
    writer.end_index(0)
    writer.end()
    return sink.getvalue()


def events(data: bytes, read: Callable[[io.BytesIO], io.BytesIO] = lambda source: source) -> list[Event]:
    return list(ExportReader(read(io.BytesIO(data))).events())


DOCUMENT = st.tuples(
    st.binary(min_size=1, max_size=20),
    st.none() | st.binary(max_size=10),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**63 - 1),
    st.binary(max_size=200),
)


@given(st.lists(DOCUMENT, max_size=20))
def test_what_was_written_is_read(documents: list[Document]) -> None:
    found = events(export(documents))
    assert isinstance(found[0], TemplateRead)
    assert [e.definition for e in found if isinstance(e, IndexRead)] == [
        '{"name":"a","ratio":1.0}',
        '{"name":"b"}',
    ]
    for number in (0, 1):
        parts = [e.documents for e in found if isinstance(e, DocumentsRead) and e.number == number]
        assert [document for part in parts for document in part] == documents
    tallies = {e.number: e.tally for e in found if isinstance(e, IndexEnd)}
    assert tallies[0] == tallies[1]
    assert tallies[0].documents == len(documents)


@given(st.permutations(DOCUMENTS))
def test_the_content_hash_knows_no_order_and_no_pages(documents: list[Document]) -> None:
    assert pack(0, documents)[1] == pack(0, DOCUMENTS)[1]


@pytest.mark.parametrize("field", range(6))
def test_every_part_of_a_document_but_its_stamps_is_in_the_hash(field: int) -> None:
    changed = list(DOCUMENTS[2])
    changed[field] = changed[field] + (b"x" if isinstance(changed[field], bytes) else 1)  # type: ignore[operator]
    same = pack(0, [tuple(changed)])[1].hash == pack(0, DOCUMENTS[2:])[1].hash  # type: ignore[list-item]
    assert same is (field in (3, 4))


def test_an_export_that_is_cut_anywhere_is_refused() -> None:
    data = export()
    for size in range(len(data)):
        with pytest.raises(LucidError) as refused:
            events(data[:size])
        assert refused.value.reason is Reason.ARCHIVE_DAMAGED


@pytest.mark.parametrize("bits", [0x01, 0x20, 0x80])
def test_an_export_with_any_byte_changed_is_refused(bits: int) -> None:
    data = export()
    for at in range(len(data)):
        broken = bytearray(data)
        broken[at] ^= bits
        with pytest.raises(LucidError) as refused:
            events(bytes(broken))
        assert refused.value.reason is Reason.ARCHIVE_DAMAGED, at


def test_an_export_with_something_behind_it_is_refused() -> None:
    with pytest.raises(LucidError):
        events(export() + b"x")


def test_a_source_may_give_less_than_was_asked_for() -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(7, size) if size is not None and size > 0 else size)

    assert len(events(export(), lambda source: Slow(source.getvalue()))) == len(events(export()))
