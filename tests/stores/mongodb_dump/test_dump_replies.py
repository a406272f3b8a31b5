"""Replies of cursors are cut into documents by where they lie in the array, byte for byte."""

from __future__ import annotations

import bson
import pytest
from bson.int64 import Int64
from hypothesis import given, settings
from hypothesis import strategies as st

from lucid_storage.stores.mongodb.dump.replies import UnreadableReplyError, reply_of


def cursor(
    documents: list[dict[str, object]], *, key: str = "firstBatch", number: int = 0, **more: object
) -> bytes:
    return bson.encode({key: documents, "id": Int64(number), "ns": "db.coll", **more})


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 99, 100, 101, 999, 1000, 1001, 10_001])
def test_every_document_of_a_batch_is_found_whatever_the_length_of_its_number(count: int) -> None:
    documents: list[dict[str, object]] = [{"_id": number, "x": "y" * (number % 7)} for number in range(count)]
    reply = reply_of(cursor(documents))
    assert [bytes(one) for one in reply.documents] == [bson.encode(one) for one in documents]
    assert reply.cursor == 0


@given(
    st.lists(st.dictionaries(st.text(max_size=5).filter(lambda key: "\0" not in key), st.binary(max_size=20)))
)
@settings(max_examples=50, deadline=None)
def test_documents_stay_the_bytes_that_the_server_wrote(documents: list[dict[str, object]]) -> None:
    reply = reply_of(cursor(documents, key="nextBatch", number=2**62 + 1))
    assert b"".join(reply.documents) == b"".join(bson.encode(one) for one in documents)
    assert reply.cursor == 2**62 + 1


def test_other_fields_of_a_cursor_are_passed_over() -> None:
    more = {
        "partialResultsReturned": True,
        "atClusterTime": bson.Timestamp(1, 2),
        "postBatchResumeToken": {"_data": "x"},
    }
    assert len(reply_of(cursor([{"a": 1}], **more)).documents) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        bson.encode({"id": Int64(1), "ns": "db.coll"}),
        bson.encode({"firstBatch": [{"a": 1}]}),
        bson.encode({"firstBatch": [1, 2], "id": Int64(0)}),
        bson.encode({"firstBatch": [{"a": 1}, "x"], "id": Int64(0)}),
        bson.encode({"firstBatch": [], "id": 0.5}),
        cursor([{"a": 1}])[:-30],
        cursor([{"a": 1}])[:12],
    ],
)
def test_what_is_no_cursor_is_refused_and_never_guessed(wrong: bytes) -> None:
    with pytest.raises(UnreadableReplyError):
        reply_of(wrong)
