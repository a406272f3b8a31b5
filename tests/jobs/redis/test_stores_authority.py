"""A certificate authority of the stores' own: what the operator passes to a Job, and a worker that trusts it."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from workshop import Workshop

from lucid_storage.errors import LucidError, Reason
from lucid_storage.stores.trust import CERT_FILE, authority, trust
from stores.elasticsearch.self_signed import certificate
from testbed.stores.redis import Redis


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    return certificate(tmp_path)


@pytest.fixture
def tls_port(pair: tuple[Path, Path], redis_server: Redis) -> Iterator[int]:
    """Redis behind TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    host, _, port = (
        redis_server.url.removeprefix("redis://").rpartition("/")[0].rpartition("@")[2].partition(":")
    )
    ended = threading.Event()

    def copy(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        finally:
            for one in (source, target):
                one.close()

    def serve() -> None:
        while not ended.is_set():
            try:
                client = context.wrap_socket(listening.accept()[0], server_side=True)
                server = socket.create_connection((host, int(port)))
            except OSError:
                continue
            for ends in ((client, server), (server, client)):
                threading.Thread(target=copy, args=ends, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        ended.set()
        thread.join()


@pytest.mark.redis
def test_a_worker_trusts_the_authority_that_it_is_given_and_no_other(
    tls_port: int, pair: tuple[Path, Path], workshop: Callable[..., Workshop]
) -> None:
    shop = workshop(REDIS_URL=f"rediss://127.0.0.1:{tls_port}/0")
    stranger = shop.back_up("stranger", ["redis"])
    assert (stranger.ok, stranger.reason) == (False, Reason.STORE_UNAVAILABLE), stranger.message
    shop.environ["STORES_CA"] = str(pair[0])
    known = shop.back_up("known", ["redis"])
    assert known.ok, known.message


def test_the_systems_authorities_stay_trusted(pair: tuple[Path, Path], tmp_path: Path) -> None:
    system = tmp_path / "system.pem"
    system.write_text("the system's\n")
    environ = {CERT_FILE: str(system)}
    trust(pair[0].read_text(), environ)
    both = Path(environ[CERT_FILE]).read_text()
    assert both.startswith("the system's\n")
    assert pair[0].read_text() in both


@pytest.mark.parametrize("given", ["/nowhere", "-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----"])
def test_what_is_no_certificate_is_refused_with_a_sentence(given: str) -> None:
    with pytest.raises(LucidError) as refused:
        authority(given)
    assert "STORES_CA cannot be used" in refused.value.message
