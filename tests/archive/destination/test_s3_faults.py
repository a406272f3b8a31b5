"""An S3 server that fails: no object becomes visible, nothing is left behind, and a sentence says what to do."""

import base64
import hashlib
import os
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from time import monotonic

import pytest
from fault_proxy import Fault, FaultProxy, Request, Rule

from lucid_storage.archive.destination import Digest
from lucid_storage.archive.s3 import S3Store
from lucid_storage.archive.s3_client import Bucket
from lucid_storage.archive.signing import Credentials
from lucid_storage.errors import (
    ArchiveDamagedError,
    DestinationError,
    DestinationFullError,
    DestinationUnavailableError,
)
from testbed.stores.s3 import S3
from testbed.testrun import TestRun

DATA = os.urandom(30 * 1024 * 1024)
DIGEST = Digest(len(DATA), hashlib.sha256(DATA).hexdigest())
INTERNAL = b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>try again</Message></Error>"
Faulty = Callable[[Rule], FaultProxy]


def through(proxy: FaultProxy, bucket: Bucket, *, stall_seconds: float = 10) -> S3Store:
    return S3Store(replace(bucket, endpoint=proxy.url, stall_seconds=stall_seconds))


def upload(store: S3Store, data: bytes = DATA) -> None:
    writer = store.writer("b/object")
    try:
        for start in range(0, len(data), 1_000_000):
            writer.write(data[start : start + 1_000_000])
        writer.finish(Digest(len(data), hashlib.sha256(data).hexdigest()))
    finally:
        writer.abort()


def assert_nothing_left(store: S3Store) -> None:
    """Asked without the proxy."""
    assert list(store.list("")) == []
    assert store.delete_abandoned("", datetime.now(UTC) + timedelta(days=1)) == 0


def on_part(number: int, fault: Fault, *, times: int = 10**9) -> Rule:
    return lambda request: fault if request.part == number and request.number <= times else None


def on_completion(fault: Fault, *, times: int = 10**9) -> Rule:
    return lambda request: fault if request.completes and request.number <= times else None


def on_whole(fault: Fault, *, times: int = 10**9) -> Rule:
    def rule(request: Request) -> Fault | None:
        whole = request.method == "PUT" and request.part is None
        return fault if whole and request.number <= times else None

    return rule


FAULTS = {
    "500 on a part": on_part(2, Fault(500, INTERNAL)),
    "503 on the first part": on_part(1, Fault(503)),
    "the connection is lost in a part": on_part(3, Fault(lost_after=100_000)),
    "the last part is cut": on_part(5, Fault(lost_after=1000)),
    "200 and then an error when it ends": on_completion(Fault(200, INTERNAL)),
    "200 and no body when it ends": on_completion(Fault(200, b"")),
    "500 when it ends": on_completion(Fault(500, INTERNAL)),
    "the connection is lost when it ends": on_completion(Fault(lost_after=0)),
    "500 although it was made": on_completion(Fault(changed=lambda _: INTERNAL)),
    "500 when it begins": lambda request: Fault(500) if "uploads" in request.query else None,
    "a part without an ETag": on_part(2, Fault(200)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_an_upload_that_fails_leaves_nothing(name: str, s3: S3Store, bucket: Bucket, faulty: Faulty) -> None:
    with pytest.raises(DestinationUnavailableError if "without" not in name else DestinationError):
        upload(through(faulty(FAULTS[name]), bucket))

    assert_nothing_left(s3)


def ended_twice(status: int, code: str, *, times: int = 10**9) -> Rule:
    """The end is carried out, its answer is lost, and who asks for it again is told this."""
    told = Fault(status, b"<Error><Code>%s</Code></Error>" % code.encode())

    def rule(request: Request) -> Fault | None:
        if not request.completes or request.number > times + 1:
            return None
        return Fault(answer_lost=True) if request.number == 1 else told

    return rule


PASSING = {
    "500 on a part, twice": on_part(2, Fault(500, INTERNAL), times=2),
    "a lost connection, twice": on_part(2, Fault(lost_after=1000), times=2),
    "the answer to a part is lost": on_part(2, Fault(answer_lost=True), times=1),
    "500 when it ends, once": on_completion(Fault(500, INTERNAL), times=1),
    "200 and then an error, once": on_completion(Fault(200, INTERNAL), times=1),
    "the answer to the end is lost": on_completion(Fault(answer_lost=True), times=1),
    "every answer to the end is lost": on_completion(Fault(answer_lost=True)),
    "a second end is in conflict with the first, for a moment": ended_twice(
        409, "ConditionalRequestConflict", times=1
    ),
    "a second end is in conflict with the first": ended_twice(409, "ConditionalRequestConflict"),
    "a second end finds the parts gone": ended_twice(400, "InvalidPart"),
    "a second end fails": ended_twice(500, "InternalError"),
    "another is at work at the object, for a moment": on_completion(
        Fault(409, b"<Error><Code>ConditionalRequestConflict</Code></Error>"), times=1
    ),
}


@pytest.mark.parametrize("name", PASSING)
def test_a_passing_fault_is_overcome(name: str, s3: S3Store, bucket: Bucket, faulty: Faulty) -> None:
    upload(through(faulty(PASSING[name]), bucket))

    assert s3.get("b/object") == DATA


WHOLE = {
    "500": on_whole(Fault(500, INTERNAL)),
    "lost connection": on_whole(Fault(lost_after=100)),
    "every answer lost": on_whole(Fault(answer_lost=True)),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_small_object_that_fails_leaves_nothing(
    name: str, s3: S3Store, bucket: Bucket, faulty: Faulty
) -> None:
    with pytest.raises(DestinationUnavailableError):
        upload(through(faulty(WHOLE[name]), bucket), b"small")

    assert_nothing_left(s3)


def test_a_small_object_whose_answer_was_lost_is_found_to_be_ours(
    s3: S3Store, bucket: Bucket, faulty: Faulty
) -> None:
    upload(through(faulty(on_whole(Fault(answer_lost=True), times=1)), bucket), b"small")

    assert s3.get("b/object") == b"small"


def test_a_manifest_whose_answer_was_lost_is_found_to_be_ours(
    s3: S3Store, bucket: Bucket, faulty: Faulty
) -> None:
    store = through(faulty(on_whole(Fault(answer_lost=True), times=1)), bucket)

    assert store.put_if_absent("m.json", b"mine")
    assert s3.get("m.json") == b"mine"


def test_a_server_that_keeps_less_than_it_confirmed_is_caught(
    s3: S3Store, bucket: Bucket, faulty: Faulty
) -> None:
    def rule(request: Request) -> Fault | None:
        if request.method == "HEAD" and any(seen.completes for seen in proxy.seen):
            return Fault(headers={"Content-Length": str(len(DATA) - 1)})
        return None

    proxy = faulty(rule)
    with pytest.raises(ArchiveDamagedError):
        upload(through(proxy, bucket))

    assert_nothing_left(s3)


def test_a_server_that_keeps_other_bytes_is_caught_by_its_digest(
    s3: S3Store, bucket: Bucket, faulty: Faulty
) -> None:
    """The bytes of a part change on the way into the store, and the server's own digest tells."""
    other = f'"{"0" * 32}-4"'

    def rule(request: Request) -> Fault | None:
        if request.completes:
            return Fault(
                changed=lambda body: re.sub(b"<ETag>.*</ETag>", b"<ETag>%s</ETag>" % other.encode(), body)
            )
        if request.method == "HEAD" and any(seen.completes for seen in proxy.seen):
            return Fault(headers={"ETag": other})
        return None

    proxy = faulty(rule)
    with pytest.raises(ArchiveDamagedError):
        upload(through(proxy, bucket))

    assert_nothing_left(s3)


def test_a_stalled_server_is_given_up_in_bounded_time(s3: S3Store, bucket: Bucket, faulty: Faulty) -> None:
    begun = monotonic()
    with pytest.raises(DestinationUnavailableError, match="in time"):
        upload(through(faulty(on_part(2, Fault(stalls=True))), bucket, stall_seconds=0.5))

    assert monotonic() - begun < 20
    assert_nothing_left(s3)


def test_an_abort_ends_a_stalled_request_at_once(s3: S3Store, bucket: Bucket, faulty: Faulty) -> None:
    proxy = faulty(on_part(1, Fault(stalls=True)))
    writer = through(proxy, bucket).writer("b/object")
    writer.write(DATA[: 9 * 1024 * 1024])
    wait_for(lambda: any(request.part == 1 for request in proxy.seen))

    begun = monotonic()
    writer.abort()

    assert monotonic() - begun < 5, "the stall is given ten"
    assert_nothing_left(s3)


def test_an_abort_does_not_wait_long_for_a_server_that_stalls(
    s3: S3Store, bucket: Bucket, faulty: Faulty
) -> None:
    """A worker that was told to stop has 20 s; what it leaves is found by age later."""
    proxy = faulty(lambda request: Fault(stalls=True) if request.part or request.method == "DELETE" else None)
    writer = through(proxy, bucket, stall_seconds=1).writer("b/object")
    writer.write(DATA[: 9 * 1024 * 1024])

    begun = monotonic()
    writer.abort()

    assert monotonic() - begun < 10
    assert list(s3.list("")) == []
    assert s3.delete_abandoned("", datetime.now(UTC) + timedelta(days=1)) == 1


def test_an_abort_while_it_ends_leaves_nothing(s3: S3Store, bucket: Bucket, faulty: Faulty) -> None:
    completed = threading.Event()

    def rule(request: Request) -> Fault | None:
        if request.completes:
            completed.set()
            return Fault(answer_lost=True)
        return None

    writer = through(faulty(rule), bucket).writer("b/object")
    writer.write(DATA)
    errors: list[DestinationError] = []

    def end() -> None:
        try:
            writer.finish(DIGEST)
        except DestinationError as error:
            errors.append(error)

    thread = threading.Thread(target=end)
    thread.start()
    assert completed.wait(30)
    writer.abort()
    thread.join(30)

    assert errors
    assert_nothing_left(s3)


def test_a_full_server_says_so(s3: S3Store, bucket: Bucket, faulty: Faulty) -> None:
    full = Fault(507, b"<Error><Code>XMinioStorageFull</Code></Error>")
    proxy = faulty(on_part(2, full))

    with pytest.raises(DestinationFullError, match="make room"):
        upload(through(proxy, bucket))

    assert sum(request.part == 2 for request in proxy.seen) == 1, "it is not tried again"
    assert_nothing_left(s3)


def test_a_part_that_arrives_behind_the_abort_does_not_bring_the_upload_back(
    s3: S3Store, bucket: Bucket, faulty: Faulty
) -> None:
    """As with a proxy that buffers requests: the part was on its way when another one failed."""
    begun, aborted, arrived = threading.Event(), threading.Event(), threading.Event()

    def rule(request: Request) -> Fault | None:
        if request.part == 1:
            return Fault(held_until=aborted, begun=begun, then=arrived)
        if request.part == 2:
            assert begun.wait(30)
            return Fault(507, b"<Error><Code>XMinioStorageFull</Code></Error>")
        return Fault(then=aborted) if request.method == "DELETE" else None

    with pytest.raises(DestinationFullError):
        upload(through(faulty(rule), bucket))

    assert arrived.wait(30)
    assert_nothing_left(s3)


def test_an_upload_whose_beginning_was_never_answered_is_found_and_aborted(
    s3: S3Store, bucket: Bucket, faulty: Faulty
) -> None:
    def rule(request: Request) -> Fault | None:
        return Fault(answer_lost=True) if request.method == "POST" and "uploads" in request.query else None

    with pytest.raises(DestinationUnavailableError):
        upload(through(faulty(rule), bucket))

    assert_nothing_left(s3)


DENIED = Fault(403, b"<Error><Code>AccessDenied</Code></Error>")


@pytest.mark.parametrize("denied", ["listing uploads", "aborting uploads"])
def test_a_login_that_may_not_see_to_uploads_leaves_no_object_all_the_same(
    denied: str, s3: S3Store, bucket: Bucket, faulty: Faulty
) -> None:
    """The end was carried out, and each answer to it was lost."""

    def rule(request: Request) -> Fault | None:
        if request.completes:
            return Fault(changed=lambda _: INTERNAL)
        listing = request.method == "GET" and "uploads" in request.query
        aborting = request.method == "DELETE" and "uploadId" in request.query
        return DENIED if (listing if denied == "listing uploads" else aborting) else None

    proxy = faulty(rule)
    with pytest.raises(DestinationUnavailableError):
        upload(through(proxy, bucket))

    assert any(request.completes for request in proxy.seen)
    assert_nothing_left(s3)


STAMPS = {
    "none": b"",
    "in words": b"<Initiated>yesterday</Initiated>",
    "no zone": b"<Initiated>2001-02-03T04:05:06</Initiated>",
}


@pytest.mark.parametrize("stamp", STAMPS)
def test_a_server_that_does_not_say_when_an_upload_began_has_what_failed_taken_back(
    stamp: str, s3: S3Store, bucket: Bucket, faulty: Faulty
) -> None:
    """As its failure is told, and not that of the cleaning; by its age such an upload never goes."""

    def rule(request: Request) -> Fault | None:
        if request.part == 2:
            return Fault(507, b"<Error><Code>XMinioStorageFull</Code></Error>")
        if request.method == "GET" and "uploads" in request.query:
            return Fault(changed=lambda body: re.sub(rb"<Initiated>.*?</Initiated>", STAMPS[stamp], body))
        return None

    store = through(faulty(rule), bucket)
    other = store.writer("b/other")
    other.write(DATA[: 9 * 1024 * 1024])
    later = datetime.now(UTC) + timedelta(days=1)

    with pytest.raises(DestinationFullError):
        upload(store)

    assert store.delete_abandoned("", later) == 0
    assert store.delete_abandoned("", None) == 1
    other.abort()
    assert_nothing_left(s3)


def test_all_that_is_written_carries_its_digest(s3: S3Store, bucket: Bucket, faulty: Faulty) -> None:
    """Buckets whose objects are locked refuse what does not."""
    proxy = faulty(lambda _: None)
    store = through(proxy, bucket)
    upload(store)
    store.put("small", b"small")
    assert store.put_if_absent("m.json", b"mine")

    written = [request for request in proxy.seen if request.method == "PUT"]
    assert len(written) == 7
    assert {request.path.rpartition("/")[2]: request.md5 for request in written}.keys() == {
        "object",
        "small",
        "m.json",
    }
    assert all(len(base64.b64decode(request.md5)) == 16 for request in written)


Act = Callable[[S3Store], object]
ACTS: dict[str, Act] = {
    "get": lambda store: store.get("a"),
    "read": lambda store: store.read("a", 0, 1),
    "list": lambda store: list(store.list("a")),
    "put": lambda store: store.put("a", b""),
    "upload": upload,
    "abandoned": lambda store: store.delete_abandoned("", datetime.now(UTC)),
}


@pytest.mark.parametrize("act", ACTS)
def test_a_missing_bucket_is_named(act: str, bucket: Bucket) -> None:
    with pytest.raises(DestinationError, match="no bucket lucid-nowhere") as raised:
        ACTS[act](S3Store(replace(bucket, name="lucid-nowhere")))
    assert raised.value.stalled


@pytest.mark.parametrize("act", ACTS)
def test_a_wrong_login_is_named_without_the_secret(act: str, bucket: Bucket) -> None:
    wrong = Credentials(bucket.credentials.access_key, "wrong-secret-key")

    with pytest.raises(DestinationError, match=r"login|denied") as raised:
        ACTS[act](S3Store(replace(bucket, credentials=wrong)))

    assert "wrong-secret-key" not in str(raised.value)
    assert bucket.credentials.access_key not in str(raised.value).split()


@pytest.mark.parametrize("act", ACTS)
def test_a_server_that_is_not_there_is_named(act: str, bucket: Bucket) -> None:
    with pytest.raises(DestinationUnavailableError, match=r"127\.0\.0\.1:9\b"):
        ACTS[act](S3Store(replace(bucket, endpoint="http://127.0.0.1:9", attempts=2)))


@pytest.mark.parametrize("act", ["get", "read", "list"])
def test_reading_from_a_failing_server_ends_in_a_sentence(act: str, bucket: Bucket, faulty: Faulty) -> None:
    store = through(faulty(lambda _: Fault(500, INTERNAL)), bucket)

    with pytest.raises(DestinationUnavailableError, match=r"fails|cannot be read"):
        ACTS[act](store)


def test_reading_from_a_stalled_server_ends_in_bounded_time(bucket: Bucket, faulty: Faulty) -> None:
    store = through(faulty(lambda _: Fault(stalls=True)), bucket, stall_seconds=0.5)

    begun = monotonic()
    with pytest.raises(DestinationUnavailableError):
        store.read("a", 0, 1)

    assert monotonic() - begun < 20


def test_a_server_without_conditional_requests_is_written_to_all_the_same(
    s3: S3Store, bucket: Bucket, faulty: Faulty
) -> None:
    store = through(
        faulty(on_whole(Fault(501, b"<Error><Code>NotImplemented</Code></Error>"), times=1)), bucket
    )

    assert store.put_if_absent("m.json", b"mine")
    assert not store.put_if_absent("m.json", b"other")
    assert s3.get("m.json") == b"mine"


def test_a_killed_server_ends_an_upload(testbed_run: TestRun) -> None:
    server = S3(testbed_run.instance, f"s3-{os.urandom(4).hex()}")
    server.start()
    try:
        (server.folder / "buckets" / "lucid").mkdir()
        bucket = Bucket(
            server.url,
            "lucid",
            server.region,
            Credentials(server.access_key, server.secret_key),
            stall_seconds=2,
            attempts=2,
        )
        writer = S3Store(bucket).writer("b/object")
        writer.write(DATA[: 17 * 1024 * 1024])
        server.kill()
        with pytest.raises(DestinationUnavailableError):
            finish(writer.write, writer.finish)
        server.start()
        assert list(S3Store(bucket).list("")) == []
    finally:
        server.kill()


def finish(write: Callable[[bytes], None], end: Callable[[Digest], None]) -> None:
    write(DATA[17 * 1024 * 1024 :])
    end(DIGEST)


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = monotonic() + seconds
    done = threading.Event()
    while not condition():
        assert monotonic() < deadline
        done.wait(0.02)
