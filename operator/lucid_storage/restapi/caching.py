"""A bounded cache of answers in which callers who miss at the same time share one load."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SharedReads(Generic[K, V]):
    """Values by key for `seconds`, at most `capacity` of them (the one unused for longest goes first).

    With `refresh_after`, a value older than that is still served, and one load in the background replaces it:
    a regular caller never waits. A load that fails is not kept; all who waited for it get its exception.
    """

    def __init__(
        self,
        *,
        capacity: int,
        monotonic: Callable[[], float],
        seconds: float | Callable[[V], float],
        refresh_after: float | None = None,
    ) -> None:
        self._capacity = capacity
        self._monotonic = monotonic
        self._seconds = seconds
        self._refresh_after = refresh_after
        self._values: OrderedDict[K, tuple[V, float]] = OrderedDict()
        self._loads: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K, load: Callable[[], Awaitable[V]]) -> V:
        """The value of `key`, loaded if there is none young enough."""
        held = self._values.get(key)
        if held is not None:
            value, loaded_at = held
            age = self._monotonic() - loaded_at
            if age < self._lifetime(value):
                self._values.move_to_end(key)
                if self._refresh_after is not None and age >= self._refresh_after:
                    self._load(key, load)
                return value
        # A caller who goes away must not take the load from the others.
        return await asyncio.shield(self._load(key, load))

    async def get_all(self, loads: Mapping[K, Callable[[], Awaitable[V]]]) -> dict[K, V]:
        """The value of each key; those that are not there load at the same time. Makes no task for what is there."""
        for key, load in loads.items():
            if self.held(key) is None:
                self._load(key, load)
        return {key: await self.get(key, load) for key, load in loads.items()}

    def held(self, key: K) -> V | None:
        """The value of `key` where there is one young enough; nothing is loaded."""
        held = self._values.get(key)
        if held is None or self._monotonic() - held[1] >= self._lifetime(held[0]):
            return None
        return held[0]

    def keep(self, key: K, value: V) -> None:
        """Hold a value that came by another way than a load."""
        self._values[key] = (value, self._monotonic())
        self._values.move_to_end(key)
        while len(self._values) > self._capacity:
            self._values.popitem(last=False)

    async def close(self) -> None:
        """Stop the loads under way."""
        loads = list(self._loads.values())
        for task in loads:
            task.cancel()
        await asyncio.gather(*loads, return_exceptions=True)

    def _lifetime(self, value: V) -> float:
        return self._seconds(value) if callable(self._seconds) else self._seconds

    def _load(self, key: K, load: Callable[[], Awaitable[V]]) -> asyncio.Task[V]:
        task = self._loads.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._run(key, load))
            task.add_done_callback(_seen)
            self._loads[key] = task
        return task

    async def _run(self, key: K, load: Callable[[], Awaitable[V]]) -> V:
        try:
            value = await load()
            self.keep(key, value)
            return value
        finally:
            self._loads.pop(key, None)


def _seen(task: asyncio.Task[Any]) -> None:
    """A failed load whose callers have all gone is not an unhandled error: the next caller loads again."""
    if not task.cancelled():
        task.exception()


async def gather_bounded(calls: list[Coroutine[Any, Any, V]], at_once: int) -> list[V]:
    """Results in order, with at most `at_once` calls running; the first failure cancels the others."""
    gate = asyncio.Semaphore(at_once)

    async def run(call: Coroutine[Any, Any, V]) -> V:
        async with gate:
            return await call

    tasks = [asyncio.ensure_future(run(call)) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for call in calls:
            call.close()
        raise
