"""Drift seen at once: one change stream for each MongoDB deployment in use, and a full look whenever it opens."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from lucid_storage.errors import AccessDeniedError, LucidError, NotSupportedError
from lucid_storage.kinds.connections import Connections, Deployment, Port
from lucid_storage.kinds.metrics import Metrics
from lucid_storage.stores.mongodb.port import MongoPort
from lucid_storage.stores.mongodb.types import DdlEvent

logger = logging.getLogger(__name__)

REOPEN_FIRST, REOPEN_MOST = 0.5, 15.0
UNSUPPORTED_SECONDS = 300.0
"""How long to wait before asking again for a stream that the server does not give."""


class DdlStreams:
    """Keeps a stream open for every MongoDB deployment that resources use.

    `on_event` gets each change of definitions; `on_open` is called when a stream opened: look at everything once,
    so that no resume token need be kept.
    """

    def __init__(
        self,
        connections: Connections,
        metrics: Metrics,
        *,
        on_event: Callable[[DdlEvent], None],
        on_open: Callable[[], None],
    ) -> None:
        self._connections = connections
        self._metrics = metrics
        self._on_event = on_event
        self._on_open = on_open
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._open: set[str] = set()

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
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()

    async def _run(self, deployment: Deployment[MongoPort]) -> None:
        wait = REOPEN_FIRST
        while deployment in self._connections.deployments:
            try:
                await self._follow(deployment)
            except (NotSupportedError, AccessDeniedError) as error:
                logger.info(
                    "drift is found by sweeps only: %s", error.message, extra={"store": deployment.label}
                )
                wait = UNSUPPORTED_SECONDS
            except LucidError as error:
                logger.warning("change stream lost: %s", error.message, extra={"store": deployment.label})
            finally:
                if deployment.label in self._open:
                    wait = REOPEN_FIRST
                self._mark(deployment.label, False)
            await asyncio.sleep(wait * random.uniform(0.75, 1.0))  # noqa: S311 - jitter
            wait = min(REOPEN_MOST, wait * 2)

    async def _follow(self, deployment: Deployment[MongoPort]) -> None:
        databases = frozenset(deployment.databases)
        # A lost stream is often the first sign of a lost store: nothing else may look at it for minutes.
        async with (
            self._connections.watching(deployment) as port,
            port.watch_ddl(sorted(databases)) as events,
        ):
            self._mark(deployment.label, True)
            self._on_open()
            async for event in events:
                self._on_event(event)

    def _mark(self, label: str, is_open: bool) -> None:
        (self._open.add if is_open else self._open.discard)(label)
        self._metrics.stream_up.labels(label).set(is_open)
