"""What a run puts into a collection that was there before it: a list of `_id`s, so that these alone are taken back.

What cannot be staged is loaded under its own name (rule 2.7). Where an empty one was there, an application may write to
it meanwhile, and a restore that fails must leave that. The list lies beside the target under a reserved name of the
run and is written before the documents, so that it holds whatever came of them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence

from bson.raw_bson import RawBSONDocument

from lucid_storage.stores.mongodb.errors import NAMESPACE_NOT_FOUND
from lucid_storage.stores.mongodb.restore.catalog import STAGED_PREFIX, Place
from lucid_storage.stores.mongodb.restore.entries import RAW_OPTIONS
from lucid_storage.stores.mongodb.restore.target import Target

TAKEN_AT_ONCE = 500

Command = dict[str, object]


def list_name(run: str, number: int) -> str:
    """Of the list of one collection; a name that goes with everything else that a run staged."""
    return f"{STAGED_PREFIX}{run}_{number}_ids"


class Inserted:
    """The lists of one run. Threads may share it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._lists: dict[Place, str] = {}
        self._lock = threading.Lock()

    def follow(self, place: Place, name: str) -> None:
        """From now on, what goes into this collection is listed under this name."""
        with self._lock:
            self._lists[place] = name

    def follows(self, place: Place) -> bool:
        return place in self._lists

    def empty(self, place: Place) -> None:
        """Take back what went into it so far, as where it is dropped and no server drops it. It is not followed any
        more.
        """
        with self._lock:
            name = self._lists.pop(place, None)
        if name is not None:
            take_back(self._target, place.database, place.collection, name)
            self._target.drop(place.database, name)

    def note(self, place: Place, documents: Iterable[bytes]) -> None:
        """Called before the documents are sent; does nothing for collections that are not followed."""
        name = self._lists.get(place)
        if name is None:
            return
        keys = [{"_id": RawBSONDocument(document, RAW_OPTIONS)["_id"]} for document in documents]
        for start in range(0, len(keys), TAKEN_AT_ONCE):
            # One that is listed already stays so.
            self._target.write(
                place.database,
                {"insert": name, "documents": keys[start : start + TAKEN_AT_ONCE], "ordered": False},
                f"list what is loaded into {place.namespace}",
            )


def take_back(target: Target, database: str, collection: str, name: str) -> None:
    """Remove what is listed. Harmless to repeat, and when there is no list."""
    task = f"take back what was loaded into {database}.{collection}"
    while True:
        answer = target.command(database, next_keys(name), task, expected={NAMESPACE_NOT_FOUND})
        keys = keys_in(answer)
        if not keys:
            return
        for command in removals(collection, name, keys):
            target.write(database, command, task)


def next_keys(name: str) -> Command:
    """Some of a list."""
    return {"find": name, "limit": TAKEN_AT_ONCE, "singleBatch": True}


def keys_in(answer: Mapping[str, object]) -> list[object]:
    """What the server answers to `next_keys`."""
    cursor = answer.get("cursor")
    return [entry["_id"] for entry in cursor["firstBatch"]] if isinstance(cursor, Mapping) else []


def removals(collection: str, name: str, keys: Sequence[object]) -> tuple[Command, Command]:
    """First the documents, then their entries in the list."""
    chosen = {"q": {"_id": {"$in": list(keys)}}, "limit": 0}
    return {"delete": collection, "deletes": [chosen]}, {"delete": name, "deletes": [chosen]}
