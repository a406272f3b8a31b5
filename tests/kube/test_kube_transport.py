"""The environment's part in requests to the API server: its proxies count, its logins do not."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from kubernetes.aio import client

from lucid_storage.kube.client import Kube


class ApiServer:
    """Answers everything, and remembers for whom a request was and with which login."""

    def __init__(self) -> None:
        self.port = 0
        self.seen: list[tuple[str, str]] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.seen.append((request.headers["Host"], request.headers.get("Authorization", "")))
        return web.json_response({"kind": "Status"})


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    made = ApiServer()
    runner = web.ServerRunner(web.Server(made.answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.port = int(runner.addresses[0][1])
    yield made
    await runner.cleanup()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def _ask(host: str) -> None:
    configuration = client.Configuration(host=host, api_key={"BearerToken": "Bearer t"})
    kube = Kube(configuration)
    try:
        await kube.request("GET", "/version")
    finally:
        await kube.close()


async def test_a_login_in_netrc_does_not_meet_the_token(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    host = f"127.0.0.1:{server.port}"
    await _ask(f"http://{host}")
    assert server.seen == [(host, "Bearer t")]


async def test_a_proxy_of_the_environment_is_used(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
    await _ask("http://kubernetes.example")
    assert server.seen == [("kubernetes.example", "Bearer t")]


async def test_an_excepted_address_is_asked_without_the_proxy(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    host = f"127.0.0.1:{server.port}"
    await _ask(f"http://{host}")
    assert server.seen == [(host, "Bearer t")]
