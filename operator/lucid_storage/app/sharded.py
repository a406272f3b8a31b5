"""The kind ShardedCollection, wired."""

from __future__ import annotations

from lucid_storage.kinds.cache import ResourceCache
from lucid_storage.kinds.connections import Connections
from lucid_storage.kinds.cycle import Cycle
from lucid_storage.kinds.longcalls import LongCalls
from lucid_storage.kinds.services import Services
from lucid_storage.kinds.shardedcollection import backup_needed
from lucid_storage.kinds.shardedcollection.desired import ShardedDesired
from lucid_storage.kinds.shardedcollection.kind import ShardedCollectionKind
from lucid_storage.kinds.shardedcollection.observed import ShardedObserved
from lucid_storage.kinds.specs import SweepSeconds
from lucid_storage.kube.resources import Resource
from lucid_storage.models.settings import Settings
from lucid_storage.models.shardedcollection import ShardedCollectionStatus
from lucid_storage.stores.mongodb.sharding.types import BalancerWindow


def sharded_cycle(
    services: Services,
    connections: Connections,
    calls: LongCalls,
    cache: ResourceCache,
    settings: Settings,
    sweep: SweepSeconds,
) -> Cycle[ShardedDesired, ShardedObserved, ShardedCollectionStatus]:
    """`sweep` says how often zones and balancing are looked at, which no change stream tells."""

    def about(plural: str, target: str) -> list[Resource]:
        found = (cache.get(key) for key in cache.about(plural, target))
        return [resource for resource in found if resource is not None]

    kind = ShardedCollectionKind(
        connections,
        calls,
        sweep,
        services.metrics.shards,
        known=cache.of_kind,
        about=about,
        window=balancer_window(settings),
    )
    return Cycle(kind, services, backup_needed.conditions)


def balancer_window(settings: Settings) -> BalancerWindow | None:
    """BALANCER_WINDOW, which the settings have checked."""
    if settings.balancer_window is None:
        return None
    start, stop = settings.balancer_window.split("-")
    return BalancerWindow(start, stop)
