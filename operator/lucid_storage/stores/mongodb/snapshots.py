"""Listings shared by callers at the same time, so that a sweep over many objects asks the server once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

LIFETIME_SECONDS = 0.5


@dataclass(slots=True)
class _Flight(Generic[Value]):
    started: float
    task: asyncio.Task[Value]


class Snapshots(Generic[Key, Value]):
    """One listing a key, at most `lifetime` seconds old counted from when it was asked for.

    A forgotten key is asked for anew by the next caller, also while an older request is still under way: what
    that one answers may be from before the change.
    """

    def __init__(
        self, load: Callable[[Key], Awaitable[Value]], *, lifetime: float = LIFETIME_SECONDS
    ) -> None:
        self._load = load
        self._lifetime = lifetime
        self._flights: dict[Key, _Flight[Value]] = {}
        self._running: set[asyncio.Task[Value]] = set()

    async def get(self, key: Key) -> Value:
        """Raises what the listing raises, to every caller that shared it; a failed listing is not kept."""
        now = asyncio.get_running_loop().time()
        flight = self._flights.get(key)
        if flight is None or now - flight.started > self._lifetime:
            flight = _Flight(now, self._start(key))
            self._flights[key] = flight
        # One caller's cancellation must not end the listing that the others wait for.
        return await asyncio.shield(flight.task)

    def forget(self, key: Key) -> None:
        self._flights.pop(key, None)

    def forget_all(self) -> None:
        self._flights.clear()

    def held(self) -> int:
        """How many listings are kept now."""
        return len(self._flights)

    async def close(self) -> None:
        self._flights.clear()
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _start(self, key: Key) -> asyncio.Task[Value]:
        task = asyncio.ensure_future(self._loaded(key))
        self._running.add(task)
        task.add_done_callback(lambda done: self._landed(key, done))
        return task

    async def _loaded(self, key: Key) -> Value:
        return await self._load(key)

    def _landed(self, key: Key, task: asyncio.Task[Value]) -> None:
        self._running.discard(task)
        flight = self._flights.get(key)
        failed = task.cancelled() or task.exception() is not None
        if flight is not None and flight.task is task:
            if failed:
                del self._flights[key]
            else:
                # Nothing of a listing is held longer than it may be served.
                loop = task.get_loop()
                loop.call_at(flight.started + self._lifetime, self._expire, key, task)

    def _expire(self, key: Key, task: asyncio.Task[Value]) -> None:
        flight = self._flights.get(key)
        if flight is not None and flight.task is task:
            del self._flights[key]
