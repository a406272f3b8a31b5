"""What is no address, no region and no login is said in a sentence before anything is dialled."""

import os

import pytest

from lucid_storage.archive.s3 import S3Store
from lucid_storage.errors import DestinationError, Reason
from lucid_storage.models.orders import Destination
from testbed.stores.s3 import S3
from testbed.testrun import TestRun

LOGIN = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key"}


def opened(environ: dict[str, str] = LOGIN, **place: str) -> S3Store:
    return S3Store.from_order(Destination(bucket="lucid", **place), environ)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://127.0.0.1:99999",
        "http://127.0.0.1:abc",
        "http://[::1",
        "http://..:80",
        f"http://{'a' * 64}.com",
        "s3.example.com",
        "http://user:hunter2@s3.example.com",
        "http://s3.example.com/path",
        "http://s3.example.com\n",
    ],
)
def test_an_endpoint_that_is_no_address_is_refused(endpoint: str) -> None:
    with pytest.raises(DestinationError) as refused:
        opened(endpoint=endpoint)
    assert refused.value.reason is Reason.INVALID_SPEC
    assert "http" in refused.value.message
    assert "hunter2" not in refused.value.message


@pytest.mark.parametrize("endpoint", ["http://[::1]:9000", "https://s3.example.com/", "http://minio_1:9000"])
def test_an_endpoint_that_is_one_is_taken(endpoint: str) -> None:
    assert opened(endpoint=endpoint).location == f"{endpoint.rstrip('/')}/lucid"


@pytest.mark.parametrize("region", ["@169.254.169.254/", "eu.evil.example#", "ü", "eu\n"])
def test_a_region_leads_nowhere_but_to_amazon(region: str) -> None:
    with pytest.raises(DestinationError, match="region") as refused:
        opened(region=region)
    assert refused.value.reason is Reason.INVALID_SPEC


def test_line_breaks_around_a_login_are_not_part_of_it() -> None:
    around = {"AWS_ACCESS_KEY_ID": " id\n", "AWS_SECRET_ACCESS_KEY": " key \r\n", "AWS_SESSION_TOKEN": "\n"}
    login = opened(around)._bucket.credentials
    assert (login.access_key, login.secret_key, login.session_token) == ("id", " key ", None)


@pytest.mark.parametrize("value", ["secret\nvalue", "secret\x00", "sécret", "secret value"])
@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"])
def test_a_login_that_no_request_can_carry_is_refused_without_quoting_it(name: str, value: str) -> None:
    refuses(name, value)


@pytest.mark.parametrize("value", ["secret\nvalue", "secret\x00", "secret\udcff"])
def test_a_secret_key_that_no_text_holds_is_refused_without_quoting_it(value: str) -> None:
    refuses("AWS_SECRET_ACCESS_KEY", value)


def refuses(name: str, value: str) -> None:
    with pytest.raises(DestinationError, match=name) as refused:
        opened({**LOGIN, name: value})
    assert refused.value.reason is Reason.SECRET_INVALID
    assert "cret" not in refused.value.message.replace("Secret", "").replace("AWS_SECRET", "")


@pytest.mark.parametrize("secret_key", ["zwei Wörter für Clés", " blank around "])
def test_a_secret_key_counts_letter_by_letter(testbed_run: TestRun, secret_key: str) -> None:
    """It only signs requests, so that a server may know one that no header could carry."""
    server = S3(testbed_run.instance, f"s3-{os.urandom(4).hex()}")
    server.secret_key = secret_key
    server.start()
    try:
        server.make_bucket("lucid")
        environ = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": f"{secret_key}\n"}
        store = opened(environ, endpoint=server.url, region=server.region)
        store.put("a/object", b"content")
        assert [entry.path for entry in store.list("a")] == ["a/object"]
        assert (store.get("a/object"), store.read("a/object", 0, 7)) == (b"content", b"content")
    finally:
        server.kill()
