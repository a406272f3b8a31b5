"""What a cursor answers, without an object for each document.

The driver's `find_raw_batches` makes a Python object of every document before it joins their bytes, which takes three
quarters of its time where documents are small (measured with PyMongo 4.20). A reply's batch is a BSON array: elements
of type 3 whose names are "0", "1", ... (https://bsonspec.org/spec.html), so the documents lie at known places in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from struct import Struct, error
from typing import Final

from bson.int64 import Int64
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import PyMongoError

from lucid_storage.errors import NotSupportedError
from lucid_storage.stores.mongodb.dump.entries import RAW
from lucid_storage.stores.mongodb.dump.member import Document

_int32 = Struct("<i").unpack_from
_int64 = Struct("<q").unpack_from

_STRING, _DOCUMENT, _ARRAY, _BOOLEAN, _TIMESTAMP, _INT64 = 0x02, 0x03, 0x04, 0x08, 0x11, 0x12
_FIXED: Final = {_BOOLEAN: 1, _TIMESTAMP: 8, _INT64: 8}
_BATCHES: Final = frozenset({b"firstBatch", b"nextBatch"})


class UnreadableReplyError(NotSupportedError):
    """The server answered something else than a cursor."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer to `find` or `getMore`."""

    cursor: int
    """0 when there is nothing more to ask for."""
    documents: list[memoryview]
    """Each as the server wrote it, in the reply's own memory."""


def replies(
    database: Database[Document],
    session: ClientSession,
    collection: str,
    query: Mapping[str, object],
    batch_size: int,
) -> Iterator[list[memoryview]]:
    """What `find` with these fields and the `getMore`s behind it answer. Raises PyMongoError, UnreadableReplyError.

    As commands: faster than the driver's cursors, which also refuse some names that the server allows.
    """
    command: Document = {"find": collection, "batchSize": batch_size, **query}
    cursor = 0
    try:
        while True:
            answer = database.command(command, session=session, codec_options=RAW)
            reply = reply_of(answer["cursor"].raw)
            del answer  # it holds the same documents once more
            cursor = reply.cursor
            if reply.documents:
                yield reply.documents
            if not cursor:
                return
            del reply
            command = {"getMore": Int64(cursor), "collection": collection, "batchSize": batch_size}
    finally:
        if cursor:
            with suppress(PyMongoError):
                database.command({"killCursors": collection, "cursors": [Int64(cursor)]}, session=session)


def reply_of(cursor: bytes | memoryview) -> Reply:
    """`cursor` is the BSON of that field of the answer. Raises UnreadableReplyError."""
    view = memoryview(cursor)
    number: int | None = None
    batch: memoryview | None = None
    try:
        at = 4
        while kind := view[at]:
            name_end = _end_of_name(view, at + 1)
            name, at = bytes(view[at + 1 : name_end]), name_end + 1
            size = _size(view, kind, at)
            if name == b"id" and kind == _INT64:
                (number,) = _int64(view, at)
            elif name in _BATCHES and kind == _ARRAY:
                batch = view[at : at + size]
            at += size
        if number is None or batch is None:
            raise UnreadableReplyError(
                "The server's answer holds no cursor; use a supported version of MongoDB."
            )
        return Reply(number, _documents(batch))
    except (IndexError, error):
        raise UnreadableReplyError("The server's cursor ends in the middle of a field.") from None


def _end_of_name(view: memoryview, at: int) -> int:
    while view[at]:
        at += 1
    return at


def _size(view: memoryview, kind: int, at: int) -> int:
    if kind in (_DOCUMENT, _ARRAY):
        return int(_int32(view, at)[0])
    if kind == _STRING:
        return 4 + int(_int32(view, at)[0])
    try:
        return _FIXED[kind]
    except KeyError:
        raise UnreadableReplyError(
            f"The server's cursor has a field of BSON type {kind:#04x}; use a supported version of MongoDB."
        ) from None


def _documents(array: memoryview) -> list[memoryview]:
    """The elements of an array. Their names are as long as their numbers have digits."""
    found: list[memoryview] = []
    add = found.append
    at, end, digits = 4, len(array) - 1, 1
    while at < end:
        skip, last = digits + 2, 10**digits
        while at < end and len(found) < last:
            start = at + skip
            stop = start + _int32(array, start)[0]
            if array[at] != _DOCUMENT or array[start - 1] or not start < stop <= end or array[stop - 1]:
                raise UnreadableReplyError("The server's batch is not an array of documents.")
            add(array[start:stop])
            at = stop
        digits += 1
    return found
