"""One Index on a cluster, driven by the real cycle with its Kubernetes side in memory; time is an argument."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

from lucid_storage.kinds.cycle import Cycle
from lucid_storage.kinds.index_elasticsearch.kind import ElasticIndexKind
from lucid_storage.kinds.metrics import Metrics
from lucid_storage.kinds.services import Outcome, Services
from lucid_storage.kube.events import Event
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.kube.status import merge_patch
from lucid_storage.models.meta import FINALIZER
from lucid_storage.stores.elasticsearch.adapter import ElasticCluster
from lucid_storage.stores.elasticsearch.port import ElasticPort
from lucid_storage.stores.elasticsearch.types import ElasticIndexState, TemplateState
from stores.elasticsearch.fake_elastic import FakeElastic
from testbed.stores.elasticsearch import Elasticsearch

NOVEMBER = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SWEEP = 600.0
UID = "8c0a6d5e-0000-4000-8000-000000000001"


class OneCluster:
    """Stands where Connections stands; there is one deployment and it is up."""

    def __init__(self, port: ElasticPort) -> None:
        self.port = port

    async def elasticsearch(self, namespace: str, secret: str | None) -> OneCluster:
        return self

    def check_index(self, namespace: str, secret: str | None, stem: str) -> None:
        """Every name may be used."""

    @asynccontextmanager
    async def watching(self, deployment: OneCluster) -> AsyncIterator[ElasticPort]:
        yield deployment.port


class StatusInMemory:
    """Counts writes as the API server would see them."""

    def __init__(self) -> None:
        self.writes: list[dict[str, Any]] = []

    async def write(self, resource: Resource, status: dict[str, Any]) -> str | None:
        if not merge_patch(resource.status, status):
            return None
        self.writes.append(status)
        return str(len(self.writes) + 1)


class EventsInMemory:
    def __init__(self) -> None:
        self.emitted: list[Event] = []

    def emit(self, event: Event) -> None:
        self.emitted.append(event)


class FinalizersInMemory:
    async def hold(self, resource: Resource) -> bool:
        return True

    async def release(self, resource: Resource) -> bool:
        return True


class Series:
    """One Index resource with the stem `stem`, and the hands of an outsider on the same cluster."""

    def __init__(self, port: ElasticPort, stem: str, server: Elasticsearch | None = None) -> None:
        self.port = port
        self.stem = stem
        self.now = NOVEMBER
        self.status_writer = StatusInMemory()
        self.events = EventsInMemory()
        self.peers: list[Resource] = []
        self._server = server
        self.cycle = Cycle(
            ElasticIndexKind(cast("Any", OneCluster(port)), lambda resource, secret: SWEEP),
            Services(
                status=cast("Any", self.status_writer),
                events=cast("Any", self.events),
                finalizers=cast("Any", FinalizersInMemory()),
                metrics=Metrics(),
                namespace_terminating=_never,
                peers=lambda resource, target: self.peers,
                touch_dependents=lambda key, target: None,
                remember=lambda resource, version: None,
                now=lambda: self.now,
            ),
        )
        self.resource = self.other("sessions", UID, "2026-11-01T00:00:00Z")

    def other(self, name: str, uid: str, created: str, **elasticsearch: Any) -> Resource:
        """A resource for this series; `elasticsearch` adds to its block."""
        block = {"pattern": f"{self.stem}-{{YYYY.MM}}", **elasticsearch}
        return Resource(
            key=Key("indexes", "lucid", name),
            uid=uid,
            generation=0,
            resource_version="1",
            created=created,
            deleted=None,
            annotations={},
            finalizers=(),
            spec={"engine": "elasticsearch", "elasticsearch": block},
            status={},
        )

    async def declare(self, spec: dict[str, Any] | None = None, **elasticsearch: Any) -> dict[str, Any]:
        """A new generation with exactly this, looked at once; returns its status."""
        block = {"pattern": f"{self.stem}-{{YYYY.MM}}", **elasticsearch}
        self.resource = replace(
            self.resource,
            generation=self.resource.generation + 1,
            spec={"engine": "elasticsearch", "elasticsearch": block, **(spec or {})},
        )
        return await self.look()

    async def look(self, now: datetime | None = None) -> dict[str, Any]:
        await self.run(now)
        return self.resource.status

    async def run(self, now: datetime | None = None) -> Outcome:
        self.now = now or self.now
        return await self.cycle.run(self.resource)

    async def delete(self, **annotations: str) -> str:
        """Deletion of the resource; returns what the Event said."""
        prefix = "storage.lucid-blockchain.org/"
        self.resource = replace(
            self.resource,
            deleted="2026-11-21T12:00:00Z",
            finalizers=(FINALIZER,),
            annotations={f"{prefix}{name.replace('_', '-')}": value for name, value in annotations.items()},
        )
        outcome = await self.run()
        assert outcome.gone, self.condition("Ready")
        return self.events.emitted[-1].message

    def month(self, month: str) -> str:
        return f"{self.stem}-{month}"

    async def indices(self) -> dict[str, ElasticIndexState]:
        """All indices whose names begin with the stem, by what follows it."""
        found = await self.port.indices(f"{self.stem}*")
        return {index.name.removeprefix(self.stem).removeprefix("-"): index for index in found}

    async def template(self) -> TemplateState:
        found = await self.port.template(self.stem)
        assert found is not None
        return found

    async def writes_to(self) -> list[str]:
        """The months whose index takes what is written to the stem."""
        return [
            month
            for month, index in (await self.indices()).items()
            if self.stem in index.aliases and index.aliases[self.stem].is_write_index
        ]

    async def occupy(self, month: str, documents: int = 0, aliases: Any = None) -> None:
        """An index that somebody else made."""
        assert await self.port.create_index(self.month(month), {}, {}, aliases or {})
        self.fill(month, documents)

    def fill(self, month: str, documents: int) -> None:
        """Documents in the index of a month."""
        if isinstance(self.port, FakeElastic):
            self.port.stored_indices[self.month(month)].documents = documents
            return
        assert self._server is not None
        for number in range(documents):
            self._server.request("PUT", f"/{self.month(month)}/_doc/{number}?refresh=true", {"n": number})

    def condition(self, kind: str) -> dict[str, Any]:
        return next(c for c in self.resource.status["conditions"] if c["type"] == kind)

    def is_ready(self) -> bool:
        return bool(self.condition("Ready")["status"] == "True")

    def reasons(self) -> list[str]:
        return [event.reason for event in self.events.emitted]

    def drift(self) -> dict[str, tuple[str, str]]:
        return {e["field"]: (e["expected"], e["actual"]) for e in self.resource.status.get("drift") or []}

    def shown(self) -> str:
        return json.dumps(self.resource.status, indent=1)


@asynccontextmanager
async def real_series(server: Elasticsearch, stem: str) -> AsyncIterator[Series]:
    port = ElasticCluster(server.url, label="test", guard=lambda: None)
    try:
        yield Series(port, stem, server)
    finally:
        await port.close()


async def _never(namespace: str) -> bool:
    return False
