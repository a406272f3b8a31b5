"""The backend over the real stores, with connections of its own, made when they are first needed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, Protocol, TypeVar, cast

from lucid_storage.errors import LucidError, NotAllowedError, Reason, RefusedError, StoreUnavailableError
from lucid_storage.restapi.backend import CollectionPage, StoreAccess
from lucid_storage.restapi.caching import SharedReads, gather_bounded
from lucid_storage.restapi.clock import Clock
from lucid_storage.restapi.schemas import (
    Collection,
    DatabaseHealth,
    DatabaseStats,
    ElasticsearchStats,
    HealthStatus,
    Index,
    MongoConnections,
    MongoOperations,
    MongoStats,
    RedisStats,
    ServiceHealth,
    Services,
)
from lucid_storage.stores.mongodb.port import MongoPort
from lucid_storage.stores.mongodb.types import IndexState, KeyOrder
from lucid_storage.stores.statistics import (
    DatabaseTotals,
    ElasticStatistics,
    MongoStatistics,
    RedisStatistics,
    StoreHealth,
)

PROBE_SECONDS = 1.5
"""A store that needs longer counts as not answering: health and stats are there within 2 s."""
READ_SECONDS = 10.0
CACHE_SECONDS = 5.0
REFRESH_AFTER_SECONDS = 2.0
STORE_CALLS_AT_ONCE = 4
STORES = ("MongoDB", "Redis", "Elasticsearch")


class Closable(Protocol):
    async def close(self) -> None: ...


C = TypeVar("C", bound=Closable)
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class StoreClients:
    """How to make the clients; None where a store is not configured. Called in the REST API's event loop."""

    mongodb: Callable[[], MongoPort] | None = None
    mongodb_statistics: Callable[[], MongoStatistics] | None = None
    redis_statistics: Callable[[], RedisStatistics] | None = None
    elasticsearch_statistics: Callable[[], ElasticStatistics] | None = None


class _Lazy(Generic[C]):
    """A client made at its first use."""

    def __init__(self, make: Callable[[], C] | None, store: str) -> None:
        self._make = make
        self._store = store
        self._client: C | None = None

    @property
    def configured(self) -> bool:
        return self._make is not None

    def get(self) -> C:
        if self._make is None:
            raise RefusedError(
                f"{self._store} is not configured; set its connection in the operator's settings.",
                reason=Reason.NOT_CONFIGURED,
            )
        if self._client is None:
            self._client = self._make()
        return self._client

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()


@dataclass(frozen=True, slots=True)
class _Figures(Generic[S]):
    """Figures of one store, or why there are none."""

    value: S | None = None
    problem: str = field(default="")


class StoreBackend:
    """Implements `Backend`. `access` says what a namespace may see, or None when it may see nothing."""

    def __init__(
        self,
        clients: StoreClients,
        access: Callable[[str], StoreAccess | None],
        *,
        clock: Clock | None = None,
    ) -> None:
        self._access = access
        self._clock = clock or Clock()
        self._started = self._clock.monotonic()
        self._mongodb = _Lazy(clients.mongodb, "MongoDB")
        self._mongodb_statistics = _Lazy(clients.mongodb_statistics, "MongoDB")
        self._redis = _Lazy(clients.redis_statistics, "Redis")
        self._elasticsearch = _Lazy(clients.elasticsearch_statistics, "Elasticsearch")
        monotonic = self._clock.monotonic
        self._health: SharedReads[str, ServiceHealth] = SharedReads(
            capacity=8, monotonic=monotonic, seconds=CACHE_SECONDS, refresh_after=REFRESH_AFTER_SECONDS
        )
        self._figures: SharedReads[tuple[str, tuple[str, ...]], _Figures[object]] = SharedReads(
            capacity=64, monotonic=monotonic, seconds=CACHE_SECONDS, refresh_after=REFRESH_AFTER_SECONDS
        )

    async def store_access(self, namespace: str) -> StoreAccess:
        access = self._access(namespace)
        if access is None:
            raise NotAllowedError(
                f"The operator's own credentials do not serve namespace {namespace}; "
                "add it to SERVED_NAMESPACES."
            )
        return access

    async def health(self, access: StoreAccess) -> DatabaseHealth:
        asks: dict[str, Callable[[], Awaitable[StoreHealth]]] = {}
        if self._mongodb_statistics.configured:
            asks["MongoDB"] = lambda: self._mongodb_statistics.get().health()
        if self._redis.configured:
            asks["Redis"] = lambda: self._redis.get().health()
        if self._elasticsearch.configured:
            asks["Elasticsearch"] = lambda: self._elasticsearch.get().health()
        parts = await self._health.get_all(
            {store: partial(self._probe, store, ask) for store, ask in asks.items()}
        )
        mongodb, redis, elasticsearch = (parts.get(store) for store in STORES)
        return DatabaseHealth(
            status=overall(mongodb, redis, elasticsearch),
            timestamp=self._clock.now(),
            services=Services(mongodb=mongodb, redis=redis, elasticsearch=elasticsearch),
            uptime=int(self._clock.monotonic() - self._started),
        )

    async def stats(self, access: StoreAccess) -> DatabaseStats:
        asks: dict[str, tuple[tuple[str, ...], Callable[[], Awaitable[object]]]] = {}
        if self._mongodb.configured:
            asks["MongoDB"] = access.databases, lambda: self._mongodb_stats(access)
        if self._redis.configured:
            asks["Redis"] = (), self._redis_stats
        if self._elasticsearch.configured:
            asks["Elasticsearch"] = (), self._elasticsearch_stats
        found = await self._figures.get_all(
            {(store, scope): partial(_bounded, store, ask) for store, (scope, ask) in asks.items()}
        )
        parts = {store: figures for (store, _), figures in found.items()}
        problems = {store.lower(): part.problem for store, part in parts.items() if part.problem}
        if len(problems) == len(parts):
            raise StoreUnavailableError(" ".join(problems.values()) or "No store is configured.")
        mongodb, redis, elasticsearch = (parts.get(store) for store in STORES)
        return DatabaseStats(
            mongodb=cast("MongoStats | None", mongodb and mongodb.value),
            redis=cast("RedisStats | None", redis and redis.value),
            elasticsearch=cast("ElasticsearchStats | None", elasticsearch and elasticsearch.value),
            unavailable=problems or None,
            timestamp=self._clock.now(),
        )

    async def collections(
        self, access: StoreAccess, database: str | None, offset: int, limit: int
    ) -> CollectionPage:
        async with asyncio.timeout(READ_SECONDS):
            databases = [database] if database is not None else await self._databases(access)
            port = self._mongodb.get()
            listed = await gather_bounded([_names(port, name) for name in databases], STORE_CALLS_AT_ONCE)
            names = sorted(pair for part in listed for pair in part)
            page = names[offset : offset + limit]
            found = await gather_bounded(
                [self._with_figures(database, name) for database, name in page], STORE_CALLS_AT_ONCE
            )
            return CollectionPage(tuple(found), len(names))

    async def collection(self, access: StoreAccess, database: str, name: str) -> Collection | None:
        async with asyncio.timeout(READ_SECONDS):
            if await self._mongodb.get().collection(database, name) is None:
                return None
            return await self._with_figures(database, name)

    async def indexes(self, access: StoreAccess, database: str, name: str) -> tuple[Index, ...] | None:
        async with asyncio.timeout(READ_SECONDS):
            state = await self._mongodb.get().collection(database, name)
            if state is None:
                return None
            if state.type == "view":
                return ()
            found = await self._mongodb.get().indexes(database, name)
            sizes = await self._mongodb_statistics.get().index_sizes(database, name)
            return tuple(_index(name, index, sizes.get(index.name)) for index in found or ())

    async def close(self) -> None:
        await self._health.close()
        await self._figures.close()
        for client in (self._mongodb, self._mongodb_statistics, self._redis, self._elasticsearch):
            await client.close()

    async def _probe(self, store: str, ask: Callable[[], Awaitable[StoreHealth]]) -> ServiceHealth:
        started = self._clock.monotonic()
        answer = await _bounded(store, ask)
        took = round((self._clock.monotonic() - started) * 1000, 3)
        found = answer.value
        if found is None:
            status, version, message = HealthStatus.UNHEALTHY, None, answer.problem
        elif found.problem is None:
            status, version, message = HealthStatus.HEALTHY, found.version, None
        else:
            status = HealthStatus.DEGRADED if found.usable else HealthStatus.UNHEALTHY
            version, message = found.version, found.problem
        return ServiceHealth(
            status=status,
            version=version or None,
            response_time=took,
            last_check=self._clock.now(),
            message=message,
        )

    async def _mongodb_stats(self, access: StoreAccess) -> MongoStats:
        statistics = self._mongodb_statistics.get()
        databases = await self._databases(access)
        parts = await gather_bounded([statistics.totals(name) for name in databases], STORE_CALLS_AT_ONCE)
        activity = await statistics.activity()
        totals = sum(parts, DatabaseTotals())
        return MongoStats(
            collections=totals.collections,
            documents=totals.documents,
            data_size=totals.data_bytes,
            storage_size=totals.storage_bytes,
            indexes=totals.indexes,
            index_size=totals.index_bytes,
            connections=activity
            and MongoConnections(
                current=activity.connections_current, available=activity.connections_available
            ),
            operations=activity
            and MongoOperations(
                insert=activity.inserts,
                query=activity.queries,
                update=activity.updates,
                delete=activity.deletes,
            ),
        )

    async def _redis_stats(self) -> RedisStats:
        found = await self._redis.get().activity()
        lookups = found.keyspace_hits + found.keyspace_misses
        return RedisStats(
            connected_clients=found.connected_clients,
            used_memory=found.used_memory,
            used_memory_human=found.used_memory_human,
            total_commands_processed=found.total_commands_processed,
            keyspace_hits=found.keyspace_hits,
            keyspace_misses=found.keyspace_misses,
            hit_rate=round(found.keyspace_hits / lookups, 6) if lookups else 0.0,
        )

    async def _elasticsearch_stats(self) -> ElasticsearchStats:
        found = await self._elasticsearch.get().totals()
        return ElasticsearchStats(
            cluster_name=found.cluster_name,
            cluster_status=found.cluster_status,
            indices=found.indices,
            documents=found.documents,
            store_size=found.store_bytes,
            nodes=found.nodes,
        )

    async def _databases(self, access: StoreAccess) -> list[str]:
        return sorted(name for name in await self._mongodb.get().databases() if access.allows(name))

    async def _with_figures(self, database: str, name: str) -> Collection:
        stats = await self._mongodb.get().collection_stats(database, name)
        if stats is None:
            return Collection(name=name, database=database)
        return Collection(
            name=name,
            database=database,
            document_count=stats.documents,
            data_size=stats.size_bytes,
            storage_size=stats.storage_bytes,
            index_count=stats.index_count,
            index_size=stats.index_bytes,
        )


def overall(
    mongodb: ServiceHealth | None, redis: ServiceHealth | None, elasticsearch: ServiceHealth | None
) -> HealthStatus:
    """Unhealthy when MongoDB, which holds the data, is lost, or all are; degraded when anything ails."""
    parts = [part.status for part in (mongodb, redis, elasticsearch) if part is not None]
    if not parts or all(status is HealthStatus.UNHEALTHY for status in parts):
        return HealthStatus.UNHEALTHY
    if mongodb is not None and mongodb.status is HealthStatus.UNHEALTHY:
        return HealthStatus.UNHEALTHY
    if all(status is HealthStatus.HEALTHY for status in parts):
        return HealthStatus.HEALTHY
    return HealthStatus.DEGRADED


async def _bounded(store: str, ask: Callable[[], Awaitable[S]]) -> _Figures[S]:
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            return _Figures(await ask())
    except LucidError as error:
        return _Figures(problem=error.message)
    except TimeoutError:
        return _Figures(
            problem=f"{store} did not answer within {PROBE_SECONDS} s; see whether it runs or is overloaded."
        )


async def _names(port: MongoPort, database: str) -> list[tuple[str, str]]:
    return [(database, state.name) for state in await port.collections(database)]


def _index(collection: str, state: IndexState, size: int | None) -> Index:
    definition = state.definition
    return Index(
        name=state.name,
        collection=collection,
        key={name: _order(order) for name, order in definition.keys},
        unique=definition.unique,
        sparse=definition.sparse,
        size=None if state.building else size,
    )


def _order(order: KeyOrder) -> KeyOrder:
    """Old indexes may have any number as an order; only its sign counts."""
    if isinstance(order, int):
        return -1 if order < 0 else 1
    return order
