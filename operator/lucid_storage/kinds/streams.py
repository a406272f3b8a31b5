"""Drift seen at once: one change stream for each MongoDB deployment in use, and a full look whenever it opens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Sequence
from time import monotonic

from lucid_storage.errors import AccessDeniedError, LucidError, NotSupportedError
from lucid_storage.kinds.connections import Connections, Deployment, Port
from lucid_storage.kinds.metrics import Metrics
from lucid_storage.kinds.tasks import ended
from lucid_storage.stores.mongodb.port import MongoPort
from lucid_storage.stores.mongodb.types import DdlEvent

logger = logging.getLogger(__name__)

REOPEN_FIRST, REOPEN_MOST = 0.5, 15.0
WIDEN_SECONDS = 2.0
"""How soon a stream over single databases is opened anew when another database came into use."""
STEADY_SECONDS = 10.0
"""A stream that lasted so long was no flicker: the next one is opened soon."""
UNSUPPORTED_SECONDS = 300.0
"""How long to wait before asking again for a stream that the server does not give."""


class DdlStreams:
    """Keeps a stream open for every MongoDB deployment that resources use.

    `on_event` gets each change of definitions; `on_open` is called with the label of the credentials when a stream
    opened: look at everything there once, so that no resume token need be kept.
    """

    def __init__(
        self,
        connections: Connections,
        metrics: Metrics,
        *,
        on_event: Callable[[DdlEvent], None],
        on_open: Callable[[str], None],
    ) -> None:
        self._connections = connections
        self._metrics = metrics
        self._on_event = on_event
        self._on_open = on_open
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._open: dict[str, Deployment[MongoPort]] = {}

    def ensure(self, deployment: Deployment[Port]) -> None:
        """Start a stream for a deployment that has none. Other stores than MongoDB are ignored."""
        if deployment.engine.name != "mongodb":
            return
        task = self._tasks.get(id(deployment))
        if task is None or task.done():
            self._tasks[id(deployment)] = asyncio.create_task(self._run(deployment))  # type: ignore[arg-type]

    def is_open(self, label: str) -> bool:
        """Whether drift behind these credentials is seen at once."""
        return label in self._open

    async def close(self) -> None:
        await ended(self._tasks.values())
        self._tasks.clear()

    async def _run(self, deployment: Deployment[MongoPort]) -> None:
        wait = REOPEN_FIRST
        while self._connections.is_open(deployment):
            opened = monotonic()
            deployment.widened.clear()
            unsupported = await self._followed(deployment)
            self._mark(deployment, False)
            if monotonic() - opened > STEADY_SECONDS:
                wait = REOPEN_FIRST
            pause = UNSUPPORTED_SECONDS if unsupported else wait
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(deployment.widened.wait(), pause * random.uniform(0.75, 1.0))  # noqa: S311
            wait = min(REOPEN_MOST, wait * 2)
        self._tasks.pop(id(deployment), None)

    async def _followed(self, deployment: Deployment[MongoPort]) -> bool:
        """Follow until the stream ends. True when the server or the login gives none."""
        store = {"store": deployment.label}
        try:
            await self._follow(deployment)
        except (NotSupportedError, AccessDeniedError) as error:
            logger.info("drift is found by sweeps only: %s", error.message, extra=store)
            return True
        except LucidError as error:
            logger.warning("change stream lost: %s", error.message, extra=store)
        except Exception:
            logger.exception("a defect while following changes; it is tried again", extra=store)
        return False

    async def _follow(self, deployment: Deployment[MongoPort]) -> None:
        """One stream for the deployment; where the login may not have that, one for each database in use."""
        try:
            await self._relay(deployment, ())
        except AccessDeniedError:
            if not deployment.databases:
                raise
        else:
            return
        relay = asyncio.create_task(self._relay(deployment, sorted(deployment.databases)))
        widened = asyncio.create_task(_widened(deployment))
        try:
            await asyncio.wait({relay, widened}, return_when=asyncio.FIRST_COMPLETED)
            if relay.done():
                relay.result()
        finally:
            await ended((relay, widened))

    async def _relay(self, deployment: Deployment[MongoPort], databases: Sequence[str]) -> None:
        # A lost stream is often the first sign of a lost store: nothing else may look at it for minutes.
        async with self._connections.watching(deployment) as port, port.watch_ddl(databases) as events:
            self._mark(deployment, True)
            self._on_open(deployment.label)
            async for event in events:
                self._on_event(event)

    def _mark(self, deployment: Deployment[MongoPort], is_open: bool) -> None:
        """A deployment whose credentials changed ends after its successor began: it does not speak for that one."""
        label = deployment.label
        if is_open:
            self._open[label] = deployment
        elif self._open.get(label) in (deployment, None):
            self._open.pop(label, None)
        self._metrics.stream_up.labels(label).set(label in self._open)


async def _widened(deployment: Deployment[MongoPort]) -> None:
    """Another database came into use; those that follow it in a moment are waited for."""
    await deployment.widened.wait()
    await asyncio.sleep(WIDEN_SECONDS)
