"""What every RedisPort promises: the adapter on a real server, and the fake that the engine's tests use."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import pytest

from lucid_storage.errors import LeadershipLostError, StoreUnavailableError
from lucid_storage.stores.redis.adapter import RedisDeployment
from lucid_storage.stores.redis.port import RedisPort
from lucid_storage.stores.redis.types import KeySpace
from stores.redis.fake_redis import FakeRedis


class Bench(Protocol):
    """A port with a way to put keys and to see their TTLs."""

    port: RedisPort
    prefix: str
    may_write: bool

    def put(self, key: str, ttl: int | None = None) -> None: ...
    def ttl(self, key: str) -> int | None: ...


class FakeBench:
    prefix = "test:"

    def __init__(self) -> None:
        self.may_write = True
        self.port = FakeRedis(guard=guard_of(self))

    def put(self, key: str, ttl: int | None = None) -> None:
        self.port.put(key, ttl)

    def ttl(self, key: str) -> int | None:
        return self.port.ttl(key)


class RealBench:
    def __init__(self, server: Any, prefix: str) -> None:
        self.may_write = True
        self.prefix = prefix
        self.port = RedisDeployment(server.url, label="test", guard=guard_of(self))
        self._client = server.client()

    def put(self, key: str, ttl: int | None = None) -> None:
        self._client.set(key, "value", ex=ttl)

    def ttl(self, key: str) -> int | None:
        ttl = self._client.ttl(key)
        return None if ttl == -1 else ttl

    async def close(self) -> None:
        self._client.close()
        await self.port.close()


def guard_of(bench: Any) -> Callable[[], None]:
    def guard() -> None:
        if not bench.may_write:
            raise LeadershipLostError

    return guard


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.redis)])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "fake":
        yield FakeBench()
        return
    real = RealBench(request.getfixturevalue("redis_server"), request.getfixturevalue("key_prefix"))
    yield real
    await real.close()


async def test_info_names_version_role_and_a_stable_identity(bench: Bench) -> None:
    info = await bench.port.info()
    assert info.version >= (7, 0, 0)
    assert info.role == "master"
    assert info.identity and info.identity == (await bench.port.info()).identity
    assert not info.cluster


async def test_info_counts_the_keys_of_the_database(bench: Bench) -> None:
    bench.put(f"{bench.prefix}a")
    assert (await bench.port.info()).keys >= 1


async def test_a_scan_counts_keys_and_their_ttls_for_all_patterns_at_once(bench: Bench) -> None:
    token, cache = f"{bench.prefix}session:token:{{id}}", f"{bench.prefix}cache:{{entity}}:{{id}}"
    for number in range(30):
        bench.put(f"{bench.prefix}session:token:{number}", None if number < 10 else 100 + number)
        bench.put(f"{bench.prefix}cache:manifest:{number}", 50)
    bench.put(f"{bench.prefix}session:other:1")
    reports = await bench.port.scan([KeySpace(token, 110), KeySpace(cache, 60)])
    assert set(reports) == {token, cache}
    assert (reports[token].keys, reports[token].without_ttl) == (30, 10)
    assert reports[token].over_ttl == 19
    assert (reports[cache].keys, reports[cache].without_ttl, reports[cache].over_ttl) == (30, 0, 0)
    assert all(
        report.complete and report.corrected == 0 and report.refused is None for report in reports.values()
    )


async def test_a_key_belongs_to_the_most_specific_pattern_only(bench: Bench) -> None:
    special, general = f"{bench.prefix}lock:payment:{{id}}", f"{bench.prefix}lock:{{kind}}:{{id}}"
    bench.put(f"{bench.prefix}lock:payment:1", 30)
    bench.put(f"{bench.prefix}lock:session:1", 30)
    reports = await bench.port.scan([KeySpace(general, 30), KeySpace(special, 30)])
    assert (reports[special].keys, reports[general].keys) == (1, 1)


async def test_report_changes_nothing(bench: Bench) -> None:
    bench.put(f"{bench.prefix}a:1")
    await bench.port.scan([KeySpace(f"{bench.prefix}a:{{id}}", 60)])
    assert bench.ttl(f"{bench.prefix}a:1") is None


async def test_enforce_sets_a_ttl_only_where_there_is_none(bench: Bench) -> None:
    bench.put(f"{bench.prefix}a:none")
    bench.put(f"{bench.prefix}a:short", 5)
    bench.put(f"{bench.prefix}a:long", 900)
    bench.put(f"{bench.prefix}other")
    space = KeySpace(f"{bench.prefix}a:{{id}}", 60, enforce=True)
    first = (await bench.port.scan([space]))[space.pattern]
    assert (first.without_ttl, first.corrected, first.over_ttl) == (1, 1, 1)
    assert 55 <= (bench.ttl(f"{bench.prefix}a:none") or 0) <= 60
    assert (bench.ttl(f"{bench.prefix}a:short") or 99) <= 5
    assert (bench.ttl(f"{bench.prefix}a:long") or 0) > 800
    assert bench.ttl(f"{bench.prefix}other") is None
    second = (await bench.port.scan([space]))[space.pattern]
    assert (second.without_ttl, second.corrected) == (0, 0)


async def test_nothing_is_written_once_leadership_is_lost(bench: Bench) -> None:
    bench.put(f"{bench.prefix}a:1")
    bench.may_write = False
    with pytest.raises(LeadershipLostError):
        await bench.port.scan([KeySpace(f"{bench.prefix}a:{{id}}", 60, enforce=True)])
    assert bench.ttl(f"{bench.prefix}a:1") is None


async def test_sizes_are_summed_over_the_sampled_keys(bench: Bench) -> None:
    for number in range(20):
        bench.put(f"{bench.prefix}a:{number}")
    space = KeySpace(f"{bench.prefix}a:{{id}}", 60)
    report = (await bench.port.scan([space], sample=5))[space.pattern]
    assert report.sampled_keys == 5
    assert report.sampled_bytes > 5 * 20


async def test_patterns_without_keys_and_no_patterns_at_all_are_answered(bench: Bench) -> None:
    space = KeySpace(f"{bench.prefix}nothing:{{id}}", 60, enforce=True)
    report = (await bench.port.scan([space]))[space.pattern]
    assert (report.keys, report.sampled_keys, report.complete) == (0, 0, True)
    assert await bench.port.scan([]) == {}


async def test_closing_twice_is_harmless(bench: Bench) -> None:
    await bench.port.close()
    await bench.port.close()


async def test_no_ttl_is_set_in_another_redis_than_the_one_that_is_named(bench: Bench) -> None:
    space = KeySpace(f"{bench.prefix}moved:{{id}}", 60, enforce=True)
    bench.put(f"{bench.prefix}moved:1")
    place = (await bench.port.info()).place
    for elsewhere in ("another/0", place.removesuffix("/0") + "/9"):
        with pytest.raises(StoreUnavailableError):
            await bench.port.scan([space], at=elsewhere)
    assert bench.ttl(f"{bench.prefix}moved:1") is None
    assert (await bench.port.scan([space], at=place))[space.pattern].corrected == 1
