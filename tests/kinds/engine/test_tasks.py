"""Tasks end when they are told to, also those that overhear it once."""

import asyncio

import pytest

from lucid_storage.kinds import tasks as subject
from lucid_storage.kinds.longcalls import LongCalls
from lucid_storage.kinds.tasks import ended, first_of
from lucid_storage.kube.resources import Key

KEY = Key("indexes", "ns", "a")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "AGAIN_SECONDS", 0.02)


class Deaf:
    """Work that goes on when it is cancelled, as often as it is told to."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.begun = asyncio.Event()

    async def run(self) -> None:
        while True:
            self.begun.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if not self.left:
                    raise
                self.left -= 1

    async def start(self) -> "asyncio.Task[None]":
        task = asyncio.create_task(self.run())
        await self.begun.wait()
        return task


@pytest.mark.parametrize("times", [0, 1, 2])
async def test_a_task_that_overheard_its_cancellation_ends(times: int) -> None:
    deaf = Deaf(times)
    task = await deaf.start()
    async with asyncio.timeout(5):
        await ended([task])
    assert task.cancelled()
    assert deaf.left == 0


async def test_a_cancellation_that_comes_with_a_result_is_repeated() -> None:
    """What PyMongo does around each message: before Python 3.12 `wait_for` drops such a cancellation."""
    rounds = 0
    answer = asyncio.get_running_loop().create_future()

    async def talking() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.wait_for(asyncio.shield(answer) if rounds == 1 else asyncio.sleep(60), 60)

    task = asyncio.create_task(talking())
    await asyncio.sleep(0.01)
    answer.set_result(None)
    await asyncio.sleep(0)  # the inner future has its result, and the task has not heard of it
    async with asyncio.timeout(5):
        await ended([task])
    assert task.cancelled()


async def test_who_waits_for_the_end_can_be_cancelled_and_waits_on() -> None:
    task = await Deaf(2).start()
    waiting = asyncio.create_task(ended([task]))
    await asyncio.sleep(0)
    waiting.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert task.cancelled(), "nothing is left running behind its back"


async def test_the_first_failure_ends_the_others_and_is_raised() -> None:
    other = Deaf(1)

    async def fails() -> None:
        await other.begun.wait()
        raise ValueError("the first")

    async with asyncio.timeout(5):
        with pytest.raises(ValueError, match="the first"):
            await first_of([other.run(), fails()])
    assert other.left == 0


async def test_a_worker_that_gives_up_a_call_can_be_cancelled_meanwhile() -> None:
    calls = LongCalls(lambda _: None)
    deaf = Deaf(1)
    starting = asyncio.create_task(calls.start(KEY, "build", deaf.run))
    await deaf.begun.wait()
    giving_up = asyncio.create_task(calls.forget(KEY))
    await asyncio.sleep(0)
    giving_up.cancel()
    async with asyncio.timeout(5):
        await asyncio.gather(giving_up, return_exceptions=True)
    assert giving_up.cancelled(), "the cancellation was taken for that of the call"
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
