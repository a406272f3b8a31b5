"""RedisPort over redis-py's asyncio client."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from lucid_storage.errors import NotSupportedError, StoreUnavailableError
from lucid_storage.stores.redis.connection import RedisConnection
from lucid_storage.stores.redis.sentences import another_sentence, cluster_sentence, loading_sentence
from lucid_storage.stores.redis.tally import Tally
from lucid_storage.stores.redis.types import KeySpace, KeySpaceReport, RedisInfo
from lucid_storage.stores.redis.walk import Walk

_VERSION = re.compile(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?")


class RedisDeployment:
    """One Redis behind one URL. Implements RedisPort.

    `guard` is called right before each writing batch and raises LeadershipLostError when this process may not
    act. The login needs INFO and SCAN, TTL for keys that match, EXPIRE for those with `enforce` (and WATCH,
    MULTI and EXEC before Redis 7), MEMORY USAGE for sampled sizes, which are left out without it.
    """

    def __init__(
        self, url: str, *, label: str, guard: Callable[[], None], ca_path: str | None = None
    ) -> None:
        self._connection = RedisConnection(url, label, ca_path)
        self._guard = guard

    async def info(self) -> RedisInfo:
        """As the port says; StoreUnavailableError while the server still loads its data."""
        values = cast("Mapping[str, object]", await self._connection.call("INFO"))
        subject = self._connection.subject
        if _is_on(values, "cluster_enabled") or values.get("redis_mode") == "cluster":
            raise NotSupportedError(cluster_sentence(subject))
        if _is_on(values, "loading"):
            raise StoreUnavailableError(loading_sentence(subject))
        return RedisInfo(
            identity=str(values.get("master_replid") or values.get("run_id") or ""),
            version=_version(str(values.get("redis_version", ""))),
            role=str(values.get("role", "")),
            cluster=False,
            keys=_key_count(values.get(f"db{self._connection.database}")),
            former=str(values.get("master_replid2") or "").strip("0"),
            database=self._connection.database,
        )

    async def scan(
        self,
        spaces: Sequence[KeySpace],
        *,
        at: str | None = None,
        keys_per_second: int = 20_000,
        sample: int = 100,
    ) -> dict[str, KeySpaceReport]:
        """As the port says. Each step (SCAN, TTLs, EXPIREs) is bounded in time, the walk as a whole is not.

        Counts are exact as long as the server does not resize its table meanwhile (see RecentKeys); keys that
        come and go during the walk may be missed. Of two spaces with the same pattern the first one holds.
        """
        tallies: dict[str, Tally] = {}
        for space in spaces:
            tallies.setdefault(space.pattern, Tally(space, sample))
        if tallies:
            expire_nx = (await self.info()).version >= (7, 0, 0)
            walk = Walk(
                self._connection,
                self._guard,
                tallies,
                expire_nx=expire_nx,
                before_writing=lambda: self._check(at),
            )
            await walk.run(max(1, keys_per_second))
        return {pattern: tally.report() for pattern, tally in tallies.items()}

    async def _check(self, at: str | None) -> None:
        if at is not None and not (await self.info()).is_at(at):
            error = StoreUnavailableError(another_sentence(self._connection.subject))
            error.everywhere = False  # it answers
            raise error

    async def close(self) -> None:
        await self._connection.close()


def _is_on(values: Mapping[str, object], name: str) -> bool:
    return str(values.get(name, "0")) == "1"


def _version(text: str) -> tuple[int, int, int]:
    found = _VERSION.match(text)
    return (int(found[1]), int(found[2] or 0), int(found[3] or 0)) if found else (0, 0, 0)


def _key_count(keyspace: object) -> int:
    """Keys of one database from INFO's keyspace section, which leaves empty databases out."""
    return int(cast("Mapping[str, int]", keyspace).get("keys", 0)) if isinstance(keyspace, Mapping) else 0
