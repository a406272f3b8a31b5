"""How a collection's definition changes, as the oplog's commands say: options and indexes. Pure.

Nothing is sent for it but a change of how documents lie: indexes are built at the end, and the other options set there.
"""

from __future__ import annotations

from collections.abc import Mapping

from bson.raw_bson import RawBSONDocument

from lucid_storage.stores.mongodb.restore.catalog import DEFERRED, Tracked
from lucid_storage.stores.mongodb.restore.entries import Document, refused

REDEFINING = frozenset({"collMod", "createIndexes", "commitIndexBuild", "dropIndexes", "deleteIndexes"})
"""Commands of the oplog that change a definition."""


def redefine(tracked: Tracked, command: str, document: Document) -> bool:
    """Follow one of these commands; returns whether it changes how documents lie, which must be sent at once.

    Raises RefusedError (ReplayRefused) for a part of it that is not known.
    """
    match command:
        case "createIndexes":
            _build_index(tracked, document)
        case "commitIndexBuild":
            indexes = document.get("indexes")
            for specification in indexes if isinstance(indexes, list) else ():
                _build_index(tracked, specification)
        case "dropIndexes" | "deleteIndexes":
            _drop_index(tracked, document.get("index"))
        case "collMod":
            return _modify(tracked, document)
        case _:
            raise refused(f"the oplog holds the command {command[:40]!r}")
    return False


def add_index(tracked: Tracked, specification: Document) -> None:
    """An index that is there from now on. The one on `_id` makes itself."""
    key = specification.get("key")
    if isinstance(key, Mapping) and list(key) == ["_id"] and not specification.get("clustered"):
        value = key["_id"]
        if isinstance(value, int | float) and value == 1:
            return
    if specification.get("clustered"):
        return
    name = str(specification.get("name", ""))
    tracked.indexes[name] = {
        field_: value
        for field_, value in specification.items()
        if field_ not in ("ns", "createIndexes", "background", "buildUUID")
    }


def _build_index(tracked: Tracked, specification: Document) -> None:
    """An index that the oplog builds."""
    add_index(tracked, specification)
    tracked.replayed_indexes.add(str(specification.get("name", "")))


def _drop_index(tracked: Tracked, name: object) -> None:
    """`*` drops all."""
    if name == "*":
        tracked.indexes.clear()
    elif isinstance(name, str):
        tracked.indexes.pop(name, None)
    else:
        raise refused("the oplog holds a dropIndexes that names no index")


_INDEX_CHANGES = frozenset({"expireAfterSeconds", "hidden", "unique", "prepareUnique"})


def _modify(tracked: Tracked, command: Document) -> bool:
    """Follow a collMod."""
    resized = False
    for field_, value in command.items():
        if field_ in ("collMod", "writeConcern", "dryRun"):
            continue
        if field_ == "index" and isinstance(value, Mapping):
            _modify_index(tracked, value)
        elif field_ == "expireAfterSeconds" and value == "off":
            tracked.options.pop(field_, None)
        elif field_ in DEFERRED:
            tracked.options[field_] = value
        elif field_ == "timeseries" and isinstance(value, Mapping):
            known = tracked.options.get("timeseries")
            tracked.options["timeseries"] = {**(known if isinstance(known, Mapping) else {}), **value}
            resized = True
        elif field_ in ("cappedSize", "cappedMax"):
            tracked.options["size" if field_ == "cappedSize" else "max"] = value
            resized = True
        elif field_ != "recordPreImages":
            raise refused(f"the oplog holds a collMod of {field_[:40]!r}")
    return resized


def _modify_index(tracked: Tracked, change: Document) -> None:
    index = _index_named(tracked, change)
    if index is None:
        return
    unknown = set(change) - _INDEX_CHANGES - {"name", "keyPattern"}
    if unknown:
        raise refused(f"the oplog holds a collMod of an index's {min(unknown)[:40]!r}")
    name = str(index["name"])
    changed = {**index, **{key: change[key] for key in _INDEX_CHANGES if key in change}}
    if changed.get("unique"):
        changed.pop("prepareUnique", None)
    off = {key for key in _INDEX_CHANGES if changed.get(key) is False}
    tracked.indexes[name] = {key: value for key, value in changed.items() if key not in off}


def _index_named(tracked: Tracked, change: Document) -> Document | None:
    if "name" in change:
        return tracked.indexes.get(str(change["name"]))
    pattern = change.get("keyPattern")
    for index in tracked.indexes.values():
        key = index.get("key")
        if isinstance(key, RawBSONDocument) and isinstance(pattern, RawBSONDocument):
            if key.raw == pattern.raw:
                return index
        elif (
            isinstance(key, Mapping)
            and isinstance(pattern, Mapping)
            and list(key.items()) == list(pattern.items())
        ):
            return index
    return None
