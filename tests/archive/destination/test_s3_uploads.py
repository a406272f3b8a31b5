"""Uploads to S3: growing parts, ETags that are no digests, own authorities, and bounded memory."""

import hashlib
import ipaddress
import os
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fault_proxy import FaultProxy, Rule

from lucid_storage.archive import s3_upload
from lucid_storage.archive.destination import Digest, open_store
from lucid_storage.archive.keys import Key
from lucid_storage.archive.manifest import ObjectKind
from lucid_storage.archive.s3 import AUTHORITY_VARIABLE, S3Store
from lucid_storage.archive.s3_client import Bucket
from lucid_storage.archive.streams import Identity, open_sink, open_source, packing_for
from lucid_storage.errors import DestinationError, DestinationUnavailableError
from lucid_storage.models.orders import Destination
from lucid_storage.models.storage import Compression, CompressionAlgorithm

MIB = 1024 * 1024
Faulty = Callable[[Rule], FaultProxy]


def upload(store: S3Store, data: bytes) -> None:
    writer = store.writer("b/object")
    try:
        for start in range(0, len(data), 700_000):
            writer.write(data[start : start + 700_000])
        writer.finish(Digest(len(data), hashlib.sha256(data).hexdigest()))
    finally:
        writer.abort()


def test_parts_grow(s3: S3Store, bucket: Bucket, faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_upload, "GROWTH", ((2, 5), (3, 9), (5, 17)))
    proxy, data = faulty(lambda _: None), os.urandom(45 * MIB)

    upload(S3Store(replace(bucket, endpoint=proxy.url)), data)

    assert sorted(request.part for request in proxy.seen if request.part) == [1, 2, 3, 4, 5]
    assert s3.get("b/object") == data


def test_an_archive_with_more_than_all_parts_is_refused_and_leaves_nothing(
    s3: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_upload, "GROWTH", ((2, 5),))

    with pytest.raises(DestinationError, match="too large for one object"):
        upload(s3, os.urandom(11 * MIB))

    assert list(s3.list("")) == []
    assert s3.delete_abandoned("", datetime.now(UTC) + timedelta(days=1)) == 0


class EncryptingBucket(BaseHTTPRequestHandler):
    """A bucket under its own encryption (SSE-KMS): ETags have the form of digests and are none.

    The S3 server of the test bed has no such thing. Objects are kept by path on the server object.
    """

    protocol_version = "HTTP/1.1"
    opaque = "0123456789abcdef" * 2

    def do_any(self) -> None:
        objects: dict[str, dict[int, bytes]] = self.server.objects  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        path, _, query = self.path.partition("?")
        parts = objects.setdefault(f"uploads{path}", {})
        if self.command == "POST" and query == "uploads=":
            self.reply(
                200, b"<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>"
            )
        elif self.command == "PUT" and "partNumber" in query:
            parts[int(query.split("partNumber=")[1].split("&")[0])] = body
            self.reply(200, b"", self.opaque)
        elif self.command == "POST":
            objects[path] = dict(sorted(parts.items()))
            tag = f"<ETag>&quot;{self.opaque}-{len(parts)}&quot;</ETag>"
            self.reply(200, f"<CompleteMultipartUploadResult>{tag}</CompleteMultipartUploadResult>".encode())
        elif self.command == "PUT":
            objects[path] = {1: body}
            self.reply(200, b"", self.opaque)
        elif path not in objects:
            self.reply(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            count = f"-{len(parts)}" if parts else ""
            self.reply(200, b"".join(objects[path].values()), f"{self.opaque}{count}")

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_any  # noqa: N815

    def reply(self, status: int, body: bytes, etag: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if etag:
            self.send_header("ETag", f'"{etag}"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("size", [1000, 20 * MIB])
def test_a_bucket_that_encrypts_by_itself_has_no_digests_to_compare(bucket: Bucket, size: int) -> None:
    data = os.urandom(size)
    with serving(EncryptingBucket) as server:
        server.objects = {}  # type: ignore[attr-defined]
        upload(S3Store(replace(bucket, endpoint=f"http://127.0.0.1:{server.server_port}")), data)
        kept = server.objects[f"/{bucket.name}/b/object"]  # type: ignore[attr-defined]

    assert b"".join(kept.values()) == data


def test_memory_of_an_upload_is_bounded(bucket: Bucket) -> None:
    """The worker's memory does not depend on the size of the data."""
    key, identity = Key("k", bytes(32)), Identity("b", ObjectKind.MONGODB_ARCHIVE)
    packing = packing_for(Compression(algorithm=CompressionAlgorithm.ZSTD), key)
    process, block = psutil.Process(), os.urandom(4 * MIB)
    store = S3Store(bucket)
    warm = open_sink(store, "warm", identity, packing, key)
    warm.write(block)
    warm.finish()
    before, most = process.memory_info().rss, 0

    sink = open_sink(store, "b/object", identity, packing, key)
    for _ in range(60):
        sink.write(block)
        most = max(most, process.memory_info().rss)
    stored = sink.finish()

    assert stored.stored_bytes > 240 * MIB
    assert most - before < 48 * MIB
    most = 0
    source = open_source(store, "b/object", identity, packing, key, stored)
    while source.read(MIB):
        most = max(most, process.memory_info().rss)
    source.close()
    assert most - before < 48 * MIB


def signed_certificate(
    name: str, issuer: str, key: ec.EllipticCurvePrivateKey, by: ec.EllipticCurvePrivateKey
) -> bytes:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now, address = datetime.now(UTC), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=name == issuer, path_length=None), critical=True)
        .sign(by, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem of an own authority; server.pem with its key in key.pem, signed by it for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("tls")
    by, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    (folder / "ca.pem").write_bytes(signed_certificate("own authority", "own authority", by, by))
    (folder / "server.pem").write_bytes(signed_certificate("s3", "own authority", key, by))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return folder


@pytest.fixture
def tls_server(faulty: Faulty, authority: Path) -> Iterator[str]:
    """The S3 server behind TLS, with the certificate of the own authority."""
    proxy = faulty(lambda _: None)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "server.pem", authority / "key.pem")
    yield proxy.behind_tls(context)


def environment(bucket: Bucket, **more: str) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": bucket.credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": bucket.credentials.secret_key,
        **more,
    }


def test_an_own_authority_is_trusted_when_it_is_named(
    bucket: Bucket, tls_server: str, authority: Path
) -> None:
    destination = Destination(bucket=bucket.name, endpoint=tls_server, region=bucket.region)
    store = open_store(destination, environment(bucket, **{AUTHORITY_VARIABLE: str(authority / "ca.pem")}))

    assert store.put_if_absent("m.json", b"mine")
    assert store.get("m.json") == b"mine"
    assert [entry.path for entry in store.list("")] == ["m.json"]


def test_an_unknown_authority_is_refused_by_reading_and_writing(bucket: Bucket, tls_server: str) -> None:
    destination = Destination(bucket=bucket.name, endpoint=tls_server, region=bucket.region)
    store = open_store(destination, environment(bucket))

    for act in (lambda: store.put("m.json", b"x"), lambda: store.get("m.json")):
        with pytest.raises(
            DestinationUnavailableError, match=f"certificate is not trusted.*{AUTHORITY_VARIABLE}"
        ):
            act()


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"no certificate"])
def test_a_file_of_authorities_that_is_none_is_named(
    bucket: Bucket, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    destination = Destination(bucket=bucket.name, endpoint="https://127.0.0.1:9", region=bucket.region)

    with pytest.raises(DestinationError, match=AUTHORITY_VARIABLE):
        open_store(destination, environment(bucket, **{AUTHORITY_VARIABLE: str(file)}))


def test_missing_credentials_are_named(bucket: Bucket) -> None:
    with pytest.raises(DestinationError, match="AWS_ACCESS_KEY_ID"):
        open_store(Destination(bucket=bucket.name), {})


def test_what_is_no_s3_server_is_no_success(bucket: Bucket) -> None:
    class Answering(BaseHTTPRequestHandler):
        def do_any(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        do_GET = do_PUT = do_POST = do_DELETE = do_any  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with serving(Answering) as server:
        store = S3Store(replace(bucket, endpoint=f"http://127.0.0.1:{server.server_port}", attempts=1))
        for size in (1000, 20 * MIB):
            with pytest.raises(DestinationError):
                upload(store, os.urandom(size))
