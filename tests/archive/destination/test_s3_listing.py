"""What a bucket lists: also one that others use too, and servers and what lies before them that answer otherwise.

The S3 server of the test bed keeps objects as files, so that no key there can be all that S3 allows. Its listings are
in test_destination_contract.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

import pytest
from fault_proxy import FaultProxy
from test_s3_uploads import Faulty, serving

from lucid_storage.archive.chains import find_backup, find_chains
from lucid_storage.archive.s3 import S3Store
from lucid_storage.archive.s3_client import Bucket
from lucid_storage.archive.signing import Credentials
from lucid_storage.errors import DestinationError, DestinationUnavailableError

OWN = "0a8b1c6e-0000-4000-8000-000000000001/ns/main/backups/b1/manifest.json"
WRITTEN = datetime(2026, 1, 1, 12, tzinfo=UTC)


def page(*keys: str, following: str = "") -> bytes:
    """An answer with these keys as they stand in XML."""
    listed = "".join(
        f"<Contents><Key>{key}</Key><LastModified>2026-01-01T12:00:00.000Z</LastModified>"
        "<ETag>&quot;x&quot;</ETag><Size>3</Size><Owner><ID>Key</ID></Owner></Contents>"
        for key in keys
    )
    more = f"<NextContinuationToken>{escape(following)}</NextContinuationToken>" if following else ""
    return (
        '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>'
        f"<IsTruncated>{'true' if following else 'false'}</IsTruncated>{more}{listed}</ListBucketResult>"
    ).encode()


@dataclass
class Played:
    """A store before a server that gives these answers, one after the other, and then the last again."""

    store: S3Store
    asked: list[dict[str, list[str]]] = field(default_factory=list)

    def paths(self, prefix: str = "") -> list[str]:
        return [entry.path for entry in self.store.list(prefix)]


@contextmanager
def playing(*answers: bytes, lengths: bool = True) -> Iterator[Played]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            played.asked.append(parse_qs(urlsplit(self.path).query, keep_blank_values=True))
            body = answers[min(len(played.asked), len(answers)) - 1]
            self.send_response(200)
            if lengths:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as server:
        bucket = Bucket(f"http://127.0.0.1:{server.server_port}", "b", "r", Credentials("a", "b"), attempts=2)
        played = Played(S3Store(bucket))
        yield played


KEYS_OF_OTHERS = (
    "logs/2026/x",
    "folder/",
    "logs//x",
    "/leading",
    "a/./b",
    "a/../b",
    "a/%2F",
    "a~b#c?d*",
    "x/&#13;y",
    "x/&#x1;y",
    "x/&#xd800;y",
    "x/&#x85;y",
    "ünï",
    "a b+c",
    "a\\b",
    "a&amp;b&lt;Key&gt;",
    f"..{OWN[36:]}",
    f"logs//{OWN}",
    f"{OWN}&#13;",
    f" {OWN}",
)


@pytest.mark.parametrize("key", KEYS_OF_OTHERS)
def test_keys_of_others_are_in_nobodys_way(key: str) -> None:
    """In a disaster the bucket is all that there is, and `catalog` must read it."""
    with playing(page(key, OWN)) as played:
        assert OWN in played.paths()
        assert "main" in {chain.chain for chain in find_chains(played.store, "")}
        found = find_backup(played.store, "", "b1")
    assert found is not None


def test_a_key_that_is_no_path_is_not_listed() -> None:
    with playing(page(*KEYS_OF_OTHERS)) as played:
        assert played.paths() == [
            "logs/2026/x",
            "a/%2F",
            "a~b#c?d*",
            "x/\x85y",
            "ünï",
            "a b+c",
            "a\\b",
            "a&b<Key>",
            f" {OWN}",
        ]


def test_an_entry_has_size_and_time() -> None:
    with playing(page(OWN)) as played:
        (entry,) = played.store.list("")
    assert (entry.size, entry.modified) == (3, WRITTEN)


def test_pages_are_asked_for_one_after_the_other_and_below_the_folder() -> None:
    with playing(page("c/1", "c/2", following="to+k/=&en"), page("c/3", following="2"), page()) as played:
        assert played.paths("c") == ["c/1", "c/2", "c/3"]
    assert [one.get("continuation-token") for one in played.asked] == [None, ["to+k/=&en"], ["2"]]
    assert all((one["list-type"], one["prefix"]) == (["2"], ["c/"]) for one in played.asked)


def test_who_needs_no_more_asks_for_no_further_page() -> None:
    with playing(page(OWN, following="1"), page("other")) as played:
        assert find_backup(played.store, "", "b1") is not None
    assert len(played.asked) == 1


def test_no_entity_is_expanded() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>' + page("x/&b;", OWN)
    with playing(bomb) as played:
        assert played.paths() == ["x/&b;", OWN]


def test_a_page_that_is_cut_is_asked_for_again() -> None:
    whole = page("c/1", OWN)
    with playing(whole[: len(whole) // 2], whole, lengths=False) as played:
        assert played.paths() == ["c/1", OWN]


NO_LISTINGS = {
    "a page of a proxy": b"<html><body>Please sign in</body></html>",
    "nothing": b"",
    "always half a page": page(OWN)[:-30],
    "more, and not where": page(OWN).replace(b">false<", b">true<"),
    "more, and always the same": page(OWN, following="1"),
    "no size": page(OWN).replace(b"Size", b"Site"),
    "no time": page(OWN).replace(b"2026-01-01T12:00:00.000Z", b"yesterday"),
    "no zone": page(OWN).replace(b".000Z", b""),
}


@pytest.mark.parametrize("name", NO_LISTINGS)
def test_what_is_no_listing_is_not_taken_for_an_empty_bucket(name: str) -> None:
    with playing(NO_LISTINGS[name]) as played, pytest.raises(DestinationError) as told:
        played.paths()
    assert "S3 server" in told.value.message


def test_a_bucket_is_listed_through_the_proxy_of_the_environment(
    s3: S3Store, bucket: Bucket, faulty: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for who restores from a desk in an office."""
    proxy: FaultProxy = faulty(lambda _: None)
    s3.put("a/b", b"x")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", proxy.url)
    store = S3Store(bucket)
    assert [entry.path for entry in store.list("a")] == ["a/b"]
    assert store.get("a/b") == b"x"
    assert len(proxy.seen) == 2

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert [entry.path for entry in S3Store(bucket).list("a")] == ["a/b"]
    assert len(proxy.seen) == 2


def test_a_proxy_for_https_is_asked_for_the_way_with_its_login(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Refusing(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            asked.append(f"{self.path} {self.headers['Proxy-Authorization']}")
            self.send_error(403)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Refusing) as server:
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("https_proxy", f"http://me:p%40ss@127.0.0.1:{server.server_port}")
        store = S3Store(replace(bucket, endpoint="https://s3.example:8443", attempts=1))
        with pytest.raises(DestinationUnavailableError, match=r"s3\.example") as told:
            list(store.list(""))
    assert asked == ["s3.example:8443 Basic bWU6cEBzcw=="]
    assert "p@ss" not in told.value.message
