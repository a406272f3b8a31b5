"""Calls that may take long and that the server finishes by itself: losing the wait for an answer loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from lucid_storage.errors import LucidError
from lucid_storage.kinds.tasks import ended
from lucid_storage.kube.resources import Key

QUICK_SECONDS = 2.0
"""How long a look waits for a call to end before it goes on and shows progress."""


@dataclass(slots=True)
class _Call:
    name: str
    task: asyncio.Task[None]


class LongCalls:
    """At most one call for each resource. `touch` is called when one ends."""

    def __init__(self, touch: Callable[[Key], None]) -> None:
        self._touch = touch
        self._calls: dict[Key, _Call] = {}

    def running(self, key: Key) -> frozenset[str]:
        """The name of the call that has not returned."""
        call = self._calls.get(key)
        return frozenset() if call is None or call.task.done() else frozenset({call.name})

    def take_error(self, key: Key) -> LucidError | None:
        """What a call that ended said, once."""
        call = self._calls.get(key)
        if call is None or not call.task.done():
            return None
        del self._calls[key]
        error = None if call.task.cancelled() else call.task.exception()
        if error is not None and not isinstance(error, LucidError):
            raise error
        return error

    async def start(self, key: Key, name: str, call: Callable[[], Coroutine[None, None, None]]) -> None:
        """Begin, and wait a moment: quick calls end in it. Raises the call's error if it fails in that time."""
        known = self._calls.get(key)
        new = known is None or known.task.done()
        if known is None or new:
            known = self._calls[key] = _Call(name, asyncio.create_task(call()))
        await asyncio.wait({known.task}, timeout=QUICK_SECONDS)
        if new and not known.task.done():
            # One that ended by now is this look's own: touching for it would look again without a back-off.
            known.task.add_done_callback(lambda _: self._touch(key))
        error = self.take_error(key)
        if error is not None:
            raise error

    async def forget(self, key: Key) -> None:
        """Stop waiting; the server goes on."""
        call = self._calls.pop(key, None)
        if call is None:
            return
        await ended([call.task])
        error = None if call.task.cancelled() else call.task.exception()
        if error is not None and not isinstance(error, LucidError):
            raise error

    async def close(self) -> None:
        for key in list(self._calls):
            await self.forget(key)
