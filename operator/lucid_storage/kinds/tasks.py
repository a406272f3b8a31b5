"""Tasks beside each other, of which the first to end, or to fail, ends the others; and rounds that never end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from lucid_storage.kube.client import KubeApiError

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 1.0
"""How long a cancelled task has until it is cancelled once more."""


async def first_of(jobs: Iterable[Awaitable[object]]) -> None:
    """Wait for the first job to end, end the others, and raise what it raised."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await ended(tasks)


async def ended(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel the tasks until all have ended, whatever they return or raise.

    Once is not always enough: before Python 3.12 `asyncio.wait_for`, which PyMongo has around each message that it
    sends, drops a cancellation that arrives together with the result, and a task that loops goes on for ever.
    """
    tasks = list(tasks)
    pending = {task for task in tasks if not task.done()}
    cancelled: asyncio.CancelledError | None = None
    while pending:
        for task in pending:
            task.cancel()
        try:
            _, pending = await asyncio.wait(pending, timeout=AGAIN_SECONDS)
        except asyncio.CancelledError as error:
            cancelled = error
            pending = {task for task in pending if not task.done()}
    for task in tasks:
        if not task.cancelled():
            task.exception()  # asked for, so that it is not reported as never looked at
    if cancelled is not None:
        raise cancelled


async def repeatedly(look: Callable[[], Awaitable[None]], seconds: float, what: str) -> None:
    """Look until cancelled. When the API server did not answer, the next round comes; `what` begins the log line."""
    while True:
        try:
            await look()
        except KubeApiError as error:
            logger.warning("%s could not be looked for: %s", what, error)
        await asyncio.sleep(seconds)
