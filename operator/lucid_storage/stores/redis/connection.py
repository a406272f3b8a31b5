"""The connection to one Redis: a small pool, bounded calls, errors in our words."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import WatchError

from lucid_storage.errors import LucidError
from lucid_storage.stores.redis.errors import answering, translate
from lucid_storage.stores.redis.sentences import subject_of, unusable_url

MAX_CONNECTIONS = 2
SOCKET_SECONDS = 5.0
CALL_SECONDS = 10.0
NO_TTL = -1
"""TTL's answer for a key that never expires."""

Command = Sequence[str | bytes | int]


class RedisConnection:
    """Dials lazily and never retries by itself, since the engine has its own back-off.

    `subject` begins the sentences about this Redis: label, host and port, never the login.
    Raises RefusedError(SecretInvalid) when the URL is none that the operator dials.
    """

    def __init__(self, url: str, label: str, ca_path: str | None = None) -> None:
        self.subject = subject_of(url, label)
        self._client = _client(url, label, ca_path)

    @property
    def database(self) -> int:
        """The number of the database that the URL selects."""
        return int(self._client.connection_pool.connection_kwargs.get("db") or 0)

    async def call(self, *command: str | bytes | int) -> object:
        """One command's reply."""
        async with answering(self.subject, CALL_SECONDS):
            return await cast("Awaitable[object]", self._client.execute_command(*command))  # type: ignore[no-untyped-call]

    async def pipeline(self, commands: Sequence[Command]) -> list[object]:
        """The replies in order; a command that the server refused has our error as its reply."""
        async with answering(self.subject, CALL_SECONDS), self._client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            replies = await pipe.execute(raise_on_error=False)
        return [
            translate(reply, self.subject) if isinstance(reply, Exception) else reply for reply in replies
        ]

    async def expire_unset(self, key: bytes, seconds: int) -> bool:
        """EXPIRE ... NX before Redis 7: False when the key has a TTL, is gone or changed meanwhile."""
        async with answering(self.subject, CALL_SECONDS), self._client.pipeline(transaction=True) as pipe:
            await pipe.watch(key)
            if await cast("Awaitable[int]", pipe.execute_command("TTL", key)) != NO_TTL:
                return False
            pipe.multi()  # type: ignore[no-untyped-call]
            pipe.execute_command("EXPIRE", key, seconds)
            try:
                replies = await pipe.execute()
            except WatchError:
                return False  # its writer is at work; the next scan looks again
            return bool(replies[0])

    async def close(self) -> None:
        await self._client.aclose()
        await self._client.connection_pool.disconnect()


def refusal(reply: object) -> LucidError | None:
    """The error that stands in a pipeline's reply, if one does."""
    return reply if isinstance(reply, LucidError) else None


def _client(url: str, label: str, ca_path: str | None) -> Redis:
    options: dict[str, str] = {"ssl_ca_certs": ca_path} if ca_path and url.startswith("rediss:") else {}
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            timeout=SOCKET_SECONDS,
            socket_timeout=SOCKET_SECONDS,
            socket_connect_timeout=SOCKET_SECONDS,
            retry=Retry(NoBackoff(), 0),
            protocol=2,  # RESP3 starts with HELLO, which narrow ACLs do not allow
            **options,
        )
    except (ValueError, TypeError) as error:
        raise unusable_url(label) from error
    return Redis.from_pool(pool)
