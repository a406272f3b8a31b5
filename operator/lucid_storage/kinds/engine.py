"""The one engine: keeps what was seen, decides when to look, drives the cycles.

Every trigger means "look again": a watch event, a DDL event, a store that came back, a sweep, a back-off.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Protocol

from lucid_storage.errors import LeadershipLostError
from lucid_storage.kinds.cache import ResourceCache, older
from lucid_storage.kinds.metrics import Metrics
from lucid_storage.kinds.queue import WorkQueue
from lucid_storage.kinds.services import Outcome
from lucid_storage.kinds.tasks import first_of
from lucid_storage.kube.client import KubeApiError
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.kinds import KindInfo

logger = logging.getLogger(__name__)


class DrivenKind(Protocol):
    """What the engine itself asks a kind."""

    @property
    def info(self) -> KindInfo: ...

    def guess_target(self, resource: Resource, default_database: str | None) -> str: ...


class Driver(Protocol):
    """Looks at the resources of one kind."""

    @property
    def kind(self) -> DrivenKind: ...

    async def run(self, resource: Resource) -> Outcome:
        """One look."""

    def forget(self, key: Key) -> None:
        """The object is gone."""


class Engine:
    """Runs `workers` looks at a time; each resource is looked at by one worker at a time.

    `cycles` are in the order in which things are made: what one kind makes, later kinds may need.
    """

    def __init__(
        self,
        cycles: Mapping[str, Driver],
        cache: ResourceCache,
        queue: WorkQueue,
        metrics: Metrics,
        *,
        default_database: str | None,
        workers: int,
        on_gone: Callable[[Key], Awaitable[None]] | None = None,
    ) -> None:
        self._cycles = cycles
        self._cache = cache
        self._queue = queue
        self._metrics = metrics
        self._default_database = default_database
        self._workers = workers
        self._on_gone = on_gone
        self._looked: set[Key] = set()
        self._settled = False

    @property
    def plurals(self) -> list[str]:
        return list(self._cycles)

    @property
    def settled(self) -> bool:
        """Every resource that was there at the start was looked at once. Stays true: what comes later is daily work."""
        if not self._settled and all(key in self._looked for key in self._cache):
            self._settled = True
            self._looked.clear()
        return self._settled

    def keys(self, plural: str) -> list[Key]:
        """All known resources of a kind."""
        return [key for key in self._cache if key.plural == plural]

    def known_version(self, key: Key) -> str | None:
        """The resourceVersion of what is remembered of an object."""
        resource = self._cache.get(key)
        return resource.resource_version if resource is not None else None

    def seen(self, resource: Resource) -> None:
        """An object as the API server has it. What changes nothing that we act on is no trigger."""
        before = self._cache.get(resource.key)
        if before is not None and older(resource.resource_version, before.resource_version):
            return  # told late by the watch, after the comparison had found something newer
        resource = self._cache.put(resource)
        if before is not None and not _matters(before, resource):
            return
        if before is not None and before.uid != resource.uid:
            self._cycles[resource.key.plural].forget(resource.key)
        kind = self._cycles[resource.key.plural].kind
        self._cache.file(resource.key, kind.guess_target(resource, self._default_database))
        self._queue.add(resource.key)

    def gone(self, key: Key) -> None:
        """The object is gone from the API server. Those with the same target may now own it."""
        if key not in self._cache:
            return
        heirs = self._cache.drop(key)
        self._queue.forget(key)
        self._looked.discard(key)
        self._cycles[key.plural].forget(key)
        for heir in heirs:
            self._queue.add(heir)
        self._queue.add(key)  # a worker cleans up after it, so that nothing is in flight meanwhile

    def touch(self, key: Key) -> None:
        """Look at one resource."""
        if key in self._cache:
            self._queue.add(key)

    def touch_target(self, target: str) -> None:
        """Look at every resource about a collection."""
        for plural in self._cycles:
            for key in self._cache.about(plural, target):
                self._queue.add(key)

    def touch_around(self, key: Key) -> None:
        """Look at one resource and at every other about the same collection."""
        self.touch(key)
        target = self._cache.target(key)
        if target is not None:
            self.touch_target(target)

    def touch_dependents(self, key: Key, target: str) -> None:
        """Look at who may need what a resource has made: others of its kind and of later ones about its target."""
        plurals = list(self._cycles)
        for plural in plurals[plurals.index(key.plural) :]:
            for other in self._cache.about(plural, target):
                if other != key:
                    self._queue.add(other)

    def touch_database(self, database: str) -> None:
        """Look at every resource about a database."""
        for plural in self._cycles:
            for key in self._cache.in_database(plural, database):
                self._queue.add(key)

    def touch_where(self, chosen: Callable[[Resource], bool]) -> None:
        """Look at every resource that is chosen."""
        for key in self._cache:
            resource = self._cache.get(key)
            if resource is not None and chosen(resource):
                self._queue.add(key)

    async def run(self) -> None:
        """Work until cancelled. Raises LeadershipLostError when this process may not act any more."""
        await first_of([self._work() for _ in range(self._workers)])

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            first = self._made_first(key)
            if first is not None:
                self._queue.put_behind(key, first)
                continue
            try:
                await self._look(key)
            finally:
                self._queue.done(key)
                self._metrics.queue.set(len(self._queue))

    def _made_first(self, key: Key) -> Key | None:
        """Of two new resources about one target, that of the earlier kind, where it is about to be looked at.

        An Index that is applied together with its Collection would only find that the collection is not there yet.
        """
        target = self._cache.target(key)
        if target is None or not self._is_new(key):
            return None
        for plural in self._cycles:
            if plural == key.plural:
                break
            for other in self._cache.about(plural, target):
                if self._queue.pending(other) and self._is_new(other):
                    return other
        return None

    def _is_new(self, key: Key) -> bool:
        """Whether nothing was ever said about it."""
        resource = self._cache.get(key)
        return resource is not None and not resource.status and resource.deleted is None

    async def _look(self, key: Key) -> None:
        resource = self._cache.get(key)
        if resource is None:
            if self._on_gone is not None:
                await self._on_gone(key)
            return
        cycle = self._cycles[key.plural]
        kind = cycle.kind.info.kind
        started, cancellations = monotonic(), _cancellations()
        try:
            outcome = await cycle.run(resource)
        except LeadershipLostError:
            raise
        except asyncio.CancelledError:
            if _cancellations() > cancellations:
                raise
            # A client that was closed, for its credentials changed, cancels what waits for its answers.
            logger.info("%s: the connection was let go during the look", key)
            outcome = Outcome(failed=True)
        except KubeApiError as error:
            logger.warning("%s: %s", key, error)
            outcome = Outcome(failed=True)
        except Exception:
            if _cancellations() > cancellations:
                raise  # cut off in the middle, the driver may have let its locks go in the wrong order
            logger.exception("a defect while looking at %s; it is tried again later", key)
            outcome = Outcome(failed=True)
        if not self._settled and key in self._cache:
            self._looked.add(key)
        result = "failed" if outcome.failed else "ok"
        self._metrics.reconciles.labels(kind, result).inc()
        self._metrics.reconcile_seconds.labels(kind).observe(monotonic() - started)
        self._schedule(key, outcome)

    def _schedule(self, key: Key, outcome: Outcome) -> None:
        if outcome.gone or key not in self._cache:
            return
        if outcome.failed:
            self._queue.retry(key)
        else:
            self._queue.succeeded(key)
        if outcome.again_seconds is not None:
            self._queue.add_after(key, max(0.2, outcome.again_seconds))


def _cancellations() -> int:
    """How often this very task was cancelled, and not something that it waits for."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def _matters(before: Resource, after: Resource) -> bool:
    """Whether a new version of an object is a reason to look: our own status write is none."""
    return (
        before.uid != after.uid
        or before.generation != after.generation
        or before.deleted != after.deleted
        or before.annotations != after.annotations
        or before.held != after.held
        or before.status != after.status
    )
