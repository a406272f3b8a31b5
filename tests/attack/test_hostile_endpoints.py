"""A tenant's Secret leads the operator nowhere but to the store that it names."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lucid_storage.errors import (
    LucidError,
    NotAllowedError,
    NotSupportedError,
    Reason,
    RefusedError,
    StoreUnavailableError,
)
from lucid_storage.stores.elasticsearch import direct
from lucid_storage.stores.elasticsearch.adapter import ElasticCluster
from lucid_storage.stores.elasticsearch.backup.http import ElasticHttp
from lucid_storage.stores.endpoints import S3_ENDPOINT, check_mongodb, check_url

HTTP = frozenset({"http", "https"})
REDIS = frozenset({"redis", "rediss"})

MONGODB = {
    "metadata": "mongodb://169.254.169.254/",
    "metadata, mapped": "mongodb://[::ffff:169.254.169.254]/",
    "metadata, mapped in hexadecimal": "mongodb://[::ffff:a9fe:a9fe]/",
    "metadata, NAT64": "mongodb://[64:ff9b::a9fe:a9fe]/",
    "metadata, 6to4": "mongodb://[2002:a9fe:a9fe::1]/",
    "metadata, one number": "mongodb://2852039166/",
    "metadata, octal": "mongodb://0251.0376.0251.0376/",
    "metadata, hexadecimal": "mongodb://0xa9fea9fe/",
    "metadata of Amazon over IPv6": "mongodb://[fd00:ec2::254]/",
    "this host": "mongodb://0.0.0.0/",
    "this host, short": "mongodb://0/",
    "this host over IPv6": "mongodb://[::]/",
    "loopback": "mongodb://127.8.9.10/",
    "loopback by name": "mongodb://localhost/",
    "loopback behind a good one": "mongodb://192.0.2.1,127.0.0.1/",
    "a unix socket": "mongodb://%2Ftmp%2Fmongodb-27017.sock/",
    "a unix socket without a slash": "mongodb://here.sock/",
    "a scope": "mongodb://[fe80::1%25eth0]/",
    "SRV": "mongodb+srv://example.org/",
    "a CA file": "mongodb://192.0.2.1/?tls=true&tlsCAFile=/etc/passwd",
    "a CA file in capitals": "mongodb://192.0.2.1/?TLS=true&TLSCAFILE=/etc/passwd",
    "a CA file by its old name": "mongodb://192.0.2.1/?ssl=true&ssl_ca_certs=/etc/passwd",
    "a client certificate": "mongodb://192.0.2.1/?tls=true&tlsCertificateKeyFile=/etc/passwd",
    "Amazon's login": "mongodb://192.0.2.1/?authMechanism=MONGODB-AWS&authSource=$external",
    "Kerberos": "mongodb://a@192.0.2.1/?authMechanism=GSSAPI&authSource=$external",
    "OpenID": "mongodb://192.0.2.1/?authMechanism=MONGODB-OIDC&authMechanismProperties=ENVIRONMENT:azure",
    "an empty label": "mongodb://a..b:27017",
    "a label of 64 characters": f"mongodb://{'a' * 64}.com",
    "a thousand hosts": f"mongodb://{','.join(f'h{n}.example' for n in range(1000))}/",
}


@pytest.mark.parametrize("case", MONGODB)
async def test_a_connection_string_cannot_lead_elsewhere(case: str) -> None:
    with pytest.raises(NotAllowedError) as refusal:
        await check_mongodb(MONGODB[case], allow_loopback=False)
    assert refusal.value.reason in (Reason.ENDPOINT_REFUSED, Reason.SECRET_INVALID)


URLS = {
    "metadata": "http://169.254.169.254/latest/",
    "metadata, percent-encoded": "http://169%2e254%2e169%2e254:9200",
    "metadata before a backslash": r"http://169.254.169.254\@192.0.2.1:9200",
    "metadata behind a backslash": r"http://192.0.2.1\@169.254.169.254:9200",
    "metadata in full-width digits": "http://１６９.254.169.254:9200",
    "a tab": "http://192.0.2.1\t:9200",
    "a line break": "http://192.0.2.1\r\nHost:x:9200",
    "a null character in the host": "http://169.254.169.254%00.example.org",
    "a scope": "http://[fe80::1%25eth0]:9200",
    "a file": "file:///etc/passwd",
    "another scheme": "gopher://192.0.2.1/",
    "no host": "http:///x",
    "options": "http://192.0.2.1/?ca_certs=/etc/passwd",
    "an empty label": "http://a..b:9200",
    "a label of 64 characters": f"http://{'a' * 64}.com:9200",
    "a port above all ports": "http://192.0.2.1:99999",
    "a port in letters": "http://192.0.2.1:abc",
    "half an IPv6 address": "http://[::1",
}


@pytest.mark.parametrize("case", URLS)
async def test_a_url_cannot_lead_elsewhere(case: str) -> None:
    with pytest.raises(NotAllowedError):
        await check_url(URLS[case], HTTP, "ELASTICSEARCH_URL", allow_loopback=False)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://192.0.2.1:99999", Reason.INVALID_SPEC),
        ("http://a..b", Reason.INVALID_SPEC),
        ("http://169.254.169.254", Reason.ENDPOINT_REFUSED),
    ],
)
async def test_what_a_field_of_the_spec_names_is_no_fault_of_a_secret(url: str, reason: Reason) -> None:
    with pytest.raises(NotAllowedError) as refusal:
        await check_url(url, HTTP, "it", allow_loopback=False, named=S3_ENDPOINT)
    assert refusal.value.reason is reason
    assert "endpoint in storage.s3" in refusal.value.message
    assert "Secret" not in refusal.value.message


@pytest.mark.parametrize(
    "url", ["http://a..b:9200", f"http://{'a' * 64}.com", "http://h:99999", "http://h:abc", "http://[::1"]
)
def test_a_worker_says_of_a_url_that_cannot_be_dialled_that_it_cannot_be_used(url: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        ElasticHttp(url, "backup", lambda seconds: None)
    assert refusal.value.reason is Reason.SECRET_INVALID


@pytest.mark.parametrize("url", ["http://a..b:9200", f"http://{'a' * 64}.com"])
def test_the_operator_says_so_too(url: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        ElasticCluster(url, label="own", guard=lambda: None)
    assert refusal.value.reason is Reason.SECRET_INVALID


@pytest.mark.parametrize(
    "url",
    [
        "unix:///tmp/redis.sock",
        "redis://h/0?path=/tmp/x",
        "rediss://192.0.2.1/?ssl_ca_certs=/etc/passwd",
        "redis://0/",
    ],
)
async def test_a_redis_url_cannot_lead_elsewhere(url: str) -> None:
    with pytest.raises(NotAllowedError):
        await check_url(url, REDIS, "REDIS_URL", allow_loopback=False)


@pytest.mark.parametrize(
    "uri", ["mongodb://192.0.2.1,192.0.2.2:27018/", "mongodb://u:p%40@[2001:db8::1]:27017/app"]
)
async def test_ordinary_connection_strings_pass(uri: str) -> None:
    await check_mongodb(uri, allow_loopback=False)


async def test_hosts_that_cannot_be_found_are_an_outage_and_not_a_refusal() -> None:
    with pytest.raises(StoreUnavailableError):
        await check_mongodb("mongodb://a.invalid,b.invalid/", allow_loopback=False)


async def test_a_redirect_of_elasticsearch_is_not_followed() -> None:
    with web_server(200, {}, b"{}") as inside, web_server(302, {"Location": inside.url}, b"") as hostile:
        said = await asked(hostile.url)
    assert isinstance(said, NotSupportedError)
    assert "redirects" in said.message
    assert hostile.paths
    assert inside.paths == []


async def test_an_endless_answer_of_elasticsearch_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "ANSWER_BYTES", 100_000)
    with web_server(200, {"X-Elastic-Product": "Elasticsearch"}, b" " * 200_000) as hostile:
        said = await asked(hostile.url)
    assert isinstance(said, StoreUnavailableError)


async def asked(url: str) -> LucidError:
    cluster = ElasticCluster(url, label="tenant", guard=lambda: None)
    try:
        with pytest.raises(LucidError) as refusal:
            await cluster.info()
        return refusal.value
    finally:
        await cluster.close()


class WebServer(ThreadingHTTPServer):
    """Gives every request the same answer and remembers the paths."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.paths: list[str] = []
        paths = self.paths

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                paths.append(self.path)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Silent."""

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def web_server(status: int, headers: dict[str, str], body: bytes) -> Iterator[WebServer]:
    server = WebServer(status, headers, body)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
