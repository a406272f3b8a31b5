"""How long a worker has been seen waiting for one thing, by this process's own clock.

When a Job or a pod was made is told by the API server's clock, which may be hours from ours: such ages are never taken.
A process that begins anew counts anew, so a wait has an end as long as one of them lives that long; the Job's own
deadline is behind it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

Worker = tuple[str, str]
"""Namespace and name of a Job."""
FORGOTTEN_SECONDS = 3600.0
"""A worker that nobody asked for so long is forgotten: its owner is gone."""


@dataclass(slots=True)
class _Wait:
    what: str
    since: float
    looked: float


class Patience:
    """`clock` gives seconds that only ever go forward; a machine that sleeps waits for nothing meanwhile."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waits: dict[Worker, _Wait] = {}

    def __len__(self) -> int:
        return len(self._waits)

    def waited(self, worker: Worker, what: str | None) -> timedelta:
        """How long it has waited for this; None means that it waits for nothing, and is forgotten."""
        if what is None:
            self._waits.pop(worker, None)
            return timedelta()
        now = self._clock()
        wait = self._waits.get(worker)
        if wait is None or wait.what != what:
            self._forget(now)
            wait = self._waits[worker] = _Wait(what, now, now)
        wait.looked = now
        return timedelta(seconds=now - wait.since)

    def _forget(self, now: float) -> None:
        for worker in [w for w, wait in self._waits.items() if now - wait.looked > FORGOTTEN_SECONDS]:
            del self._waits[worker]
