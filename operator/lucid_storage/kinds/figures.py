"""Figures in status: they move rarely, so that a busy database does not mean a busy API server.

A figure is asked for at most every 15 minutes for each resource, and moves when it changed by 10 percent or more.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random

from lucid_storage.kube.resources import Key

REFRESH = timedelta(minutes=15)
CHANGE = 0.10


def due(taken: datetime | None, now: datetime) -> bool:
    """Whether figures may move again: at most every 15 minutes. Those of a clock that ran ahead wait for nothing."""
    return taken is None or not timedelta(0) <= now - taken < REFRESH


def moved(before: int | None, after: int) -> bool:
    """Whether a figure moved by 10 percent or more."""
    if before is None:
        return True
    return abs(after - before) >= max(1, CHANGE * before)


def size(count: int) -> str:
    """Bytes for people, in binary units."""
    value = float(count)
    for unit in ("B", "Ki", "Mi", "Gi"):
        if value < 1024:
            return f"{value:.0f}{unit}" if unit == "B" or value >= 100 else f"{value:.1f}{unit}"
        value /= 1024
    return f"{value:.1f}Ti"


class FigureClock:
    """When each resource's figures were last asked for, in this process.

    After a restart the first questions are spread over the 15 minutes: the figures in status are still good, and a
    thousand resources must not ask at once.
    """

    def __init__(self, rng: Random | None = None) -> None:
        self._asked: dict[Key, datetime] = {}
        self._rng = rng or Random()  # noqa: S311 - spreading, not a secret

    def ask(self, key: Key, now: datetime, *, known: bool) -> bool:
        """Whether to ask now; a yes is remembered. `known` says that status has figures already."""
        before = self._asked.get(key)
        if known and before is None:
            self._asked[key] = now - REFRESH * self._rng.random()
            return False
        if known and not due(before, now):
            return False
        self._asked[key] = now
        return True

    def forget(self, key: Key) -> None:
        """The resource is gone."""
        self._asked.pop(key, None)
