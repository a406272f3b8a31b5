"""One ShardedCollection over the lives of several operators, against a double or against a real router."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from cluster_double import ClusterDouble, KilledError
from sharded_builder import NOW, shard_key

from kinds.surroundings import services
from lucid_storage.kinds.cycle import Cycle
from lucid_storage.kinds.longcalls import LongCalls
from lucid_storage.kinds.metrics import Metrics
from lucid_storage.kinds.services import Outcome
from lucid_storage.kinds.shardedcollection import backup_needed
from lucid_storage.kinds.shardedcollection.kind import ShardedCollectionKind
from lucid_storage.kinds.shardedcollection.metrics import ShardMetrics
from lucid_storage.kube.events import Event
from lucid_storage.kube.resources import Resource
from lucid_storage.stores.mongodb.adapter import MongoDeployment
from lucid_storage.stores.mongodb.sharding.types import ShardKey

Port = ClusterDouble | MongoDeployment


class Life:
    """One resource over the lives of several operators; its status is what was last written."""

    def __init__(self, cluster: Port, key: ShardKey, **spec: Any) -> None:
        self.cluster = cluster
        self.spec = {"collection": "orders", "database": "shop", "shardKey": shard_key(key), **spec}
        self.generation = 1
        self.status: dict[str, Any] = {}
        self.events: list[Event] = []
        self.annotations: dict[str, str] = {}

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
        """By an operator that has just come."""
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
            "annotations": self.annotations,
            "creationTimestamp": "2026-11-21T10:00:00Z",
        }
        body = {"metadata": metadata, "spec": self.spec, "status": dict(self.status)}
        return Resource.from_body("shardedcollections", body)

    def _operator(self) -> Cycle[Any, Any, Any]:
        given = services(self, now=lambda: NOW)
        metrics = Metrics()
        kind = ShardedCollectionKind(
            cast("Any", _Connected(self.cluster)),
            LongCalls(lambda _: None),
            lambda resource, secret: 60,
            ShardMetrics(type(metrics.registry)()),
            known=lambda plural: [],
            about=lambda plural, target: [],
        )
        return Cycle(kind, given, backup_needed.conditions)

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

    def __init__(self, cluster: Port) -> None:
        self.port = cluster

    async def mongodb(self, namespace: str, secret: str | None) -> "_Connected":
        return self

    @asynccontextmanager
    async def watching(self, deployment: "_Connected") -> AsyncIterator[Port]:
        yield self.port

    def use(self, database: str) -> None: ...

    def check_database(self, namespace: str, secret: str | None, database: str) -> None: ...
