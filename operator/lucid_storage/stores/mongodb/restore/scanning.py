"""A first pass over the oplog that will be replayed: names, databases, unknown commands, cut transactions.

Reads envelopes and commands only. Pure, apart from what it counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from lucid_storage.stores.mongodb.restore.catalog import Name, public_name, restorable
from lucid_storage.stores.mongodb.restore.entries import Moment, Operation, OperationKind, entry, refused
from lucid_storage.stores.mongodb.restore.lineage import (
    Change,
    Lineage,
    NameEvent,
    before,
    chosen,
    name_events,
    publicly,
)
from lucid_storage.stores.mongodb.restore.rewriting import KNOWN_COMMANDS
from lucid_storage.stores.mongodb.restore.transactions import Transactions, Unit


class Scan:
    """What the oplog from the base's end up to the restored moment holds."""

    def __init__(self, after: Moment, until: Moment) -> None:
        self._last = after
        self._until = until
        self._transactions = Transactions(whole=False)
        self.events: list[NameEvent] = []
        self.operations: Counter[Name] = Counter()
        """Writes by collection, as it is called in the entry."""
        self.commands: list[tuple[Moment, Operation]] = []
        """All that change definitions."""
        self._touched: dict[int, Counter[frozenset[Name]]] = {}
        """Transactions by what they write, as it was called behind so many of `events`."""

    def feed(self, raws: Iterable[bytes | memoryview]) -> bool:
        """False when the moment was passed. Raises RefusedError (ReplayRefused) for a command that is not known."""
        for raw in raws:
            found = entry(raw)
            if found.moment > self._until:
                return False
            if found.moment <= self._last:
                continue  # read already: pieces of a timeline may overlap
            self._last = found.moment
            unit = self._transactions.feed(found)
            if unit is not None:
                self._look(unit)
        return True

    @property
    def databases(self) -> frozenset[str]:
        """In which collections or views were made."""
        return frozenset(
            event.name[0]
            for event in self.events
            if event.change in (Change.CREATED, Change.VIEWED) and restorable(event.name[1])
        )

    def lineage(self, names: Iterable[Name]) -> Lineage:
        """Of some collections, as they are called at the end."""
        return chosen(names, self.events)

    def cut(self, names: Iterable[Name]) -> int:
        """Transactions that are restored in part where `names` are chosen, as they are called at the end: those that
        write what becomes one of them and something else as well.
        """
        wanted, found = publicly(names), 0
        for seen in range(len(self.events), -1, -1):
            for those, count in self._touched.get(seen, Counter()).items():
                found += count if those & wanted and those - wanted else 0
            if seen:
                wanted = before(wanted, self.events[seen - 1])
        return found

    def cut_outside(self, restored: Callable[[Name], bool]) -> int:
        """The same where no collections are chosen: of a database that is restored without the others."""
        return sum(
            n
            for touched in self._touched.values()
            for those, n in touched.items()
            if len({restored(name) for name in those}) > 1
        )

    def _look(self, unit: Unit) -> None:
        for operation in unit.operations:
            command = operation.command
            if command and command not in KNOWN_COMMANDS:
                raise refused(f"the oplog holds the command {command[:40]!r}")
            if command:
                self.commands.append((unit.moment, operation))
            if operation.kind is not OperationKind.NOTHING and not command:
                self.operations[(operation.database, public_name(operation.collection))] += 1
        self.events.extend(name_events(unit))
        if unit.transaction:
            touched = _touched(unit)
            if len(touched) > 1:
                self._touched.setdefault(len(self.events), Counter())[touched] += 1


def _touched(unit: Unit) -> frozenset[Name]:
    """Collections that are written or made."""
    made = (event.name for event in name_events(unit) if event.change is Change.CREATED)
    written = ((one.database, one.collection) for one in unit.operations if not one.command)
    return publicly((*made, *written))
