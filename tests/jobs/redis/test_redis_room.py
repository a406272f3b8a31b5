"""A restore into a Redis with a maxmemory: what cannot fit is not begun, and nothing is evicted for it unseen."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from jobs.redis.redis_bed import Backup, used
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs.redis_restore import restore
from stores.redis_backup.redis_samples import until

pytestmark = pytest.mark.redis
EVICTING = {"maxmemory-policy": "allkeys-lru"}


def backup_of(server: Any, count: int, size: int) -> Backup:
    """Of so many keys k:0, k:1, ... with a value of so many bytes, which pack to almost nothing."""
    with server.client() as client:
        for begin in range(0, count, 10_000):
            client.mset({f"k:{i}": f"{i:>{size}}" for i in range(begin, min(begin + 10_000, count))})
    return Backup.of(server)


def live(client: Any, count: int = 1000) -> set[bytes]:
    """The application's keys, which no backup holds."""
    client.mset({f"live:{i}": "x" * 900 for i in range(count)})
    return set(client.scan_iter("live:*", count=1000))


def evicted(client: Any) -> int:
    return int(client.info("stats")["evicted_keys"])


def refused(backup: Backup, server: Any, match: str, **options: Any) -> str:
    with pytest.raises(LucidError, match=match) as raised:
        backup.restore(server, **options)
    assert raised.value.reason is Reason.NOT_ENOUGH_SPACE
    return raised.value.message


@pytest.mark.parametrize("policy", ["allkeys-lru", "noeviction"])
@pytest.mark.parametrize("drop_existing", [False, True])
def test_keys_that_surely_do_not_fit_are_refused_before_the_first_write(
    private_redis: Callable[..., Any], policy: str, drop_existing: bool
) -> None:
    backup = backup_of(private_redis(), 20_000, 900)
    target = private_redis(options={"maxmemory": "8mb", "maxmemory-policy": policy})
    with target.client() as client:
        before = live(client)
        said = refused(backup, target, "nothing was written", drop_existing=drop_existing)
        assert "has a maxmemory of 8.0 MiB" in said
        assert "choose fewer keys by redis.keyPatterns" in said
        assert set(client.scan_iter()) == before
        assert evicted(client) == 0
        assert backup.restore(target, keys=["k:1"], exclude=[]).restored == 1


def test_what_shows_on_the_way_not_to_fit_is_stopped_before_anything_is_evicted(
    private_redis: Callable[..., Any],
) -> None:
    backup = backup_of(private_redis(), 30_000, 1)
    target = private_redis(options=EVICTING)
    with target.client() as client:
        before = live(client)
        client.config_set("maxmemory", used(client) + 1_750_000)
        said = refused(backup, target, r"would evict other keys \(allkeys-lru\)")
        client.config_set("maxmemory", 0)  # else what this test asks could evict a key
        there = client.dbsize() - len(before)
        assert f"{there} keys had been written by then and are not taken back" in said
        assert there > 5000
        assert set(client.scan_iter("live:*", count=1000)) == before
        assert evicted(client) == 0
        assert backup.restore(target).skipped == there


def test_a_cache_that_is_full_by_design_takes_nothing_that_would_push_out_others(
    private_redis: Callable[..., Any],
) -> None:
    backup = backup_of(private_redis(), 1000, 1000)
    target = private_redis(options={"maxmemory": "4mb", **EVICTING})
    with target.client() as client:
        number = 0
        while not evicted(client):
            client.mset({f"live:{i}": "x" * 900 for i in range(number, number + 100)})
            number += 100
        counted = evicted(client)
        refused(backup, target, "maxmemory of 4.0 MiB")
        assert client.exists(*(f"k:{i}" for i in range(1000))) == 0
        assert evicted(client) - counted < 100  # there a mere connection costs some keys


@pytest.mark.parametrize("drop_existing", [False, True])
def test_keys_that_are_there_already_need_no_room(
    private_redis: Callable[..., Any], drop_existing: bool
) -> None:
    server = private_redis(options=EVICTING)
    backup = backup_of(server, 8000, 900)
    with server.client() as client:
        client.config_set("maxmemory", used(client) + 4_000_000)
        done = backup.restore(server, drop_existing=drop_existing)
        assert (done.replaced if drop_existing else done.skipped) == 8000
        assert (client.dbsize(), evicted(client)) == (8000, 0)


def restore_with(backup: Backup, server: Any, meanwhile: Callable[[], None]) -> Any:
    """What the restore did, or its error, when something happens once keys were written."""
    run = backup.run(server)
    told = 0

    def report(_size: int, keys: int) -> None:
        nonlocal told
        if not told and keys:
            meanwhile()
        told += keys

    run.report = report
    try:
        return restore(run)
    except LucidError as error:
        return error


def test_the_first_eviction_ends_the_restore_with_the_number(private_redis: Callable[..., Any]) -> None:
    backup = backup_of(private_redis(), 40_000, 20)
    target = private_redis(options=EVICTING)
    with target.client() as client:
        live(client)
        failed = restore_with(backup, target, lambda: client.config_set("maxmemory", used(client) - 200_000))
        assert isinstance(failed, LucidError)
        assert failed.reason is Reason.NOT_ENOUGH_SPACE
        told = re.search(
            r"has evicted at least (\d+) keys so far, of the application or of the backup", failed.message
        )
        assert told is not None
        assert 0 < int(told[1]) <= evicted(client)
        assert "keys had been written by then" in failed.message
        assert client.dbsize() < 40_000


@pytest.mark.parametrize("evicts", [False, True])
def test_a_count_of_evictions_that_begins_anew_is_no_eviction_and_hides_none(
    private_redis: Callable[..., Any], evicts: bool
) -> None:
    backup = backup_of(private_redis(), 20_000, 20)
    target = private_redis(options=EVICTING)
    with target.client() as client:
        live(client, 5000)

        def shrink(size: int) -> None:
            client.config_set("maxmemory", used(client) - size)
            client.config_set("maxmemory", 0)

        def meanwhile() -> None:
            client.config_resetstat()
            if evicts:
                shrink(100_000)

        shrink(2_000_000)
        before = evicted(client)
        done = restore_with(backup, target, meanwhile)
        assert before > 0
        assert evicted(client) < before
        if evicts:
            assert f"evicted at least {evicted(client)} keys so far" in done.message
        else:
            assert (done.restored, evicted(client)) == (20_000, 0)


def test_keys_whose_time_is_over_are_no_evictions(private_redis: Callable[..., Any]) -> None:
    backup = backup_of(private_redis(), 20_000, 20)
    target = private_redis(options={"maxmemory": "64mb", **EVICTING})
    with target.client() as client:

        def expire() -> None:
            client.set("soon", "x", px=1)
            until(lambda: client.info("stats")["expired_keys"] == 1)

        assert restore_with(backup, target, expire).restored == 20_000
        assert client.info("stats")["expired_keys"] == 1
