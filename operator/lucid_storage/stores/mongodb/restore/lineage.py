"""Names followed backwards: which collections of the base become the chosen ones at the restored moment.

A collection that is called `b` at T may have been `a` in the base; its history up to the rename is that of `a`
(rule 2.5). Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from lucid_storage.stores.mongodb.names import BUCKETS_PREFIX, VIEWS
from lucid_storage.stores.mongodb.restore.catalog import Name, public_name, restorable, stageable
from lucid_storage.stores.mongodb.restore.entries import Document, Moment, Operation, OperationKind
from lucid_storage.stores.mongodb.restore.transactions import Unit


class Change(StrEnum):
    """What happens to names."""

    CREATED = "created"
    DROPPED = "dropped"
    RENAMED = "renamed"
    VIEWED = "viewed"
    """A view was made, or became another one."""
    UNVIEWED = "unviewed"


@dataclass(frozen=True, slots=True)
class NameEvent:
    """One of the timeline's changes of names."""

    moment: Moment
    change: Change
    name: Name
    to: Name | None = None
    type: str = "collection"
    """Of what was created: collection, timeseries, view or temporary."""
    stageable: bool = True
    """Of what was created: whether it can be loaded under another name (rule 2.7)."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """Which names are followed from where on."""

    base: Callable[[Name], bool]
    """Whether a collection of the base is needed."""
    created: Callable[[Moment, Name], bool]
    """Whether a collection that is created at this moment is needed."""
    complete: bool = False
    """All that `base` knows is restored at any moment: a write to anything else of it is a defect of the backup."""


def name_events(unit: Unit) -> tuple[NameEvent, ...]:
    """The changes of names in what takes effect together."""
    events = (name_event(unit.moment, operation) for operation in unit.operations)
    return tuple(event for event in events if event is not None)


def name_event(moment: Moment, operation: Operation) -> NameEvent | None:
    """What an operation does to names; None when it leaves them alone."""
    document, database = operation.document, operation.database
    if operation.collection == VIEWS and not operation.command:
        return _view_event(moment, operation)
    match operation.command:
        case "create":
            name = str(document["create"])
            return NameEvent(
                moment,
                Change.CREATED,
                (database, name),
                type=_type(name, document),
                stageable=stageable(name, document),
            )
        case "drop":
            return NameEvent(moment, Change.DROPPED, (database, str(document["drop"])))
        case "dropDatabase":
            # Its collections were dropped one by one before it; only the list of its views goes without a word.
            return NameEvent(moment, Change.DROPPED, (database, VIEWS))
        case "renameCollection":
            return NameEvent(
                moment,
                Change.RENAMED,
                split(str(document["renameCollection"])),
                split(str(document["to"])),
            )
    return None


def _type(name: str, options: Document) -> str:
    if options.get("temp"):
        return "temporary"
    return "timeseries" if name.startswith(BUCKETS_PREFIX) else "collection"


def _view_event(moment: Moment, operation: Operation) -> NameEvent | None:
    name = split(str(operation.document.get("_id", "")))
    if operation.kind is OperationKind.DELETE:
        return NameEvent(moment, Change.UNVIEWED, name)
    on = operation.document.get("viewOn")
    if not isinstance(on, str) or on.startswith(BUCKETS_PREFIX):
        return None  # the view of a time series, which comes with its creation
    return NameEvent(moment, Change.VIEWED, name, type="view")


def split(namespace: str) -> Name:
    """Database and collection of a namespace; only the first dot parts them."""
    database, _, collection = namespace.partition(".")
    return database, collection


def everything(databases: Iterable[str], selected: Iterable[Name] = ()) -> Lineage:
    """All collections of some databases, as far as the backup holds them: `selected`, or all without it."""
    restored, backed_up = frozenset(databases), frozenset(selected)

    def wanted(name: Name) -> bool:
        known = not backed_up or (name[0], public_name(name[1])) in backed_up
        return name[0] in restored and restorable(name[1]) and known

    return Lineage(base=wanted, created=lambda _, name: wanted(name), complete=True)


def chosen(names: Iterable[Name], events: Iterable[NameEvent]) -> Lineage:
    """Only `names`, as they are called at the end of `events`. Time series go by their public name."""
    wanted = publicly(names)
    created: set[tuple[Moment, Name]] = set()
    viewed: set[Name] = set()
    for event in reversed(tuple(events)):
        name = (event.name[0], public_name(event.name[1]))
        if event.change is Change.CREATED and name in wanted:
            created.add((event.moment, name))
        elif event.change is Change.VIEWED and name in wanted:
            viewed.add(name)
        wanted = before(wanted, event)
    base = wanted | viewed
    return Lineage(
        base=lambda name: restorable(name[1]) and (name[0], public_name(name[1])) in base,
        created=lambda moment, name: (
            restorable(name[1]) and (moment, (name[0], public_name(name[1]))) in created
        ),
    )


def publicly(names: Iterable[Name]) -> frozenset[Name]:
    """As people call them."""
    return frozenset((database, public_name(name)) for database, name in names)


def before(wanted: frozenset[Name], event: NameEvent) -> frozenset[Name]:
    """What the collections that are called `wanted` after an event were called before it, where they were there."""
    name = (event.name[0], public_name(event.name[1]))
    match event.change:
        case Change.RENAMED if event.to is not None:
            to = (event.to[0], public_name(event.to[1]))
            # What had the name before is another collection: it is called `to` from then on.
            return wanted - {to, name} | ({name} if to in wanted else frozenset())
        case Change.CREATED | Change.DROPPED | Change.UNVIEWED:
            return wanted - {name}
    return wanted
