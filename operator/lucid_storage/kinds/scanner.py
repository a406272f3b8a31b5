"""One walk over a Redis for all Collections that declare key spaces there, again and again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lucid_storage.errors import LeadershipLostError, LucidError
from lucid_storage.kinds.connections import Connections, Deployment
from lucid_storage.kube.resources import Key
from lucid_storage.stores.redis.port import RedisPort
from lucid_storage.stores.redis.types import KeySpace, KeySpaceReport

logger = logging.getLogger(__name__)

GATHER_SECONDS = 0.3
"""How long a scan waits for more declarations, so that many resources applied together share one walk."""


@dataclass(slots=True)
class _Walk:
    deployment: Deployment[RedisPort]
    declared: dict[Key, tuple[KeySpace, ...]] = field(default_factory=dict)
    reports: dict[str, KeySpaceReport] = field(default_factory=dict)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class KeySpaceScanner:
    """Keeps the latest reports. `touch` is called with the resources whose reports are new."""

    def __init__(self, connections: Connections, touch: Callable[[Key], None], pause_seconds: float) -> None:
        self._connections = connections
        self._touch = touch
        self._pause = pause_seconds
        self._walks: dict[int, _Walk] = {}

    def declare(
        self, key: Key, deployment: Deployment[RedisPort], spaces: tuple[KeySpace, ...]
    ) -> Mapping[str, KeySpaceReport] | None:
        """Tell which key spaces a resource declares now; returns the latest reports, None before the first."""
        walk = self._walks.get(id(deployment))
        if walk is None:
            walk = self._walks[id(deployment)] = _Walk(deployment)
            walk.task = asyncio.create_task(self._run(walk))
        if walk.declared.get(key) != spaces:
            walk.declared[key] = spaces
            walk.wake.set()
        if any(s.pattern not in walk.reports for s in spaces):
            return None
        return {s.pattern: walk.reports[s.pattern] for s in spaces}

    def forget(self, key: Key) -> None:
        """The resource declares nothing any more."""
        for walk in self._walks.values():
            walk.declared.pop(key, None)

    async def close(self) -> None:
        tasks = [w.task for w in self._walks.values() if w.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._walks.clear()

    async def _run(self, walk: _Walk) -> None:
        while self._connections.is_open(walk.deployment):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(walk.wake.wait(), self._pause)
            await asyncio.sleep(GATHER_SECONDS)
            walk.wake.clear()
            # A client that was closed would dial again, and set TTLs at an address that is no longer declared.
            if walk.declared and self._connections.is_open(walk.deployment):
                await self._scan(walk)
        self._walks.pop(id(walk.deployment), None)

    async def _scan(self, walk: _Walk) -> None:
        declared = dict(walk.declared)
        spaces = {s.pattern: s for group in declared.values() for s in group}
        for group in declared.values():
            # Two Collections may name one pattern; a TTL is set only when all of them agreed to it.
            for s in group:
                if not s.enforce:
                    spaces[s.pattern] = s
        try:
            async with self._connections.watching(walk.deployment) as port:
                walk.reports = await port.scan(list(spaces.values()))
        except LucidError as error:
            logger.warning("key space scan: %s", error.message, extra={"store": walk.deployment.label})
            return
        except LeadershipLostError:
            raise
        except Exception:
            logger.exception("a defect in the key space scan of %s; it is tried again", walk.deployment.label)
            return
        for key in declared:
            self._touch(key)
