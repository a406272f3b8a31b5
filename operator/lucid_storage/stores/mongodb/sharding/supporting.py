"""Which index can carry a shard key. Pure: the server's rules, told before it refuses."""

from __future__ import annotations

from collections.abc import Iterable

from lucid_storage.stores.documents import collation_equivalent
from lucid_storage.stores.mongodb.sharding.types import ShardKey, SupportingIndexes
from lucid_storage.stores.mongodb.types import IndexState

ID_INDEX = "_id_"


def supporting_indexes(key: ShardKey, indexes: Iterable[IndexState]) -> SupportingIndexes:
    """Indexes whose first fields are the key, with the same order, and which hold every document once."""
    found = list(indexes)
    fit: list[IndexState] = []
    unfit: list[tuple[str, str]] = []
    for index in found:
        if index.definition.keys[: len(key)] != key:
            continue
        why = _unfit(index)
        if why is None:
            fit.append(index)
        else:
            unfit.append((index.name, why))
    fit.sort(key=lambda index: (len(index.definition.keys), index.name))
    exact = [index for index in fit if index.definition.keys == key]
    return SupportingIndexes(
        names=tuple(index.name for index in fit),
        unfit=tuple(sorted(unfit)),
        unique_names=tuple(index.name for index in exact if index.definition.unique or _is_id(index)),
        unique_conflicts=tuple(sorted(index.name for index in found if _unenforceable(index, key))),
    )


def _unfit(index: IndexState) -> str | None:
    definition = index.definition
    if index.building:
        return "it is being built"
    if definition.partial_filter is not None:
        return "it is partial"
    if definition.sparse:
        return "it is sparse"
    if definition.hidden:
        return "it is hidden"
    if not collation_equivalent(None, definition.collation):
        return "its collation is not the simple one"
    return None


def _unenforceable(index: IndexState, key: ShardKey) -> bool:
    """A shard sees its own documents only, so uniqueness across shards needs the whole key in front."""
    if _is_id(index) or not (index.definition.unique or index.prepare_unique):
        return False
    fields = [field for field, _ in index.definition.keys]
    return fields[: len(key)] != [field for field, _ in key]


def _is_id(index: IndexState) -> bool:
    return index.definition.keys == (("_id", 1),)
