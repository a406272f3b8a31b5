"""What a TTL deletes as soon as it is switched on again: which documents are past their time at the restored moment.

Definitions are followed from the base to the moment by commands alone, so that a TTL index that slices build or change
counts as they leave it. Documents are counted in an archive, or on the server when they are staged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument

from lucid_storage.stores.mongodb.errors import NAMESPACE_NOT_FOUND
from lucid_storage.stores.mongodb.names import BUCKETS_PREFIX
from lucid_storage.stores.mongodb.restore.catalog import (
    Definition,
    Name,
    Place,
    Tracked,
    public_name,
    stageable,
)
from lucid_storage.stores.mongodb.restore.entries import RAW_OPTIONS, Moment, Operation
from lucid_storage.stores.mongodb.restore.finishing import expiries
from lucid_storage.stores.mongodb.restore.lineage import Lineage, split
from lucid_storage.stores.mongodb.restore.redefining import REDEFINING, add_index, redefine
from lucid_storage.stores.mongodb.restore.target import Target


@dataclass(frozen=True, slots=True)
class Rule:
    """One TTL of a collection."""

    field: str
    """Path of the date, as the documents of the collection have it."""
    seconds: int
    condition: Mapping[str, object] | None = None
    """Of a partial index."""


@dataclass(frozen=True, slots=True)
class Expiring:
    """A collection with a TTL at the restored moment."""

    name: Name
    """As it is called then, on the server that was backed up."""
    rules: tuple[Rule, ...]
    base: Name | None
    """What it is called in the base; None for one that is not there."""
    stageable: bool = True
    """Whether it is loaded beside the live data, from where it can be added to what has its name."""


def rules_of(tracked: Tracked) -> tuple[Rule, ...]:
    """The TTLs that are switched on after the last rename."""
    return tuple(
        rule
        for expiry in expiries(tracked)
        if (rule := _rule(tracked, expiry.index, expiry.seconds)) is not None
    )


def _rule(tracked: Tracked, index: str | None, seconds: int) -> Rule | None:
    if index is None:
        series = tracked.options.get("timeseries")
        # The server deletes whole buckets, by the newest time that each can hold: this is what it deletes at most.
        field = f"control.max.{series['timeField']}" if isinstance(series, Mapping) else "_id"
        return Rule(field, seconds)
    key, condition = tracked.indexes[index].get("key"), tracked.indexes[index].get("partialFilterExpression")
    if not isinstance(key, Mapping) or len(key) != 1:
        return None  # the server expires by one field only
    return Rule(next(iter(key)), seconds, condition if isinstance(condition, Mapping) else None)


class Definitions:
    """Options and indexes of the collections that are restored."""

    def __init__(self, base: Iterable[Definition], lineage: Lineage) -> None:
        self._lineage = lineage
        self._known: dict[Name, tuple[Name | None, Tracked]] = {}
        for definition in base:
            prefix = BUCKETS_PREFIX if definition.type == "timeseries" else ""
            name = (definition.database, f"{prefix}{definition.name}")
            if definition.type != "view" and lineage.base(name):
                tracked = _tracked(name, definition.options)
                for index in definition.indexes:
                    add_index(tracked, index)
                self._known[name] = (name, tracked)

    def follow(self, commands: Iterable[tuple[Moment, Operation]]) -> tuple[Expiring, ...]:
        """Those that have a TTL at the end. Raises RefusedError (ReplayRefused) for what the replay refuses too."""
        for moment, operation in commands:
            self._apply(moment, operation)
        found = (
            Expiring(
                (name[0], public_name(name[1])), rules_of(tracked), base, stageable(name[1], tracked.options)
            )
            for name, (base, tracked) in sorted(self._known.items())
            if not tracked.temporary  # nobody gets those, $out's for instance
        )
        return tuple(one for one in found if one.rules)

    def _apply(self, moment: Moment, operation: Operation) -> None:
        command, document = operation.command, operation.document
        if command == "renameCollection":
            known = self._known.pop(split(str(document["renameCollection"])), None)
            self._known.pop(split(str(document["to"])), None)
            if known is not None:
                known[1].temporary = bool(document.get("stayTemp"))
                self._known[split(str(document["to"]))] = known
            return
        name = (operation.database, str(document[command]))
        if command in ("create", "drop"):
            self._known.pop(name, None)
            if command == "create" and self._lineage.created(moment, name):
                self._known[name] = (None, _tracked(name, document))
        elif command in REDEFINING and name in self._known:
            redefine(self._known[name][1], command, document)


def _tracked(name: Name, options: Mapping[str, object]) -> Tracked:
    return Tracked(name, Place(*name), options=dict(options), temporary=bool(options.get("temp")))


class Expired:
    """Counts documents that are past their time at one moment. Pure."""

    def __init__(self, rules: Sequence[Rule], now: datetime) -> None:
        self._rules = [
            (rule.field.split("."), _milliseconds(now) - 1000 * rule.seconds, rule.condition is None)
            for rule in rules
        ]
        self.documents = 0
        """Of a time series its measurements."""
        self.exact = True
        """False when some were counted that may stay: a partial index may leave them out, and a time series is deleted
        by buckets.
        """

    def look(self, raw: bytes) -> None:
        document = RawBSONDocument(raw, RAW_OPTIONS)
        met = [
            whole
            for path, before, whole in self._rules
            if min(_dates(document, path), default=before) < before
        ]
        if met:
            series = self._rules[0][0][0] == "control"
            self.documents += _measurements(document) if series else 1
            self.exact = self.exact and any(met) and not series


def _dates(value: object, path: Sequence[str]) -> Iterator[int]:
    """Dates at a path, in milliseconds: in an array the server takes the oldest."""
    if isinstance(value, list):
        for item in value:
            yield from _dates(item, path)
    elif not path:
        if isinstance(value, DatetimeMS):
            yield int(value)
    elif isinstance(value, Mapping):
        yield from _dates(value.get(path[0]), path[1:])


def _measurements(bucket: Mapping[str, object]) -> int:
    control, data = bucket.get("control"), bucket.get("data")
    count = control.get("count") if isinstance(control, Mapping) else None
    if isinstance(count, int):
        return count  # of a compressed bucket
    columns = (
        [len(column) for column in data.values() if isinstance(column, Mapping)]
        if isinstance(data, Mapping)
        else []
    )
    return max(columns, default=0)


def count_staged(target: Target, finished: Iterable[Tracked], now: datetime) -> int:
    """Documents of the restored collections that are past their time, by the server. Their indexes must be built.

    Of a time series every measurement counts that is past it: more than the server deletes at once, by buckets.
    """
    found = 0
    for tracked in finished:
        conditions = [_condition(rule, now) for rule in rules_of(tracked)]
        if not conditions:
            continue
        name = public_name(tracked.place.collection)
        answer = target.command(
            tracked.place.database,
            {"count": name, "query": {"$or": conditions}},
            f"count what expires in {tracked.name[0]}.{public_name(tracked.name[1])}",
            expected={NAMESPACE_NOT_FOUND},
        )
        count = answer.get("n", 0)
        found += count if isinstance(count, int) else 0
    return found


def _condition(rule: Rule, now: datetime) -> dict[str, object]:
    field = rule.field.removeprefix("control.max.")  # asked of a time series by its public name
    past: dict[str, object] = {field: {"$lt": now - timedelta(seconds=rule.seconds)}}
    return past if rule.condition is None else {"$and": [past, rule.condition]}


def _milliseconds(moment: datetime) -> int:
    return (moment - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1)
