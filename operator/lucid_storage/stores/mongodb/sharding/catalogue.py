"""The cluster's catalogue: shards, sharded collections, chunks and zones, read from the database `config`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

from bson import Binary

from lucid_storage.errors import NotShardedError
from lucid_storage.stores.documents import to_json
from lucid_storage.stores.mongodb.collections import observed_collation
from lucid_storage.stores.mongodb.connection import Connection, Document
from lucid_storage.stores.mongodb.names import BUCKETS_PREFIX
from lucid_storage.stores.mongodb.sharding.types import (
    KeyRange,
    ShardChunks,
    ShardCluster,
    ShardedState,
    ShardInfo,
    ShardKey,
    ShardOrder,
    ZoneState,
)
from lucid_storage.stores.mongodb.types import JsonDoc, Topology

CONFIG = "config"
CHUNKS_BY_UUID_SINCE = 5
"""From this version on chunks name their collection by its UUID; before, by its namespace."""


class Catalogue:
    """Reads of one cluster's `config`. Needs the action find on its collections, which clusterMonitor has."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def cluster(self) -> ShardCluster:
        info = await self._connection.info()
        if info.topology is not Topology.SHARDED:
            raise not_sharded(self._connection.label)
        found = await self.find("shards", {}, "list the shards")
        shards = sorted((_shard(entry) for entry in found), key=lambda shard: shard.name)
        return ShardCluster(info.identity, info.version, tuple(shards))

    async def sharded(self, database: str, name: str) -> ShardedState | None:
        entry = await self.entry(database, name)
        return None if entry is None else sharded_state(database, name, entry)

    async def entry(self, database: str, name: str) -> Document | None:
        """The entry of config.collections as it is; None where the collection is not sharded."""
        await self.require()
        namespace = f"{database}.{name}"
        # A time series is sharded as its buckets.
        either: Document = {"_id": {"$in": [namespace, f"{database}.{BUCKETS_PREFIX}{name}"]}}
        found = await self.find("collections", either, f"read how {namespace} is sharded")
        # Before 5.0 a dropped one stayed with a mark; since 8.0 unsharded ones that were moved are listed too.
        if not found or found[0].get("dropped") or found[0].get("unsplittable") or "key" not in found[0]:
            return None
        return found[0]

    async def chunks(self, state: ShardedState) -> tuple[ShardChunks, ...]:
        await self.require()
        by_uuid = (await self._connection.info()).at_least(CHUNKS_BY_UUID_SINCE)
        match: Document = {"ns": f"{state.database}.{state.name}"}
        if by_uuid:
            match = {"uuid": Binary(UUID(hex=state.uuid).bytes, 4)}
        jumbo = {"$sum": {"$cond": [{"$eq": ["$jumbo", True]}, 1, 0]}}
        pipeline: list[Document] = [
            {"$match": match},
            {"$group": {"_id": "$shard", "chunks": {"$sum": 1}, "jumbo": jumbo}},
            {"$sort": {"_id": 1}},
        ]
        attempt = self._connection.attempt(
            f"count the chunks of {state.database}.{state.name}", action="find on config.chunks"
        )
        counted = await self._connection.aggregate(CONFIG, "chunks", pipeline, attempt)
        return tuple(
            ShardChunks(str(group["_id"]), whole(group["chunks"]), whole(group["jumbo"])) for group in counted
        )

    async def zones(self, database: str, name: str) -> tuple[ZoneState, ...]:
        namespace = f"{database}.{name}"
        cluster = await self.cluster()
        tags = await self.find("tags", {"ns": namespace}, f"read the zones of {namespace}", sort={"min": 1})
        ranges: dict[str, list[KeyRange]] = {}
        for tag in tags:
            ranges.setdefault(str(tag["tag"]), []).append(KeyRange(_bound(tag["min"]), _bound(tag["max"])))
        return tuple(
            ZoneState(
                zone,
                tuple(shard.name for shard in cluster.shards if zone in shard.zones),
                tuple(ranges[zone]),
            )
            for zone in sorted(ranges)
        )

    async def zone_users(self, names: Collection[str]) -> Mapping[str, frozenset[str]]:
        """Of each zone, the namespaces that have ranges in it."""
        await self.require()
        match: Document = {"tag": {"$in": sorted(names)}}
        users: dict[str, set[str]] = {}
        for tag in await self.find("tags", match, "read who uses the zones"):
            users.setdefault(str(tag["tag"]), set()).add(str(tag["ns"]))
        return {name: frozenset(found) for name, found in users.items()}

    async def require(self) -> None:
        """Raises NotShardedError where there is no router."""
        if (await self._connection.info()).topology is not Topology.SHARDED:
            raise not_sharded(self._connection.label)

    async def find(
        self, collection: str, match: Document, task: str, *, sort: Mapping[str, int] | None = None
    ) -> list[Document]:
        """All documents of `config` that match, by the router's own read of the config servers."""
        attempt = self._connection.attempt(task, action=f"find on config.{collection}")
        pipeline: list[Document] = [{"$match": match}]
        if sort is not None:
            pipeline.append({"$sort": dict(sort)})
        return await self._connection.aggregate(CONFIG, collection, pipeline, attempt)


def not_sharded(label: str) -> NotShardedError:
    return NotShardedError(
        f"{label}: the server is not the router (mongos) of a sharded cluster, so nothing can be sharded;"
        " connect to a mongos, or delete this resource."
    )


def sharded_state(database: str, name: str, entry: Mapping[str, object]) -> ShardedState:
    """An entry of config.collections in our words."""
    uuid, series = entry.get("uuid"), entry.get("timeseriesFields")
    key, allowed = shard_key(entry["key"]), entry.get("permitMigrations", entry.get("allowMigrations"))
    return ShardedState(
        database=database,
        name=name,
        uuid=bytes(uuid).hex() if isinstance(uuid, bytes) else "",
        key=series_key(key, series) if isinstance(series, Mapping) else key,
        unique=bool(entry.get("unique")),
        balancing=not entry.get("noBalance"),
        migrations_allowed=allowed is not False,
        resharding=isinstance(entry.get("reshardingFields"), Mapping),
        time_series=isinstance(series, Mapping),
        collation=observed_collation(entry.get("defaultCollation") or None),
    )


def shard_key(pattern: object) -> ShardKey:
    """A key pattern of the server's."""
    assert isinstance(pattern, Mapping)
    return tuple((str(field), _order(order)) for field, order in pattern.items())


def series_key(key: ShardKey, series: Mapping[str, object]) -> ShardKey:
    """A key of buckets in the words of the time series that they belong to."""
    time, meta = str(series.get("timeField", "")), str(series.get("metaField", "meta"))
    renamed = []
    for field, order in key:
        head, dot, rest = field.partition(".")
        name = time if field == f"control.min.{time}" else f"{meta}{dot}{rest}" if head == "meta" else field
        renamed.append((name, order))
    return tuple(renamed)


def _order(order: object) -> ShardOrder:
    if isinstance(order, int | float) and not isinstance(order, bool):
        return int(order)
    return str(order)


def whole(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0


def _shard(entry: Mapping[str, object]) -> ShardInfo:
    tags = entry.get("tags")
    zones = tuple(sorted(str(tag) for tag in tags)) if isinstance(tags, list) else ()
    return ShardInfo(str(entry["_id"]), zones, draining=bool(entry.get("draining")))


def _bound(bound: object) -> JsonDoc:
    assert isinstance(bound, Mapping)
    return to_json(bound)
