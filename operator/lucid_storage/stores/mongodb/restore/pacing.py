"""A restore writes no faster than slices follow (rule 2.8): what the oplog drops before it is in a slice is in none."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from lucid_storage.stores.mongodb.restore.target import Target

PERIOD_SECONDS = 15.0
PATIENCE_SECONDS = 600.0
"""A slicer that writes nothing for so long is not at work, and is nobody to wait for."""


class SlicePace:
    """Waits while the newest slice is further behind than half of what the oplog holds.

    `newest` is the second that slices reach to; None where there are none. May be called often: it looks every few
    seconds at most.
    """

    def __init__(
        self,
        target: Target,
        newest: Callable[[], int | None],
        *,
        period: float = PERIOD_SECONDS,
        patience: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._target = target
        self._newest = newest
        self._period = period
        self._patience = patience
        self._clock = clock
        self._looked = float("-inf")
        self._reached: int | None = None
        self._moved = float("-inf")
        """When slices were last seen to get further."""

    def wait(self) -> None:
        """Blocks while slices are behind. Raises what `check` of the target raises."""
        while self._clock() - self._looked >= self._period:
            if not self._behind():
                self._looked = self._clock()
                return
            self._target.pause()

    def _behind(self) -> bool:
        newest, now = self._newest(), self._clock()
        if newest != self._reached:
            self._reached, self._moved = newest, now
        if newest is None or now - self._moved > self._patience:
            return False
        held = self._held()
        return held is not None and held[1] - newest > (held[1] - held[0]) / 2

    def _held(self) -> tuple[int, int] | None:
        """First and last second of the oplog; None where the login may not read it."""
        bounds = []
        for direction in (1, -1):
            answer = self._target.command(
                "local",
                {"find": "oplog.rs", "sort": {"$natural": direction}, "limit": 1, "projection": {"ts": 1}},
                "look at the oplog",
                expected={13, 26},
            )
            cursor = answer.get("cursor")
            batch = cursor.get("firstBatch") if isinstance(cursor, Mapping) else None
            if not batch:
                return None
            bounds.append(int(batch[0]["ts"].time))
        return bounds[0], bounds[1]
