"""One document in the place of the one that has its key.

The old one is taken out and the new one inserted: written over the old one, a collation that takes two keys for the
same would have to change an `_id`, and no update takes a document with a name that begins with `$`. In a capped
collection the new one belongs at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure

from lucid_storage.errors import LucidError, Reason, ServerRefusedError
from lucid_storage.stores.mongodb.errors import Attempt, refuses_content, translate
from lucid_storage.stores.mongodb.restore.catalog import Tracked
from lucid_storage.stores.mongodb.restore.entries import RAW_OPTIONS
from lucid_storage.stores.mongodb.restore.target import LABEL, Document, Target

DUPLICATE_KEY = 11000
_ILLEGAL_OPERATION = 20
"""What servers before 5.0 say of a delete in a capped collection."""


def put(
    target: Target, tracked: Tracked, document: bytes, sent_again: Callable[[], None]
) -> tuple[int, bool]:
    """Returns how many were there as something else, and whether it was there byte for byte: then nothing is written.

    Of one collection's documents one may be put at a time; others may be inserted meanwhile. `sent_again` is called
    when it may have been inserted before. Raises LucidError.
    """
    database, name = tracked.place.database, tracked.place.collection
    task, raw = f"load {tracked.name[0]}.{tracked.name[1]}", RawBSONDocument(document, RAW_OPTIONS)
    query: Document = {"_id": {"$eq": raw.get("_id")}}
    change: Document = {"findAndModify": name, "query": query, "fields": {"_id": 1}}
    different = 0
    while True:
        there = _there(target, tracked, query, task)
        if there == document:
            return different, True
        if there is not None:
            different += 1
            answer = target.write(database, {**change, "remove": True}, task, expected={_ILLEGAL_OPERATION})
            if not answer.get("ok"):
                target.write(
                    database, {**change, "update": raw, "bypassDocumentValidation": True}, task, content=True
                )
                return different, False
        insert: Document = {"insert": name, "documents": [raw], "bypassDocumentValidation": True}
        errors = target.write(database, insert, task, content=True, sent_again=sent_again).get("writeErrors")
        if not isinstance(errors, list) or not errors:
            return different, False
        if errors[0].get("code") != DUPLICATE_KEY or there is None:
            raise refused(tracked, errors[0])


def refused(tracked: Tracked, error: Mapping[str, object]) -> LucidError:
    """For the write error of a document."""
    code = error.get("code")
    code = code if isinstance(code, int) else 0
    name = f"{tracked.name[0]}.{tracked.name[1]}"
    if not refuses_content(code):
        return translate(OperationFailure("", code, error), Attempt(LABEL, f"load {name}"))
    return ServerRefusedError(
        f"The server refused a document of {name} (error code {code}); it is not restored. Restore into a server of the"
        " version that was backed up, or another backup.",
        reason=Reason.CONTENT_REFUSED,
    )


def _there(target: Target, tracked: Tracked, query: Document, task: str) -> bytes | None:
    """What has the key, by the collection's own collation."""
    find = {"find": tracked.place.collection, "filter": query, "limit": 1, "singleBatch": True}
    cursor = target.command(tracked.place.database, find, task, raw=True)["cursor"]
    assert isinstance(cursor, RawBSONDocument)
    return next((bytes(found.raw) for found in cursor["firstBatch"]), None)
