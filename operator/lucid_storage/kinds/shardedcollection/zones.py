"""In what the zones of a collection differ from their declaration, and the steps that mend it. Pure.

A zone is the deployment's: its name stands for the same shards in every collection. Its ranges are a collection's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lucid_storage.kinds.contract import Action
from lucid_storage.kinds.shardedcollection.actions import (
    AddShardToZone,
    AssignRange,
    ClearRange,
    RemoveShardFromZone,
)
from lucid_storage.kinds.shardedcollection.desired import Zone
from lucid_storage.stores.mongodb.sharding.bounds import same_range
from lucid_storage.stores.mongodb.sharding.types import KeyRange, ShardCluster, ZoneState


@dataclass(frozen=True, slots=True)
class ZoneDifference:
    """One aspect of one zone."""

    field: str
    expected: object
    actual: object


@dataclass(frozen=True, slots=True)
class ZoneWork:
    """All differences, and the steps in an order in which the server takes them."""

    differences: tuple[ZoneDifference, ...] = ()
    actions: tuple[Action, ...] = ()


@dataclass(frozen=True, slots=True)
class ForeignZone:
    """A zone as another resource declares it."""

    name: str
    shards: frozenset[str]
    declared_by: str
    older: bool
    target: str | None = None
    """The collection that it is declared for."""


def compare(
    target: str, wanted: Sequence[Zone], observed: Sequence[ZoneState], cluster: ShardCluster
) -> ZoneWork:
    """What is to be done so that the collection has exactly the zones `wanted`."""
    differences: list[ZoneDifference] = []
    adding: list[Action] = []
    removing: list[Action] = []
    for zone in wanted:
        members = _members(zone.name, cluster)
        if members != zone.shards:
            differences.append(
                ZoneDifference(f"zones.{zone.name}.shards", sorted(zone.shards), sorted(members))
            )
            adding += [AddShardToZone(shard, zone.name) for shard in sorted(zone.shards - members)]
            removing += [RemoveShardFromZone(shard, zone.name) for shard in sorted(members - zone.shards)]
    clearing, assigning, moved = _ranges(target, wanted, observed)
    return ZoneWork(tuple(differences + moved), (*adding, *clearing, *assigning, *removing))


def clear_all(target: str, observed: Sequence[ZoneState]) -> tuple[ClearRange, ...]:
    """Take every range of the collection out of its zone."""
    return tuple(ClearRange(target, zone.name, bounds) for zone in observed for bounds in zone.ranges)


def unknown_shards(wanted: Sequence[Zone], cluster: ShardCluster) -> tuple[str, ...]:
    """Shards that the declaration names and the cluster does not have."""
    known = {shard.name for shard in cluster.shards}
    return tuple(sorted({shard for zone in wanted for shard in zone.shards} - known))


def disputed(wanted: Sequence[Zone], foreign: Sequence[ForeignZone]) -> ForeignZone | None:
    """A zone that an older resource declares with other shards, so that both would undo each other's work."""
    mine = {zone.name: zone.shards for zone in wanted}
    for other in foreign:
        if other.older and other.name in mine and mine[other.name] != other.shards:
            return other
    return None


def occupied(
    target: str,
    wanted: Sequence[Zone],
    users: Mapping[str, frozenset[str]],
    foreign: Sequence[ForeignZone],
    cluster: ShardCluster,
) -> tuple[Zone, frozenset[str]] | None:
    """A zone whose shards would change under collections that nobody declares with these shards, and its shards now."""
    for zone in wanted:
        members = _members(zone.name, cluster)
        agreed = {other.target for other in foreign if (other.name, other.shards) == (zone.name, zone.shards)}
        if members != zone.shards and users.get(zone.name, frozenset()) - agreed - {target}:
            return zone, members
    return None


def _members(zone: str, cluster: ShardCluster) -> frozenset[str]:
    return frozenset(shard.name for shard in cluster.shards if zone in shard.zones)


def _ranges(
    target: str, wanted: Sequence[Zone], observed: Sequence[ZoneState]
) -> tuple[list[Action], list[Action], list[ZoneDifference]]:
    """Ranges to be cleared first, since a new one may overlap them; ranges to be assigned; and what differs."""
    have = {zone.name: zone.ranges for zone in observed}
    want = {zone.name: zone.ranges for zone in wanted}
    clearing: list[Action] = []
    assigning: list[Action] = []
    differences: list[ZoneDifference] = []
    for name in sorted(have.keys() | want.keys()):
        surplus = _without(have.get(name, ()), want.get(name, ()))
        missing = _without(want.get(name, ()), have.get(name, ()))
        clearing += [ClearRange(target, name, bounds) for bounds in surplus]
        assigning += [AssignRange(target, name, bounds) for bounds in missing]
        if surplus or missing:
            differences.append(
                ZoneDifference(f"zones.{name}.ranges", _shown(want.get(name, ())), _shown(have.get(name, ())))
            )
    return clearing, assigning, differences


def _without(some: Sequence[KeyRange], others: Sequence[KeyRange]) -> list[KeyRange]:
    return [one for one in some if not any(same_range(one, other) for other in others)]


def _shown(ranges: Sequence[KeyRange]) -> object:
    return [{"min": dict(one.minimum), "max": dict(one.maximum)} for one in ranges]
