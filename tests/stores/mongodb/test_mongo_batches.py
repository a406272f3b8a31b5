"""Questions about single names share requests and are never answered with something older than the question."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from lucid_storage.stores.mongodb.batches import Batches


class Server:
    """Answers what it holds when the request arrives; a request ends when it is let go."""

    def __init__(self) -> None:
        self.held: dict[str, int] = {}
        self.requests: list[frozenset[str]] = []
        self.arrived: asyncio.Queue[frozenset[str]] = asyncio.Queue()
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None

    async def load(self, _: str, names: frozenset[str]) -> Mapping[str, int]:
        self.requests.append(names)
        self.arrived.put_nowait(names)
        answer = {name: self.held[name] for name in names if name in self.held}
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return answer


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def batches(server: Server) -> AsyncIterator[Batches[str, int]]:
    made: Batches[str, int] = Batches(server.load)
    yield made
    await made.close()


async def _asked(server: Server, requests: int) -> None:
    async with asyncio.timeout(5):
        for _ in range(requests):
            await server.arrived.get()


async def test_names_asked_for_at_once_share_a_request(server: Server, batches: Batches[str, int]) -> None:
    server.held = {f"c{number}": number for number in range(500)}
    answers = await asyncio.gather(*(batches.get("db", f"c{number}") for number in range(1000)))
    assert answers == [*range(500), *[None] * 500]
    assert len(server.requests) == 1


async def test_an_answer_is_not_older_than_its_question(server: Server, batches: Batches[str, int]) -> None:
    server.gate.clear()
    before = asyncio.ensure_future(batches.get("db", "c"))
    await _asked(server, 1)
    server.held["c"] = 1
    after = [asyncio.ensure_future(batches.get("db", "c")) for _ in range(3)]
    server.gate.set()
    assert await before is None
    assert await asyncio.gather(*after) == [1, 1, 1]
    assert len(server.requests) == 2


async def test_a_request_holds_up_only_its_own_database(server: Server, batches: Batches[str, int]) -> None:
    server.gate.clear()
    slow = asyncio.ensure_future(batches.get("slow", "c"))
    other = asyncio.ensure_future(batches.get("other", "c"))
    await _asked(server, 2)
    server.gate.set()
    assert await asyncio.gather(slow, other) == [None, None]


async def test_a_failure_reaches_every_caller_and_is_not_kept(
    server: Server, batches: Batches[str, int]
) -> None:
    server.held["c"] = 1
    server.failure = ConnectionError("away")
    failed = await asyncio.gather(*(batches.get("db", "c") for _ in range(3)), return_exceptions=True)
    assert [str(error) for error in failed] == ["away"] * 3
    server.failure = None
    assert await batches.get("db", "c") == 1


async def test_a_caller_who_leaves_takes_nothing_from_the_others(
    server: Server, batches: Batches[str, int]
) -> None:
    server.held["c"] = 1
    server.gate.clear()
    leaving, staying = (asyncio.ensure_future(batches.get("db", "c")) for _ in range(2))
    await _asked(server, 1)
    leaving.cancel()
    server.gate.set()
    assert await staying == 1


async def test_closing_ends_the_callers(server: Server, batches: Batches[str, int]) -> None:
    server.gate.clear()
    asking = asyncio.ensure_future(batches.get("db", "c"))
    await _asked(server, 1)
    queued = asyncio.ensure_future(batches.get("db", "d"))
    await asyncio.sleep(0)
    await batches.close()
    for caller in (asking, queued):
        with pytest.raises(asyncio.CancelledError):
            await caller
