"""The walk over a Redis: it goes on after a defect, and not with credentials that were changed or withdrawn."""

import asyncio
import base64
from collections.abc import Sequence
from typing import Any

import pytest
from awaiting import until

from lucid_storage.kinds import scanner as subject
from lucid_storage.kinds.connections import Connections, Deployment, Engine
from lucid_storage.kinds.scanner import KeySpaceScanner
from lucid_storage.kube.resources import Key
from lucid_storage.models.settings import Settings, StoreSettings
from lucid_storage.stores.redis.types import KeySpace, KeySpaceReport, RedisInfo

KEY = Key("collections", "ns", "sessions")
HERE = "redis-1/0"
SPACES = (KeySpace("session:{id}", 60, enforce=True),)


class Store:
    def __init__(self) -> None:
        self.scans: list[list[KeySpace]] = []
        self.defect: Exception | None = None
        self.identity, self.former = "redis-1", ""

    async def info(self) -> RedisInfo:
        return RedisInfo(self.identity, (7, 0, 0), "master", cluster=False, keys=0, former=self.former)

    async def scan(self, spaces: Sequence[KeySpace], **_: Any) -> dict[str, KeySpaceReport]:
        self.scans.append(list(spaces))
        defect, self.defect = self.defect, None
        if defect is not None:
            raise defect
        return {s.pattern: KeySpaceReport(s.pattern, 0, 0, 0, 0, 0, 0, True) for s in spaces}

    async def close(self) -> None: ...


class Bed:
    def __init__(self) -> None:
        self.store = Store()
        engine: Engine[Any] = Engine(
            "redis", "Redis", "REDIS_URL", StoreSettings.redis, _ok, lambda *_: self.store, _ok
        )
        self.connections = Connections(
            Settings.read({"POD_NAMESPACE": "ns", "REDIS_URL": "redis://store"}),
            _secret,
            mongodb=engine,
            redis=engine,
            elasticsearch=engine,
        )
        self.touched: list[Key] = []
        self.settled = True
        self.scanner = KeySpaceScanner(self.connections, self.touched.append, 0.02, lambda: self.settled)

    async def deployment(self) -> Deployment[Any]:
        return await self.connections.redis("ns", None)

    async def tenants(self) -> Deployment[Any]:
        """The same store, by the credentials of a namespace."""
        return await self.connections.redis("ns", "own")

    async def enforced(self) -> list[bool]:
        """What the next whole scan is told of the one pattern."""
        seen = len(self.store.scans)
        await until(lambda: len(self.store.scans) > seen + 1)
        return [space.enforce for space in self.store.scans[-1]]


async def _ok(*_: object) -> None: ...


async def _secret(*_: object) -> dict[str, Any]:
    labels = {"storage.lucid-blockchain.org/allowed": "true"}
    data = {"REDIS_URL": base64.b64encode(b"redis://user:x@store").decode()}
    return {"metadata": {"labels": labels}, "data": data}


@pytest.fixture
async def bed(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(subject, "GATHER_SECONDS", 0.05)
    made = Bed()
    yield made
    await made.scanner.close()
    await made.connections.close()


async def test_a_defect_in_one_scan_is_not_the_last_scan(bed: Bed) -> None:
    bed.store.defect = RuntimeError("a defect")
    assert bed.scanner.declare(KEY, await bed.deployment(), SPACES, HERE) is None
    await until(lambda: bed.touched == [KEY])
    assert len(bed.store.scans) == 2


async def test_no_scan_begins_on_a_connection_that_was_closed(bed: Bed) -> None:
    bed.scanner.declare(KEY, await bed.deployment(), SPACES, HERE)
    await bed.connections.close()
    await asyncio.sleep(0.2)
    assert bed.store.scans == []


async def test_what_is_forgotten_is_scanned_no_more(bed: Bed) -> None:
    bed.scanner.declare(KEY, await bed.deployment(), SPACES, HERE)
    await until(lambda: bool(bed.touched))
    bed.scanner.forget(KEY)
    await asyncio.sleep(0.1)
    seen = len(bed.store.scans)
    await asyncio.sleep(0.2)
    assert len(bed.store.scans) == seen


REPORTING = (KeySpace("session:{token}", 60),)
OTHER = Key("collections", "ns", "other")


async def test_ttls_are_set_only_in_the_redis_that_was_agreed_to(bed: Bed) -> None:
    bed.scanner.declare(KEY, await bed.deployment(), SPACES, HERE)
    assert await bed.enforced() == [True]
    bed.store.identity, bed.store.former = "redis-2", "redis-1"
    assert await bed.enforced() == [True], "a failover"
    bed.store.identity, bed.store.former = "redis-3", ""
    assert await bed.enforced() == [False], "another Redis behind the name"


async def test_reports_of_another_redis_are_nobodys(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "AGAIN_SECONDS", 0.0)
    bed.scanner.declare(KEY, await bed.deployment(), SPACES, HERE)
    await until(lambda: bool(bed.touched))
    assert bed.scanner.declare(KEY, await bed.deployment(), SPACES, HERE)
    bed.store.identity = "redis-2"
    assert bed.scanner.declare(KEY, await bed.deployment(), SPACES, "redis-2/0") is None
    await bed.enforced()
    assert bed.scanner.declare(KEY, await bed.deployment(), SPACES, "redis-2/0")


async def test_whoever_declares_a_pattern_in_the_same_redis_must_agree_whatever_the_login(bed: Bed) -> None:
    bed.scanner.declare(KEY, await bed.deployment(), SPACES, HERE)
    assert await bed.enforced() == [True]
    bed.scanner.declare(OTHER, await bed.tenants(), REPORTING, HERE)
    await bed.enforced()
    assert not any(space.enforce for scan in bed.store.scans[-2:] for space in scan)
    bed.scanner.declare(OTHER, await bed.tenants(), REPORTING, "redis-2/0")
    await bed.enforced()
    assert any(space.enforce for scan in bed.store.scans[-4:] for space in scan), (
        "elsewhere it counts nothing"
    )


async def test_no_ttl_is_set_before_every_resource_was_looked_at(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed.settled = False
    bed.scanner.declare(KEY, await bed.deployment(), SPACES, HERE)
    await asyncio.sleep(0.2)
    assert bed.store.scans == []
    monkeypatch.setattr(subject, "SETTLE_SECONDS", 0.01)
    bed.settled = True
    assert await bed.enforced() == [True]
    bed.settled = False
    assert await bed.enforced() == [False]
