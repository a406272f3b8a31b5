"""Builders of oplog entries, in the form that servers write them."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import bson
from bson import Binary, Timestamp

from lucid_storage.stores.mongodb.restore.catalog import Catalog, Definition
from lucid_storage.stores.mongodb.restore.entries import Moment, bound, entry
from lucid_storage.stores.mongodb.restore.lineage import Lineage, NameEvent, everything, name_events
from lucid_storage.stores.mongodb.restore.rewriting import Rewriter, Step
from lucid_storage.stores.mongodb.restore.transactions import Transactions

DUMP_END: Moment = (100, 0)
_SPACE = uuid.UUID("6a3f0b6e-4b0e-4c5e-9f6e-2f5b0d3f7a11")


def uid(name: str) -> bytes:
    """The UUID of a collection, made from a name of the test's choice."""
    return uuid.uuid5(_SPACE, name).bytes


def op(
    kind: str, namespace: str, document: Mapping[str, Any], selector: Any = None, of: str = ""
) -> dict[str, Any]:
    """One operation; `of` names the collection whose UUID it carries, usually the namespace itself."""
    made: dict[str, Any] = {"op": kind, "ns": namespace, "ui": Binary(uid(of or namespace), 4), "o": document}
    return made if selector is None else {**made, "o2": selector}


def insert(namespace: str, key: Any, of: str = "", **fields: Any) -> dict[str, Any]:
    return op("i", namespace, {"_id": key, **fields}, {"_id": key}, of)


def update(namespace: str, key: Any, of: str = "", **fields: Any) -> dict[str, Any]:
    return op("u", namespace, {"$v": 2, "diff": {"u": fields}}, {"_id": key}, of)


def delete(namespace: str, key: Any, of: str = "") -> dict[str, Any]:
    return op("d", namespace, {"_id": key}, None, of)


def command(database: str, document: Mapping[str, Any], of: str, selector: Any = None) -> dict[str, Any]:
    return op("c", f"{database}.$cmd", document, selector, of)


def create(namespace: str, of: str = "", **options: Any) -> dict[str, Any]:
    database, _, name = namespace.partition(".")
    index = {"v": 2, "key": {"_id": 1}, "name": "_id_"}
    return command(database, {"create": name, **options, "idIndex": index}, of or namespace)


def drop(namespace: str, of: str = "") -> dict[str, Any]:
    database, _, name = namespace.partition(".")
    return command(database, {"drop": name}, of or namespace, {"numRecords": 3})


def rename(old: str, new: str, of: str = "", **more: Any) -> dict[str, Any]:
    database = old.partition(".")[0]
    return command(database, {"renameCollection": old, "to": new, "stayTemp": False, **more}, of or old)


def apply_ops(
    operations: Sequence[Mapping[str, Any]], number: int | None = None, session: str = "s", **flags: Any
) -> dict[str, Any]:
    made: dict[str, Any] = {"op": "c", "ns": "admin.$cmd", "o": {"applyOps": list(operations), **flags}}
    return _in_session(made, number, session)


def commit(number: int, session: str = "s") -> dict[str, Any]:
    body = {"commitTransaction": 1, "commitTimestamp": Timestamp(1, 1), "prepared": True}
    return _in_session({"op": "c", "ns": "admin.$cmd", "o": body}, number, session)


def abort(number: int, session: str = "s") -> dict[str, Any]:
    return _in_session({"op": "c", "ns": "admin.$cmd", "o": {"abortTransaction": 1}}, number, session)


def _in_session(made: dict[str, Any], number: int | None, session: str) -> dict[str, Any]:
    if number is not None:
        made.update(lsid={"id": Binary(uid(session), 4), "uid": b"u" * 32}, txnNumber=bson.Int64(number))
    return made


def raw(seconds: int, operation: Mapping[str, Any], counter: int = 1) -> bytes:
    more = {
        "ts": Timestamp(seconds, counter),
        "t": bson.Int64(1),
        "v": bson.Int64(2),
        "wall": bson.DatetimeMS(0),
    }
    return bson.encode({**operation, **more})


def collection(
    namespace: str, of: str = "", indexes: Iterable[Mapping[str, Any]] = (), **options: Any
) -> Definition:
    """A collection of the base."""
    database, _, name = namespace.partition(".")
    return Definition(database, name, options=options, indexes=tuple(indexes), uuid=uid(of or namespace))


class Replaying:
    """The pure part of a replay: definitions of the base in, steps out."""

    def __init__(
        self,
        *base: Definition,
        targets: Mapping[str, str] | None = None,
        lineage: Lineage | None = None,
    ) -> None:
        self.targets = targets or {"shop": "shop"}
        self.catalog = Catalog("r1", self.targets)
        self.lineage = lineage or everything(self.targets)
        for definition in base:
            if self.lineage.base((definition.database, definition.name)):
                tracked = self.catalog.track(
                    (definition.database, definition.name), definition.options, definition.uuid
                )
                tracked.indexes.update({str(index["name"]): index for index in definition.indexes})
        self.transactions = Transactions()
        self.rewriter = Rewriter(self.catalog, self.lineage, DUMP_END)

    def feed(self, seconds: int, operation: Mapping[str, Any], counter: int = 1) -> list[Step]:
        unit = self.transactions.feed(entry(raw(seconds, operation, counter)))
        return [] if unit is None else self.rewriter.rewrite(unit)

    def writes(self, seconds: int, operation: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What is sent, decoded."""
        return [decoded(step.operation) for step in self.feed(seconds, operation)]  # type: ignore[union-attr]

    def place(self, namespace: str) -> str | None:
        database, _, name = namespace.partition(".")
        tracked = self.catalog.get((database, name))
        return tracked.place.namespace if tracked else None


def decoded(document: Mapping[str, Any]) -> dict[str, Any]:
    return bson.decode(bson.encode(document))


def events(*entries: tuple[int, Mapping[str, Any]]) -> list[NameEvent]:
    """What a list of entries does to names."""
    transactions, found = Transactions(), []
    for seconds, operation in entries:
        unit = transactions.feed(entry(raw(seconds, operation)))
        found.extend(name_events(unit) if unit else ())
    return found


__all__ = ["bound"]
