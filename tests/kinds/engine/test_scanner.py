"""The walk over a Redis: it goes on after a defect, and not with credentials that were changed or withdrawn."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from lucid_storage.kinds import scanner as subject
from lucid_storage.kinds.connections import Connections, Deployment, Engine
from lucid_storage.kinds.scanner import KeySpaceScanner
from lucid_storage.kube.resources import Key
from lucid_storage.models.settings import Settings, StoreSettings
from lucid_storage.stores.redis.types import KeySpace, KeySpaceReport

KEY = Key("collections", "ns", "sessions")
SPACES = (KeySpace("session:{id}", 60, enforce=True),)


class Store:
    def __init__(self) -> None:
        self.scans: list[list[KeySpace]] = []
        self.defect: Exception | None = None

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
            _ok,
            mongodb=engine,
            redis=engine,
            elasticsearch=engine,
        )
        self.touched: list[Key] = []
        self.scanner = KeySpaceScanner(self.connections, self.touched.append, 0.02)

    async def deployment(self) -> Deployment[Any]:
        return await self.connections.redis("ns", None)


async def _ok(*_: object) -> None: ...


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - bounded by the deadline above
            await asyncio.sleep(0.005)


@pytest.fixture
async def bed(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(subject, "GATHER_SECONDS", 0.05)
    made = Bed()
    yield made
    await made.scanner.close()
    await made.connections.close()


async def test_a_defect_in_one_scan_is_not_the_last_scan(bed: Bed) -> None:
    bed.store.defect = RuntimeError("a defect")
    assert bed.scanner.declare(KEY, await bed.deployment(), SPACES) is None
    await until(lambda: bed.touched == [KEY])
    assert len(bed.store.scans) == 2


async def test_no_scan_begins_on_a_connection_that_was_closed(bed: Bed) -> None:
    bed.scanner.declare(KEY, await bed.deployment(), SPACES)
    await bed.connections.close()
    await asyncio.sleep(0.2)
    assert bed.store.scans == []


async def test_what_is_forgotten_is_scanned_no_more(bed: Bed) -> None:
    bed.scanner.declare(KEY, await bed.deployment(), SPACES)
    await until(lambda: bool(bed.touched))
    bed.scanner.forget(KEY)
    await asyncio.sleep(0.1)
    seen = len(bed.store.scans)
    await asyncio.sleep(0.2)
    assert len(bed.store.scans) == seen
