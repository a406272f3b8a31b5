"""The engine: what counts as news, which resources a trigger concerns, and when the first look is over."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from lucid_storage.kinds import tasks
from lucid_storage.kinds.cache import ResourceCache
from lucid_storage.kinds.engine import Engine
from lucid_storage.kinds.metrics import Metrics
from lucid_storage.kinds.queue import WorkQueue
from lucid_storage.kinds.services import Outcome
from lucid_storage.kube.resources import Resource
from lucid_storage.models.kinds import KINDS


def resource(
    name: str = "a", version: str = "10", plural: str = "collections", status: Any = None, **spec: Any
) -> Resource:
    meta = {
        "name": name,
        "namespace": "ns",
        "uid": "u",
        "resourceVersion": version,
        "generation": int(version),
    }
    return Resource.from_body(plural, {"metadata": meta, "spec": spec, "status": status or {}})


class SlowKind:
    """A kind whose looks end when the test says so."""

    info = KINDS["Collection"]

    def __init__(self) -> None:
        self.seen: list[Resource] = []
        self.ended = 0
        self.may_end = asyncio.Event()
        self.kind = self

    def guess_target(self, resource: Resource, default_database: str | None) -> str:
        return f"db.{resource.key.name}"

    async def run(self, resource: Resource) -> Outcome:
        self.seen.append(resource)
        await self.may_end.wait()
        self.ended += 1
        return Outcome()

    def forget(self, key: object) -> None: ...


class Bed:
    def __init__(self, kind: SlowKind | None = None, workers: int = 2) -> None:
        self.kind = kind or SlowKind()
        self.cache = ResourceCache()
        self.engine = Engine(
            {"collections": cast("Any", self.kind), "indexes": cast("Any", self.kind)},
            self.cache,
            WorkQueue(),
            Metrics(),
            default_database="db",
            workers=workers,
        )

    async def until_seen(self, count: int) -> None:
        await self._until(lambda: len(self.kind.seen) >= count)

    async def until_ended(self, count: int) -> None:
        await self._until(lambda: self.kind.ended >= count)

    @staticmethod
    async def _until(holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not holds():  # noqa: ASYNC110 - bounded by the deadline above
                await asyncio.sleep(0.005)


@pytest.fixture
async def bed() -> Any:
    made = Bed()
    working = asyncio.create_task(made.engine.run())
    yield made
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_an_event_told_late_does_not_bring_an_old_spec_back(bed: Bed) -> None:
    bed.kind.may_end.set()
    bed.engine.seen(resource(version="12", name_="new"))
    bed.engine.seen(resource(version="11", name_="old"))
    await bed.until_seen(1)
    kept = bed.cache.get(resource().key)
    assert kept is not None
    assert kept.spec == {"name_": "new"}


async def test_a_storm_after_the_first_look_does_not_make_the_operator_unready(bed: Bed) -> None:
    bed.engine.seen(resource("a"))
    assert not bed.engine.settled
    bed.kind.may_end.set()
    await bed.until_ended(1)
    assert bed.engine.settled
    bed.kind.may_end.clear()
    bed.engine.seen(resource("b"))
    await bed.until_seen(2)
    assert bed.engine.settled


async def test_a_resource_that_went_during_its_look_does_not_count_for_another(bed: Bed) -> None:
    bed.engine.seen(resource("a"))
    await bed.until_seen(1)
    bed.engine.gone(resource("a").key)
    bed.kind.may_end.set()
    await bed.until_ended(1)
    bed.kind.may_end.clear()
    bed.engine.seen(resource("b"))
    await bed.until_seen(2)
    assert not bed.engine.settled


async def test_only_the_resources_that_are_chosen_are_looked_at(bed: Bed) -> None:
    bed.kind.may_end.set()
    bed.engine.seen(resource("a", connection={"secretName": "one"}))
    bed.engine.seen(resource("b", connection={"secretName": "two"}))
    await bed.until_seen(2)
    bed.engine.touch_where(lambda r: r.secret == "two")
    await bed.until_seen(3)
    await asyncio.sleep(0.02)
    assert [r.key.name for r in bed.kind.seen] == ["a", "b", "b"]


async def test_a_new_index_is_looked_at_after_its_new_collection(bed: Bed) -> None:
    bed.engine.seen(resource(plural="indexes"))
    bed.engine.seen(resource(plural="collections"))
    await bed.until_seen(1)
    bed.engine.touch(resource(plural="indexes").key)
    await asyncio.sleep(0.02)
    assert [r.key.plural for r in bed.kind.seen] == ["collections"]
    bed.kind.may_end.set()
    await bed.until_seen(2)
    await asyncio.sleep(0.02)
    assert [r.key.plural for r in bed.kind.seen] == ["collections", "indexes"]


async def test_an_index_does_not_wait_for_a_collection_that_was_looked_at_before(bed: Bed) -> None:
    bed.engine.seen(resource(plural="collections", status={"origin": "Created"}))
    await bed.until_seen(1)
    bed.engine.seen(resource(plural="indexes"))
    await bed.until_seen(2)


async def test_what_an_index_made_is_no_news_for_its_collection(bed: Bed) -> None:
    bed.kind.may_end.set()
    collection, index, other = (
        resource(plural="collections"),
        resource(plural="indexes"),
        resource("b", plural="indexes"),
    )
    for each in (collection, index, other):
        bed.engine.seen(each)
        bed.cache.file(each.key, "db.a")
    await bed.until_seen(3)
    bed.kind.seen.clear()
    bed.engine.touch_dependents(index.key, "db.a")
    await bed.until_seen(1)
    await asyncio.sleep(0.02)
    assert [r.key for r in bed.kind.seen] == [other.key]
    bed.engine.touch_dependents(collection.key, "db.a")
    await bed.until_seen(3)
    await asyncio.sleep(0.02)
    assert {r.key for r in bed.kind.seen[1:]} == {index.key, other.key}
    bed.kind.seen.clear()
    bed.engine.touch_around(index.key)
    await bed.until_seen(3)
    await asyncio.sleep(0.02)
    assert {r.key for r in bed.kind.seen} == {collection.key, index.key, other.key}


class FaultyKind(SlowKind):
    """Its looks overhear one cancellation, or are cut off by somebody who closes their connection."""

    deaf = False
    cut_off: "asyncio.Future[None] | None" = None

    async def run(self, resource: Resource) -> Outcome:
        self.seen.append(resource)
        if self.cut_off is not None:
            await self.cut_off
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            if not self.deaf:
                raise
        return Outcome()


async def test_the_engine_ends_although_a_look_overheard_that_it_should(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "AGAIN_SECONDS", 0.02)
    bed = Bed(FaultyKind())
    bed.kind.deaf = True  # type: ignore[attr-defined]
    working = asyncio.create_task(bed.engine.run())
    bed.engine.seen(resource())
    await bed.until_seen(1)
    working.cancel()
    async with asyncio.timeout(5):
        await asyncio.gather(working, return_exceptions=True)


async def test_a_look_whose_connection_was_let_go_costs_no_worker() -> None:
    """The client is closed when its credentials change, and whoever waits for its answer is cancelled."""
    bed = Bed(FaultyKind(), workers=1)
    closed = bed.kind.cut_off = asyncio.get_running_loop().create_future()  # type: ignore[attr-defined]
    working = asyncio.create_task(bed.engine.run())
    bed.engine.seen(resource("a"))
    await bed.until_seen(1)
    closed.cancel()
    bed.kind.cut_off = None  # type: ignore[attr-defined]
    bed.kind.may_end.set()
    bed.engine.seen(resource("b"))
    try:
        await bed.until_seen(3)  # b, and a once more after its back-off
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    assert sorted(r.key.name for r in bed.kind.seen) == ["a", "a", "b"]
