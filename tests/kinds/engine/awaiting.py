"""Waiting for what other tasks do."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - bounded by the deadline above
            await asyncio.sleep(0.005)
