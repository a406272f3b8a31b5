"""RedisPort in memory, for tests of the engine; the same tests hold it to the real adapter's contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lucid_storage.errors import LucidError, StoreUnavailableError
from lucid_storage.stores.redis.patterns import PatternMatcher
from lucid_storage.stores.redis.tally import Tally
from lucid_storage.stores.redis.types import KeySpace, KeySpaceReport, RedisInfo

NO_TTL = -1


@dataclass
class FakeKey:
    ttl: int = NO_TTL
    size: int = 64


class FakeRedis:
    """Keys with their TTLs in seconds, which stand still. `failure` is raised by every call while set."""

    def __init__(
        self,
        *,
        identity: str = "fake-redis",
        version: tuple[int, int, int] = (7, 0, 15),
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        self.keys: dict[bytes, FakeKey] = {}
        self.identity = identity
        self.version = version
        self.failure: LucidError | None = None
        self.write_failure: LucidError | None = None
        self.scans: list[tuple[KeySpace, ...]] = []
        self.closed = False
        self._guard = guard

    def put(self, key: str, ttl: int | None = None, *, size: int = 64) -> None:
        self.keys[key.encode()] = FakeKey(NO_TTL if ttl is None else ttl, size)

    def ttl(self, key: str) -> int | None:
        ttl = self.keys[key.encode()].ttl
        return None if ttl == NO_TTL else ttl

    async def info(self) -> RedisInfo:
        self._check()
        return RedisInfo(self.identity, self.version, role="master", cluster=False, keys=len(self.keys))

    async def scan(
        self,
        spaces: Sequence[KeySpace],
        *,
        at: str | None = None,
        keys_per_second: int = 20_000,
        sample: int = 100,
    ) -> dict[str, KeySpaceReport]:
        self._check()
        here = await self.info()
        self.scans.append(tuple(spaces))
        tallies: dict[str, Tally] = {}
        for space in spaces:
            tallies.setdefault(space.pattern, Tally(space, sample))
        matcher = PatternMatcher(tuple(tallies))
        for name, key in self.keys.items():
            pattern = matcher.match(name)
            if pattern is None:
                continue
            tally = tallies[pattern]
            if tally.draw():
                tally.add_size(key.size)
            if tally.add_key(key.ttl):
                if at is not None and not here.is_at(at):
                    raise StoreUnavailableError("Another Redis answers.")
                self._correct(tally, key)
        return {pattern: tally.report() for pattern, tally in tallies.items()}

    async def close(self) -> None:
        self.closed = True

    def _correct(self, tally: Tally, key: FakeKey) -> None:
        self._guard()
        if self.write_failure is not None:
            tally.refused = self.write_failure
            return
        key.ttl = tally.space.ttl_seconds
        tally.corrected += 1

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure
