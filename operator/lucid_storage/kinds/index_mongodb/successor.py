"""The index that is built beside or after the one it replaces, under which name, and what goes before it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from lucid_storage.errors import Reason
from lucid_storage.kinds.contract import Plan, Verdict
from lucid_storage.kinds.index_mongodb.actions import BuildIndex, DropIndex
from lucid_storage.kinds.index_mongodb.desired import IndexDesired
from lucid_storage.kinds.index_mongodb.observed import IndexObserved
from lucid_storage.kinds.index_mongodb.strategy import side_by_side
from lucid_storage.kinds.index_mongodb.superseded import Claimed, is_claimed
from lucid_storage.models.base import DriftEntry
from lucid_storage.models.index import IndexStatus, PendingIndex, SupersededIndex
from lucid_storage.stores.mongodb.definition import same_definition
from lucid_storage.stores.mongodb.types import IndexDefinition, IndexState


def build_first(
    wanted: IndexDefinition,
    desired: IndexDesired,
    observed: IndexObserved,
    status: IndexStatus,
    entries: tuple[DriftEntry, ...],
) -> Plan[IndexStatus]:
    """Build the successor under a name of its own, which is recorded before it is made."""
    indexes = observed.indexes or ()
    name = f"{desired.name}_g{status.observed_generation}"
    former, present = former_index(indexes, observed.claimed, status), named(indexes, name)
    if present is not None and status.pending is not None and status.pending.index_name == name:
        former = present  # changed behind our back while it was built
    elif present is not None:
        said = f"{desired.target} has an index {name} that nobody recorded; drop it by hand to let the build begin."
        return Plan(status, verdict=Verdict(Reason.INDEX_CONFLICT, said, stalled=True))
    drops = drops_before(wanted, desired, observed, former, status)
    superseded = _still_recorded(indexes, status, former)
    status = status.model_copy(
        update={"pending": pending_index(name, status), "superseded": superseded or None}
    )
    said = f"The index {name} is built beside {status.index_name}, which is dropped afterwards."
    return Plan(
        status,
        actions=(*drops, BuildIndex(desired.target, name, wanted)),
        journal=True,
        drift=entries,
        verdict=Verdict(Reason.REPLACING, said),
    )


def drop_first(
    old: IndexState,
    wanted: IndexDefinition,
    desired: IndexDesired,
    observed: IndexObserved,
    status: IndexStatus,
    entries: tuple[DriftEntry, ...],
) -> Plan[IndexStatus]:
    """Drop the old one, then build. The new name is recorded before: between the two there is neither index."""
    former = former_index(observed.indexes or (), observed.claimed, status)
    name = free_name(desired, observed.indexes or (), former, status)
    drops = drops_before(wanted, desired, observed, former, status)
    superseded = [e for e in _still_recorded(observed.indexes or (), status, former) if e.index_name != name]
    status = status.model_copy(
        update={"pending": pending_index(name, status), "superseded": superseded or None}
    )
    said = f"The index {old.name} is dropped and {name} is built; queries go without it meanwhile."
    return Plan(
        status,
        actions=(
            DropIndex(desired.target, old.name),
            *(drop for drop in drops if drop.name != old.name),
            BuildIndex(desired.target, name, wanted),
        ),
        journal=True,
        drift=entries,
        verdict=Verdict(Reason.REPLACING, said),
    )


def free_name(
    desired: IndexDesired, indexes: Sequence[IndexState], former: IndexState | None, status: IndexStatus
) -> str:
    """The declared name; the one that the resource's index had, where the declared one belongs to another index.

    That is so while an index that was replaced is still hidden under it. The recorded index itself is dropped or gone.
    """
    taken = named(indexes, desired.name)
    if taken is None or taken is former or status.index_name in (None, taken.name):
        return desired.name
    return status.index_name or desired.name


def drops_before(
    wanted: IndexDefinition,
    desired: IndexDesired,
    observed: IndexObserved,
    former: IndexState | None,
    status: IndexStatus,
) -> tuple[DropIndex, ...]:
    """What goes before the build: what was begun for another generation, and what was replaced before, still lies
    hidden, and is so like the new one that the server refuses to have both.
    """
    replaced = {entry.index_name for entry in status.superseded or ()} - {status.index_name}
    going = [] if former is None else [former]
    for index in observed.indexes or ():
        if index.name not in replaced or index in going or is_claimed(index, observed.claimed):
            continue
        differing = same_definition(wanted, index.definition, default_collation=observed.default_collation)
        if not side_by_side(differing, wanted, index.definition, observed.server):
            going.append(index)
    return tuple(DropIndex(desired.target, index.name) for index in going)


def _still_recorded(
    indexes: Sequence[IndexState], status: IndexStatus, former: IndexState | None
) -> list[SupersededIndex]:
    """What must stay on record, since the drop may be cut off after `pending` was written over."""
    present = {index.name for index in indexes}
    kept = [entry for entry in status.superseded or () if entry.index_name in present]
    if former is not None and former.name not in {entry.index_name for entry in kept}:
        kept.append(SupersededIndex(index_name=former.name))
    return kept


def pending_index(name: str, status: IndexStatus) -> PendingIndex:
    return PendingIndex(index_name=name, generation=status.observed_generation or 0)


def former_index(indexes: Sequence[IndexState], claimed: Claimed, status: IndexStatus) -> IndexState | None:
    """What was begun for a generation that was superseded before it was ready, if it is there."""
    pending = status.pending
    if pending is None or pending.generation == status.observed_generation:
        return None
    index = named(indexes, pending.index_name)
    return index if index is not None and not is_claimed(index, claimed) else None


def named(indexes: Sequence[IndexState], name: str | None) -> IndexState | None:
    return next((ix for ix in indexes if ix.name == name), None)
