"""A tiny HTTP server that replays recorded answers and notes what it was asked."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class RecordedElastic:
    """`answers` maps "METHOD /path" to a status and a body; anything else gets the server's own 400."""

    answers: dict[str, tuple[int, Any]]
    product: str | None = "Elasticsearch"
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    authorizations: set[str | None] = field(default_factory=set)
    url: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        text = await request.text()
        self.asked.append((request.method, request.path, json.loads(text) if text else None))
        self.authorizations.add(request.headers.get("Authorization"))
        unknown = {"error": f"no handler found for uri [{request.path}] and method [{request.method}]"}
        status, body = self.answers.get(f"{request.method} {request.path}", (400, unknown))
        return web.Response(
            status=status,
            text=json.dumps(body),
            content_type="application/json",
            headers={"X-Elastic-Product": self.product} if self.product else {},
        )


@asynccontextmanager
async def replaying(
    server: RecordedElastic, tls: ssl.SSLContext | None = None
) -> AsyncIterator[RecordedElastic]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()
