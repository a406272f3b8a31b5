"""Questions about single names, put to the server together: a storm of looks costs what it asks for, not a listing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Batches(Generic[Key, Value]):
    """One request a key at a time; names that are asked for meanwhile wait for the next one.

    So an answer is never older than its question, and as many names share a request as there are callers at once.
    """

    def __init__(self, load: Callable[[Key, frozenset[str]], Awaitable[Mapping[str, Value]]]) -> None:
        self._load = load
        self._waiting: dict[Key, dict[str, asyncio.Future[Value | None]]] = {}
        self._running: dict[Key, asyncio.Task[None]] = {}

    async def get(self, key: Key, name: str) -> Value | None:
        """None where the answer has no such name. Raises what the request raises, to every caller that shared it."""
        waiting = self._waiting.setdefault(key, {})
        future = waiting.get(name)
        if future is None:
            future = waiting[name] = asyncio.get_running_loop().create_future()
            future.add_done_callback(_seen)
        if key not in self._running:
            self._running[key] = asyncio.create_task(self._run(key))
        # One caller's cancellation must not take the answer from the others.
        return await asyncio.shield(future)

    async def close(self) -> None:
        """Stop what is under way; its callers are cancelled."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _run(self, key: Key) -> None:
        try:
            while key in self._waiting:
                await self._ask(key, self._waiting.pop(key))
        finally:
            del self._running[key]
            for future in self._waiting.pop(key, {}).values():
                future.cancel()

    async def _ask(self, key: Key, futures: dict[str, asyncio.Future[Value | None]]) -> None:
        try:
            found = await self._load(key, frozenset(futures))
        except Exception as error:  # noqa: BLE001 - it belongs to the callers
            for future in futures.values():
                future.set_exception(error)
        except BaseException:
            for future in futures.values():
                future.cancel()
            raise
        else:
            for name, future in futures.items():
                future.set_result(found.get(name))


def _seen(future: asyncio.Future[Value | None]) -> None:
    """A failure whose callers have all gone is not an unhandled error."""
    if not future.cancelled():
        future.exception()
