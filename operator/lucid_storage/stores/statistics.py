"""Live figures of the three stores: what the REST API shows and no reconciler needs.

Each class has one small connection pool of its own, so that a slow reader never takes a connection from the
reconcilers. Nothing here writes. Callers bound each call in time; the calls bound themselves loosely besides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, cast

from pymongo import ReadPreference

from lucid_storage.errors import AccessDeniedError
from lucid_storage.stores.mongodb.connection import Connection

CALL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """How a store that answers is. `problem` is a sentence where it is not whole."""

    version: str
    problem: str | None = None
    usable: bool = True
    """False where it answers but cannot do its work."""


@dataclass(frozen=True, slots=True)
class DatabaseTotals:
    """dbStats of one database or of several together; sizes in bytes."""

    collections: int = 0
    documents: int = 0
    data_bytes: int = 0
    storage_bytes: int = 0
    indexes: int = 0
    index_bytes: int = 0

    def __add__(self, other: DatabaseTotals) -> DatabaseTotals:
        return DatabaseTotals(
            self.collections + other.collections,
            self.documents + other.documents,
            self.data_bytes + other.data_bytes,
            self.storage_bytes + other.storage_bytes,
            self.indexes + other.indexes,
            self.index_bytes + other.index_bytes,
        )


@dataclass(frozen=True, slots=True)
class ServerActivity:
    """serverStatus: connections now, operations since the server started."""

    connections_current: int
    connections_available: int
    inserts: int
    queries: int
    updates: int
    deletes: int


@dataclass(frozen=True, slots=True)
class RedisActivity:
    connected_clients: int
    used_memory: int
    used_memory_human: str
    total_commands_processed: int
    keyspace_hits: int
    keyspace_misses: int


@dataclass(frozen=True, slots=True)
class ElasticTotals:
    cluster_name: str
    cluster_status: str
    indices: int
    documents: int
    store_bytes: int
    nodes: int


class MongoStatistics:
    """Figures of one MongoDB deployment. Errors as in MongoPort."""

    def __init__(self, uri: str, *, label: str = "MongoDB") -> None:
        self._connection = Connection(uri, label=label, app_name="lucid-storage-rest", guard=_never_writes)

    async def health(self) -> StoreHealth:
        """Asks the nearest member, so that a set without a primary is told from one that does not answer."""
        attempt = self._connection.attempt("ask for its health")
        async with self._connection.bounded(attempt, CALL_SECONDS):
            admin = self._connection.client.get_database("admin", read_preference=ReadPreference.NEAREST)
            hello = await admin.command("hello")
            build = await admin.command("buildInfo")
        return StoreHealth(str(build.get("version", "")), await self._problem(hello))

    async def totals(self, database: str) -> DatabaseTotals:
        """dbStats; zeros for a database that is not there."""
        attempt = self._connection.attempt(f"read the statistics of {database}", action="dbStats")
        found = await self._connection.read(database, {"dbStats": 1}, attempt, seconds=CALL_SECONDS)
        return DatabaseTotals(
            collections=_int(found, "collections"),
            documents=_int(found, "objects"),
            data_bytes=_int(found, "dataSize"),
            storage_bytes=_int(found, "storageSize"),
            indexes=_int(found, "indexes"),
            index_bytes=_int(found, "indexSize"),
        )

    async def activity(self) -> ServerActivity | None:
        """None where the login lacks the privilege serverStatus."""
        attempt = self._connection.attempt("read the server's status", action="serverStatus")
        sections = dict.fromkeys(("metrics", "wiredTiger", "locks", "tcmalloc", "repl", "sharding"), 0)
        try:
            found = await self._connection.read(
                "admin", {"serverStatus": 1, **sections}, attempt, seconds=CALL_SECONDS
            )
        except AccessDeniedError:
            return None
        connections, operations = _part(found, "connections"), _part(found, "opcounters")
        return ServerActivity(
            connections_current=_int(connections, "current"),
            connections_available=_int(connections, "available"),
            inserts=_int(operations, "insert"),
            queries=_int(operations, "query"),
            updates=_int(operations, "update"),
            deletes=_int(operations, "delete"),
        )

    async def index_sizes(self, database: str, collection: str) -> dict[str, int]:
        """Bytes by index name, summed over shards; empty for a view or an absent collection."""
        attempt = self._connection.attempt(f"read the sizes of {database}.{collection}", action="collStats")
        pipeline: list[Mapping[str, object]] = [
            {"$collStats": {"storageStats": {}}},
            {"$project": {"sizes": "$storageStats.indexSizes"}},
        ]
        found = await self._connection.aggregate(
            database, collection, pipeline, attempt, seconds=CALL_SECONDS
        )
        sizes: dict[str, int] = {}
        for document in found:
            for name, size in _part(document, "sizes").items():
                sizes[str(name)] = sizes.get(str(name), 0) + int(cast("float", size))
        return sizes

    async def close(self) -> None:
        """Idempotent."""
        await self._connection.close()

    async def _problem(self, hello: Mapping[str, object]) -> str | None:
        if hello.get("msg") == "isdbgrid" or "setName" not in hello:
            return None
        if not hello.get("primary"):
            return "The MongoDB replica set has no primary now; writes wait until a majority elects one."
        attempt = self._connection.attempt("read the members' states", action="replSetGetStatus")
        try:
            status = await self._connection.read(
                "admin", {"replSetGetStatus": 1}, attempt, seconds=CALL_SECONDS
            )
        except AccessDeniedError:
            return None
        members = cast("Sequence[Mapping[str, object]]", status.get("members") or ())
        lost = [str(member.get("name")) for member in members if not member.get("health")]
        if lost:
            return f"MongoDB members do not answer: {', '.join(lost[:7])}; start them or see their logs."
        return None


class RedisStatistics:
    """Figures of one Redis. Errors as in MongoPort."""

    def __init__(self, url: str, *, label: str = "rest", ca_path: str | None = None) -> None:
        from lucid_storage.stores.redis.connection import RedisConnection

        self._connection = RedisConnection(url, label, ca_path)

    async def health(self) -> StoreHealth:
        info = await self._info()
        version = str(info.get("redis_version", ""))
        if info.get("loading"):
            return StoreHealth(version, "Redis is still loading its data into memory; wait for it.")
        if info.get("role") == "slave" and info.get("master_link_status") != "up":
            return StoreHealth(
                version, "This Redis is a replica that lost its master; repair the replication."
            )
        return StoreHealth(version)

    async def activity(self) -> RedisActivity:
        info = await self._info()
        return RedisActivity(
            connected_clients=_int(info, "connected_clients"),
            used_memory=_int(info, "used_memory"),
            used_memory_human=str(info.get("used_memory_human", "")),
            total_commands_processed=_int(info, "total_commands_processed"),
            keyspace_hits=_int(info, "keyspace_hits"),
            keyspace_misses=_int(info, "keyspace_misses"),
        )

    async def close(self) -> None:
        """Idempotent."""
        await self._connection.close()

    async def _info(self) -> Mapping[str, object]:
        return cast("Mapping[str, object]", await self._connection.call("INFO"))


class ElasticStatistics:
    """Figures of one Elasticsearch cluster. Errors as in MongoPort."""

    def __init__(self, url: str, *, label: str = "rest", ca_path: str | None = None) -> None:
        from lucid_storage.stores.elasticsearch.connection import ElasticConnection

        self._connection = ElasticConnection(url, label, ca_path=ca_path)
        self._client = self._connection.client
        self._version = ""

    async def health(self) -> StoreHealth:
        """Yellow on a single data node is whole: a replica has nowhere to go there."""
        async with self._connection.answering():
            found = (await self._client.cluster.health(master_timeout="1s")).body
            if not self._version:
                self._version = await self._ask_version()
        status, nodes = found.get("status"), int(found.get("number_of_data_nodes", 0))
        if status == "red":
            return StoreHealth(
                self._version,
                "Elasticsearch is red: primary shards are missing; see GET _cluster/allocation/explain.",
                usable=False,
            )
        if status == "yellow" and nodes > 1:
            return StoreHealth(
                self._version,
                "Elasticsearch is yellow: replicas are missing; see GET _cluster/allocation/explain.",
            )
        return StoreHealth(self._version)

    async def totals(self) -> ElasticTotals:
        wanted = "cluster_name,status,indices.count,indices.docs.count,indices.store,nodes.count"
        async with self._connection.answering():
            found = (await self._client.cluster.stats(filter_path=wanted)).body
        indices = _part(found, "indices")
        return ElasticTotals(
            cluster_name=str(found.get("cluster_name", "")),
            cluster_status=str(found.get("status", "")),
            indices=_int(indices, "count"),
            documents=_int(_part(indices, "docs"), "count"),
            store_bytes=_int(_part(indices, "store"), "size_in_bytes"),
            nodes=_int(_part(_part(found, "nodes"), "count"), "total"),
        )

    async def close(self) -> None:
        """Idempotent."""
        await self._connection.close()

    async def _ask_version(self) -> str:
        # Not every build serves GET /, which would be the usual place.
        nodes = (await self._client.nodes.info(filter_path="nodes.*.version")).body.get("nodes") or {}
        return str(min((node["version"] for node in nodes.values()), default=""))


def _part(document: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = document.get(name)
    return found if isinstance(found, Mapping) else {}


def _int(document: Mapping[str, object], name: str) -> int:
    found = document.get(name, 0)
    return int(found) if isinstance(found, int | float | str) else 0


def _never_writes() -> NoReturn:
    raise AssertionError("statistics never write")
