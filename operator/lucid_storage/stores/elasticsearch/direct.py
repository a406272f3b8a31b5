"""The client's node as the operator needs it: it asks only the server that it was told to, and reads bounded answers.

A tenant's Secret names the server, so the server may be hostile: a redirect would lead the operator to places that
the tenant cannot reach, past the check of the address, and an endless answer would take all of its memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

from aiohttp import ClientPayloadError, ClientResponse, ClientSession
from elastic_transport import AiohttpHttpNode

ANSWER_BYTES = 64 * 1024 * 1024
"""Of one answer, decompressed: the mappings of thousands of indices take less."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the client asks of a response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    async def read(self) -> bytes:
        return self.body

    async def release(self) -> None:
        """Read whole already."""


class _DirectSession:
    """What the client asks of a session."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session

    @asynccontextmanager
    async def request(self, method: str, url: str, **options: Any) -> AsyncIterator[_Answer]:
        async with self._session.request(method, url, allow_redirects=False, **options) as response:
            yield _Answer(response.status, response.headers, await _bounded(response))

    async def close(self) -> None:
        await self._session.close()


class DirectNode(AiohttpHttpNode):
    """Follows no redirect, and gives up an answer of more than ANSWER_BYTES as a broken connection."""

    def _create_aiohttp_session(self) -> None:
        super()._create_aiohttp_session()
        assert self.session is not None
        self.session = cast("ClientSession", _DirectSession(self.session))


async def _bounded(response: ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > ANSWER_BYTES:
            raise ClientPayloadError(f"the answer has more than {ANSWER_BYTES} bytes")
    return bytes(body)
