"""Is the watch alive? What it told is compared with what the API server has, every three quarters of a minute.

A watch whose connection was cut without a reset tells nothing and looks healthy. kopf opens a silent one again
after 70 s; this comparison finds and repairs what was missed before that, and is what /healthz goes by.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from lucid_storage.kinds.engine import Engine
from lucid_storage.kinds.metrics import Metrics
from lucid_storage.kube.client import Kube, KubeApiError, resource_path
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.kinds import KINDS

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 45.0
IN_FLIGHT_SECONDS = 3.0
"""How long an event may be under way before it counts as missed."""
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
DEAD_AFTER = 3
"""Comparisons in a row that found something missed before the watch counts as dead."""


class Resync:
    """First list, and the comparisons after it."""

    def __init__(
        self,
        kube: Kube,
        engine: Engine,
        metrics: Metrics,
        namespaces: Sequence[str],
        interval: float = INTERVAL_SECONDS,
    ) -> None:
        self._kube = kube
        self._engine = engine
        self._metrics = metrics
        self._namespaces: Sequence[str | None] = list(namespaces) or [None]
        self._interval = interval
        self.misses = 0
        """Comparisons in a row that found something missed."""
        self.reachable = True
        self.listed = False

    @property
    def watch_dead(self) -> bool:
        return self.misses >= DEAD_AFTER

    async def list_all(self) -> None:
        """Show the engine everything there is, before anything is acted on. Raises KubeApiError."""
        for plural in self._engine.plurals:
            for namespace in self._namespaces:
                async for page in self._kube.pages(resource_path(plural, namespace)):
                    for body in page:
                        self._engine.seen(Resource.from_body(plural, body))
                    await asyncio.sleep(0)
        self.listed = True

    async def run(self) -> None:
        """Compare until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                missed = sum([await self._compare(plural) for plural in self._engine.plurals])
            except KubeApiError as error:
                self.reachable = False
                logger.warning("comparing with the API server: %s", error)
                continue
            self.reachable = True
            self.misses = self.misses + 1 if missed else 0

    async def _compare(self, plural: str) -> int:
        # Taken before the list: what the watch tells meanwhile is newer than this and counts as told.
        known = {key: self._engine.known_version(key) for key in self._engine.keys(plural)}
        there = await self._versions(plural)
        suspects = {key for key, version in there.items() if known.get(key) != version}
        suspects |= known.keys() - there.keys()
        if not suspects:
            return 0
        await asyncio.sleep(IN_FLIGHT_SECONDS)
        missed = [key for key in suspects if self._engine.known_version(key) == known.get(key)]
        for key in missed:
            await self._repair(key)
        if missed:
            kind = next(info.kind for info in KINDS.values() if info.plural == plural)
            self._metrics.watch_missed.labels(kind).inc(len(missed))
            logger.warning("the watch had not told of %d changes of %s", len(missed), plural)
        return len(missed)

    async def _versions(self, plural: str) -> dict[Key, str]:
        found = {}
        for namespace in self._namespaces:
            async for page in self._kube.pages(resource_path(plural, namespace), accept=METADATA_ONLY):
                for item in page:
                    meta = item["metadata"]
                    found[Key(plural, meta["namespace"], meta["name"])] = meta["resourceVersion"]
        return found

    async def _repair(self, key: Key) -> None:
        body = await self._kube.get(resource_path(key.plural, key.namespace, key.name))
        if body is None:
            self._engine.gone(key)
        else:
            self._engine.seen(Resource.from_body(key.plural, body))
