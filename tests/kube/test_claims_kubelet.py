"""A kubelet is shown a token only after its certificate was checked, and its answer is bounded."""

import datetime as dt
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lucid_storage.kube import kubelet
from lucid_storage.kube.claims import Node
from lucid_storage.kube.kubelet import KubeletError, Kubelets, StatsTokens, figures_in

TOKEN = "short-lived"
VOLUME = {
    "name": "data",
    "time": "2026-11-21T09:00:00Z",
    "usedBytes": 10,
    "availableBytes": 85,
    "capacityBytes": 100,
    "inodesUsed": 3,
    "inodes": 50,
    "pvcRef": {"name": "chunks", "namespace": "lucid"},
}
SUMMARY = {"node": {}, "pods": [{"podRef": {"name": "p"}, "volume": [VOLUME, {"name": "tmp"}]}]}


class Authority:
    """Signs certificates of servers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        made = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(True, None), True)
        self.pem = made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def context(self, *names: x509.GeneralName) -> ssl.SSLContext:
        """Of a server with a certificate for these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubelet")])
        made = self._builder(subject, key).add_extension(x509.SubjectAlternativeName(names), False)
        file = self._folder / f"{x509.random_serial_number()}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(file)
        return context

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
        )


ADDRESS = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


@dataclass
class Server:
    """A kubelet's side of the connection."""

    port: int = 0
    status: int = 200
    body: bytes = json.dumps(SUMMARY).encode()
    seen: list[str] = field(default_factory=list)

    @property
    def node(self) -> Node:
        return Node("node-a", "node-a", True, address="127.0.0.1", port=self.port)

    async def answer(self, request: web.Request) -> web.Response:
        self.seen.append(request.headers.get("Authorization", ""))
        return web.Response(status=self.status, body=self.body)


Serve = Callable[[ssl.SSLContext], Any]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    runners: list[web.AppRunner] = []

    async def start(context: ssl.SSLContext) -> Server:
        server = Server()
        app = web.Application()
        app.router.add_get("/stats/summary", server.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        runners.append(runner)
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        server.port = runner.addresses[0][1]
        return server

    yield start
    for runner in runners:
        await runner.cleanup()


class Tokens:
    """Counts what is asked for."""

    def __init__(self) -> None:
        self.refused = 0

    async def get(self) -> str:
        return TOKEN

    def forget(self) -> None:
        self.refused += 1


def kubelets(authority: str, tokens: Tokens | None = None) -> Kubelets:
    return Kubelets(cast("StatsTokens", tokens or Tokens()), authority, seconds=5)


async def test_figures_of_claims_are_read_with_the_token_for_statistics(serve: Serve, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server = await serve(authority.context(ADDRESS))
    (found,) = await kubelets(authority.pem).figures(server.node)
    assert (found.namespace, found.claim, found.used, found.available, found.inodes_used) == (
        "lucid",
        "chunks",
        10,
        85,
        3,
    )
    assert server.seen == [f"Bearer {TOKEN}"]


async def test_a_certificate_that_names_the_node_proves_it_too(serve: Serve, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server = await serve(authority.context(x509.DNSName("node-a")))
    assert len(await kubelets(authority.pem).figures(server.node)) == 1


async def test_an_authority_may_be_a_file(serve: Serve, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server = await serve(authority.context(ADDRESS))
    (tmp_path / "ca.crt").write_text(authority.pem)
    assert len(await kubelets(str(tmp_path / "ca.crt")).figures(server.node)) == 1


@pytest.mark.parametrize("names", [[ADDRESS], [x509.DNSName("node-b")]], ids=["authority", "name"])
async def test_no_token_reaches_a_server_whose_certificate_is_not_the_nodes(
    serve: Serve, tmp_path: Path, names: list[x509.GeneralName]
) -> None:
    signs, trusted = Authority(tmp_path), Authority(tmp_path)
    server = await serve(signs.context(*names))
    authority = trusted.pem if names == [ADDRESS] else signs.pem
    with pytest.raises(KubeletError, match="not signed by KUBELET_CA or names another host"):
        await kubelets(authority).figures(server.node)
    assert server.seen == []


async def test_a_refusal_names_the_right_and_asks_for_a_new_token(serve: Serve, tmp_path: Path) -> None:
    authority, tokens = Authority(tmp_path), Tokens()
    server = await serve(authority.context(ADDRESS))
    server.status = 403
    with pytest.raises(KubeletError, match="nodes/stats"):
        await kubelets(authority.pem, tokens).figures(server.node)
    assert tokens.refused == 1


async def test_an_answer_without_end_is_cut(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubelet, "SUMMARY_LIMIT", 1000)
    authority = Authority(tmp_path)
    server = await serve(authority.context(ADDRESS))
    server.body = b"x" * 2000
    with pytest.raises(KubeletError, match="larger than"):
        await kubelets(authority.pem).figures(server.node)


async def test_a_node_that_does_not_answer_is_one_sentence(tmp_path: Path) -> None:
    gone = Node("node-a", "node-a", True, address="127.0.0.1", port=9)
    with pytest.raises(KubeletError, match="The kubelet on node-a cannot be reached"):
        await kubelets(Authority(tmp_path).pem).figures(gone)


async def test_an_authority_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    node = Node("node-a", "node-a", True, address="127.0.0.1")
    with pytest.raises(KubeletError, match="KUBELET_CA cannot be used"):
        await kubelets(str(tmp_path / "missing")).figures(node)


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"pods": 3}', b'{"pods": [{"volume": [{"pvcRef": 1}]}]}'])
def test_what_is_no_summary_is_refused_or_empty(raw: bytes) -> None:
    try:
        assert figures_in(raw) == []
    except KubeletError as error:
        assert "cannot be read" in str(error)
