"""Documents in the place of those that have their keys.

The old ones are taken out and the new ones inserted: written over the old one, a collation that takes two keys for the
same would have to change an `_id`, and no update takes a document with a name that begins with `$`. In a capped
collection the new one belongs at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import bson
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


def put_all(
    target: Target, tracked: Tracked, documents: Sequence[bytes], sent_again: Callable[[], None]
) -> tuple[int, int]:
    """Returns how many were there as something else, and how many byte for byte: of those nothing is written.

    They go together in a few commands; those of one key, and all of a capped collection, go one by one in their order.
    Only one call at a time may be about a collection; others may insert into it meanwhile. `sent_again` is called when
    some may have been inserted before. Raises LucidError.
    """
    together, alone = ([], documents) if tracked.capped else _by_key(documents)
    different = equal = 0
    resent = [True]
    while together and resent:
        resent.clear()
        found = _found(target, tracked, together)
        there, wanted = set(found), set(together)
        _remove(target, tracked, [one for one in found if one not in wanted])
        different, equal = different + len(there - wanted), equal + len(there & wanted)
        rest = [one for one in together if one not in there]
        together = _insert(target, tracked, rest, lambda: resent.append(True))
        if resent:
            sent_again()
    for document in (*together, *alone):
        before, same = _put(target, tracked, document, sent_again)
        different, equal = different + before, equal + same
    return different, equal


def _by_key(documents: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Those that have a key of their own, and the others."""
    keys = [bson.encode({"_id": _key(document)}) for document in documents]
    times = Counter(keys)
    own = [one for one, key in zip(documents, keys, strict=True) if times[key] == 1]
    return own, [one for one, key in zip(documents, keys, strict=True) if times[key] > 1]


def _put(
    target: Target, tracked: Tracked, document: bytes, sent_again: Callable[[], None]
) -> tuple[int, bool]:
    different = 0
    resent: list[bool] = []
    while True:
        there = _found(target, tracked, [document])
        if there == [document]:
            return different, True
        if there:
            different += 1
            if not _remove(target, tracked, there):
                _overwrite(target, tracked, document)
                return different, False
        resent.clear()
        left = _insert(target, tracked, [document], lambda: resent.append(True))
        if resent:
            sent_again()
        if not left:
            return different, False
        if not there and not resent:
            # What stands in its way has another key, and would do so for ever.
            raise refused(tracked, {"code": DUPLICATE_KEY})


def _found(target: Target, tracked: Tracked, documents: Sequence[bytes]) -> list[bytes]:
    """What has their keys, by the collection's own collation: as much of it as one answer of the server holds."""
    keys = [_key(document) for document in documents]
    find = {
        "find": tracked.place.collection,
        "filter": {"_id": {"$in": keys}},
        "limit": len(keys),
        "batchSize": len(keys),
        "singleBatch": True,
    }
    cursor = target.command(tracked.place.database, find, _task(tracked), raw=True)["cursor"]
    assert isinstance(cursor, RawBSONDocument)
    return [bytes(found.raw) for found in cursor["firstBatch"]]


def _remove(target: Target, tracked: Tracked, documents: Sequence[bytes]) -> bool:
    """False where the server deletes nothing."""
    if not documents:
        return True
    query = {"_id": {"$in": [_key(document) for document in documents]}}
    delete: Document = {"delete": tracked.place.collection, "deletes": [{"q": query, "limit": 0}]}
    errors = _errors(target.write(tracked.place.database, delete, _task(tracked)))
    if errors and errors[0].get("code") != _ILLEGAL_OPERATION:
        raise refused(tracked, errors[0])
    return not errors


def _insert(
    target: Target, tracked: Tracked, documents: Sequence[bytes], sent_again: Callable[[], None]
) -> list[bytes]:
    """Returns those whose keys are taken."""
    if not documents:
        return []
    insert: Document = {
        "insert": tracked.place.collection,
        "documents": [RawBSONDocument(document, RAW_OPTIONS) for document in documents],
        "ordered": False,
        "bypassDocumentValidation": True,
    }
    answer = target.write(tracked.place.database, insert, _task(tracked), content=True, sent_again=sent_again)
    errors = _errors(answer)
    for error in errors:
        if error.get("code") != DUPLICATE_KEY:
            raise refused(tracked, error)
    return [documents[int(error["index"])] for error in errors]


def _overwrite(target: Target, tracked: Tracked, document: bytes) -> None:
    change: Document = {
        "findAndModify": tracked.place.collection,
        "query": {"_id": {"$eq": _key(document)}},
        "fields": {"_id": 1},
        "update": RawBSONDocument(document, RAW_OPTIONS),
        "bypassDocumentValidation": True,
    }
    target.write(tracked.place.database, change, _task(tracked), content=True)


def _key(document: bytes) -> object:
    return RawBSONDocument(document, RAW_OPTIONS).get("_id")


def _task(tracked: Tracked) -> str:
    return f"load {tracked.name[0]}.{tracked.name[1]}"


def _errors(answer: Mapping[str, object]) -> list[Mapping[str, Any]]:
    errors = answer.get("writeErrors")
    return errors if isinstance(errors, list) else []


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
