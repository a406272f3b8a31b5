"""Sharding as a whole: implements ShardingPort over the connection of a MongoDeployment."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from lucid_storage.stores.mongodb.connection import Connection
from lucid_storage.stores.mongodb.sharding import occupancy, preflight
from lucid_storage.stores.mongodb.sharding.actions import Actions
from lucid_storage.stores.mongodb.sharding.catalogue import Catalogue
from lucid_storage.stores.mongodb.sharding.types import (
    Balance,
    BalancerState,
    BalancerWindow,
    KeyGaps,
    KeyRange,
    KeySample,
    Occupancy,
    Resharding,
    ShardChunks,
    ShardCluster,
    ShardedState,
    ShardFigures,
    ShardKey,
    ZoneState,
)
from lucid_storage.stores.mongodb.sharding.watching import Watching


class Sharding:
    """Implements ShardingPort. Holds nothing of its own, so it is closed with its connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._catalogue = Catalogue(connection)
        self._watching = Watching(connection, self._catalogue)
        self._actions = Actions(connection, self._catalogue)

    async def cluster(self) -> ShardCluster:
        return await self._catalogue.cluster()

    async def sharded(self, database: str, name: str) -> ShardedState | None:
        return await self._catalogue.sharded(database, name)

    async def chunks(self, state: ShardedState) -> tuple[ShardChunks, ...]:
        return await self._catalogue.chunks(state)

    async def figures(
        self, database: str, name: str, budget_seconds: float
    ) -> tuple[ShardFigures, ...] | None:
        return await self._watching.figures(database, name, budget_seconds)

    async def balance(self, database: str, name: str) -> Balance:
        return await self._watching.balance(database, name)

    async def balancer(self) -> BalancerState:
        return await self._watching.balancer()

    async def zones(self, database: str, name: str) -> tuple[ZoneState, ...]:
        return await self._catalogue.zones(database, name)

    async def zone_users(self, names: Collection[str]) -> Mapping[str, frozenset[str]]:
        return await self._catalogue.zone_users(names)

    async def resharding(self, database: str, name: str) -> Resharding | None:
        return await self._watching.resharding(database, name)

    async def occupancy(self, database: str, name: str) -> Occupancy:
        return await occupancy.occupancy(self._connection, database, name)

    async def key_gaps(self, database: str, name: str, key: ShardKey, budget_seconds: float) -> KeyGaps:
        return await preflight.key_gaps(self._connection, database, name, key, budget_seconds)

    async def key_sample(
        self, database: str, name: str, key: ShardKey, size: int, budget_seconds: float
    ) -> KeySample | None:
        spread = await self._catalogue.sharded(database, name) is not None
        return await preflight.key_sample(
            self._connection,
            database,
            name,
            key,
            size=size,
            budget_seconds=budget_seconds,
            in_one_place=not spread,
        )

    async def enable_sharding(self, database: str) -> None:
        await self._actions.enable_sharding(database)

    async def shard(
        self,
        database: str,
        name: str,
        key: ShardKey,
        *,
        unique: bool = False,
        num_initial_chunks: int | None = None,
        simple_collation: bool = False,
        uuid: str | None = None,
        empty: bool = False,
    ) -> None:
        await self._actions.shard(
            database,
            name,
            key,
            unique=unique,
            num_initial_chunks=num_initial_chunks,
            simple_collation=simple_collation,
            uuid=uuid,
            empty=empty,
        )

    async def refine(self, database: str, name: str, key: ShardKey, *, uuid: str | None = None) -> None:
        await self._actions.refine(database, name, key, uuid=uuid)

    async def reshard(
        self,
        database: str,
        name: str,
        key: ShardKey,
        *,
        num_initial_chunks: int | None = None,
        simple_collation: bool = False,
        uuid: str | None = None,
    ) -> None:
        await self._actions.reshard(
            database,
            name,
            key,
            num_initial_chunks=num_initial_chunks,
            simple_collation=simple_collation,
            uuid=uuid,
        )

    async def set_balancing(self, database: str, name: str, *, enabled: bool) -> None:
        await self._actions.set_balancing(database, name, enabled=enabled)

    async def add_shard_to_zone(self, shard: str, zone: str) -> None:
        await self._actions.add_shard_to_zone(shard, zone)

    async def remove_shard_from_zone(self, shard: str, zone: str) -> None:
        await self._actions.remove_shard_from_zone(shard, zone)

    async def assign_range(self, database: str, name: str, bounds: KeyRange, zone: str) -> None:
        await self._actions.assign_range(database, name, bounds, zone)

    async def clear_range(self, database: str, name: str, bounds: KeyRange) -> None:
        await self._actions.clear_range(database, name, bounds)

    async def set_balancer_window(self, window: BalancerWindow | None) -> None:
        await self._actions.set_balancer_window(window)
