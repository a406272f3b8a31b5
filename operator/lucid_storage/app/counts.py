"""Counts of resources by state, as metrics."""

from __future__ import annotations

import asyncio

from lucid_storage.kinds.cache import ResourceCache
from lucid_storage.kinds.engine import Engine
from lucid_storage.kinds.metrics import Metrics
from lucid_storage.kube.resources import Resource
from lucid_storage.models.kinds import KINDS

INTERVAL_SECONDS = 15.0


async def counting(engine: Engine, cache: ResourceCache, metrics: Metrics) -> None:
    """Count until cancelled."""
    kinds = {info.plural: info.kind for info in KINDS.values()}
    while True:
        for plural in engine.plurals:
            ready = [_is_ready(resource) for resource in cache.of_kind(plural)]
            metrics.ready.labels(kinds[plural], "true").set(sum(ready))
            metrics.ready.labels(kinds[plural], "false").set(len(ready) - sum(ready))
        await asyncio.sleep(INTERVAL_SECONDS)


def _is_ready(resource: Resource) -> bool:
    conditions = resource.status.get("conditions") or []
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
