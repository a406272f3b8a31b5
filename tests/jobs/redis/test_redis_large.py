"""Large values of Redis on their way back: in constant memory, whole or not at all, and refused before the first write
where the target takes none of that size.
"""

from __future__ import annotations

import hashlib
import io
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anycrc
import pytest

from jobs.redis.redis_bed import Backup, Kept
from lucid_storage.archive.manifest import RedisRecord
from lucid_storage.errors import (
    ArchiveDamagedError,
    DestinationError,
    NotSupportedError,
    StoreUnavailableError,
)
from lucid_storage.jobs.redis_restore import RedisRestoreRun, restore
from stores.redis_backup.redis_middle import Middle
from stores.redis_backup.redis_samples import FAR, until

pytestmark = pytest.mark.redis
CRC = anycrc.Model("CRC64-REDIS")
LARGE = 3 * 1024 * 1024
"""More than goes with others."""
RUN = """
import sys
from lucid_storage.archive.manifest import RedisRecord
from lucid_storage.jobs.redis_restore import RedisRestoreRun, restore

def most():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) // 1024

url, path, record = sys.argv[1:]
before = most()
run = RedisRestoreRun(url, RedisRecord.model_validate_json(record), lambda: open(path, "rb"))
print(restore(run).restored, most() - before)
"""


def large(seed: int = 0, size: int = LARGE) -> bytes:
    """Bytes that do not pack."""
    return random.Random(seed).randbytes(size)


def digest(client: Any, key: str) -> str:
    return hashlib.sha256(client.execute_command("DUMP", key)).hexdigest()


def test_a_value_larger_than_the_workers_memory_should_be_is_never_in_it_as_a_whole(
    private_redis: Callable[..., Any], tmp_path: Path
) -> None:
    source, target = private_redis(), private_redis()
    with source.client() as old, target.client() as new:
        for number in range(25):
            old.rpush("list", *(large(number, 100_000) for _ in range(10)))
        old.set("string", large(1, 25_000_000))
        old.set("small", "x")
        backup = Backup.of(source)
        path = tmp_path / "dump.rdb"
        path.write_bytes(backup.data)
        done = subprocess.run(
            [sys.executable, "-c", RUN, target.url, path, backup.record.model_dump_json()],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        restored, grown = map(int, done.stdout.split())
        assert restored == new.dbsize() == 3
        assert grown < 16  # MiB
        for key in ("list", "string", "small"):
            assert digest(new, key) == digest(old, key)


def test_a_large_value_is_restored_skipped_replaced_and_left_dead_as_others_are(
    private_redis: Callable[..., Any],
) -> None:
    server = private_redis()
    with server.client() as client:
        client.set("there", large(2))
        client.set("absent", large(3), pxat=FAR)
        client.execute_command("SELECT", 2)
        client.set("elsewhere", large(4))
        client.execute_command("SELECT", 0)
        client.set("gone", large(1), px=1000)
        backup = Backup.of(server)
        client.set("there", "mine", px=100_000)
        client.delete("absent")
        until(lambda: not client.exists("gone"))
        done = backup.restore(server)
        assert (done.restored, done.replaced, done.skipped, done.expired) == (1, 0, 2, 1)
        assert (client.get("there"), client.pexpiretime("absent")) == (b"mine", FAR)
        done = backup.restore(server, drop_existing=True)
        assert (done.restored, done.replaced, done.skipped, done.expired) == (0, 3, 0, 1)
        assert (client.get("there"), client.ttl("there")) == (large(2), -1)
        assert client.get("absent") == large(3)
        assert not client.exists("gone")


@pytest.mark.parametrize(
    "options",
    [
        {"proto-max-bulk-len": "2mb"},
        {"client-query-buffer-limit": "2mb"},
        {"maxmemory-clients": "2mb"},
        {"maxmemory-clients": "2%", "maxmemory": "100mb"},
    ],
)
def test_a_value_that_the_target_takes_no_command_of_is_refused_before_the_first_write(
    private_redis: Callable[..., Any], options: dict[str, str]
) -> None:
    setting = next(iter(options))
    source, target = private_redis(), private_redis(options=options)
    with source.client() as client:
        client.mset({f"a:{number}": "x" for number in range(3000)})
        client.set("large", large())
    backup = Backup.of(source)
    with target.client() as client:
        with pytest.raises(NotSupportedError, match=f"up to 2.0 MiB, .* has 3.0 MiB; raise {setting} there"):
            backup.restore(target)
        assert client.dbsize() == 0
        assert backup.restore(target, exclude=["large"]).restored == 3000


def test_where_the_limit_may_not_be_read_the_default_is_taken(private_redis: Callable[..., Any]) -> None:
    source, target = private_redis(), private_redis()
    with source.client() as client:
        client.set("large", large())
    backup = Backup.of(source)
    with target.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "u", "on", ">pw", "~*", *["+info", "+time", "+select", "+restore"]
        )
        url = target.url.replace("redis://", "redis://u:pw@")
        assert backup.restore(url).restored == 1
        assert client.get("large") == large()
        client.flushall()
        client.config_set("proto-max-bulk-len", "2mb")
        with pytest.raises(StoreUnavailableError, match=r"closed the connection.* see proto-max-bulk-len"):
            backup.restore(url)
        assert client.dbsize() == 0


def test_keys_that_were_sent_when_the_connection_broke_may_have_been_written(
    private_redis: Callable[..., Any],
) -> None:
    server = private_redis()
    with server.client() as client:
        client.mset({f"k:{number}": "x" * 20 for number in range(2000)})
        backup = Backup.of(server)
        client.flushall()

        def spoil() -> Callable[[bytes], bytes | None]:
            passed = 0

            def broken(data: bytes) -> bytes | None:
                nonlocal passed
                passed += data.count(b"+OK")
                return data if passed < 1200 else None

            return broken

        with Middle(server.port, spoil) as middle, pytest.raises(StoreUnavailableError) as raised:
            backup.restore(middle.url)
        words = raised.value.message.split()
        written = int(words[words.index("had") - 2])
        more = int(words[words.index("more") - 1])
        assert (
            f"{written} keys had been written by then (up to {more} more may have been)"
            in raised.value.message
        )
        assert more > 0
        assert written < client.dbsize() <= written + more


def test_a_source_that_breaks_in_the_middle_of_a_value_leaves_no_part_of_it(
    private_redis: Callable[..., Any],
) -> None:
    class Breaking(Kept):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > LARGE // 2:
                raise DestinationError("The bucket is away.")
            return super().read(size)

    server = private_redis()
    with server.client() as client:
        client.set("large", large())
        backup = Backup.of(server)
        client.flushall()
        run = backup.run(server)
        opened = iter((Kept, Breaking))
        run.open_source = lambda: next(opened)(backup.data)
        with pytest.raises(DestinationError, match=r"^The bucket is away\.$"):
            restore(run)
        assert client.dbsize() == 0


@pytest.mark.parametrize("more", [-1, 1])
def test_a_value_that_is_not_as_long_as_when_it_was_checked_is_not_written(
    private_redis: Callable[..., Any], more: int
) -> None:
    def file(size: int) -> bytes:
        body = b"REDIS0010\xfe\x00\x00\x01k\x80" + size.to_bytes(4, "big") + bytes(size) + b"\xff"
        return body + CRC.calc(body).to_bytes(8, "little")

    server = private_redis()
    record = RedisRecord(version="7.0", replication_id="", offset=0, keys=1, databases=1)
    opened = iter((file(LARGE), file(LARGE + more)))
    with pytest.raises(ArchiveDamagedError, match="whose length changed"):
        restore(RedisRestoreRun(server.url, record, lambda: io.BytesIO(next(opened))))
    with server.client() as client:
        assert client.dbsize() == 0
