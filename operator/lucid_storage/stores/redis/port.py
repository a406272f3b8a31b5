"""The Redis deployment as kinds see it. Implemented by `adapter.RedisDeployment`, and by a fake in tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from lucid_storage.stores.redis.types import KeySpace, KeySpaceReport, RedisInfo


class RedisPort(Protocol):
    """One Redis behind one set of credentials. Errors as in MongoPort; calls but `scan` take 10 s at most."""

    async def info(self) -> RedisInfo:
        """Replication id, version, role. Raises NotSupportedError (with a sentence) in Cluster mode."""

    async def scan(
        self,
        spaces: Sequence[KeySpace],
        *,
        at: str | None = None,
        keys_per_second: int = 20_000,
        sample: int = 100,
    ) -> dict[str, KeySpaceReport]:
        """One walk over the whole key space for all patterns together (SCAN with COUNT, pipelined TTL for the
        matching keys), held under `keys_per_second`; a key belongs to the most specific pattern that matches.
        Where `enforce` is set, EXPIRE ... NX for matching keys without a TTL (Redis 7; before it the same by
        a check in a transaction). Never DEL, never KEYS. With `at`, a `RedisInfo.place`, TTLs are set there only:
        raises StoreUnavailableError when another server answers.
        """

    async def close(self) -> None:
        """Close all connections. Idempotent."""
