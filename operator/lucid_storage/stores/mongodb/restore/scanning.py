"""A first pass over the oplog that will be replayed: names, databases, unknown commands, cut transactions.

Reads envelopes and commands only. Pure, apart from what it counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from lucid_storage.stores.mongodb.restore.catalog import Name, public_name, restorable
from lucid_storage.stores.mongodb.restore.entries import Moment, OperationKind, entry, refused
from lucid_storage.stores.mongodb.restore.lineage import Change, Lineage, NameEvent, chosen, name_events
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
        self._touched: Counter[frozenset[Name]] = Counter()

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
        """In which collections were made."""
        return frozenset(
            event.name[0]
            for event in self.events
            if event.change is Change.CREATED and restorable(event.name[1])
        )

    def lineage(self, names: Iterable[Name]) -> Lineage:
        """Of some collections, as they are called at the end."""
        return chosen(names, self.events)

    def cut(self, names: Iterable[Name]) -> int:
        """Transactions that write collections of `names` and others as well. Names that changed count as both."""
        family = {(database, public_name(name)) for database, name in names}
        for event in reversed(self.events):
            if event.change is Change.RENAMED and event.to in family:
                family.add(event.name)
        return sum(count for touched, count in self._touched.items() if touched & family and touched - family)

    def _look(self, unit: Unit) -> None:
        for operation in unit.operations:
            command = operation.command
            if command and command not in KNOWN_COMMANDS:
                raise refused(f"the oplog holds the command {command[:40]!r}")
            if operation.kind is not OperationKind.NOTHING and not command:
                self.operations[(operation.database, public_name(operation.collection))] += 1
        self.events.extend(name_events(unit))
        if unit.transaction:
            touched = frozenset(
                (operation.database, public_name(operation.collection))
                for operation in unit.operations
                if not operation.command
            )
            if len(touched) > 1:
                self._touched[touched] += 1
