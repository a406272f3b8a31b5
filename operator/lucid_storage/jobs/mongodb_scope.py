"""What of a MongoDB a backup is about: the selection within the databases that the namespace may use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from lucid_storage.archive.closing import OplogHeader, closes, selects
from lucid_storage.archive.manifest import Closing, Optime, Selection
from lucid_storage.models.backup import MongoSelection
from lucid_storage.models.meta import RESERVED_DATABASES, RESERVED_PREFIXES
from lucid_storage.stores.mongodb.dump.entries import Header
from lucid_storage.stores.mongodb.dump.optimes import OpTime

REMEMBERED = 10_000
"""Answers about names that are kept: an entry of the oplog asks for one or two."""

_REPLAYED = frozenset(
    {
        "create",
        "drop",
        "dropDatabase",
        "collMod",
        "createIndexes",
        "startIndexBuild",
        "commitIndexBuild",
        "abortIndexBuild",
        "dropIndexes",
        "deleteIndexes",
        "deleteIndex",
        "dropIndex",
        "applyOps",
        "dbCheck",
    }
)
"""Commands after which the replay over a dump gives the same, whether the dump read before them or behind them.

Of a dropped collection what was read is dropped again, and what came after is in the oplog. A rename brings documents
under a name that the dump may have passed already.
"""


class MongoScope:
    """Decides by name. One for a run; threads may share it."""

    def __init__(self, selection: Selection, patterns: tuple[str, ...] = ("*",)) -> None:
        """`patterns`: the databases that the namespace may use."""
        self.selection = selection
        self.patterns = patterns
        self._known: dict[str, bool] = {}

    @property
    def whole(self) -> bool:
        """Everything that there is; only then users and roles, which belong to the deployment, are part of it."""
        return not self.selection.databases and not self.selection.collections and "*" in self.patterns

    @property
    def named(self) -> bool:
        """Whether somebody chose databases or collections by name."""
        return bool(self.selection.databases or self.selection.collections)

    def lacking(self, there: Iterable[str]) -> str:
        """What was named and is not among these namespaces, in words; empty where everything is."""
        namespaces, apart = set(there), self._apart()
        databases = {name.partition(".")[0] for name in namespaces}
        named = (*self.selection.databases, *self.selection.collections)
        absent = [name for name in named if name not in {*databases, *namespaces, *apart}]
        parts = [f"MongoDB holds nothing of {_some(absent)}"] if absent else []
        if apart:
            both = "since only what both databases and collections name is part of it"
            parts.append(f"spec.mongodb chooses nothing of {_some(apart)}, {both}")
        return "; ".join(parts)

    def _apart(self) -> list[str]:
        """What only one of the two lists names, where both are given."""
        databases, collections = self.selection.databases, self.selection.collections
        if not databases or not collections:
            return []
        homes = {name.partition(".")[0] for name in collections}
        return [
            *(name for name in databases if name not in homes),
            *(name for name in collections if name.partition(".")[0] not in databases),
        ]

    def wanted(self, namespace: str) -> bool:
        """Whether `<database>.<collection>` is part of it. Time series go by their public name."""
        answer = self._known.get(namespace)
        if answer is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            answer = self._known[namespace] = self._decide(namespace)
        return answer

    def wanted_database(self, database: str) -> bool:
        """Whether anything of the database may be part of it."""
        if database in RESERVED_DATABASES or database.startswith(RESERVED_PREFIXES):
            return False
        selection = self.selection
        named = {name.partition(".")[0] for name in selection.collections} or set(selection.databases)
        if named and database not in named:
            return False
        return any(fnmatchcase(database, pattern) for pattern in self.patterns)

    def closing(self, at: OpTime, header: Header) -> Closing | None:
        """Whether the timeline ends just before this command (rule 1.7)."""
        about = OplogHeader(
            Optime(seconds=at.seconds, counter=at.counter, term=at.term),
            header.op,
            header.namespace,
            header.command,
            header.target,
        )
        return closes(about, self.selection, self.patterns)

    def disturbs(self, header: Header) -> bool:
        """Whether a command makes a dump that was running inconsistent (rule 1.7)."""
        if header.op != "c" or header.command in _REPLAYED:
            return False
        if header.whole_database:
            return self.wanted_database(header.namespace.partition(".")[0])
        return self.wanted(header.namespace) or (header.target is not None and self.wanted(header.target))

    def _decide(self, namespace: str) -> bool:
        _, _, collection = namespace.partition(".")
        if not collection or (collection.startswith("system.") and collection != "system.js"):
            return False
        return selects(self.selection, namespace, self.patterns)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} others" if len(names) > 3 else "")


def scope(engines: tuple[str, ...], chosen: MongoSelection | None, patterns: tuple[str, ...]) -> MongoScope:
    """From what a resource asks for. Sorted, so that two orders of the same names are one selection."""
    selection = Selection(
        engines=engines,
        databases=tuple(sorted(chosen.databases or ())) if chosen else (),
        collections=tuple(sorted(chosen.collections or ())) if chosen else (),
    )
    return MongoScope(selection, patterns)
