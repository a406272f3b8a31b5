"""Replay by default-deny: an operation is rewritten from the live to the staged name, or not sent (rule 2.4).

What is sent names staged collections alone, so that nothing else of the server can change. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from lucid_storage.stores.mongodb.names import BUCKETS_PREFIX, VIEWS
from lucid_storage.stores.mongodb.restore.catalog import (
    Catalog,
    Name,
    Place,
    Tracked,
    public_name,
    restorable,
    view_of,
)
from lucid_storage.stores.mongodb.restore.entries import (
    Document,
    Moment,
    Operation,
    OperationKind,
    refused,
)
from lucid_storage.stores.mongodb.restore.lineage import Lineage, split
from lucid_storage.stores.mongodb.restore.redefining import REDEFINING, redefine
from lucid_storage.stores.mongodb.restore.transactions import Unit


@dataclass(frozen=True, slots=True)
class Write:
    """An insert, update or delete, as an element of applyOps. It names no UUID and no session."""

    place: Place
    operation: Document
    lenient: bool
    """Of the time of the dump: what it changes may be gone already."""
    name: Name
    """Of the collection, as it was called on the server that was backed up."""


@dataclass(frozen=True, slots=True)
class CreateStaged:
    """Make an empty collection."""

    tracked: Tracked
    options: Document


@dataclass(frozen=True, slots=True)
class DropStaged:
    """Drop a collection that this run made."""

    place: Place


@dataclass(frozen=True, slots=True)
class ResizeStaged:
    """Change the limits of a capped collection, or the granularity of a time series."""

    place: Place
    command: Document


Step: TypeAlias = Write | CreateStaged | DropStaged | ResizeStaged

_SKIPPED = frozenset({"dropDatabase", "startIndexBuild", "abortIndexBuild", "dbCheck"})
"""dropDatabase follows the drops of its collections, so that of it views alone are left; the others change no data."""
KNOWN_COMMANDS = _SKIPPED | REDEFINING | {"create", "drop", "renameCollection"}
_SIZES = ("cappedSize", "cappedMax", "timeseries")


@dataclass(slots=True)
class Tally:
    """What was replayed of one namespace."""

    inserts: int = 0
    updates: int = 0
    deletes: int = 0
    commands: int = 0


@dataclass(slots=True)
class Rewritten:
    """What the replay did, to be told and compared."""

    operations: int = 0
    transactions: int = 0
    cut_transactions: int = 0
    """Applied in part, because collections were left out."""
    by_namespace: dict[str, Tally] = field(default_factory=dict)
    skipped_commands: Counter[str] = field(default_factory=Counter)
    passed_over: set[str] = field(default_factory=set)
    """Namespaces of which some writes were about nothing that is restored: another collection of the name, for
    instance, which was gone when the dump listed them.
    """


class Rewriter:
    """Turns what takes effect into steps on staged collections, and follows definitions in the catalog.

    `dump_end` is the moment up to which the dump itself may already hold an operation's result; before it an
    operation on another incarnation of a collection is passed over, after it that is refused.
    """

    def __init__(self, catalog: Catalog, lineage: Lineage, dump_end: Moment) -> None:
        self._catalog = catalog
        self._lineage = lineage
        self._dump_end = dump_end
        self.done = Rewritten()

    def rewrite(self, unit: Unit) -> list[Step]:
        """Raises RefusedError (ReplayRefused) for what is not known."""
        steps: list[Step] = []
        left_out = 0
        for operation in unit.operations:
            made = self._operation(unit.moment, operation)
            if made is None:
                left_out += 1
            else:
                steps.extend(made)
        if unit.transaction:
            self.done.transactions += 1
            self.done.cut_transactions += bool(left_out and left_out < len(unit.operations))
        return steps

    def _operation(self, moment: Moment, operation: Operation) -> Sequence[Step] | None:
        """None when the operation is about something that is not restored."""
        if operation.kind is OperationKind.NOTHING:
            return ()
        if operation.kind is OperationKind.COMMAND:
            return self._command(moment, operation)
        if operation.collection == VIEWS:
            return self._view(operation)
        tracked = self._find(moment, (operation.database, operation.collection), operation.uuid)
        if tracked is None:
            self.done.passed_over.add(f"{operation.database}.{operation.collection}")
            return None
        self._count(tracked.name, operation.kind)
        if operation.kind is OperationKind.UPDATE and operation.selector is None:
            raise refused("the oplog holds an update that names no document")
        if not self._in_dump(moment):
            return (_write(tracked, operation, lenient=tracked.capped),)
        tracked.comes_back = tracked.comes_back or operation.kind is OperationKind.DELETE
        if _makes_room(tracked, operation):
            key = {"_id": operation.document.get("_id")}
            before = replace(operation, kind=OperationKind.DELETE, document=key)
            anew = replace(operation, kind=OperationKind.INSERT)
            return (_write(tracked, before, lenient=True), _write(tracked, anew, lenient=True))
        return (_write(tracked, operation, lenient=True),)

    # Definitions

    def _command(self, moment: Moment, operation: Operation) -> Sequence[Step] | None:
        command, document = operation.command, operation.document
        if command == "dropDatabase":
            self._catalog.drop_views(operation.database)
        if command in _SKIPPED:
            self.done.skipped_commands[command] += 1
            return ()
        if command == "create":
            return self._create(moment, operation)
        if command == "renameCollection":
            return self._rename(moment, operation)
        if command != "drop" and command not in REDEFINING:
            raise refused(f"the oplog holds the command {command[:40]!r}")
        name = (operation.database, str(document[command]))
        if command == "drop" and name[1] == VIEWS and self._catalog.target(name[0]) is not None:
            self._catalog.drop_views(name[0])
            return ()
        tracked = self._find(moment, name, operation.uuid)
        if tracked is None:
            return None
        self._count(name, operation.kind)
        if command == "drop":
            self._catalog.forget(name)
            return (DropStaged(tracked.place),)
        if redefine(tracked, command, document):
            return (ResizeStaged(tracked.place, {k: document[k] for k in _SIZES if k in document}),)
        return ()

    def _create(self, moment: Moment, operation: Operation) -> Sequence[Step] | None:
        document = operation.document
        name = (operation.database, str(document["create"]))
        if name[1] == VIEWS or "viewOn" in document:
            return () if self._catalog.target(name[0]) is not None else None
        known = self._catalog.get(name)
        wanted = (
            self._lineage.base(name) if self._in_dump(moment) else self._lineage.created(moment, name)
        ) and self._catalog.target(name[0]) is not None
        if known is not None and self._in_dump(moment) and _same(operation.uuid, known.uuid):
            return ()  # the dump listed it already
        steps: list[Step] = []
        if known is not None:
            # A namespace is made anew only when it was free: what had the name is gone.
            self._catalog.forget(name)
            steps.append(DropStaged(known.place))
        if not wanted or not restorable(name[1]):
            return steps or None
        self._count(name, operation.kind)
        tracked = self._catalog.track(name, document, operation.uuid)
        return (*steps, CreateStaged(tracked, tracked.creation()))

    def _rename(self, moment: Moment, operation: Operation) -> Sequence[Step] | None:
        document = operation.document
        old, new = split(str(document["renameCollection"])), split(str(document["to"]))
        tracked, replaced = self._find(moment, old, operation.uuid), self._catalog.get(new)
        steps: list[Step] = []
        if replaced is not None and replaced is not tracked:
            if tracked is None and self._in_dump(moment) and _same(operation.uuid, replaced.uuid):
                return ()  # the dump listed it under its new name
            self._catalog.forget(new)
            steps.append(DropStaged(replaced.place))
        if tracked is None:
            return steps or None
        self._count(old, operation.kind)
        if not restorable(new[1]) or self._catalog.target(new[0]) is None:
            self._catalog.forget(old)
            return (*steps, DropStaged(tracked.place))
        if self._catalog.target(new[0]) != tracked.place.database:
            raise refused("the oplog holds a rename from one database into another")
        self._catalog.rename(old, new)
        tracked.temporary = bool(document.get("stayTemp"))
        return steps

    def _view(self, operation: Operation) -> Sequence[Step] | None:
        if self._catalog.target(operation.database) is None:
            return None
        if operation.kind is OperationKind.DELETE:
            self._catalog.drop_view(split(str(operation.document.get("_id", ""))))
            return ()
        view = view_of(operation.document)
        if view.on.startswith(BUCKETS_PREFIX):
            return ()  # the view of a time series, which comes with its creation
        if self._lineage.base((view.database, public_name(view.name))):
            self._catalog.put_view(view)
        return ()

    # Looking up

    def _find(self, moment: Moment, name: Name, uuid: bytes | None) -> Tracked | None:
        """What is restored under this name now. Raises RefusedError when it is another one than the oplog means."""
        tracked = self._catalog.get(name)
        if tracked is not None and _same(uuid, tracked.uuid):
            return tracked
        if self._in_dump(moment) or (tracked is None and not self._expected(name)):
            return None
        raise refused(
            f"the oplog writes to a collection {name[0]}.{name[1]} that is not the one in the backup"
        )

    def _expected(self, name: Name) -> bool:
        """Whether the collection must be known by now: all of its database is restored."""
        return self._lineage.complete and self._lineage.base(name)

    def _in_dump(self, moment: Moment) -> bool:
        return moment <= self._dump_end

    def _count(self, name: Name, kind: OperationKind) -> None:
        tally = self.done.by_namespace.setdefault(f"{name[0]}.{name[1]}", Tally())
        self.done.operations += 1
        if kind is OperationKind.INSERT:
            tally.inserts += 1
        elif kind is OperationKind.UPDATE:
            tally.updates += 1
        elif kind is OperationKind.DELETE:
            tally.deletes += 1
        else:
            tally.commands += 1


def _write(tracked: Tracked, operation: Operation, *, lenient: bool) -> Write:
    element: dict[str, object] = {
        "op": str(operation.kind),
        "ns": tracked.place.namespace,
        "o": operation.document,
    }
    if operation.kind is OperationKind.UPDATE:
        element["o2"] = operation.selector
    return Write(tracked.place, element, lenient, tracked.name)


def _makes_room(tracked: Tracked, operation: Operation) -> bool:
    """Whether what has the key of a document goes before that comes: the dump may have read a later one of its key.

    Where a collation takes two keys for the same, no server writes one over the other. In a capped collection it would
    get the place of the later one; servers before 5.0 delete nothing there, so none comes back.
    """
    if tracked.capped:
        return operation.kind is OperationKind.INSERT and tracked.comes_back
    whole = operation.kind is OperationKind.INSERT or (
        operation.kind is OperationKind.UPDATE and "_id" in operation.document
    )
    return whole and "collation" in tracked.options


def _same(left: bytes | None, right: bytes | None) -> bool:
    """Whether it can be one collection; archives of old servers know no UUIDs."""
    return left is None or right is None or left == right
