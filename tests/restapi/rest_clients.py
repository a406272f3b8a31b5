"""A REST API on a free port of the loopback, and how tests call it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from rest_contract import check
from rest_doubles import NAMESPACE, KnownCallers

from lucid_storage.restapi.app import create_app
from lucid_storage.restapi.auth import ApiKeySecret, Auth
from lucid_storage.restapi.backend import Backend
from lucid_storage.restapi.clock import Clock
from lucid_storage.restapi.gate import Observer
from lucid_storage.restapi.limits import Limits
from lucid_storage.restapi.server import RestServer


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: Any

    @property
    def message(self) -> str:
        return str(self.body["error"]["message"])

    @property
    def code(self) -> str:
        return str(self.body["error"]["code"])


@dataclass(frozen=True)
class Rest:
    server: RestServer

    @property
    def base(self) -> str:
        host, port = self.server.address
        return f"http://{host}:{port}/api/v1"

    async def call(
        self, path: str, token: str | None = "alice", *, method: str = "GET", **options: Any
    ) -> Reply:
        """One request on a connection of its own. Every error is held against the contract's envelope."""
        headers: dict[str, str] = options.pop("headers", {})
        if token is not None:
            headers = {"Authorization": f"Bearer {token}", **headers}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.base + path, headers=headers, **options) as answer,
        ):
            body = await answer.json()
            if answer.status >= 400:
                check(body, "ErrorResponse")
                assert set(body) == {"error"}
                assert body["error"]["request_id"] == answer.headers["X-Request-ID"]
                assert "Traceback" not in str(body)
            return Reply(answer.status, {key.lower(): value for key, value in answer.headers.items()}, body)


@contextmanager
def serving(
    backend: Backend,
    callers: KnownCallers | None = None,
    *,
    auth: Auth | None = None,
    limits: Limits | None = None,
    clock: Clock | None = None,
    observe: Observer | None = None,
    namespace: str = NAMESPACE,
) -> Iterator[Rest]:
    """A running REST API."""
    server = RestServer(
        create_app(
            backend,
            auth or auth_over(callers or KnownCallers(), clock),
            namespace=namespace,
            limits=limits,
            clock=clock,
            observe=observe,
        ),
        "127.0.0.1",
        0,
        limits=limits,
    )
    server.start()
    try:
        yield Rest(server)
    finally:
        assert server.stop(10)


def auth_over(callers: KnownCallers, clock: Clock | None = None) -> Auth:
    async def connect() -> KnownCallers:
        return callers

    return Auth(connect, api_keys=ApiKeySecret(NAMESPACE, "api-keys"), clock=clock)
