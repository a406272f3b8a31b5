"""The Redis adapter when the server is down, busy, frozen, not writable, or does not let the login in."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lucid_storage.errors import (
    AccessDeniedError,
    LoginFailedError,
    LucidError,
    NotSupportedError,
    Reason,
    ServerRefusedError,
    StoreUnavailableError,
)
from lucid_storage.stores.redis.adapter import RedisDeployment
from lucid_storage.stores.redis.types import KeySpace, RedisInfo
from stores.elasticsearch.self_signed import certificate
from testbed import ports

pytestmark = pytest.mark.redis
PASSWORD = "do-not-print-me"
SPACE = KeySpace("a:{id}", 60, enforce=True)


@asynccontextmanager
async def deployment(url: str) -> AsyncIterator[RedisDeployment]:
    redis = RedisDeployment(url, label="test", guard=lambda: None)
    try:
        yield redis
    finally:
        await redis.close()


async def eventually(ask: Callable[[], Awaitable[Any]], seconds: float) -> Any:
    """The first answer that is no StoreUnavailableError."""
    end = time.monotonic() + seconds
    while True:
        try:
            return await ask()
        except StoreUnavailableError:
            if time.monotonic() >= end:
                raise
            await asyncio.sleep(0.05)


async def until(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        await asyncio.sleep(0.02)


def login(server: Any, user: str) -> str:
    return server.url.replace("redis://", f"redis://{user}:{PASSWORD}@")


def allow(server: Any, user: str, *rules: str) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", user, "reset", "on", f">{PASSWORD}", "~*", *rules)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://127.0.0.1:1/0", "refuses connections"),
        ("redis://no-such-host.invalid:6379/0", "cannot be found"),
    ],
)
async def test_an_address_where_nobody_answers_is_said_in_a_sentence(url: str, words: str) -> None:
    async with deployment(url) as redis:
        with pytest.raises(StoreUnavailableError, match=words):
            await redis.info()


@pytest.mark.parametrize(
    "url",
    [
        "http://redis:6379",
        "redis://",
        f"redis://u:{PASSWORD}@host:port/0",
        f"redis://u:{PASSWORD}@[::1",
        "unix:///x",
        "redis://a..b:6379",
    ],
)
def test_an_url_that_is_none_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(LucidError) as refused:
        RedisDeployment(url, label="test", guard=lambda: None)
    assert refused.value.reason is Reason.SECRET_INVALID
    assert PASSWORD not in refused.value.message


async def test_over_tls_only_the_given_ca_is_trusted(
    private_redis: Any, testbed_instance: Any, tmp_path: Path
) -> None:
    cert, key = certificate(tmp_path)
    port = ports.reserve(testbed_instance, "redis-tls")
    options = {"tls-port": str(port), "tls-cert-file": str(cert), "tls-key-file": str(key)}
    server = private_redis(options={**options, "tls-ca-cert-file": str(cert), "tls-auth-clients": "no"})
    url = f"rediss://127.0.0.1:{port}/0"
    async with deployment(url) as redis:
        with pytest.raises(StoreUnavailableError, match="certificate that does not fit this host or CA"):
            await redis.info()
    trusting = RedisDeployment(url, label="test", guard=lambda: None, ca_path=str(cert))
    async with deployment(server.url) as plain:
        assert (await trusting.info()).identity == (await plain.info()).identity
    await trusting.close()


async def test_a_stopped_server_is_unavailable_and_heals_without_a_new_deployment(private_redis: Any) -> None:
    server = private_redis()
    async with deployment(server.url) as redis:
        before = await redis.info()
        server.stop()
        with pytest.raises(StoreUnavailableError):
            await redis.info()
        with pytest.raises(StoreUnavailableError, match="refuses connections"):
            await redis.scan([SPACE])
        server.start()
        assert (await eventually(redis.info, 5)).version == before.version


async def test_a_frozen_server_is_given_up_on_in_time_and_heals(private_redis: Any) -> None:
    server = private_redis()
    async with deployment(server.url) as redis:
        await redis.info()
        server.freeze()
        begun = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="does not answer in time"):
            await redis.info()
        assert time.monotonic() - begun < 11
        server.thaw()
        await eventually(redis.info, 10)


async def test_a_server_that_loads_its_data_is_unavailable_and_says_so(private_redis: Any) -> None:
    server = private_redis(
        options={"key-load-delay": "1000", "loading-process-events-interval-bytes": "1024"}
    )
    with server.client() as client, client.pipeline(transaction=False) as pipe:
        for number in range(3000):
            pipe.set(f"a:{number}", "x" * 50)
        pipe.execute()
    async with deployment(server.url) as redis:
        restart = asyncio.create_task(asyncio.to_thread(server.restart))
        seen: set[str] = set()
        while not restart.done():
            try:
                await redis.info()
            except StoreUnavailableError as error:
                seen.add(error.message)
            await asyncio.sleep(0.02)
        await restart
        assert any("is loading its data" in message for message in seen)
        assert (await eventually(redis.info, 5)).keys == 3000


async def test_wrong_and_missing_passwords_are_failed_logins_that_keep_the_secret(private_redis: Any) -> None:
    server = private_redis(auth=True)
    bare = server.url.replace(f":{server.password}@", "")
    for url, words in [
        (server.url.replace(server.password, PASSWORD), "check user and password"),
        (bare, "asks for a password"),
    ]:
        async with deployment(url) as redis:
            with pytest.raises(LoginFailedError, match=words) as failed:
                await redis.info()
            assert PASSWORD not in failed.value.message
            assert server.password not in failed.value.message
    async with deployment(server.url) as redis:
        assert (await redis.info()).version >= (7, 0, 0)


async def test_a_password_for_a_server_without_one_is_a_failed_login(redis_server: Any) -> None:
    async with deployment(redis_server.url.replace("redis://", f"redis://:{PASSWORD}@")) as redis:
        with pytest.raises(LoginFailedError, match="has no password"):
            await redis.info()


@pytest.mark.parametrize("command", ["INFO", "SCAN", "TTL"])
async def test_an_acl_without_a_needed_command_names_it(private_redis: Any, command: str) -> None:
    server = private_redis()
    with server.client() as client:
        client.set("a:1", "x")
    allow(server, "reader", "+@all", f"-{command.lower()}")
    async with deployment(login(server, "reader")) as redis:
        with pytest.raises(AccessDeniedError, match=rf"run {command}\b"):
            await redis.scan([SPACE])


async def test_an_acl_without_expire_hides_no_counts_and_names_the_command(private_redis: Any) -> None:
    server = private_redis()
    with server.client() as client:
        client.mset({f"a:{number}": "x" for number in range(3)})
        client.set("b:1", "x", ex=30)
    allow(server, "reader", "+info", "+scan", "+ttl", "+select")
    async with deployment(login(server, "reader")) as redis:
        reports = await redis.scan([SPACE, KeySpace("b:{id}", 60)])
    refused = reports["a:{id}"]
    assert isinstance(refused.refused, AccessDeniedError)
    assert "EXPIRE" in refused.refused.message
    assert (refused.keys, refused.without_ttl, refused.corrected) == (3, 3, 0)
    assert (reports["b:{id}"].keys, reports["b:{id}"].refused) == (1, None)


async def test_sizes_are_left_out_where_memory_usage_is_not_allowed(private_redis: Any) -> None:
    server = private_redis()
    with server.client() as client:
        client.set("a:1", "x")
    allow(server, "reader", "+@all", "-memory")
    async with deployment(login(server, "reader")) as redis:
        report = (await redis.scan([SPACE]))["a:{id}"]
    assert (report.keys, report.corrected, report.sampled_keys, report.sampled_bytes) == (1, 1, 0, 0)


async def test_a_replica_is_counted_but_not_written_to(private_redis: Any) -> None:
    master = private_redis()
    with master.client() as client:
        client.set("a:1", "x")
    replica = private_redis(replica_of=master)
    async with deployment(replica.url) as redis, deployment(master.url) as source:
        info = await redis.info()
        assert info.role == "slave"
        assert info.identity == (await source.info()).identity
        report = (await redis.scan([SPACE]))["a:{id}"]
    assert report.keys == 1
    assert isinstance(report.refused, StoreUnavailableError)
    assert "read-only replica" in report.refused.message


async def test_a_server_that_cannot_save_is_counted_and_its_refusal_said(private_redis: Any) -> None:
    server = private_redis(options={"save": "3600 1", "appendonly": "no"})
    (server.folder / "dump.rdb" / "in-the-way").mkdir(parents=True)
    with server.client() as client:
        client.set("a:1", "x")
        client.bgsave()
        await until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", 10)
        async with deployment(server.url) as redis:
            report = (await redis.scan([SPACE]))["a:{id}"]
    assert isinstance(report.refused, StoreUnavailableError)
    assert "cannot save to disk" in report.refused.message


async def test_cluster_mode_is_refused_with_a_sentence(private_redis: Any) -> None:
    server = private_redis(options={"cluster-enabled": "yes"})
    async with deployment(server.url) as redis:
        for ask in (redis.info(), redis.scan([SPACE])):
            with pytest.raises(NotSupportedError, match="Cluster mode"):
                await ask


async def test_a_database_that_does_not_exist_is_refused(redis_server: Any) -> None:
    async with deployment(redis_server.url.removesuffix("/0") + "/99") as redis:
        with pytest.raises(ServerRefusedError, match="no database of that number"):
            await redis.info()


async def test_only_the_database_of_the_url_is_looked_at(private_redis: Any) -> None:
    server = private_redis()
    with server.client() as client:
        client.set("a:1", "x")
    async with deployment(server.url.removesuffix("/0") + "/3") as redis:
        assert (await redis.info()).keys == 0
        assert (await redis.scan([SPACE]))["a:{id}"].keys == 0


async def test_before_redis_7_ttls_are_set_in_a_transaction_and_never_over_one_there_is(
    private_redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = private_redis()

    async def older(self: RedisDeployment) -> RedisInfo:
        return RedisInfo("id", (6, 2, 14), "master", cluster=False, keys=2)

    monkeypatch.setattr(RedisDeployment, "info", older)
    with server.client() as client:
        client.set("a:1", "x")
        client.set("a:2", "x", ex=900)
        async with deployment(server.url) as redis:
            report = (await redis.scan([SPACE]))["a:{id}"]
            assert await redis._connection.expire_unset(b"a:2", 60) is False
            assert await redis._connection.expire_unset(b"absent", 60) is False
        assert report.corrected == 1
        assert 55 <= client.ttl("a:1") <= 60
        assert client.ttl("a:2") > 800
        assert "cmdstat_multi" in client.info("commandstats")


async def test_a_scan_runs_no_command_that_deletes_or_blocks(private_redis: Any) -> None:
    server = private_redis()
    with server.client() as client:
        client.mset({f"a:{number}": "x" for number in range(2000)})
        client.config_resetstat()
        async with deployment(server.url) as redis:
            await redis.scan([SPACE])
        used = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
    assert used <= {
        "info",
        "scan",
        "ttl",
        "expire",
        "memory|usage",
        "client|setinfo",
        "select",
        "config|resetstat",
    }
    assert {"scan", "ttl", "expire"} <= used


async def test_a_scan_keeps_to_its_budget(private_redis: Any) -> None:
    server = private_redis()
    with server.client() as client:
        client.mset({f"b:{number}": "x" for number in range(4000)})
    async with deployment(server.url) as redis:
        begun = time.monotonic()
        report = (await redis.scan([SPACE], keys_per_second=4000))["a:{id}"]
        assert report.keys == 0
        assert 0.7 <= time.monotonic() - begun < 5


def resident_kib(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{field}:"))


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")  # proc(5): the present size becomes the peak


async def test_memory_stays_constant_over_many_keys(private_redis: Any) -> None:
    """The keys alone would take 25 MB; what is remembered of them takes 2 to 4."""
    server = private_redis(options={"enable-debug-command": "yes", "appendonly": "no"})
    with server.client() as client:
        client.execute_command("DEBUG", "POPULATE", 250_000, "a", 20)
    async with deployment(server.url) as redis:
        await redis.scan([KeySpace("warm-up:{id}", 60)], keys_per_second=10_000_000)
        reset_peak()
        before = resident_kib("VmRSS")
        report = (await redis.scan([KeySpace("a:{id}", 60)], keys_per_second=10_000_000))["a:{id}"]
        grown = resident_kib("VmHWM") - before
    assert report.keys == 250_000
    assert grown < 10 * 1024


async def test_closing_leaves_no_connection_behind(private_redis: Any) -> None:
    server = private_redis()
    with server.client() as client:
        async with deployment(server.url) as redis:
            await asyncio.gather(*(redis.info() for _ in range(20)))
            assert 1 < len(client.client_list()) <= 3
        await until(lambda: len(client.client_list()) == 1, 5)
