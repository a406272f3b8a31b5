"""A restore of a few keys out of a large file: what it does while it passes over the others."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from jobs.redis.redis_bed import Backup, Kept
from lucid_storage.jobs.contract import CancelledError
from lucid_storage.jobs.redis_restore import restore
from lucid_storage.stores.redis import loading

pytestmark = pytest.mark.redis


def backup_of(server: Any) -> Backup:
    """Of about 6 MB, one large value among them."""
    some = random.Random(1)
    with server.client() as client:
        client.mset({f"k:{i}": some.randbytes(1000) for i in range(3000)})
        client.set("large", some.randbytes(3_000_000))
        client.set("wanted", "x")
    return Backup.of(server)


def test_a_server_that_hangs_up_on_idle_clients_is_kept_in_touch_with(
    private_redis: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Kept):
        def read(self, size: int | None = -1) -> bytes:
            time.sleep(0.32)
            return super().read(size)

    backup, target = backup_of(private_redis()), private_redis(options={"timeout": "5"})
    monkeypatch.setattr(loading, "IDLE_SECONDS", 0.3)
    for keys, count in ((["wanted"], 1), (["wanted", "large"], 2)):
        run = backup.run(target, keys=keys, drop_existing=True)
        opened = iter((Kept, Slow))
        run.open_source = lambda opened=opened: next(opened)(backup.data)  # type: ignore[misc]
        done = restore(run)
        assert done.restored + done.replaced == count


@pytest.mark.parametrize("key", ["k:7", "large"])
def test_a_stop_is_noticed_between_two_reads(private_redis: Callable[..., Any], key: str) -> None:
    server = private_redis()
    backup = backup_of(server)
    run = backup.run(server, keys=[key])
    reads = 0

    class Stopped(Kept):
        def read(self, size: int | None = -1) -> bytes:
            nonlocal reads
            reads += 1
            if reads == 3:
                run.cancelled.set()
            return super().read(size)

    opened = iter((Kept, Stopped))
    run.open_source = lambda: next(opened)(backup.data)
    with server.client() as client:
        client.flushall()
        with pytest.raises(CancelledError):
            restore(run)
        assert reads == 3
        assert client.dbsize() == 0
