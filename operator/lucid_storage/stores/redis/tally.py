"""The tally of one walk over the key space: counts for each pattern in constant memory."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from lucid_storage.errors import LucidError
from lucid_storage.stores.redis.connection import NO_TTL
from lucid_storage.stores.redis.types import KeySpace, KeySpaceReport

NO_KEY = -2
"""TTL's answer for a key that is gone."""


class RecentKeys:
    """Keeps a key that SCAN hands out twice from being counted twice, in bounded memory.

    SCAN may repeat keys while the server resizes its table. Up to `size` keys are remembered exactly, beyond
    that the last `size` to twice as many; a repetition further apart is counted again.
    """

    def __init__(self, size: int = 16_384) -> None:
        self._size = size
        self._young: set[int] = set()
        self._old: set[int] = set()

    def unseen(self, keys: Iterable[bytes]) -> list[bytes]:
        """The keys that are not remembered, in order, once each; they are remembered from now on."""
        fresh = []
        for key in keys:
            mark = hash(key)
            if mark in self._young or mark in self._old:
                continue
            fresh.append(key)
            self._young.add(mark)
            if len(self._young) >= self._size:
                self._young, self._old = set(), self._young
        return fresh


@dataclass(slots=True)
class Tally:
    """What has been seen of one key space so far."""

    space: KeySpace
    sample: int
    keys: int = 0
    without_ttl: int = 0
    over_ttl: int = 0
    corrected: int = 0
    refused: LucidError | None = None
    _drawn: int = 0
    _sizes: list[int] = field(default_factory=list)
    _random: random.Random = field(default_factory=random.Random)

    def draw(self) -> bool:
        """Whether the next key belongs to the sample: every key of the walk has the same chance in the end
        (reservoir sampling), though only about sample * ln(keys / sample) sizes are ever asked for.
        """
        self._drawn += 1
        return self._drawn <= self.sample or self._random.random() * self._drawn < self.sample

    def add_size(self, size: int) -> None:
        """Take a sampled key's size in bytes, in place of a random earlier one when the sample is full."""
        if len(self._sizes) < self.sample:
            self._sizes.append(size)
        else:
            self._sizes[self._random.randrange(self.sample)] = size

    def add_key(self, ttl: int) -> bool:
        """Count one key by TTL's answer in seconds; True when it lacks the TTL that is to be enforced."""
        if ttl == NO_KEY:
            return False
        self.keys += 1
        if ttl == NO_TTL:
            self.without_ttl += 1
            return self.space.enforce and self.refused is None
        if ttl > self.space.ttl_seconds:
            self.over_ttl += 1
        return False

    def report(self) -> KeySpaceReport:
        return KeySpaceReport(
            pattern=self.space.pattern,
            keys=self.keys,
            without_ttl=self.without_ttl,
            over_ttl=self.over_ttl,
            sampled_bytes=sum(self._sizes),
            sampled_keys=len(self._sizes),
            corrected=self.corrected,
            complete=True,
            refused=self.refused,
        )
