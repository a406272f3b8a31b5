"""The work queue: one worker a key, duplicates collapse, delays and back-off."""

import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_storage.kinds.queue import BACKOFF_MOST, WorkQueue, backoff
from lucid_storage.kube.resources import Key

A, B = Key("collections", "ns", "a"), Key("collections", "ns", "b")


async def test_a_key_that_is_added_twice_comes_once() -> None:
    queue = WorkQueue()
    queue.add(A)
    queue.add(A)
    queue.add(B)
    assert [await queue.get(), await queue.get()] == [A, B]
    assert not queue.idle
    queue.done(A)
    queue.done(B)
    assert queue.idle


async def test_a_key_that_is_worked_on_waits_for_its_end_and_then_comes_again() -> None:
    queue = WorkQueue()
    queue.add(A)
    assert await queue.get() == A
    queue.add(A)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.05)
    queue.done(A)
    assert await asyncio.wait_for(queue.get(), 1) == A


async def test_the_earliest_of_several_delays_wins() -> None:
    queue = WorkQueue()
    queue.add_after(A, 60)
    queue.add_after(A, 0.05)
    queue.add_after(A, 30)
    assert await asyncio.wait_for(queue.get(), 2) == A


async def test_a_trigger_overtakes_a_delay_and_uses_it_up() -> None:
    queue = WorkQueue()
    queue.add_after(A, 0.1)
    queue.add(A)
    assert await queue.get() == A
    queue.done(A)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.3)


async def test_a_key_put_behind_another_comes_once_when_the_work_on_that_one_is_done() -> None:
    queue = WorkQueue()
    queue.add(A)
    queue.add(B)
    assert [await queue.get(), await queue.get()] == [A, B]
    queue.put_behind(B, A)
    queue.add(B)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.05)
    queue.done(A)
    assert await asyncio.wait_for(queue.get(), 1) == B
    queue.done(B)
    assert queue.idle


async def test_a_key_put_behind_one_that_is_forgotten_is_not_lost() -> None:
    queue = WorkQueue()
    queue.add(B)
    assert await queue.get() == B
    queue.add(A)
    queue.put_behind(B, A)
    queue.forget(A)
    assert await asyncio.wait_for(queue.get(), 1) == B


async def test_a_key_that_is_forgotten_behind_another_does_not_come() -> None:
    queue = WorkQueue()
    queue.add(A)
    queue.add(B)
    assert [await queue.get(), await queue.get()] == [A, B]
    queue.put_behind(B, A)
    queue.forget(B)
    queue.done(A)
    assert queue.idle


async def test_each_key_finds_a_worker_also_when_another_worker_was_cancelled_in_its_wait() -> None:
    queue = WorkQueue()
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add(A)
    first.cancel()
    assert await asyncio.wait_for(second, 1) == A


async def test_what_is_forgotten_does_not_come() -> None:
    queue = WorkQueue()
    queue.add(A)
    queue.add_after(B, 0.01)
    queue.forget(A)
    queue.forget(B)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.1)


async def test_failures_in_a_row_wait_longer_and_success_starts_anew() -> None:
    queue = WorkQueue(rng=Random(1))
    delays = [queue.retry(A) for _ in range(12)]
    assert delays[0] <= 1
    assert delays[-1] > 100
    queue.succeeded(A)
    assert queue.retry(A) <= 1


@given(failures=st.integers(1, 10_000), jitter=st.floats(0, 1, exclude_max=True))
def test_a_back_off_is_bounded_and_never_zero(failures: int, jitter: float) -> None:
    assert 0.5 <= backoff(failures, jitter) <= BACKOFF_MOST
