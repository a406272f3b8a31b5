"""/healthz, /readyz and /metrics, on a port of their own so that a busy REST API delays no probe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

SHUTDOWN_SECONDS = 1.0
"""How long the end waits for an answer that is being sent."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that may be well or not. `fatal` ones fail /healthz, so that the pod is started anew;
    `needed` ones fail /readyz; others (a lost store) are only told.
    """

    ok: bool
    said: str
    fatal: bool = False
    needed: bool = False


class HealthServer:
    """Serves the checks that `look` returns."""

    def __init__(self, registry: CollectorRegistry, look: Callable[[], Mapping[str, Check]]) -> None:
        self._registry = registry
        self._look = look
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Raises OSError when the address is taken."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_SECONDS
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        self.port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return _answer(self._look(), lambda check: check.fatal)

    async def _readyz(self, _: web.Request) -> web.Response:
        return _answer(self._look(), lambda check: check.fatal or check.needed)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )


def _answer(checks: Mapping[str, Check], counts: Callable[[Check], bool]) -> web.Response:
    failed = [name for name, check in checks.items() if not check.ok and counts(check)]
    body = {
        "status": "failed" if failed else "ok",
        "failed": failed,
        "checks": {name: {"ok": check.ok, "message": check.said} for name, check in checks.items()},
    }
    return web.json_response(body, status=503 if failed else 200)
