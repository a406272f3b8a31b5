"""Redis's part of a backup on a real server: what is stored, what is said of it, and what is left of a failure."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from workshop import Workshop

from jobs.memory_sink import MemorySink
from jobs.redis.redis_bed import Backup, Run
from lucid_storage.archive.manifest import ObjectKind
from lucid_storage.errors import (
    ArchiveDamagedError,
    LucidError,
    NotSupportedError,
    Reason,
    StoreUnavailableError,
)
from lucid_storage.jobs.contract import CancelledError
from lucid_storage.jobs.redis_backup import NO_CHECKSUM, check
from lucid_storage.stores.redis.keychoice import DEFAULT_EXCLUDED_PREFIXES
from stores.redis_backup.redis_middle import Middle, Script, cut_after, silent_after
from stores.redis_backup.redis_samples import OPTIONS, digest, dumped, populate

pytestmark = pytest.mark.redis


def test_what_is_stored_is_a_standard_file_with_a_true_record(
    private_redis: Callable[..., Any], tmp_path: Path
) -> None:
    server = private_redis(options=OPTIONS)
    populate(server)
    run, before = Run(), datetime.now(UTC)
    taken = run.take(server)
    with server.client() as client:
        keys, info = len(dumped(client)), client.info()
    record = taken.record.redis
    assert record is not None
    assert (record.keys, record.databases, taken.documents) == (keys, 3, keys)
    assert record.version == info["redis_version"]
    assert record.replication_id == info["master_replid"]
    assert before <= taken.record.taken_at <= datetime.now(UTC)
    assert run.opened == [(ObjectKind.REDIS_RDB, "")]
    assert taken.size_bytes == len(run.sink.data) == sum(size for size, _ in run.told)
    assert sum(documents for _, documents in run.told) == keys
    assert run.expected > 0
    path = tmp_path / "stored.rdb"
    path.write_bytes(run.sink.data)
    said = subprocess.run(["redis-check-rdb", path], check=False, capture_output=True, text=True, timeout=60)
    assert said.returncode == 0, said.stdout
    assert f"{keys} keys read" in said.stdout


def test_an_empty_redis_is_a_backup_too(private_redis: Callable[..., Any]) -> None:
    backup = Backup.of(private_redis())
    assert (backup.record.keys, backup.record.databases) == (0, 0)
    check(io.BytesIO(backup.data), backup.manifest())


def test_a_server_without_checksums_is_backed_up_with_a_note(private_redis: Callable[..., Any]) -> None:
    server = private_redis(options={"rdbchecksum": "no"})
    with server.client() as client:
        client.set("a", "x")
    assert Backup.of(server).taken.notes == (NO_CHECKSUM,)


def test_whatever_fails_nothing_is_left_behind(private_redis: Callable[..., Any]) -> None:
    server = private_redis()
    with server.client() as client:
        client.set("a", os.urandom(2_000_000))
    with Middle(server.port, cut_after(900_000)) as between:
        run = Run()
        with pytest.raises(StoreUnavailableError, match="in the middle"):
            run.take(between.url)
        assert run.sink.aborted
    with Middle(server.port, silent_after(900_000), holds=True) as between:
        run = Run()
        with pytest.raises(StoreUnavailableError, match="stopped sending"):
            run.take(between.url, stall_seconds=0.5)
        assert run.sink.aborted

    def full(size: int) -> None:
        if size > 500_000:
            raise LucidError("The volume is full.", reason=Reason.DESTINATION_FULL)

    run = Run(sink=MemorySink(ObjectKind.REDIS_RDB, full))
    with pytest.raises(LucidError, match="full"):
        run.take(server)
    assert run.sink.aborted
    assert not run.sink.finished


def test_a_cancelled_run_ends_and_leaves_nothing(private_redis: Callable[..., Any]) -> None:
    server = private_redis()
    with server.client() as client:
        client.set("a", os.urandom(3_000_000))
    run = Run()
    run.sink = MemorySink(ObjectKind.REDIS_RDB, lambda size: run.cancelled.set() if size > 100_000 else None)
    with pytest.raises(CancelledError):
        run.take(server)
    assert run.sink.aborted
    assert len(run.sink.data) < 2_000_000


def test_a_damaged_stream_is_the_servers_fault_and_says_so(private_redis: Callable[..., Any]) -> None:
    server = private_redis()
    with server.client() as client:
        client.set("a", os.urandom(100_000))

    def flip() -> Callable[[bytes], bytes]:
        seen = 0

        def spoil(data: bytes) -> bytes:
            nonlocal seen
            at, seen = 60_000 - seen, seen + len(data)
            return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :] if 0 <= at < len(data) else data

        return spoil

    with Middle(server.port, flip) as between, pytest.raises(LucidError, match="checksum is wrong") as raised:
        Run().take(between.url)
    assert raised.value.reason is Reason.UNHEALTHY


def test_a_newer_data_set_is_refused_before_anything_is_stored_for_good() -> None:
    body = b"REDIS0013\xff" + bytes(8)
    info = b"$24\r\nrole:master\r\nloading:0\r\n\r\n"
    answer = b"+FULLRESYNC " + b"a" * 40 + b" 0\r\n$%d\r\n" % len(body) + body
    with Script(info, b"+OK\r\n", b"+OK\r\n", b"+OK\r\n", answer) as server:
        run = Run()
        with pytest.raises(LucidError, match="version 13") as raised:
            run.take(server.url)
    assert raised.value.reason is NotSupportedError.reason
    assert run.sink.aborted


def test_the_check_reads_every_byte_and_compares_the_counts(private_redis: Callable[..., Any]) -> None:
    server = private_redis()
    with server.client() as client:
        client.mset({f"k:{i}": i for i in range(100)})
    backup = Backup.of(server)
    check(io.BytesIO(backup.data), backup.manifest())
    for changes in ({"keys": 99}, {"databases": 2}):
        with pytest.raises(LucidError, match="its manifest says") as raised:
            check(io.BytesIO(backup.data), backup.manifest(**changes))
        assert raised.value.reason is Reason.VERIFY_FAILED
    for spoilt in (backup.data[:-1], backup.data[: len(backup.data) // 2], b"", backup.data + b"x"):
        with pytest.raises(ArchiveDamagedError):
            check(io.BytesIO(spoilt), backup.manifest())


def test_the_worker_makes_a_proved_encrypted_backup(
    private_redis: Callable[..., Any], workshop: Callable[..., Workshop]
) -> None:
    server = private_redis(options=OPTIONS)
    populate(server)
    made = workshop(REDIS_URL=server.url)
    told = made.back_up("redis", ["redis"], verify="Restore")
    assert told.ok, told.message
    (engine,) = told.engines
    (record,) = made.records()
    (stored,) = record.manifest.objects
    assert engine.ok
    assert record.proof is not None
    assert record.proof.passed
    assert engine.documents == record.manifest.engines[0].redis.keys > 3000  # type: ignore[union-attr]
    assert stored.kind is ObjectKind.REDIS_RDB
    assert b"REDIS00" not in (made.destination / stored.path).read_bytes()


MEASURED = r"""
import re, sys
sys.path.insert(0, sys.argv[2])
from jobs.memory_sink import MemorySink
from jobs.redis.redis_bed import Run
from lucid_storage.archive.manifest import ObjectKind
class Dropped(MemorySink):
    def write(self, data):
        self.size = getattr(self, "size", 0) + len(data)
run = Run(sink=Dropped(ObjectKind.REDIS_RDB))
run.take(sys.argv[1])
peak = re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())
print(int(peak[1]) // 1024, run.sink.size)
"""


def test_memory_does_not_grow_with_the_data_set(private_redis: Callable[..., Any]) -> None:
    """The whole worker's peak, with 200,000 keys and values of 60 MB among them."""
    server = private_redis()

    def peak() -> tuple[int, int]:
        tests = Path(__file__).parents[2]
        command = [sys.executable, "-c", MEASURED, server.url, str(tests)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        megabytes, size = done.stdout.split()
        return int(megabytes), int(size)

    with server.client() as client:
        client.set("a", "x")
        small, _ = peak()
        for begin in range(0, 200_000, 10_000):
            client.mset({f"lucid:cache:entity:{i}": f"value {i}" for i in range(begin, begin + 10_000)})
        for i in range(3):
            client.set(f"large:{i}", os.urandom(60_000_000))
    large, size = peak()
    assert size > 180_000_000
    assert large - small < 12
    assert large < 100


def test_a_server_that_is_started_with_the_stored_file_has_the_same_data(
    private_redis: Callable[..., Any],
) -> None:
    server, other = private_redis(options=OPTIONS), private_redis(options={**OPTIONS, "appendonly": "no"})
    populate(server)
    stored = Backup.of(server).data
    other.stop()
    (other.folder / "dump.rdb").write_bytes(stored)
    other.start()
    with server.client() as old, other.client() as new:
        assert digest(new) == digest(old)


def test_the_page_names_what_a_restore_leaves_out_by_default() -> None:
    page = (Path(__file__).parents[3] / "docs" / "archive-redis.md").read_text()
    assert re.findall(r"^(lucid:\w+:)\.\.\.$", page, re.MULTILINE) == list(DEFAULT_EXCLUDED_PREFIXES)
