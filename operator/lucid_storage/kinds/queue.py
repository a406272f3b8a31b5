"""A work queue of keys: each key is worked on by one worker at a time, duplicates collapse, delays and back-off.

Retries live here and not in kopf, whose own retries wake it up by patching the object.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import OrderedDict

from lucid_storage.kube.resources import Key

BACKOFF_FIRST = 1.0
BACKOFF_MOST = 300.0


def backoff(failures: int, jitter: float) -> float:
    """Seconds to wait after the n-th failure in a row: doubling, capped, spread over [0.5, 1) of the step.

    `jitter` is in [0, 1).
    """
    step = min(BACKOFF_MOST, BACKOFF_FIRST * 2.0 ** min(failures - 1, 16))
    return step * (0.5 + jitter / 2)


class WorkQueue:
    """Keys that need a look.

    `add` while a key is being worked on marks it dirty: it comes again right after. The earliest of several
    delays wins.
    """

    def __init__(self, *, rng: random.Random | None = None) -> None:
        self._ready: OrderedDict[Key, None] = OrderedDict()
        self._active: set[Key] = set()
        self._dirty: set[Key] = set()
        self._delayed: list[tuple[float, int, Key]] = []
        self._due: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._sequence = itertools.count()
        self._wake = asyncio.Event()
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret

    def __len__(self) -> int:
        return len(self._ready) + len(self._active)

    @property
    def idle(self) -> bool:
        """Nothing is waiting now or being worked on (delayed keys aside)."""
        return not self._ready and not self._active

    def add(self, key: Key) -> None:
        """Look at the key as soon as a worker is free."""
        self._due.pop(key, None)
        if key in self._active:
            self._dirty.add(key)
        elif key not in self._ready:
            self._ready[key] = None
            self._wake.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """Look at the key after a delay, unless something makes it due earlier."""
        due = asyncio.get_running_loop().time() + seconds
        if key in self._ready or self._due.get(key, due + 1) <= due:
            return
        self._due[key] = due
        heapq.heappush(self._delayed, (due, next(self._sequence), key))
        self._wake.set()

    def retry(self, key: Key) -> float:
        """Look at the key again after its back-off; returns the delay in seconds."""
        self._failures[key] = self._failures.get(key, 0) + 1
        delay = backoff(self._failures[key], self._rng.random())
        self.add_after(key, delay)
        return delay

    def succeeded(self, key: Key) -> None:
        """Reset the key's back-off."""
        self._failures.pop(key, None)

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._failures.pop(key, None)
        self._due.pop(key, None)
        self._ready.pop(key, None)
        self._dirty.discard(key)

    async def get(self) -> Key:
        """The next key; the caller must call `done` with it."""
        while True:
            self._promote()
            if self._ready:
                key, _ = self._ready.popitem(last=False)
                self._active.add(key)
                return key
            self._wake.clear()
            timeout = None
            if self._delayed:
                timeout = max(0.0, self._delayed[0][0] - asyncio.get_running_loop().time())
            try:
                await asyncio.wait_for(self._wake.wait(), timeout)
            except TimeoutError:
                continue

    def done(self, key: Key) -> None:
        """The work on the key ended, however it ended."""
        self._active.discard(key)
        if key in self._dirty:
            self._dirty.discard(key)
            self._ready[key] = None
        if self._ready:
            self._wake.set()

    def _promote(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._delayed and self._delayed[0][0] <= now:
            due, _, key = heapq.heappop(self._delayed)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)
