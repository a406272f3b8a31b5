"""What was seen of a collection and its key spaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lucid_storage.errors import LucidError
from lucid_storage.kinds.collection.actions import Answer
from lucid_storage.stores.mongodb.types import CollectionState, CollectionStats, ServerInfo
from lucid_storage.stores.redis.types import KeySpaceReport, RedisInfo


@dataclass(frozen=True, slots=True)
class CollectionObserved:
    """What was seen. `reports` is None until the first scan of the Redis key space."""

    server: ServerInfo
    state: CollectionState | None
    stats: CollectionStats | None = None
    """Present when the figures in status are due."""
    answers: Mapping[object, Answer] = field(default_factory=dict)
    reports: Mapping[str, KeySpaceReport] | None = None
    redis_trouble: LucidError | None = None
    redis: RedisInfo | None = None
    """What answers; None where key spaces are not declared, or in trouble."""
