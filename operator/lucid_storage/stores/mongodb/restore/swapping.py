"""What the swap of one pair needs next, from what the server shows. Pure.

A crash may fall between any two commands. So nothing is remembered but the journal: each step is found anew from the
UUIDs that are there, and only leads forward (rule 2.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lucid_storage.stores.mongodb.restore.journal import Pair


@dataclass(frozen=True, slots=True)
class Rename:
    """A rename by UUID within a database, onto a name that is free."""

    database: str
    old: str
    new: str
    uuid: str

    def describe(self) -> str:
        return f"rename {self.database}.{self.old} to {self.new}"


@dataclass(frozen=True, slots=True)
class Lost:
    """The staged collection is not there any more: somebody dropped it."""

    pair: Pair


def next_step(pair: Pair, run: str, there: Mapping[str, str]) -> Rename | Lost | None:
    """`there` maps the names of all collections of the database to their UUIDs; None when the pair is swapped."""
    place = next((name for name, uuid in there.items() if uuid == pair.staged_uuid), None)
    if place == pair.name:
        return None
    if place is None:
        return Lost(pair)
    occupant = there.get(pair.name)
    if occupant is None:
        return Rename(pair.database, place, pair.name, pair.staged_uuid)
    if occupant == pair.live_uuid and pair.old(run) not in there:
        return Rename(pair.database, pair.name, pair.old(run), occupant)
    # An application made a collection of the name in the gap: moved aside, never dropped.
    count = 1
    while pair.aside(run, count) in there:
        count += 1
    return Rename(pair.database, pair.name, pair.aside(run, count), occupant)


def moved_aside(pairs: tuple[Pair, ...], run: str, there: Mapping[str, Mapping[str, str]]) -> tuple[str, ...]:
    """Namespaces of collections that came up in the gap, from the names that they got."""
    found = []
    for pair in pairs:
        prefix = f"{pair.old(run)}_aside"
        found += [
            f"{pair.database}.{name}" for name in there.get(pair.database, {}) if name.startswith(prefix)
        ]
    return tuple(sorted(found))
