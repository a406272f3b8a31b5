"""The index that is built beside the one it replaces, and what was begun for a generation before it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from lucid_storage.errors import Reason
from lucid_storage.kinds.contract import Action, Plan, Verdict
from lucid_storage.kinds.index_mongodb.actions import BuildIndex, DropIndex
from lucid_storage.kinds.index_mongodb.desired import IndexDesired
from lucid_storage.kinds.index_mongodb.superseded import Claimed, is_claimed
from lucid_storage.models.base import DriftEntry
from lucid_storage.models.index import IndexStatus, PendingIndex, SupersededIndex
from lucid_storage.stores.mongodb.types import IndexDefinition, IndexState


def build_first(
    wanted: IndexDefinition,
    desired: IndexDesired,
    indexes: Sequence[IndexState],
    claimed: Claimed,
    status: IndexStatus,
    entries: tuple[DriftEntry, ...],
) -> Plan[IndexStatus]:
    """Build the successor under a name of its own, which is recorded before it is made."""
    name = f"{desired.name}_g{status.observed_generation}"
    actions: list[Action] = []
    former, present = former_index(indexes, claimed, status), named(indexes, name)
    if present is not None and status.pending is not None and status.pending.index_name == name:
        former = present  # changed behind our back while it was built
    elif present is not None:
        said = f"{desired.target} has an index {name} that nobody recorded; drop it by hand to let the build begin."
        return Plan(status, verdict=Verdict(Reason.INDEX_CONFLICT, said, stalled=True))
    if former is not None:
        actions.append(DropIndex(desired.target, former.name))
    actions.append(BuildIndex(desired.target, name, wanted))
    superseded = _still_recorded(indexes, status, former)
    status = status.model_copy(
        update={"pending": pending_index(name, status), "superseded": superseded or None}
    )
    said = f"The index {name} is built beside {status.index_name}, which is dropped afterwards."
    return Plan(
        status,
        actions=tuple(actions),
        journal=True,
        drift=entries,
        verdict=Verdict(Reason.REPLACING, said),
    )


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
