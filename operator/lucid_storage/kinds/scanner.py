"""One walk over a Redis for all Collections that declare key spaces there, again and again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from time import monotonic

from lucid_storage.errors import LeadershipLostError, LucidError
from lucid_storage.kinds.connections import Connections, Deployment
from lucid_storage.kinds.tasks import ended
from lucid_storage.kube.resources import Key
from lucid_storage.stores.redis.port import RedisPort
from lucid_storage.stores.redis.types import KeySpace, KeySpaceReport, RedisInfo

logger = logging.getLogger(__name__)

GATHER_SECONDS = 0.3
"""How long a scan waits for more declarations, so that many resources applied together share one walk."""
AGAIN_SECONDS = 5.0
"""Between two scans because another Redis answers: a name that leads to several in turn must not mean one scan after
the other."""
SETTLE_SECONDS = 30.0
"""How long the first scans wait until every resource was looked at; without that no TTL is set."""
SETTLE_PAUSE = 0.2

_PLACEHOLDER = re.compile(r"\{[^{}]*\}")


@dataclass(frozen=True, slots=True)
class _Declared:
    """What one resource declares, and the Redis (`RedisInfo.place`) that it was about when it said so."""

    spaces: tuple[KeySpace, ...]
    place: str


@dataclass(slots=True)
class _Walk:
    deployment: Deployment[RedisPort]
    declared: dict[Key, _Declared] = field(default_factory=dict)
    reports: dict[str, KeySpaceReport] = field(default_factory=dict)
    seen: RedisInfo | None = None
    """Which Redis the reports are of."""
    ended: float = -math.inf
    """When they were made, on a clock that only goes forward."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class KeySpaceScanner:
    """Keeps the latest reports. `touch` is called with the resources whose reports are new.

    A TTL is set only when all that declare its pattern in that Redis agree, with whatever credentials; so none is set
    before every resource was looked at (`settled`).
    """

    def __init__(
        self,
        connections: Connections,
        touch: Callable[[Key], None],
        pause_seconds: float,
        settled: Callable[[], bool] = lambda: True,
    ) -> None:
        self._connections = connections
        self._touch = touch
        self._pause = pause_seconds
        self._settled = settled
        self._walks: dict[int, _Walk] = {}

    def declare(
        self, key: Key, deployment: Deployment[RedisPort], spaces: tuple[KeySpace, ...], place: str
    ) -> Mapping[str, KeySpaceReport] | None:
        """Tell which key spaces a resource declares now, and in which Redis (`RedisInfo.place`) it was agreed to.

        Returns the latest reports of that Redis, None before the first.
        """
        walk = self._walks.get(id(deployment))
        if walk is None:
            walk = self._walks[id(deployment)] = _Walk(deployment)
            walk.task = asyncio.create_task(self._run(walk))
        declared = _Declared(spaces, place)
        if walk.declared.get(key) != declared:
            walk.declared[key] = declared
            walk.wake.set()
        if walk.seen is None or walk.seen.place != place:
            if monotonic() - walk.ended >= AGAIN_SECONDS:
                walk.wake.set()
            return None
        if any(s.pattern not in walk.reports for s in spaces):
            return None
        return {s.pattern: walk.reports[s.pattern] for s in spaces}

    def forget(self, key: Key) -> None:
        """The resource declares nothing any more."""
        for walk in self._walks.values():
            walk.declared.pop(key, None)

    async def close(self) -> None:
        await ended([w.task for w in self._walks.values() if w.task is not None])
        self._walks.clear()

    async def _run(self, walk: _Walk) -> None:
        while self._connections.is_open(walk.deployment):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(walk.wake.wait(), self._pause)
            await asyncio.sleep(GATHER_SECONDS)
            await self._everybody()
            walk.wake.clear()
            # A client that was closed would dial again, and set TTLs at an address that is no longer declared.
            if walk.declared and self._connections.is_open(walk.deployment):
                await self._scan(walk)
        self._walks.pop(id(walk.deployment), None)

    async def _everybody(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                while not self._settled():  # noqa: ASYNC110 - bounded by the deadline above
                    await asyncio.sleep(SETTLE_PAUSE)

    def _agreed(self, walk: _Walk, server: RedisInfo) -> list[KeySpace]:
        """The walk's key spaces, enforced by the longest TTL where all that declare them in this Redis enforce them."""
        may = self._settled()
        ours = [d for d in walk.declared.values() if d.spaces]
        around = [
            d
            for other in self._walks.values()
            for d in other.declared.values()
            if other is walk or server.is_at(d.place)
        ]
        said: dict[str, list[KeySpace]] = {}
        for declared in around:
            for s in declared.spaces:
                here = s.enforce and server.is_at(declared.place)
                said.setdefault(_shape(s.pattern), []).append(replace(s, enforce=here))
        agreed = {}
        for s in (s for declared in ours for s in declared.spaces):
            all_said = said[_shape(s.pattern)]
            agreed[s.pattern] = replace(
                s,
                enforce=may and all(other.enforce for other in all_said),
                ttl_seconds=max(other.ttl_seconds for other in all_said),
            )
        return list(agreed.values())

    async def _scan(self, walk: _Walk) -> None:
        declared = dict(walk.declared)
        try:
            async with self._connections.watching(walk.deployment) as port:
                server = await port.info()
                walk.reports = await port.scan(self._agreed(walk, server), at=server.place)
                walk.seen, walk.ended = server, monotonic()
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


def _shape(pattern: str) -> str:
    """Two patterns that differ in the names of their placeholders are one."""
    return _PLACEHOLDER.sub("{}", pattern)
