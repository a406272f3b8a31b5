"""The data set of a real Redis over the replication protocol, and every way in which that fails."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lucid_storage.errors import (
    AccessDeniedError,
    LoginFailedError,
    LucidError,
    NotSupportedError,
    Reason,
    RefusedError,
    StoreUnavailableError,
)
from lucid_storage.stores.redis import members, wire
from lucid_storage.stores.redis.rdb.dataset import Contents, DataSet
from lucid_storage.stores.redis.replication import DataSetStream, Snapshot
from stores.elasticsearch.self_signed import certificate
from stores.redis_backup.redis_middle import Middle, Script, cut_after, silent_after
from stores.redis_backup.redis_samples import OPTIONS, populate, until
from testbed import ports
from testbed.stores.redis import Redis

pytestmark = pytest.mark.redis
PASSWORD = "do-not-print-me"
DISKLESS, ON_DISK = {"repl-diskless-sync": "yes"}, {"repl-diskless-sync": "no"}


def dump(url: str, **options: Any) -> tuple[bytes, Snapshot]:
    """The whole file, checked."""
    stream = DataSetStream(url, label="test", **options)
    kept = bytearray()

    def read(size: int) -> bytes:
        data = stream.read(size)
        kept.extend(data)
        return data

    try:
        DataSet(read).count()
    finally:
        stream.close()
    return bytes(kept), stream.snapshot


def contents(data: bytes) -> Contents:
    pieces = iter([data])
    return DataSet(lambda _: next(pieces, b"")).count()


def login(server: Any, user: str, secret: str = PASSWORD) -> str:
    return str(server.url.replace("redis://", f"redis://{user}:{secret}@"))


@pytest.fixture(scope="module")
def full(testbed_run: Any) -> Any:
    """A server with every type in it, which nobody changes."""
    server = Redis(testbed_run.instance, f"redis-full-{uuid.uuid4().hex[:8]}", options=OPTIONS)
    server.start()
    populate(server)
    yield server
    server.kill()


@pytest.mark.parametrize("way", [DISKLESS, ON_DISK], ids=["with a mark", "with a length"])
def test_the_data_set_comes_whole_in_both_forms(full: Any, way: dict[str, str]) -> None:
    with full.client() as client:
        client.config_set("repl-diskless-sync", way["repl-diskless-sync"])
        expected = {int(name[2:]): values["keys"] for name, values in client.info("keyspace").items()}
        before, offset = time.time(), client.info("replication")["master_repl_offset"]
        data, snapshot = dump(full.url)
        info = client.info("replication")
    assert contents(data).keys == expected
    assert data.startswith(b"REDIS0010")
    assert snapshot.replication_id == info["master_replid"]
    assert offset <= snapshot.offset <= info["master_repl_offset"]
    assert before - 1 <= snapshot.taken_at.timestamp() <= time.time()
    assert (snapshot.member, snapshot.from_replica, snapshot.notes) == (f"127.0.0.1:{full.port}", False, ())
    assert snapshot.version.startswith("7.")


def test_nothing_of_us_is_left_on_the_server(full: Any) -> None:
    dump(full.url)
    with full.client() as client:
        until(lambda: client.info("replication")["connected_slaves"] == 0)


@pytest.mark.parametrize("behind", range(-45, 6))
def test_the_mark_may_come_in_two_reads_cut_anywhere(
    full: Any, monkeypatch: pytest.MonkeyPatch, behind: int
) -> None:
    """`behind` counts from the end of the mark: the first read ends there."""
    with full.client() as client:
        client.config_set("repl-diskless-sync", "yes")
    recorded = _recorded(full)
    head, _, body = recorded.partition(b"$EOF:")
    mark = body[:40]
    edge = len(head) + 5 + body.rindex(mark) + 40 + behind
    answers = _conversation(head)
    with Script(*answers[:-1], answers[-1] + b"$EOF:" + body + b"\n\n\n") as server:
        received = 0
        some = wire.Wire.some

        def split(self: wire.Wire, size: int = wire.READ_BYTES) -> bytes:
            nonlocal received
            data = some(self, min(size, edge - received) if received < edge else size)
            received += len(data)
            return data

        monkeypatch.setattr(wire.Wire, "some", split)
        data, _ = dump(server.url)
    assert data == body[42 : body.rindex(mark)]


def _recorded(server: Any) -> bytes:
    """All that a real server says to a dump."""
    with Middle(server.port) as between:
        dump(between.url)
        return bytes(between.said)


def _conversation(head: bytes) -> list[bytes]:
    """What it said before the data set, one piece a command: INFO, three of REPLCONF, PSYNC."""
    info, _, rest = head.partition(b"\r\n+OK\r\n")
    answers = [info + b"\r\n", b"+OK\r\n", b"+OK\r\n", b"+OK\r\n"]
    assert rest.startswith(b"+OK\r\n+OK\r\n")
    return [*answers, rest[10:]]


INFO = b"$24\r\nrole:master\r\nloading:0\r\n\r\n"
READY = (INFO, b"+OK\r\n", b"+OK\r\n", b"+OK\r\n")
FULL = b"\n\n+FULLRESYNC " + b"a" * 40 + b" 77\r\n\n\n"
EMPTY = b"REDIS0010\xff" + bytes(8)


def test_newlines_keep_the_connection_alive_before_the_answer_and_before_the_data() -> None:
    with Script(*READY, FULL + b"$%d\r\n" % len(EMPTY) + EMPTY + b"\n") as server:
        data, snapshot = dump(server.url)
    assert (data, snapshot.offset) == (EMPTY, 77)
    assert snapshot.estimated_bytes == len(EMPTY)


def test_commands_behind_the_mark_are_not_taken_for_data() -> None:
    mark = b"m" * 40
    with Script(
        *READY, FULL + b"$EOF:" + mark + b"\r\n" + EMPTY + mark + b"\n*1\r\n$4\r\nPING\r\n"
    ) as server:
        assert dump(server.url)[0] == EMPTY


def test_something_else_behind_the_mark_is_refused() -> None:
    mark = b"m" * 40
    answer = FULL + b"$EOF:" + mark + b"\r\n" + EMPTY + mark + b"more"
    with Script(*READY, answer) as server, pytest.raises(StoreUnavailableError, match="behind the end"):
        dump(server.url)


def _until_followed(master: Any) -> None:
    with master.client() as client:
        until(lambda: client.info("replication").get("slave0", {}).get("state") == "online")


def test_a_replica_is_read_where_there_is_one(private_redis: Callable[..., Any]) -> None:
    master = private_redis(auth=True)
    with master.client() as client:
        client.set("a", "x")
    replica = private_redis(auth=True, replica_of=master)
    replica.set_password(master.password)
    _until_followed(master)
    data, snapshot = dump(master.url)
    assert (snapshot.member, snapshot.from_replica) == (f"127.0.0.1:{replica.port}", True)
    assert contents(data).total == 1
    with master.client() as client:
        assert snapshot.replication_id == client.info("replication")["master_replid"]
        assert client.info("stats")["sync_full"] == 1  # the replica's own


def test_a_replica_that_cannot_be_used_is_said_and_the_master_read(private_redis: Callable[..., Any]) -> None:
    master = private_redis()
    with master.client() as client:
        client.set("a", "x")
    private_redis(auth=True, replica_of=master)
    _until_followed(master)
    _, snapshot = dump(master.url)
    assert (snapshot.member, snapshot.from_replica) == (f"127.0.0.1:{master.port}", False)
    assert len(snapshot.notes) == 1
    assert "asks for a password" in snapshot.notes[0]


def test_a_replica_without_its_master_is_refused(private_redis: Callable[..., Any]) -> None:
    master = private_redis()
    replica = private_redis(replica_of=master)
    master.kill()
    with replica.client() as client:
        until(lambda: client.info("replication")["master_link_status"] == "down")
    with pytest.raises(StoreUnavailableError, match="replica without its master"):
        dump(replica.url)


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "224.0.0.1",
        "0.0.0.0",
        "fe80::1",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
        "not a host!",
    ],
)
def test_an_announced_address_leads_to_no_metadata_service(host: str) -> None:
    assert not members._may_dial(host, "127.0.0.1")


def test_an_announced_loopback_is_ours_only_beside_a_master_that_is_there_too() -> None:
    assert members._may_dial("127.0.0.1", "127.0.0.1")
    assert not members._may_dial("127.0.0.1", "10.1.2.3")


def test_a_server_that_only_says_it_is_the_replica_is_not_read(private_redis: Callable[..., Any]) -> None:
    master, other = private_redis(), private_redis()
    private_redis(replica_of=master, options={"replica-announce-port": str(other.port)})
    _until_followed(master)
    _, snapshot = dump(master.url)
    assert snapshot.member == f"127.0.0.1:{master.port}"
    assert "does not follow this master" in snapshot.notes[0]


def test_over_tls_with_our_own_ca(private_redis: Any, testbed_instance: Any, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    port = ports.reserve(testbed_instance, "redis-stream-tls")
    options = {"tls-port": str(port), "tls-cert-file": str(cert), "tls-key-file": str(key)}
    server = private_redis(options={**options, "tls-ca-cert-file": str(cert), "tls-auth-clients": "no"})
    with server.client() as client:
        client.set("a", "x" * 100_000)
    url = f"rediss://127.0.0.1:{port}/0"
    assert contents(dump(url, ca_path=str(cert))[0]).total == 1
    assert contents(dump(f"{url}?ssl_ca_certs={cert}")[0]).total == 1
    with pytest.raises(StoreUnavailableError, match="certificate that does not fit"):
        dump(url)


def test_with_a_url_that_is_none() -> None:
    hosts = ("redis://a..b:6379", "redis://.:1", f"redis://{'a' * 64}.b:6379")
    for url in ("http://x", "redis://", "redis://h:port", "rediss://h?ssl_ca_certs=/nowhere", *hosts):
        with pytest.raises(RefusedError) as refused:
            dump(url)
        assert refused.value.reason is Reason.SECRET_INVALID


def test_logins_that_are_wrong_or_lack_a_right_say_which(private_redis: Callable[..., Any]) -> None:
    server = private_redis()
    with server.client() as client:
        for user, rights in (
            ("full", "+psync +replconf +info"),
            ("nopsync", "+replconf +info"),
            ("noreplconf", "+psync +info"),
            ("noinfo", "+psync +replconf"),
        ):
            client.execute_command("ACL", "SETUSER", user, "on", f">{PASSWORD}", *rights.split())
        client.set("a", "x")
    assert contents(dump(login(server, "full"))[0]).total == 1
    for missing in ("psync", "replconf", "info"):
        with pytest.raises(AccessDeniedError, match=missing.upper()):
            dump(login(server, f"no{missing}"))
    with pytest.raises(LoginFailedError, match="refused the login") as refused:
        dump(login(server, "full", "wrong-secret"))
    assert "wrong-secret" not in str(refused.value) + repr(refused.value.__cause__)
    server.set_password(PASSWORD)
    with pytest.raises(LoginFailedError, match="asks for a password"):
        dump(f"redis://127.0.0.1:{server.port}/0")
    with pytest.raises(LoginFailedError, match="has no password"):
        server.set_password(None)
        dump(f"redis://:{PASSWORD}@127.0.0.1:{server.port}/0")


def test_cluster_mode_is_not_supported_and_says_so(private_redis: Callable[..., Any]) -> None:
    server = private_redis(options={"cluster-enabled": "yes"})
    with pytest.raises(NotSupportedError, match="Cluster mode"):
        dump(server.url)


def test_a_server_without_replication_names_the_way_out(private_redis: Callable[..., Any]) -> None:
    server = private_redis(options={"rename-command": 'PSYNC ""'})
    with pytest.raises(NotSupportedError, match="own snapshots"):
        dump(server.url)


@pytest.mark.parametrize(
    ("answers", "error", "words"),
    [
        ((b"-LOADING Redis is loading the dataset in memory\r\n",), StoreUnavailableError, "loading its data"),
        ((INFO.replace(b":0", b":1"),), StoreUnavailableError, "loading its data"),
        ((*READY, b"-NOMASTERLINK Can't SYNC while not connected with my master\r\n"), StoreUnavailableError, "master"),
        ((*READY, b"+CONTINUE\r\n"), StoreUnavailableError, "replication protocol"),
        ((*READY, FULL), StoreUnavailableError, "before it sent its data set"),
        ((*READY, FULL + b"-ERR no memory to fork\r\n"), LucidError, "see its log"),
        ((*READY, FULL + b"$x\r\n"), StoreUnavailableError, "replication protocol"),
        ((b"HTTP/1.1 400 Bad Request\r\n",), StoreUnavailableError, "protocol"),
        ((b"$-\r\n",), StoreUnavailableError, "protocol"),
        ((b"x" * 100_000,), StoreUnavailableError, "protocol"),
        ((b"*1\r\n" * 3000,), StoreUnavailableError, "protocol"),
    ],
)  # fmt: skip
def test_strange_answers_are_one_sentence(
    answers: tuple[bytes, ...], error: type[LucidError], words: str
) -> None:
    with Script(*answers) as server, pytest.raises(error, match=words) as raised:
        dump(server.url)
    assert raised.value.message.count(". ") == 0


def test_a_server_that_is_away_says_so() -> None:
    with Script() as server:
        url = server.url
    with pytest.raises(StoreUnavailableError, match="refuses connections"):
        dump(url)
    with pytest.raises(StoreUnavailableError, match="cannot be found"):
        dump("redis://no-such-host.invalid:6379")


@pytest.mark.parametrize("way", [DISKLESS, ON_DISK], ids=["with a mark", "with a length"])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.9, 1.0])
def test_a_stream_that_is_cut_is_no_data_set(full: Any, way: dict[str, str], part: float) -> None:
    """`part` of the data set arrives; at 1.0 all but its last byte, or the last one of the mark."""
    with full.client() as client:
        client.config_set("repl-diskless-sync", way["repl-diskless-sync"])
    more = 39 if way is DISKLESS else -1
    size = int(part * (len(dump(full.url)[0]) + more))
    said = pytest.raises(StoreUnavailableError, match=r"in the middle of its data set|before it sent")
    with Middle(full.port, cut_after(size)) as between, said:
        dump(between.url)


def test_a_stream_that_stalls_is_given_up_in_time(full: Any) -> None:
    with Middle(full.port, silent_after(100_000), holds=True) as between:
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError, match=r"stopped sending.*repl-timeout"):
            dump(between.url, stall_seconds=0.5)
        assert time.monotonic() - began < 10


def test_a_server_that_never_begins_is_given_up_in_time() -> None:
    with (
        Script(*READY, stay=True) as server,
        pytest.raises(StoreUnavailableError, match="not answer in time"),
    ):
        dump(server.url, stall_seconds=0.3)


def test_a_slow_reader_gets_the_whole_data_set_of_one_moment(private_redis: Callable[..., Any]) -> None:
    """While it reads slowly, the server is written to: what comes is the state at the beginning."""
    server = private_redis(options={**DISKLESS, "client-output-buffer-limit": "replica 1mb 1mb 1"})
    with server.client() as client:
        for i in range(300):
            client.set(f"k:{i}", bytes(range(256)) * 400)
        done = threading.Event()
        stream = DataSetStream(server.url, label="test")
        writer = threading.Thread(target=_write_until, args=(server, done))
        writer.start()
        pause = threading.Event()

        def slowly(size: int) -> bytes:
            pause.wait(0.02)  # the speed of a slow destination
            return stream.read(size)

        try:
            counted = DataSet(slowly).count()
        finally:
            done.set()
            writer.join()
            stream.close()
    assert counted.total == 300


def _write_until(server: Any, done: threading.Event) -> None:
    with server.client() as client:
        number = 0
        while not done.is_set():
            client.set(f"new:{number}", "x" * 1000)
            number += 1
