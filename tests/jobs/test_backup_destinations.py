"""A backup worker whose destination fails: its result says so, there is no backup, and nothing of it is left."""

import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from workshop import CLUSTER, Workshop

from archive.destination.fault_proxy import Fault, FaultProxy, Request, Rule
from lucid_storage.archive.s3 import S3Store
from lucid_storage.archive.s3_client import Bucket
from lucid_storage.archive.signing import Credentials
from lucid_storage.errors import Reason
from testbed.stores.mongodb import MongoDB
from testbed.stores.s3 import S3
from testbed.testrun import TestRun

pytestmark = pytest.mark.mongodb
INTERNAL = b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>try again</Message></Error>"
Make = Callable[..., Workshop]


def on_part(fault: Fault) -> Rule:
    return lambda request: fault if request.part == 2 else None


def on_completion(request: Request) -> Fault | None:
    return Fault(200, INTERNAL) if request.completes else None


def on_manifest(request: Request) -> Fault | None:
    return Fault(500, INTERNAL) if request.method == "PUT" and "manifest.json" in request.path else None


FAULTS: dict[str, Rule] = {
    "500 on a part": on_part(Fault(500, INTERNAL)),
    "the connection is lost in a part": on_part(Fault(lost_after=100_000)),
    "200 and then an error when the archive ends": on_completion,
    "500 on the manifest": on_manifest,
}


@pytest.fixture
def bucket(testbed_run: TestRun) -> Bucket:
    with testbed_run.once("s3"):
        server = S3(testbed_run.instance)
        server.start()
    name = f"lucid-{uuid.uuid4().hex[:12]}"
    (server.folder / "buckets" / name).mkdir()
    return Bucket(server.url, name, server.region, Credentials(server.access_key, server.secret_key))


@pytest.fixture
def filled(mongodb: MongoDB, database: str) -> str:
    """More than one part of an upload, and more than a small volume takes."""
    with mongodb.client() as client:
        client[database]["a"].insert_many([{"blob": os.urandom(1 << 20)} for _ in range(14)])
    return database


@pytest.fixture
def faulty(bucket: Bucket) -> Iterator[Callable[[Rule], FaultProxy]]:
    proxies: list[FaultProxy] = []

    def make(rule: Rule) -> FaultProxy:
        proxies.append(FaultProxy(int(bucket.endpoint.rpartition(":")[2]), rule))
        return proxies[-1]

    yield make
    for proxy in proxies:
        proxy.stop()


def test_a_bucket_that_fails_gives_no_backup_and_keeps_nothing(
    workshop: Make, mongodb: MongoDB, filled: str, bucket: Bucket, faulty: Callable[[Rule], FaultProxy]
) -> None:
    """Side by side, since each fault is waited out."""
    login = bucket.credentials
    shop = workshop(
        MONGODB_URI=mongodb.uri,
        AWS_ACCESS_KEY_ID=login.access_key,
        AWS_SECRET_ACCESS_KEY=login.secret_key,
    )

    def order(name: str, endpoint: str) -> dict[str, Any]:
        place = {"bucket": bucket.name, "endpoint": endpoint, "region": bucket.region, "root": "r"}
        chosen = {"databases": [filled]}
        return shop.order(name, ["mongodb"], destination=place, mongodb=chosen)

    orders = {name: order(f"b{n}", faulty(rule).url) for n, (name, rule) in enumerate(FAULTS.items())}
    begun = {name: shop.start("backup", given) for name, given in orders.items()}
    told = {name: shop.result(process, orders[name]) for name, process in begun.items()}

    for name, result in told.items():
        shown = (result.ok, result.reason, result.manifest_sha256, result.verified)
        assert shown == (False, Reason.DESTINATION_UNAVAILABLE, None, None), name
        assert "127.0.0.1" in result.message, name
    direct = S3Store(bucket)
    assert [entry.path for entry in direct.list("")] == []
    assert direct.delete_abandoned("", None) == 0

    again = orders["500 on the manifest"]
    again["destination"]["endpoint"] = bucket.endpoint
    done = shop.result(shop.start("backup", again), again)
    assert (done.ok, done.id) == (True, again["id"]), done.message
    home = f"r/{CLUSTER}/n/manual/backups/{done.id}"
    names = sorted(entry.path for entry in direct.list(""))
    assert names == [f"{home}/{name}" for name in ("manifest.json", "mongodb.archive", "proof.json")]


@pytest.fixture
def full(workshop: Make, mongodb: MongoDB) -> Iterator[Workshop]:
    """Its destination is a volume of 8 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small volume needs root")
    shop = workshop(MONGODB_URI=mongodb.uri)
    mounted: Path = shop.destination
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(mounted)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a small volume cannot be mounted here: {done.stderr.strip()}")
    yield shop
    subprocess.run(["umount", str(mounted)], check=True)


def test_a_volume_that_is_full_gives_no_backup_and_keeps_nothing(full: Workshop, filled: str) -> None:
    told = full.back_up("big", ["mongodb"], mongodb={"databases": [filled]})
    assert (told.ok, told.reason, told.manifest_sha256) == (False, Reason.DESTINATION_FULL, None)
    assert "room" in told.message
    assert full.files() == []
    small = full.back_up("small", ["mongodb"], mongodb={"collections": [f"{filled}.none"]}, chain="small")
    assert small.ok, small.message
