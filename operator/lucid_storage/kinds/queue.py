"""A work queue of keys: each key is worked on by one worker at a time, duplicates collapse, delays and back-off.

Retries live here and not in kopf, whose own retries wake it up by patching the object.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import random
from collections import OrderedDict, deque

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
    delays wins. A key can be put behind another one: it then comes when the work on that one is done.
    """

    def __init__(self, *, rng: random.Random | None = None) -> None:
        self._ready: OrderedDict[Key, None] = OrderedDict()
        self._active: set[Key] = set()
        self._dirty: set[Key] = set()
        self._delayed: list[tuple[float, int, Key]] = []
        self._due: dict[Key, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._behind: dict[Key, Key] = {}
        self._followers: dict[Key, list[Key]] = {}
        self._failures: dict[Key, int] = {}
        self._sequence = itertools.count()
        # One is woken for each key: waking all idle workers would cost more than many a look.
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret

    def __len__(self) -> int:
        return len(self._ready) + len(self._active) + len(self._behind)

    @property
    def idle(self) -> bool:
        """Nothing is waiting now or being worked on (delayed keys aside)."""
        return not len(self)

    def pending(self, key: Key) -> bool:
        """Whether the key waits for a worker or is being worked on."""
        return key in self._ready or key in self._active

    def add(self, key: Key) -> None:
        """Look at the key as soon as a worker is free."""
        self._due.pop(key, None)
        if key in self._active:
            self._dirty.add(key)
        elif key not in self._ready and key not in self._behind:
            self._ready[key] = None
            self._wake()

    def add_after(self, key: Key, seconds: float) -> None:
        """Look at the key after a delay, unless something makes it due earlier."""
        due = asyncio.get_running_loop().time() + seconds
        if key in self._ready or self._due.get(key, due + 1) <= due:
            return
        self._due[key] = due
        heapq.heappush(self._delayed, (due, next(self._sequence), key))
        self._set_timer()

    def put_behind(self, key: Key, first: Key) -> None:
        """Give a key back that `get` returned: it comes again as soon as the work on `first`, which is pending, is
        done. What adds it meanwhile changes nothing.
        """
        self._active.discard(key)
        self._dirty.discard(key)
        self._behind[key] = first
        self._followers.setdefault(first, []).append(key)

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
        self._behind.pop(key, None)
        if key not in self._active:
            self._release_followers(key)

    async def get(self) -> Key:
        """The next key; the caller must call `done` with it, or `put_behind`."""
        while not self._ready:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.cancelled():
                    with contextlib.suppress(ValueError):  # let go already
                        self._waiters.remove(waiter)
                elif self._ready:
                    self._wake()  # the key that this one was woken for is another's now
                raise
        key, _ = self._ready.popitem(last=False)
        self._active.add(key)
        return key

    def done(self, key: Key) -> None:
        """The work on the key ended, however it ended."""
        self._active.discard(key)
        if key in self._dirty:
            self._dirty.discard(key)
            self._ready[key] = None
            self._wake()
        self._release_followers(key)

    def _release_followers(self, first: Key) -> None:
        for key in self._followers.pop(first, ()):
            if self._behind.get(key) == first:
                del self._behind[key]
                self.add(key)

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _set_timer(self) -> None:
        due = self._delayed[0][0]
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(due, self._promote)

    def _promote(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._delayed and self._delayed[0][0] <= now:
            due, _, key = heapq.heappop(self._delayed)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)
        if self._delayed:
            self._set_timer()
