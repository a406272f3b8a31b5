"""What was seen of a collection's indexes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lucid_storage.kinds.index_mongodb.checks import Answer
from lucid_storage.stores.mongodb.types import (
    BuildProgress,
    IndexDefinition,
    IndexState,
    JsonDoc,
    ServerInfo,
)


@dataclass(frozen=True, slots=True)
class IndexObserved:
    """What was seen."""

    server: ServerInfo
    indexes: tuple[IndexState, ...] | None
    """None: the collection is not there."""
    default_collation: JsonDoc | None = None
    progress: tuple[BuildProgress, ...] = ()
    running: frozenset[str] = frozenset()
    """Names whose createIndexes call of this process has not returned."""
    claimed: tuple[tuple[str, IndexDefinition], ...] = ()
    """Name and definition of what other Index resources declare on the collection, its default collation filled in."""
    answers: Mapping[object, Answer] = field(default_factory=dict)
