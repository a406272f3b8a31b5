"""Sharding as the kind sees it, had as `MongoPort.sharding`. Implemented by `adapter.Sharding`, faked in unit tests."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

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


class ShardingPort(Protocol):
    """The sharding of one deployment, asked through its router with one set of credentials.

    Every call raises only the errors of `lucid_storage.errors`: those of MongoPort, and NotShardedError when the
    server is no router of a sharded cluster. Each call is bounded (20 s unless said otherwise). Actions are not
    repeated by themselves; each may be called again after a crash, since the server answers a repetition of what is
    done already with success, and the caller looks again first anyway.
    """

    async def cluster(self) -> ShardCluster:
        """Who the cluster is, and its shards by name. Raises NotShardedError for a replica set or a standalone."""

    async def sharded(self, database: str, name: str) -> ShardedState | None:
        """The collection in the cluster's catalogue; None when it is not sharded, or not there at all."""

    async def chunks(self, state: ShardedState) -> tuple[ShardChunks, ...]:
        """Chunks on each shard that has some, by the shard's name."""

    async def figures(
        self, database: str, name: str, budget_seconds: float
    ) -> tuple[ShardFigures, ...] | None:
        """Documents and bytes on each shard that holds some of the collection, sharded or not, by the shard's name.
        Empty when it is not there; None when the budget ended first.
        """

    async def balance(self, database: str, name: str) -> Balance:
        """Whether the balancer has work left with this sharded collection."""

    async def balancer(self) -> BalancerState:
        """The deployment's balancer and its window."""

    async def zones(self, database: str, name: str) -> tuple[ZoneState, ...]:
        """Zones that have ranges of this collection, by name, ranges in order."""

    async def zone_users(self, names: Collection[str]) -> Mapping[str, frozenset[str]]:
        """Of each of these zones that is in use, the namespaces `<database>.<collection>` with ranges in it."""

    async def resharding(self, database: str, name: str) -> Resharding | None:
        """The resharding of this collection that runs now."""

    # Before what cannot be undone. Scans and samples read from secondaries where there are some, which may lag or hold
    # nothing yet: only `occupancy` tells that there are no documents. Which documents stand in the way of a unique key
    # is MongoPort.duplicates; which index supports a key is `supporting.supporting_indexes` (pure).

    async def occupancy(self, database: str, name: str) -> Occupancy:
        """Whether there are documents, by the primaries alone: neither they nor a majority of members have one."""

    async def key_gaps(self, database: str, name: str, key: ShardKey, budget_seconds: float) -> KeyGaps:
        """Documents without a value of the key, or with an array in it."""

    async def key_sample(
        self, database: str, name: str, key: ShardKey, size: int, budget_seconds: float
    ) -> KeySample | None:
        """Figures of at most `size` random documents; None when the budget ended first. Values stay on the server."""

    # Actions.

    async def enable_sharding(self, database: str) -> None:
        """Makes the database known to the cluster; it chooses the primary shard of a database that is new."""

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
        """ShardCollection, at most 10 minutes. A collection that is absent is created by the server, and of an empty
        one the supporting index too. `simple_collation`: for a collection whose default collation is another one.
        Raises ServerRefusedError when it is sharded by another key (AlreadyInitialized) or lacks the index, and one
        that is not stalled when it is not the collection `uuid` any more, or is to be `empty` and is not.
        """

    async def refine(self, database: str, name: str, key: ShardKey, *, uuid: str | None = None) -> None:
        """RefineCollectionShardKey, at most 10 minutes. Fields are added at the end; their index must be there.
        `uuid` as for `shard`.
        """

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
        """ReshardCollection (5.0 and later), returning when the new key holds. Not bounded in time: cancel it to stop
        waiting; the cluster goes on by itself. A call while the same resharding runs waits for that one. Raises
        NotSupportedError before 5.0. `uuid` as for `shard`.
        """

    async def set_balancing(self, database: str, name: str, *, enabled: bool) -> None:
        """Whether the balancer may move this collection's chunks. A move that runs is not stopped."""

    async def add_shard_to_zone(self, shard: str, zone: str) -> None:
        """Harmless when it is in it."""

    async def remove_shard_from_zone(self, shard: str, zone: str) -> None:
        """Harmless when it is not in it. Raises ServerRefusedError while ranges need it as the zone's last shard."""

    async def assign_range(self, database: str, name: str, bounds: KeyRange, zone: str) -> None:
        """Puts a range into a zone, which needs a shard. Raises ServerRefusedError when it overlaps another one."""

    async def clear_range(self, database: str, name: str, bounds: KeyRange) -> None:
        """Takes exactly this range out of its zone. Harmless when it is in none."""

    async def set_balancer_window(self, window: BalancerWindow | None) -> None:
        """The deployment's window; None removes it. What else is set for the balancer stays."""
