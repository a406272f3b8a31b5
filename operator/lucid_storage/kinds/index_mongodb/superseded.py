"""What becomes of indexes that were replaced: hidden, kept a while, dropped. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from lucid_storage.kinds.contract import Action
from lucid_storage.kinds.index_mongodb.actions import ChangeIndex, DropIndex
from lucid_storage.kinds.index_mongodb.desired import IndexDesired
from lucid_storage.models.index import IndexStatus, SupersededIndex
from lucid_storage.stores.mongodb.definition import same_definition
from lucid_storage.stores.mongodb.types import IndexChange, IndexDefinition, IndexState

KEPT_AT_MOST = 12
"""Hidden indexes of one resource: a collection can have 64 in all. The oldest go early when changes come fast."""


Claimed = Sequence[tuple[str, IndexDefinition]]
"""Name and definition of what other Index resources declare on the collection, its default collation filled in."""


@dataclass(frozen=True, slots=True)
class Cleared:
    """`superseded` is what status must hold before the actions begin."""

    actions: tuple[Action, ...] = ()
    superseded: tuple[SupersededIndex, ...] = ()
    message: str = ""
    recheck_seconds: float | None = None


def clear_away(
    serving: IndexState,
    desired: IndexDesired,
    indexes: Sequence[IndexState],
    claimed: Claimed,
    status: IndexStatus,
    now: datetime,
) -> Cleared:
    """Only indexes that status recorded are touched, and none that another resource declares."""
    actions: list[Action] = []
    kept: list[SupersededIndex] = []
    waits: list[float] = []
    shown: set[str] = set()
    pending = status.pending.index_name if status.pending else None
    recorded = _recorded(status, serving.name)
    early = {entry.index_name for entry in recorded[: max(0, len(recorded) - KEPT_AT_MOST)]}
    for entry in recorded:
        index = next((ix for ix in indexes if ix.name == entry.index_name), None)
        if index is None:
            continue
        if is_claimed(index, claimed):
            if to_be_shown(entry, index, claimed):
                actions.append(ChangeIndex(desired.target, index.name, IndexChange(hidden=False)))
                kept.append(entry)
                shown.add(index.name)
            continue
        if (
            index.building
            or entry.index_name == pending
            or entry.index_name in early
            or _acts_while_hidden(index)
            or not desired.drop_after_seconds
        ):
            actions.append(DropIndex(desired.target, index.name))
            kept.append(entry)
            continue
        hidden_at = entry.hidden_at or now.replace(microsecond=0)
        if not index.definition.hidden:
            actions.append(ChangeIndex(desired.target, index.name, IndexChange(hidden=True)))
        left = (hidden_at + timedelta(seconds=desired.drop_after_seconds) - now).total_seconds()
        if index.definition.hidden and left <= 0:
            actions.append(DropIndex(desired.target, index.name))
        else:
            waits.append(max(1.0, left))
        kept.append(SupersededIndex(index_name=index.name, hidden_at=hidden_at))
    going = [entry.index_name for entry in kept if entry.index_name not in shown]
    message = f"{going[0]} is hidden and will be dropped." if going else ""
    return Cleared(tuple(actions), tuple(kept), message, min(waits, default=None))


def _recorded(status: IndexStatus, serving: str) -> list[SupersededIndex]:
    """All names that status recorded and that are not the one that serves, each once."""
    entries = {s.index_name: s for s in status.superseded or ()}
    names = [status.index_name, status.pending.index_name if status.pending else None]
    for name in names:
        if name is not None and name not in entries:
            entries[name] = SupersededIndex(index_name=name)
    entries.pop(serving, None)
    return list(entries.values())


def _acts_while_hidden(index: IndexState) -> bool:
    """A hidden unique index still enforces and a hidden TTL index still expires, so hiding them proves nothing."""
    return index.definition.unique or index.definition.expire_after_seconds is not None


def is_claimed(index: IndexState, claimed: Claimed) -> bool:
    """Whether another resource declares this index, so that it is not ours to clear away."""
    return bool(_claims(index, claimed))


def is_declared(index: IndexState, claimed: Claimed) -> bool:
    """Whether another resource declares an index as this one is. The same name for another index is no such claim."""
    return any(_equal(definition, index) for _, definition in claimed)


def to_be_shown(entry: SupersededIndex, index: IndexState, claimed: Claimed) -> bool:
    """Whether an index that is let go, because others declare it, is hidden by us and against their will."""
    wanted = any(definition.hidden for definition in _claims(index, claimed))
    return entry.hidden_at is not None and bool(index.definition.hidden) and not wanted


def _claims(index: IndexState, claimed: Claimed) -> list[IndexDefinition]:
    return [definition for name, definition in claimed if name == index.name or _equal(definition, index)]


def _equal(declared: IndexDefinition, index: IndexState) -> bool:
    """Visibility aside, which says nothing about what an index is."""
    return not [f for f in same_definition(declared, index.definition) if f != "hidden"]
