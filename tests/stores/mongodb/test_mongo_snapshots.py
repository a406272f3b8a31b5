"""Listings are shared for a moment, and never older than they may be."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from mongo_bed import eventually

from lucid_storage.stores.mongodb.snapshots import Snapshots


class Source:
    """Counts its listings; each waits until `may_answer` and says its number."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def load(self, key: str) -> int:
        self.asked += 1
        number = self.asked
        await self.may_answer.wait()
        return number


@pytest.fixture
async def source() -> Source:
    return Source()


@pytest.fixture
async def snapshots(source: Source) -> AsyncIterator[Snapshots[str, int]]:
    made = Snapshots(source.load, lifetime=60)
    yield made
    await made.close()


async def test_a_thousand_callers_share_one_listing(source: Source, snapshots: Snapshots[str, int]) -> None:
    answers = await asyncio.gather(*(snapshots.get("db") for _ in range(1_000)))
    assert set(answers) == {1}
    assert await snapshots.get("db") == 1
    assert source.asked == 1


async def test_keys_do_not_share(source: Source, snapshots: Snapshots[str, int]) -> None:
    assert await snapshots.get("a") == 1
    assert await snapshots.get("b") == 2


async def test_a_listing_is_used_no_longer_than_its_lifetime(source: Source) -> None:
    snapshots = Snapshots(source.load, lifetime=0)
    assert [await snapshots.get("db"), await snapshots.get("db")] == [1, 2]


async def test_after_a_write_a_listing_under_way_is_not_joined(
    source: Source, snapshots: Snapshots[str, int]
) -> None:
    source.may_answer.clear()
    before = asyncio.create_task(snapshots.get("db"))
    await asyncio.sleep(0)
    snapshots.forget("db")
    after = asyncio.create_task(snapshots.get("db"))
    await asyncio.sleep(0)
    source.may_answer.set()
    assert (await before, await after) == (1, 2)
    assert await snapshots.get("db") == 2


async def test_a_cancelled_caller_does_not_end_the_listing_of_the_others(
    source: Source, snapshots: Snapshots[str, int]
) -> None:
    source.may_answer.clear()
    first, second = asyncio.create_task(snapshots.get("db")), asyncio.create_task(snapshots.get("db"))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    source.may_answer.set()
    assert await second == 1


async def test_a_failure_reaches_all_who_waited_and_is_not_kept() -> None:
    failures = [RuntimeError("down")]

    async def load(key: str) -> str:
        await asyncio.sleep(0)
        if failures:
            raise failures.pop()
        return "listed"

    snapshots = Snapshots(load, lifetime=60)
    answers = await asyncio.gather(snapshots.get("db"), snapshots.get("db"), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["down", "down"]
    assert await snapshots.get("db") == "listed"


async def test_nothing_is_held_after_the_lifetime(source: Source) -> None:
    snapshots = Snapshots(source.load, lifetime=0.01)
    await snapshots.get("db")

    async def nothing_held() -> bool:
        return not snapshots.held()

    await eventually(nothing_held, "An empty store of listings", seconds=5)
