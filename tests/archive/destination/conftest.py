"""A real S3 server with a bucket of the test's own, and proxies before it that break what passes."""

import uuid
from collections.abc import Callable, Iterator

import pytest
from fault_proxy import FaultProxy, Rule

from lucid_storage.archive.s3 import S3Store
from lucid_storage.archive.s3_client import Bucket
from lucid_storage.archive.signing import Credentials
from testbed.stores.s3 import S3
from testbed.testrun import TestRun


@pytest.fixture(scope="session")
def s3_server(testbed_run: TestRun) -> S3:
    with testbed_run.once("s3"):
        server = S3(testbed_run.instance)  # draws its keys when it is the first
        server.start()
    return server


@pytest.fixture
def bucket(s3_server: S3) -> Bucket:
    """A bucket of this test; requests give up soon."""
    name = f"lucid-{uuid.uuid4().hex[:12]}"
    (s3_server.folder / "buckets" / name).mkdir()
    return Bucket(
        s3_server.url,
        name,
        s3_server.region,
        Credentials(s3_server.access_key, s3_server.secret_key),
        stall_seconds=10,
        attempts=3,
    )


@pytest.fixture
def s3(bucket: Bucket) -> S3Store:
    return S3Store(bucket)


@pytest.fixture
def faulty(s3_server: S3) -> Iterator[Callable[[Rule], FaultProxy]]:
    """`faulty(rule)`: a proxy before the S3 server."""
    proxies: list[FaultProxy] = []

    def make(rule: Rule) -> FaultProxy:
        proxies.append(FaultProxy(s3_server.port, rule))
        return proxies[-1]

    yield make
    for proxy in proxies:
        proxy.stop()
