"""Index builds that this process waits for. A build belongs to the server: losing the wait loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from lucid_storage.errors import LucidError
from lucid_storage.kube.resources import Key

QUICK_SECONDS = 2.0
"""How long a look waits for a build to end before it goes on and shows progress."""


@dataclass(slots=True)
class _Build:
    name: str
    task: asyncio.Task[None]


class IndexBuilds:
    """At most one createIndexes call for each resource. `touch` is called when one ends."""

    def __init__(self, touch: Callable[[Key], None]) -> None:
        self._touch = touch
        self._builds: dict[Key, _Build] = {}

    def running(self, key: Key) -> frozenset[str]:
        """The name of the index whose call has not returned."""
        build = self._builds.get(key)
        return frozenset() if build is None or build.task.done() else frozenset({build.name})

    def take_error(self, key: Key) -> LucidError | None:
        """What a call that ended said, once."""
        build = self._builds.get(key)
        if build is None or not build.task.done():
            return None
        del self._builds[key]
        error = None if build.task.cancelled() else build.task.exception()
        if error is not None and not isinstance(error, LucidError):
            raise error
        return error

    async def start(self, key: Key, name: str, call: Callable[[], Coroutine[None, None, None]]) -> None:
        """Begin, and wait a moment: small builds end in it. Raises the call's error if it fails in that time."""
        build = self._builds.get(key)
        new = build is None or build.task.done()
        if build is None or new:
            build = self._builds[key] = _Build(name, asyncio.create_task(call()))
        await asyncio.wait({build.task}, timeout=QUICK_SECONDS)
        if new and not build.task.done():
            # One that ended by now is this look's own: touching for it would look again without a back-off.
            build.task.add_done_callback(lambda _: self._touch(key))
        error = self.take_error(key)
        if error is not None:
            raise error

    async def forget(self, key: Key) -> None:
        """Stop waiting; the server's build goes on."""
        build = self._builds.pop(key, None)
        if build is not None:
            build.task.cancel()
            with contextlib.suppress(asyncio.CancelledError, LucidError):
                await build.task

    async def close(self) -> None:
        for key in list(self._builds):
            await self.forget(key)
