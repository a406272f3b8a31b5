"""A cluster in memory that dies with the operator at the n-th write, and what drives a kind against it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

from sharded_builder import ID_INDEX, NOW, balancer, index, server, shard_key

from lucid_storage.errors import LucidError, ServerRefusedError
from lucid_storage.kinds.cycle import Cycle, Outcome, Services
from lucid_storage.kinds.longcalls import LongCalls
from lucid_storage.kinds.metrics import Metrics
from lucid_storage.kinds.shardedcollection import backup_needed
from lucid_storage.kinds.shardedcollection.kind import ShardedCollectionKind
from lucid_storage.kinds.shardedcollection.metrics import ShardMetrics
from lucid_storage.kube.events import Event
from lucid_storage.kube.resources import Resource
from lucid_storage.stores.mongodb.sharding.bounds import same_range
from lucid_storage.stores.mongodb.sharding.types import (
    Balance,
    BalancerState,
    KeyGaps,
    KeyRange,
    KeySample,
    Resharding,
    ReshardPhase,
    ShardChunks,
    ShardCluster,
    ShardedState,
    ShardFigures,
    ShardInfo,
    ShardKey,
    ZoneState,
)
from lucid_storage.stores.mongodb.types import (
    CollectionOptions,
    CollectionState,
    IndexState,
    ServerInfo,
)

RESHARDING_LOOKS = 3
"""Looks until a resharding of this cluster is over."""


class KilledError(Exception):
    """The operator is no more."""


@dataclass
class ClusterDouble:
    """Implements what the kind asks of MongoPort and ShardingPort. Every write is counted in `writes`."""

    keys: tuple[ShardKey, ...] = ()
    """Keys that an index carries."""
    die_at: int | None = None
    """The write, from 0 on, at which the operator dies."""
    before: bool = True
    """Whether it dies before the server heard of that write, or after it was done."""
    reshard_error: LucidError | None = None
    writes: list[str] = field(default_factory=list)
    state: ShardedState | None = None
    members: dict[str, set[str]] = field(default_factory=dict)
    ranges: list[tuple[str, KeyRange]] = field(default_factory=list)
    running: Resharding | None = None
    looks_left: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether no resharding runs any more."""

    @property
    def sharding(self) -> "ClusterDouble":
        return self

    def _write(self, what: str) -> bool:
        """Counts a write; whether the operator dies once it is done."""
        number = len(self.writes)
        dying = number == self.die_at
        if dying and self.before:
            self.die_at = None
            raise KilledError(what)
        self.writes.append(what)
        if dying:
            self.die_at = None
        return dying

    # What MongoPort tells

    async def info(self) -> ServerInfo:
        return server()

    async def collection(self, database: str, name: str) -> CollectionState | None:
        if self.state is None:
            return None
        return CollectionState(database, name, "collection", self.state.uuid, CollectionOptions())

    async def indexes(self, database: str, name: str) -> tuple[IndexState, ...] | None:
        return (ID_INDEX, *(index(*key) for key in self.keys)) if self.state is not None else None

    # What ShardingPort tells

    async def cluster(self) -> ShardCluster:
        shards = tuple(
            ShardInfo(name, tuple(zone for zone, names in self.members.items() if name in names))
            for name in ("s0", "s1")
        )
        return ShardCluster("cluster-1", (6, 0, 5), shards)

    async def sharded(self, database: str, name: str) -> ShardedState | None:
        return replace(self.state, resharding=self.running is not None) if self.state is not None else None

    async def chunks(self, state: ShardedState) -> tuple[ShardChunks, ...]:
        return (ShardChunks("s0", 2), ShardChunks("s1", 2))

    async def figures(self, *_: object) -> tuple[ShardFigures, ...]:
        return (ShardFigures("s0", 10, 100), ShardFigures("s1", 10, 100))

    async def balance(self, *_: object) -> Balance:
        return Balance(compliant=True)

    async def balancer(self) -> BalancerState:
        return balancer()

    async def zones(self, *_: object) -> tuple[ZoneState, ...]:
        names = sorted({zone for zone, _ in self.ranges})
        return tuple(
            ZoneState(name, tuple(self.members.get(name, ())), tuple(r for z, r in self.ranges if z == name))
            for name in names
        )

    async def resharding(self, *_: object) -> Resharding | None:
        if self.running is not None and self.running.phase is not ReshardPhase.COMMITTING:
            self.looks_left -= 1
            if self.looks_left <= 0:
                self._end_resharding()
        return self.running

    async def key_gaps(self, *_: object) -> KeyGaps:
        return KeyGaps(20, 0, 0, complete=True)

    async def key_sample(self, *_: object) -> KeySample | None:
        return None

    # What ShardingPort does

    async def enable_sharding(self, database: str) -> None:
        if self._write("enable"):
            raise KilledError

    async def shard(self, database: str, name: str, key: ShardKey, **options: Any) -> None:
        dying = self._write("shard")
        self.state = ShardedState(database, name, "a" * 32, key, unique=False, balancing=True)
        if dying:
            raise KilledError

    async def refine(self, database: str, name: str, key: ShardKey) -> None:
        assert self.state is not None
        dying = self._write("refine")
        self.state = replace(self.state, key=key)
        if dying:
            raise KilledError

    async def reshard(self, database: str, name: str, key: ShardKey, **options: Any) -> None:
        assert self.running is None, "it was begun twice"
        dying = self._write("reshard")
        if self.reshard_error is not None:
            raise self.reshard_error
        self.running = Resharding(ReshardPhase.COPYING, key, percent=10)
        self.ended.clear()
        self.looks_left = RESHARDING_LOOKS
        if dying:
            raise KilledError
        await self.ended.wait()

    def _end_resharding(self) -> None:
        assert self.state is not None
        assert self.running is not None
        assert self.running.key is not None
        self.state = replace(self.state, key=self.running.key, uuid="b" * 32)
        self.running = None
        self.ended.set()

    async def set_balancing(self, database: str, name: str, *, enabled: bool) -> None:
        assert self.state is not None
        dying = self._write("balancing")
        self.state = replace(self.state, balancing=enabled)
        if dying:
            raise KilledError

    async def add_shard_to_zone(self, shard: str, zone: str) -> None:
        dying = self._write("add")
        self.members.setdefault(zone, set()).add(shard)
        if dying:
            raise KilledError

    async def remove_shard_from_zone(self, shard: str, zone: str) -> None:
        dying = self._write("remove")
        if self.members.get(zone) == {shard} and any(z == zone for z, _ in self.ranges):
            raise ServerRefusedError("the last shard of a zone with ranges")
        self.members.get(zone, set()).discard(shard)
        if dying:
            raise KilledError

    async def assign_range(self, database: str, name: str, bounds: KeyRange, zone: str) -> None:
        if not self.members.get(zone):
            raise ServerRefusedError("the zone has no shard")
        dying = self._write("assign")
        self.ranges.append((zone, bounds))
        if dying:
            raise KilledError

    async def clear_range(self, database: str, name: str, bounds: KeyRange) -> None:
        dying = self._write("clear")
        self.ranges = [(zone, known) for zone, known in self.ranges if not same_range(known, bounds)]
        if dying:
            raise KilledError


class Life:
    """One resource over the lives of several operators; its status is what was last written."""

    def __init__(self, cluster: ClusterDouble, key: ShardKey, **spec: Any) -> None:
        self.cluster = cluster
        self.spec = {"collection": "orders", "database": "shop", "shardKey": shard_key(key), **spec}
        self.generation = 1
        self.status: dict[str, Any] = {}
        self.events: list[Event] = []

    def change(self, key: ShardKey, **spec: Any) -> None:
        self.spec = {**self.spec, "shardKey": shard_key(key), **spec}
        self.generation += 1

    async def until_ready(self, looks: int = 40) -> dict[str, Any]:
        """Looks until it is Ready, with a new operator whenever one died; returns the status."""
        operator = self._operator()
        for _ in range(looks):
            try:
                await operator.run(self._resource())
            except KilledError:
                operator = self._operator()
                continue
            if self.ready["status"] == "True":
                return self.status
            await asyncio.sleep(0)  # a call that ended meanwhile returns
        raise AssertionError(f"not ready: {self.status}")

    async def look(self) -> Outcome:
        return await self._operator().run(self._resource())

    @property
    def ready(self) -> dict[str, Any]:
        return next((c for c in self.status.get("conditions", ()) if c["type"] == "Ready"), {"status": ""})

    def _resource(self) -> Resource:
        metadata = {
            "name": "orders",
            "namespace": "lucid",
            "uid": "u",
            "generation": self.generation,
            "creationTimestamp": "2026-11-21T10:00:00Z",
        }
        body = {"metadata": metadata, "spec": self.spec, "status": dict(self.status)}
        return Resource.from_body("shardedcollections", body)

    def _operator(self) -> Cycle[Any, Any, Any]:
        life: Any = self
        services = Services(
            status=life,
            events=life,
            finalizers=life,
            metrics=Metrics(),
            namespace_terminating=self.namespace_terminating,
            peers=lambda resource, target: [],
            touch_dependents=lambda key, target: None,
            remember=lambda resource, version: None,
            now=lambda: NOW,
        )
        metrics = Metrics()
        kind = ShardedCollectionKind(
            cast("Any", _Connected(self.cluster)),
            LongCalls(lambda _: None),
            lambda resource, secret: 60,
            ShardMetrics(type(metrics.registry)()),
            known=lambda plural: [],
            about=lambda plural, target: [],
        )
        return Cycle(kind, services, backup_needed.conditions)

    # What the services are asked

    async def write(self, resource: Resource, status: dict[str, Any]) -> str:
        self.status = status
        return "11"

    def emit(self, event: Event) -> None:
        self.events.append(event)

    async def hold(self, resource: Resource) -> bool:
        return True

    async def release(self, resource: Resource) -> bool:
        return True

    async def namespace_terminating(self, namespace: str) -> bool:
        return False


class _Connected:
    """Connections with one deployment, which answers always."""

    def __init__(self, cluster: ClusterDouble) -> None:
        self.port = cluster

    async def mongodb(self, namespace: str, secret: str | None) -> "_Connected":
        return self

    @asynccontextmanager
    async def watching(self, deployment: "_Connected") -> AsyncIterator[ClusterDouble]:
        yield self.port

    def use(self, database: str) -> None: ...

    def check_database(self, namespace: str, secret: str | None, database: str) -> None: ...
