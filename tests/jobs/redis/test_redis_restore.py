"""Redis key by key into a live server (rule 2.12): what comes, what stays, and what is never revived."""

from __future__ import annotations

import io
import random
import time
from collections.abc import Callable
from typing import Any

import anycrc
import pytest

from jobs.redis.redis_bed import Backup, used
from lucid_storage.archive.manifest import RedisRecord
from lucid_storage.errors import (
    AccessDeniedError,
    ArchiveDamagedError,
    LucidError,
    NotSupportedError,
    Reason,
    RefusedError,
    ServerRefusedError,
    StoreUnavailableError,
)
from lucid_storage.jobs import redis_restore
from lucid_storage.jobs.contract import CancelledError
from lucid_storage.jobs.redis_restore import RedisRestoreRun, plan, restore
from lucid_storage.stores.redis import loading
from lucid_storage.stores.redis.keychoice import DEFAULT_EXCLUDED_PREFIXES, KeyChoice
from lucid_storage.stores.redis.wire import address_of
from stores.redis_backup.redis_middle import Script
from stores.redis_backup.redis_samples import FAR, LIBRARY, OPTIONS, digest, populate, until

pytestmark = pytest.mark.redis
CRC = anycrc.Model("CRC64-REDIS")


def test_every_type_in_every_database_comes_back_as_it_was(private_redis: Callable[..., Any]) -> None:
    source, target = private_redis(options=OPTIONS), private_redis(options=OPTIONS)
    populate(source)
    backup = Backup.of(source)
    done = backup.restore(target)
    with source.client() as old, target.client() as new:
        assert digest(new) == digest(old)
        assert new.pexpiretime("t:later") == new.pexpiretime("h:big") == FAR
        assert new.pexpiretime("t:seconds") == old.pexpiretime("t:seconds")
        assert new.xinfo_groups("x:stream") == old.xinfo_groups("x:stream")
        assert new.xpending("x:stream", "readers") == old.xpending("x:stream", "readers")
        assert new.xinfo_stream("x:empty")["last-generated-id"] == b"5-5"
        assert new.execute_command("FCALL", "one", 0) == 1
    assert (done.restored, done.replaced, done.skipped, done.functions) == (backup.record.keys, 0, 0, 1)
    assert done.bytes == len(backup.data)


def test_existing_keys_are_skipped_and_others_stay(private_redis: Callable[..., Any]) -> None:
    server = private_redis()
    with server.client() as client:
        client.mset({"a": "old", "b": "old"})
        client.hset("h", "f", "old")
        client.set("t", "old", pxat=FAR)
        backup = Backup.of(server)
        client.set("a", "new")
        client.delete("b", "h", "t")
        client.set("later", "new")
        client.set("h", "now a string")
        done = backup.restore(server)
        assert client.mget("a", "b", "h", "later") == [b"new", b"old", b"now a string", b"new"]
        assert client.pexpiretime("t") == FAR
    assert (done.restored, done.replaced, done.skipped) == (2, 0, 2)
    assert "2 skipped because they exist" in done.describe()


def test_with_drop_existing_they_are_replaced_and_others_still_stay(
    private_redis: Callable[..., Any],
) -> None:
    server = private_redis()
    with server.client() as client:
        client.mset({"a": "old", "b": "old"})
        client.hset("h", "f", "old")
        backup = Backup.of(server)
        client.set("a", "new", ex=100)
        client.delete("b", "h")
        client.set("later", "new")
        client.set("h", "now a string")
        done = backup.restore(server, drop_existing=True)
        assert client.mget("a", "b", "later") == [b"old", b"old", b"new"]
        assert client.ttl("a") == -1
        assert client.hgetall("h") == {b"f": b"old"}
    assert (done.restored, done.replaced, done.skipped) == (1, 2, 0)


def test_a_key_whose_time_is_over_is_not_revived_and_deletes_nothing(
    private_redis: Callable[..., Any],
) -> None:
    server = private_redis()
    with server.client() as client:
        client.set("stays", "x", pxat=FAR)
        client.set("gone", "x", px=1000)
        client.set("over", "old", px=1000)
        backup = Backup.of(server)
        until(lambda: not client.exists("gone", "over"))
        client.delete("stays")
        client.set("over", "new")
        done = backup.restore(server, drop_existing=True)
        assert client.get("over") == b"new"
        assert not client.exists("gone")
        assert client.pexpiretime("stays") == FAR
    assert (done.restored, done.replaced, done.expired) == (1, 0, 2)


def test_expiry_goes_by_the_servers_clock(
    private_redis: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = private_redis()
    with server.client() as client:
        client.set("a", "x", pxat=FAR)
        backup = Backup.of(server)
        client.delete("a")
        monkeypatch.setattr(loading.KeyLoader, "now_ms", lambda self: FAR + 1)
        assert backup.restore(server).expired == 1
        monkeypatch.undo()
        ours = time.time_ns() // 1_000_000
        wire = loading.Wire(address_of(server.url, "test"))
        try:
            assert abs(loading.KeyLoader(wire, replace=False).now_ms() - ours) < 5000
        finally:
            wire.close()
        assert backup.restore(server).restored == 1


KEYS = (
    "lucid:session:abc",
    "lucid:session:token:abc",
    "lucid:session:a:b:c:d",
    "lucid:ratelimit:user:u1",
    "lucid:ratelimit:1.2.3.4:/login:POST",
    "lucid:lock:payment:tx1",
    "lucid:user:u1",
    "lucid:cache:manifest:m1",
    "lucid:cache:block:b1",
    "sessions:mine",
)


@pytest.mark.parametrize(
    ("keys", "exclude", "expected"),
    [
        (None, None, KEYS[6:]),
        (None, [], KEYS),
        (None, ["lucid:cache:{entity}:{id}"], (*KEYS[:7], KEYS[9])),
        (["lucid:session:{id}"], None, KEYS[:1]),
        (["lucid:session:{id}", "lucid:session:token:{id}"], None, KEYS[:2]),
        (["lucid:cache:{entity}:{id}"], ["lucid:cache:block:{id}"], KEYS[7:8]),
        (["lucid:{service}"], None, ()),
    ],
)
def test_patterns_choose_keys_and_override_what_is_left_out_by_default(
    private_redis: Callable[..., Any],
    keys: list[str] | None,
    exclude: list[str] | None,
    expected: tuple[str, ...],
) -> None:
    server = private_redis()
    with server.client() as client:
        client.mset(dict.fromkeys(KEYS, "x"))
        backup = Backup.of(server)
        client.flushall()
        done = backup.restore(server, keys=keys, exclude=exclude)
        assert sorted(key.decode() for key in client.scan_iter()) == sorted(expected)
    assert (done.restored, done.left_out) == (len(expected), len(KEYS) - len(expected))


def test_the_default_exclusions_cover_the_key_spaces_of_the_catalog() -> None:
    choice = KeyChoice()
    for key in KEYS[:6]:
        assert not choice.wants(key.encode())
    assert all(prefix.startswith("lucid:") for prefix in DEFAULT_EXCLUDED_PREFIXES)
    assert choice.wants(b"\xff\x00lucid:session:abc")


def test_a_namespace_gets_only_the_keys_that_it_may_use() -> None:
    choice = KeyChoice(None, [], allowed=("shop:*", "exact"))
    assert [k for k in (b"shop:a", b"shop:a\n\xff", b"exact", b"exactly", b"lucid:a") if choice.wants(k)] == [
        b"shop:a",
        b"shop:a\n\xff",
        b"exact",
    ]


def test_functions_come_with_the_whole_data_set_only(private_redis: Callable[..., Any]) -> None:
    server = private_redis()
    with server.client() as client:
        client.execute_command("FUNCTION", "LOAD", LIBRARY)
        client.set("a:1", "x")
        backup = Backup.of(server)
        client.execute_command("FUNCTION", "FLUSH")
        assert backup.restore(server, keys=["a:{id}"]).functions == 0
        assert client.execute_command("FUNCTION", "LIST") == []
        assert backup.restore(server).functions == 1
        assert backup.restore(server).functions == 0
        assert backup.restore(server, drop_existing=True).functions == 1


def test_a_namespace_with_some_keys_only_replaces_no_functions_of_others(
    private_redis: Callable[..., Any],
) -> None:
    library = "#!lua name=shared\nredis.register_function('price', function() return '%s' end)"
    own, shared = private_redis(), private_redis()
    with own.client() as client:
        client.set("shop:1", "x")
        client.execute_command("FUNCTION", "LOAD", library % "mine")
    with shared.client() as client:
        client.execute_command("FUNCTION", "LOAD", library % "theirs")
    done = Backup.of(own).restore(shared, drop_existing=True, allowed=("shop:*",))
    assert (done.restored, done.functions) == (1, 0)
    assert "1 function libraries were left out" in done.describe()
    with shared.client() as client:
        assert client.execute_command("FCALL", "price", 0) == b"theirs"
    whole = Backup.of(own).restore(shared, drop_existing=True)
    assert (whole.functions, "left out: they" in whole.describe()) == (1, False)


def test_a_library_whose_function_another_one_has_is_told_and_never_taken_for_restored(
    private_redis: Callable[..., Any],
) -> None:
    library = "#!lua name={}\nredis.register_function('price', function() return '{}' end)"
    source, target = private_redis(), private_redis()
    with source.client() as client:
        client.set("a", "x")
        client.execute_command("FUNCTION", "LOAD", library.format("ours", "backed up"))
    backup = Backup.of(source)
    with target.client() as client:
        client.execute_command("FUNCTION", "LOAD", library.format("theirs", "live"))
        with pytest.raises(
            RefusedError, match=r"function of the library ours .* in another library"
        ) as raised:
            backup.restore(target, drop_existing=True)
        assert raised.value.reason is Reason.RESTORE_BLOCKED
        assert client.dbsize() == 0
        done = backup.restore(target)
        assert (done.restored, done.functions, done.functions_skipped) == (1, 0, 1)
        assert "0 function libraries restored, 1 skipped" in done.describe()
        assert client.execute_command("FCALL", "price", 0) == b"live"
        client.execute_command("FUNCTION", "DELETE", "theirs")
        assert "1 function libraries restored" in backup.restore(target, drop_existing=True).describe()
        assert client.execute_command("FCALL", "price", 0) == b"backed up"


@pytest.mark.parametrize("part", [0.0, 0.2, 0.5, 0.99])
def test_a_damaged_file_is_refused_before_the_first_write(
    private_redis: Callable[..., Any], part: float
) -> None:
    server = private_redis()
    with server.client() as client:
        client.mset({f"k:{i}": "x" * 100 for i in range(5000)})
        backup = Backup.of(server)
        client.flushall()
        client.set("mine", "x")
        at = int(part * len(backup.data))
        flipped = backup.data[:at] + bytes((backup.data[at] ^ 4,)) + backup.data[at + 1 :]
        for spoilt in (flipped, backup.data[:at], backup.data + b"\x00"):
            with pytest.raises(ArchiveDamagedError):
                restore(backup.run(server, spoilt))
        assert list(client.scan_iter()) == [b"mine"]


def test_a_count_that_is_not_the_manifests_is_refused_before_the_first_write(
    private_redis: Callable[..., Any],
) -> None:
    server = private_redis()
    with server.client() as client:
        client.mset({"a": 1, "b": 2})
        backup = Backup.of(server)
        client.flushall()
        run = backup.run(server)
        run.record = run.record.model_copy(update={"keys": 3})
        with pytest.raises(LucidError, match="nothing was written") as raised:
            restore(run)
        assert raised.value.reason is Reason.COUNT_MISMATCH
        assert client.dbsize() == 0


def test_an_older_target_is_refused_before_the_first_write(private_redis: Callable[..., Any]) -> None:
    server = private_redis()
    body = b"REDIS0012\xfe\x00\x00\x01k\x01v\xff"
    data = body + CRC.calc(body).to_bytes(8, "little")
    record = RedisRecord(version="8.0.0", replication_id="", offset=0, keys=1, databases=1)
    with pytest.raises(NotSupportedError, match="a newer Redis wrote"):
        restore(RedisRestoreRun(server.url, record, lambda: io.BytesIO(data)))
    with server.client() as client:
        assert client.dbsize() == 0


def test_a_value_that_only_a_module_reads_is_refused_before_the_first_write(
    private_redis: Callable[..., Any],
) -> None:
    server = private_redis()
    module = b"\x07\x03j:1\x81" + (0).to_bytes(7, "big") + b"\x01\x02\x05\x00"
    body = b"REDIS0010\xfe\x00\x00\x03a:1\x01v" + module + b"\xff"
    data = body + CRC.calc(body).to_bytes(8, "little")
    record = RedisRecord(version="7.0", replication_id="", offset=0, keys=2, databases=1)
    run = RedisRestoreRun(server.url, record, lambda: io.BytesIO(data))
    with pytest.raises(RefusedError, match="module type AAAAAAAAA") as raised:
        restore(run)
    assert raised.value.reason is Reason.NOT_SUPPORTED
    run.selection = run.selection.model_copy(update={"key_patterns": ["a:{id}"]})
    assert restore(run).restored == 1


def test_a_database_that_the_target_lacks_is_refused_before_the_first_write(
    private_redis: Callable[..., Any],
) -> None:
    source, target = private_redis(), private_redis(options={"databases": "2"})
    with source.client() as client:
        client.set("a", "x")
        client.execute_command("SELECT", 5)
        client.set("b", "x")
    with pytest.raises(ServerRefusedError, match="no database 5"):
        Backup.of(source).restore(target)
    with target.client() as client:
        assert client.dbsize() == 0


@pytest.mark.parametrize("size", [1, 3_000_000])
def test_a_database_that_the_target_lacks_is_not_needed_for_keys_whose_time_is_over(
    private_redis: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    source, target = private_redis(), private_redis(options={"databases": "2"})
    with source.client() as client:
        client.mset({"a": "x", "b": "x"})
        client.execute_command("SELECT", 5)
        client.set("over", random.Random(1).randbytes(size), pxat=FAR)
    backup = Backup.of(source)
    monkeypatch.setattr(redis_restore, "time", lambda: FAR / 1000 + 1)
    monkeypatch.setattr(loading.KeyLoader, "now_ms", lambda self: FAR + 1)
    done = backup.restore(target)
    assert (done.restored, done.expired) == (2, 1)


def test_a_replica_and_a_cluster_are_no_targets(private_redis: Callable[..., Any]) -> None:
    master = private_redis()
    with master.client() as client:
        client.set("a", "x")
    backup = Backup.of(master)
    with pytest.raises(StoreUnavailableError, match="read-only replica"):
        backup.restore(private_redis(replica_of=master))
    with pytest.raises(NotSupportedError, match="Cluster mode"):
        backup.restore(private_redis(options={"cluster-enabled": "yes"}))


def test_a_full_target_says_how_far_it_came(private_redis: Callable[..., Any]) -> None:
    server = private_redis()
    with server.client() as client:
        client.mset({f"k:{i}": i for i in range(60_000)})  # need far more than can be told before
        backup = Backup.of(server)
        client.flushall()
        client.config_set("maxmemory", used(client) + 3_500_000)
        with pytest.raises(RefusedError, match=r"out of memory.*keys had been written") as raised:
            backup.restore(server)
        assert raised.value.reason is Reason.NOT_ENOUGH_SPACE
        assert "Raise maxmemory there, or choose fewer keys" in raised.value.message
        assert "policy" not in raised.value.message
        kept = client.dbsize()
        assert f"{kept} keys had been written" in raised.value.message
        client.config_set("maxmemory", 0)
        done = backup.restore(server)
        assert (done.skipped, done.restored) == (kept, 60_000 - kept)


def test_it_can_be_stopped_between_batches(private_redis: Callable[..., Any]) -> None:
    server = private_redis()
    with server.client() as client:
        client.mset({f"k:{i}": "x" * 20 for i in range(100_000)})
        backup = Backup.of(server)
        client.flushall()
        run = backup.run(server)
        told = 0

        def report(_size: int, keys: int) -> None:
            nonlocal told
            told += keys
            if told:
                run.cancelled.set()

        run.report = report
        with pytest.raises(CancelledError):
            restore(run)
        assert 0 < client.dbsize() < 100_000


def test_the_plan_writes_nothing_and_asks_no_server(private_redis: Callable[..., Any]) -> None:
    server = private_redis()
    with server.client() as client:
        client.mset(dict.fromkeys(KEYS, "x"))
        client.execute_command("SELECT", 2)
        client.set("a", "x")
        client.execute_command("FUNCTION", "LOAD", LIBRARY)
        client.execute_command("SELECT", 0)
        client.set("soon", "x", px=1000)
        backup = Backup.of(server)
        until(lambda: not client.exists("soon"))
    with Script() as nowhere:
        planned = plan(backup.run(nowhere.url))
    assert {database: need.keys for database, need in planned.needs.items()} == {0: 4, 2: 1}
    assert (planned.keys, planned.expired, planned.left_out, len(planned.functions)) == (5, 1, 6, 1)
    assert planned.bytes == len(backup.data)


def test_200_000_keys_come_back(private_redis: Callable[..., Any]) -> None:
    source, target = private_redis(), private_redis()
    with source.client() as old, target.client() as new:
        for begin in range(0, 200_000, 10_000):
            old.mset({f"lucid:cache:entity:{i}": f"value {i}" for i in range(begin, begin + 10_000)})
        old.set("large", b"\x01\x02" * 10_000_000)
        done = Backup.of(source).restore(target)
        assert new.dbsize() == done.restored == 200_001
        assert new.get("lucid:cache:entity:123456") == b"value 123456"
        assert new.get("large") == b"\x01\x02" * 10_000_000


def test_a_login_without_restore_says_so_and_nothing_is_written(private_redis: Callable[..., Any]) -> None:
    server = private_redis()
    with server.client() as client:
        client.set("a", "x")
        backup = Backup.of(server)
        client.flushall()
        client.execute_command("ACL", "SETUSER", "u", "on", ">pw", "~*", "+info", "+time", "+select")
        with pytest.raises(AccessDeniedError, match="RESTORE"):
            backup.restore(server.url.replace("redis://", "redis://u:pw@"))
        assert client.dbsize() == 0
