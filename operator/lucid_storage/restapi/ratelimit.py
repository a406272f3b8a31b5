"""Token buckets, one for each key, in a table of bounded size."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable

from lucid_storage.restapi.limits import Rate


class RateLimiter:
    """Buckets by key. A key that was forgotten for lack of room starts again with a full bucket."""

    def __init__(self, *, capacity: int, monotonic: Callable[[], float]) -> None:
        self._capacity = capacity
        self._monotonic = monotonic
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, key: Hashable, rate: Rate) -> int:
        """Take one token. Returns 0, or the whole seconds until there is one again."""
        tokens = self._tokens(key, rate)
        if tokens >= 1.0:
            self._keep(key, tokens - 1.0)
            return 0
        self._keep(key, tokens)
        return self._wait(tokens, rate)

    def give_back(self, key: Hashable, rate: Rate) -> None:
        """Undo a `take`."""
        self._keep(key, min(float(rate.burst), self._tokens(key, rate) + 1.0))

    def __len__(self) -> int:
        return len(self._buckets)

    def _tokens(self, key: Hashable, rate: Rate) -> float:
        tokens, at = self._buckets.get(key, (float(rate.burst), self._monotonic()))
        return min(float(rate.burst), tokens + (self._monotonic() - at) * rate.per_minute / 60.0)

    def _keep(self, key: Hashable, tokens: float) -> None:
        self._buckets[key] = (tokens, self._monotonic())
        self._buckets.move_to_end(key)
        while len(self._buckets) > self._capacity:
            self._buckets.popitem(last=False)

    @staticmethod
    def _wait(tokens: float, rate: Rate) -> int:
        return max(1, math.ceil((1.0 - tokens) * 60.0 / rate.per_minute))
