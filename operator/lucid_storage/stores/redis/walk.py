"""One walk over the whole key space, from SCAN's cursor 0 to cursor 0."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import cast

from lucid_storage.stores.redis.connection import RedisConnection, refusal
from lucid_storage.stores.redis.patterns import PatternMatcher, scan_filter
from lucid_storage.stores.redis.tally import RecentKeys, Tally

KEYS_PER_STEP = 500
"""SCAN's COUNT: under a millisecond of the server's time, and a few of ours with the TTLs of all of them."""


class Walk:
    """Counts keys into `tallies` (by pattern) and sets the TTLs that are to be enforced.

    `expire_nx`: the server knows EXPIRE ... NX (Redis 7). `before_writing` raises when no TTL may be set.
    """

    def __init__(
        self,
        connection: RedisConnection,
        guard: Callable[[], None],
        tallies: Mapping[str, Tally],
        *,
        expire_nx: bool,
        before_writing: Callable[[], Awaitable[None]],
    ) -> None:
        self._connection = connection
        self._guard = guard
        self._tallies = tallies
        self._matcher = PatternMatcher(tuple(tallies))
        self._recent = RecentKeys()
        self._expire_nx = expire_nx
        self._before_writing = before_writing
        self._sampling = True

    async def run(self, keys_per_second: int) -> None:
        """Walk once. Raises the errors of RedisPort; what was counted until then is not a result."""
        glob = scan_filter(tuple(self._tallies))
        match: tuple[str | bytes, ...] = ("MATCH", glob) if glob else ()
        count = min(KEYS_PER_STEP, keys_per_second)
        clock = asyncio.get_running_loop().time
        cursor, due = 0, clock()
        while True:
            reply = await self._connection.call("SCAN", cursor, *match, "COUNT", count)
            cursor, keys = cast("tuple[int, list[bytes]]", reply)
            await self._look(self._recent.unseen(keys))
            if cursor == 0:
                return
            # COUNT and not len(keys): the server visits that many whatever MATCH lets through. Time that a
            # slow server took is not made up for by a burst.
            due = max(due, clock()) + max(count, len(keys)) / keys_per_second
            await asyncio.sleep(due - clock())

    async def _look(self, keys: Sequence[bytes]) -> None:
        owned = [(key, self._tallies[name]) for key in keys if (name := self._matcher.match(key)) is not None]
        if not owned:
            return
        drawn = [(key, tally) for key, tally in owned if self._sampling and tally.draw()]
        replies = await self._connection.pipeline(
            [("TTL", key) for key, _ in owned] + [("MEMORY", "USAGE", key) for key, _ in drawn]
        )
        strays: dict[str, list[bytes]] = {}
        for (key, tally), reply in zip(owned, replies, strict=False):
            if refused := refusal(reply):
                raise refused
            if tally.add_key(cast("int", reply)):
                strays.setdefault(tally.space.pattern, []).append(key)
        for (_, tally), reply in zip(drawn, replies[len(owned) :], strict=True):
            if refusal(reply):
                self._sampling = False  # not allowed or not known there: sizes are left out, counts are not
            elif isinstance(reply, int):
                tally.add_size(reply)
        for pattern, found in strays.items():
            await self._correct(self._tallies[pattern], found)

    async def _correct(self, tally: Tally, keys: Sequence[bytes]) -> None:
        """Set the TTL where there is none; a refusal goes into the tally and ends this pattern's part."""
        seconds = tally.space.ttl_seconds
        # The pool dials again by itself when a connection was lost, and a name may lead elsewhere by then.
        await self._before_writing()
        self._guard()
        if not self._expire_nx:
            for key in keys:
                self._guard()
                tally.corrected += await self._connection.expire_unset(key, seconds)
            return
        for reply in await self._connection.pipeline([("EXPIRE", key, seconds, "NX") for key in keys]):
            if refused := refusal(reply):
                tally.refused = refused
            elif reply == 1:
                tally.corrected += 1
