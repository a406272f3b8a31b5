"""What has which name at the restored moment, beside what the base says: known before anything is written. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from lucid_storage.stores.mongodb.names import VIEWS
from lucid_storage.stores.mongodb.restore.catalog import Name, public_name
from lucid_storage.stores.mongodb.restore.lineage import Change, Lineage, NameEvent


@dataclass(frozen=True, slots=True)
class Made:
    """What the replay makes under a name that the base does not have, or has as something else."""

    name: Name
    """As people call it, on the server that was backed up."""
    type: str
    """collection, view or timeseries."""
    stageable: bool = True
    """False for what is written under its own name while the oplog is replayed (rule 2.7)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The difference between the base and the restored moment."""

    made: tuple[Made, ...]
    gone: frozenset[Name]
    """Names of the base that nothing has at that moment."""


def outcome(
    base: Mapping[Name, str],
    events: Iterable[NameEvent],
    lineage: Lineage,
    wanted: Callable[[Name], bool],
) -> Outcome:
    """`base` are the types by public name; `wanted` says which names are restored."""
    there, passing = dict(base), dict[Name, Made]()
    for event in events:
        name = _public(event.name)
        if (
            event.change is Change.CREATED
            and not event.stageable
            and lineage.created(event.moment, event.name)
        ):
            passing[name] = Made(name, event.type, stageable=False)
        _follow(there, event, name)
    ends = [
        Made(name, kind)
        for name, kind in sorted(there.items())
        if wanted(name) and kind not in (base.get(name), "temporary")
    ]
    made = {**{one.name: one for one in ends}, **passing}
    return Outcome(tuple(made.values()), frozenset(name for name in base if name not in there))


def _follow(there: dict[Name, str], event: NameEvent, name: Name) -> None:
    if event.change in (Change.CREATED, Change.VIEWED):
        there[name] = event.type
    elif event.change is Change.RENAMED and event.to is not None:
        kind, to = there.pop(name, None), _public(event.to)
        there.pop(to, None)
        if kind is not None:
            there[to] = "collection" if kind == "temporary" else kind
    elif event.change is Change.UNVIEWED:
        if there.get(name) == "view":
            del there[name]
    elif event.name[1] == VIEWS:
        for view in [n for n, kind in there.items() if kind == "view" and n[0] == name[0]]:
            del there[view]
    else:
        there.pop(name, None)


def _public(name: Name) -> Name:
    return name[0], public_name(name[1])
