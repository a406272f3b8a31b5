"""What is said about a series that is as declared. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from lucid_storage.kinds.index_elasticsearch.series import Series, fixed_settings
from lucid_storage.models.elasticindex import ManagedBy
from lucid_storage.stores.elasticsearch.settings import is_on
from lucid_storage.stores.elasticsearch.types import ElasticIndexState, ElasticInfo

_FLOOD_STAGE = "index.blocks.read_only_allow_delete"
_WRITE_BLOCKS = (_FLOOD_STAGE, "index.blocks.read_only", "index.blocks.write")
_ORDER = ("green", "yellow", "red")


def worst(indices: Sequence[ElasticIndexState]) -> str | None:
    """The worst health of the series; None where it has no index."""
    return max((index.health for index in indices), key=_rank, default=None)


def red(indices: Sequence[ElasticIndexState]) -> str:
    """Why the series is not Ready, or nothing."""
    lost = [index.name for index in indices if _rank(index.health) == 2]
    if not lost:
        return ""
    return (
        f"{_named(lost)} is red: the server has no primary copy of a part of it. Bring the missing data node back,"
        " or restore it from a backup."
    )


def unwritable(found: Series) -> str:
    """Why this month's index takes no documents though nobody declared that, or nothing."""
    index = next((ix for ix in found.indices if ix.name == found.current), None)
    if index is None:
        return ""
    if index.closed:
        return f"{index.name} is closed, so nothing can be written or read there: open it (POST /{index.name}/_open)."
    declared = found.desired.settings or {}
    blocks = [
        name for name in _WRITE_BLOCKS if is_on(index.settings.get(name)) and not is_on(declared.get(name))
    ]
    if not blocks:
        return ""
    if blocks[0] == _FLOOD_STAGE:
        return (
            f"{index.name} takes no documents ({blocks[0]}), as a data node's disk is nearly full: free disk space"
            " there. The server lifts the block by itself; one that somebody set is for them to take away."
        )
    return (
        f"{index.name} takes no documents, since its setting {blocks[0]} is on: take it away, or declare it."
    )


def message(found: Series, server: ElasticInfo, left_alone: Sequence[ElasticIndexState]) -> str:
    """What is worth saying beside Ready."""
    said = []
    if worst(found.indices) == "yellow":
        said.append(_yellow(server))
    for name, indices in fixed_settings(found).items():
        said.append(
            f"{name} cannot change on an existing index, so {_named(indices)} keeps what it has; indices of later"
            " months get the declared value."
        )
    lifecycle = found.desired.lifecycle
    if lifecycle is not None and lifecycle.managed_by is ManagedBy.SERVER and not found.by_policy:
        said.append(
            "The server has no index lifecycle management, so the operator deletes old indices itself, and there are"
            " no warm and cold phases."
        )
    if left_alone:
        said.append(
            f"{_named([index.name for index in left_alone])} is older than deleteDays and came after the lifecycle was"
            " agreed to, so it is left alone: delete it by hand, or raise deleteDays to keep it in the series."
        )
    return " ".join(said)


def kept(overdue: Sequence[ElasticIndexState]) -> str:
    """What is said of indices that the operator would delete and may not."""
    return (
        f"{_named([index.name for index in overdue])} is older than deleteDays and stays: the operator's settings"
        " forbid all drops (FORBID_DROPS)."
    )


def _yellow(server: ElasticInfo) -> str:
    if server.data_nodes == 1:
        return "Health is yellow: replicas need a second data node. Add one, or set settings.number_of_replicas to 0."
    return "Health is yellow: some replicas are not on a data node yet."


def _named(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} (and {len(names) - 1} more)"


def _rank(health: str) -> int:
    return _ORDER.index(health) if health in _ORDER else len(_ORDER) - 1
