"""What is no address, no region and no login is said in a sentence before anything is dialled."""

import pytest

from lucid_storage.archive.s3 import S3Store
from lucid_storage.errors import DestinationError, Reason
from lucid_storage.models.orders import Destination

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
    around = {"AWS_ACCESS_KEY_ID": "id\n", "AWS_SECRET_ACCESS_KEY": " key\r\n", "AWS_SESSION_TOKEN": "\n"}
    login = opened(around)._bucket.credentials
    assert (login.access_key, login.secret_key, login.session_token) == ("id", "key", None)


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
@pytest.mark.parametrize("value", ["secret\nvalue", "secret\x00", "sécret", "secret value"])
def test_a_login_that_no_request_can_carry_is_refused_without_quoting_it(name: str, value: str) -> None:
    with pytest.raises(DestinationError, match=name) as refused:
        opened({**LOGIN, name: value})
    assert refused.value.reason is Reason.SECRET_INVALID
    assert "cret" not in refused.value.message.replace("Secret", "").replace("AWS_SECRET", "")
