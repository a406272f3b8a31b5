"""The parts below HTTP: shared reads, token buckets, API keys, overall health, the server's life."""

import asyncio
import base64
import hashlib
import socket

import h11
import pytest
from rest_doubles import NOW, FixedBackend, HandClock, KnownCallers

from lucid_storage.kube.authz import ApiKeyEntry, find_api_key, parse_api_keys
from lucid_storage.restapi.app import create_app
from lucid_storage.restapi.auth import Auth
from lucid_storage.restapi.caching import SharedReads, gather_bounded
from lucid_storage.restapi.limits import Rate
from lucid_storage.restapi.protocol import OneWrite
from lucid_storage.restapi.ratelimit import RateLimiter
from lucid_storage.restapi.schemas import HealthStatus, ServiceHealth
from lucid_storage.restapi.server import RestServer
from lucid_storage.restapi.store_backend import overall


class Source:
    """Counts loads; each waits until it is let go."""

    def __init__(self) -> None:
        self.loads = 0
        self.go = asyncio.Event()
        self.failure: Exception | None = None

    async def load(self) -> int:
        self.loads += 1
        number = self.loads
        await self.go.wait()
        if self.failure is not None:
            raise self.failure
        return number


def shared(clock: HandClock, **options: float | int) -> SharedReads[str, int]:
    return SharedReads(
        **{"capacity": 10, "seconds": 3.0, **options},  # type: ignore[arg-type]
        monotonic=clock.monotonic,
    )


async def test_callers_who_miss_together_share_one_load() -> None:
    source, reads = Source(), shared(HandClock())
    callers = [asyncio.create_task(reads.get("a", source.load)) for _ in range(5)]
    await asyncio.sleep(0)
    callers[0].cancel()
    source.go.set()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [1, 1, 1, 1]
    assert source.loads == 1


async def test_value_is_kept_for_its_time_and_renewed_in_the_background() -> None:
    clock, source = HandClock(), Source()
    reads = shared(clock, refresh_after=1.0)
    source.go.set()
    assert await reads.get("a", source.load) == 1
    clock.seconds += 0.9
    assert await reads.get("a", source.load) == 1
    assert source.loads == 1
    clock.seconds += 0.2
    assert await reads.get("a", source.load) == 1
    for _ in range(10):
        await asyncio.sleep(0)
    assert reads.held("a") == 2
    clock.seconds += 3.1
    assert reads.held("a") is None
    assert await reads.get("a", source.load) == 3


async def test_several_values_load_at_the_same_time_and_those_that_are_there_make_no_task() -> None:
    source, reads = Source(), shared(HandClock())
    reads.keep("a", 7)
    waiting = asyncio.create_task(reads.get_all(dict.fromkeys("abc", source.load)))
    for _ in range(3):
        await asyncio.sleep(0)
    assert source.loads == 2
    source.go.set()
    assert sorted((await waiting).items()) == [("a", 7), ("b", 1), ("c", 2)]
    tasks = asyncio.all_tasks()
    cached = reads.get_all(dict.fromkeys("abc", source.load))
    with pytest.raises(StopIteration) as ended:
        cached.send(None)
    assert (ended.value.value, asyncio.all_tasks()) == ({"a": 7, "b": 1, "c": 2}, tasks)


async def test_failed_load_reaches_all_who_wait_and_is_not_kept() -> None:
    source, reads = Source(), shared(HandClock())
    source.failure = ValueError("no")
    source.go.set()
    results = await asyncio.gather(*(reads.get("a", source.load) for _ in range(3)), return_exceptions=True)
    assert [str(result) for result in results] == ["no"] * 3
    source.failure = None
    assert await reads.get("a", source.load) == 2


async def test_cache_forgets_the_value_unused_for_longest() -> None:
    source, reads = Source(), shared(HandClock(), capacity=2)
    source.go.set()
    for key in ("a", "b", "a", "c"):
        await reads.get(key, source.load)
    assert [reads.held(key) is not None for key in ("a", "b", "c")] == [True, False, True]


@pytest.mark.parametrize("body", [b"{}", b""])
def test_an_answer_leaves_in_one_write(body: bytes) -> None:
    connection, client = OneWrite(h11.SERVER, 1000), h11.Connection(h11.CLIENT)
    for _ in range(2):
        request = h11.Request(method="GET", target="/", headers=[("Host", "x")])
        connection.receive_data((client.send(request) or b"") + (client.send(h11.EndOfMessage()) or b""))
        asked = [connection.next_event() for _ in range(2)]
        assert isinstance(asked[-1], h11.EndOfMessage)
        head = h11.Response(status_code=200, headers=[("Content-Length", str(len(body)))])
        writes = [connection.send(event) for event in (head, h11.Data(data=body), h11.EndOfMessage())]
        assert [bool(written) for written in writes] == [False, True, False]
        client.receive_data(b"".join(written or b"" for written in writes))
        received = [client.next_event() for _ in range(3 if body else 2)]
        assert isinstance(received[-1], h11.EndOfMessage)
        assert body == b"".join(bytes(event.data) for event in received if isinstance(event, h11.Data))
        connection.start_next_cycle()
        client.start_next_cycle()


async def test_bounded_gathering_keeps_order_and_bound_and_ends_with_the_first_failure() -> None:
    running, most = 0, 0

    async def work(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        if number == 99:
            raise ValueError("no")
        return number

    assert await gather_bounded([work(number) for number in range(20)], 3) == list(range(20))
    assert most == 3
    with pytest.raises(ValueError, match="no"):
        await gather_bounded([work(number) for number in (1, 99, 2, 3, 4, 5, 6)], 2)


def test_token_bucket_allows_its_burst_then_its_rate() -> None:
    clock = HandClock()
    limiter, rate = RateLimiter(capacity=10, monotonic=clock.monotonic), Rate(per_minute=30, burst=3)
    assert [limiter.take("a", rate) for _ in range(5)] == [0, 0, 0, 2, 2]
    clock.seconds += 2
    assert [limiter.take("a", rate) for _ in range(2)] == [0, 2]
    limiter.give_back("a", rate)
    assert limiter.take("a", rate) == 0
    clock.seconds += 3600
    assert [limiter.take("a", rate) for _ in range(4)] == [0, 0, 0, 2]


def test_bucket_table_stays_bounded() -> None:
    limiter = RateLimiter(capacity=100, monotonic=HandClock().monotonic)
    for number in range(1000):
        limiter.take(number, Rate(60, 10))
    assert len(limiter) == 100


def test_api_keys_are_read_and_bad_entries_named(caplog: pytest.LogCaptureFixture) -> None:
    digest = hashlib.sha256(b"key").hexdigest()
    values = {
        "good": f"sha256:{digest} apps/reporter\n",
        "plain": "key apps/reporter",
        "upper": f"sha256:{digest.upper()} apps/reporter",
        "nowhere": f"sha256:{digest} reporter",
    }
    data = {name: base64.b64encode(value.encode()).decode() for name, value in values.items()}
    entries = parse_api_keys({"data": {**data, "binary": "gICA"}})
    assert entries == (ApiKeyEntry(digest, "apps", "reporter"),)
    assert {record.args[0] for record in caplog.records if record.args} == {
        "plain",
        "upper",
        "nowhere",
        "binary",
    }
    assert digest not in caplog.text
    assert find_api_key(entries, b"key") == entries[0]
    assert find_api_key(entries, b"kex") is None
    assert parse_api_keys({}) == ()
    assert entries[0].identity().user == "system:serviceaccount:apps:reporter"
    assert "system:serviceaccounts:apps" in entries[0].identity().groups


HEALTHY, DEGRADED, UNHEALTHY = HealthStatus.HEALTHY, HealthStatus.DEGRADED, HealthStatus.UNHEALTHY


@pytest.mark.parametrize(
    ("mongodb", "redis", "elasticsearch", "whole"),
    [
        (HEALTHY, HEALTHY, HEALTHY, HEALTHY),
        (HEALTHY, None, None, HEALTHY),
        (HEALTHY, UNHEALTHY, UNHEALTHY, DEGRADED),
        (HEALTHY, HEALTHY, DEGRADED, DEGRADED),
        (DEGRADED, HEALTHY, HEALTHY, DEGRADED),
        (UNHEALTHY, HEALTHY, HEALTHY, UNHEALTHY),
        (None, UNHEALTHY, HEALTHY, DEGRADED),
        (None, UNHEALTHY, UNHEALTHY, UNHEALTHY),
        (None, None, None, UNHEALTHY),
    ],
)
def test_overall_health(
    mongodb: HealthStatus | None,
    redis: HealthStatus | None,
    elasticsearch: HealthStatus | None,
    whole: HealthStatus,
) -> None:
    parts = [
        status and ServiceHealth(status=status, response_time=1, last_check=NOW)
        for status in (mongodb, redis, elasticsearch)
    ]
    assert overall(*parts) is whole


def _server(port: int, *, fails: bool = False) -> RestServer:
    async def connect() -> KnownCallers:
        return KnownCallers()

    app = create_app(FixedBackend(), Auth(connect), namespace="lucid")
    if fails:

        async def broken(*_: object) -> None:
            raise RuntimeError("the application does not start")

        app.add_middleware(lambda _: broken)  # type: ignore[arg-type, return-value]
    return RestServer(app, "127.0.0.1", port)


def test_taken_port_is_an_error_at_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        _server(taken.getsockname()[1]).start()


def test_application_that_does_not_start_is_an_error_at_start() -> None:
    server = _server(0, fails=True)
    with pytest.raises(RuntimeError, match="did not start"):
        server.start()
    assert not server.healthy()
