"""What was seen of a sharded collection and of its surroundings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lucid_storage.kinds.shardedcollection.actions import KeyFindings
from lucid_storage.kinds.shardedcollection.spread import Spread
from lucid_storage.kinds.shardedcollection.zones import ForeignZone
from lucid_storage.kube.resources import Resource
from lucid_storage.stores.mongodb.sharding.types import (
    BalancerState,
    Resharding,
    ShardCluster,
    ShardedState,
    ZoneState,
)
from lucid_storage.stores.mongodb.types import CollectionState, IndexState, ServerInfo


@dataclass(frozen=True, slots=True)
class DeclaredCollection:
    """A Collection resource about the same target, as far as sharding cares."""

    declared_by: str
    capped: bool = False
    time_series: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What other resources declare."""

    collection: DeclaredCollection | None = None
    indexes: tuple[str, ...] = ()
    """Index resources on the same target that would carry the shard key."""
    zones: tuple[ForeignZone, ...] = ()
    backups: tuple[Resource, ...] = ()
    """Those of any namespace that may hold the collection, by their credentials and what they may use."""


@dataclass(frozen=True, slots=True)
class ShardedObserved:
    """What was seen. Without a cluster the deployment is not sharded, and nothing else was asked."""

    server: ServerInfo
    cluster: ShardCluster | None = None
    collection: CollectionState | None = None
    state: ShardedState | None = None
    indexes: tuple[IndexState, ...] | None = None
    zones: tuple[ZoneState, ...] = ()
    zone_users: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Of each declared zone, the collections that have ranges in it."""
    resharding: Resharding | None = None
    balancer: BalancerState | None = None
    spread: Spread | None = None
    running: frozenset[str] = frozenset()
    """What this process has asked for and was not answered yet: Sharding, Refining or Resharding."""
    neighbours: Neighbours = field(default_factory=Neighbours)
    backed_up_at: str | None = None
    """The annotation by which somebody tells of a backup made by other means."""
    paused: bool = False
    answers: Mapping[object, KeyFindings] = field(default_factory=dict)
