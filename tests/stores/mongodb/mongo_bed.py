"""What the tests of the MongoDB adapter share: builders and waiting with a deadline."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from lucid_storage.stores.mongodb.adapter import MongoDeployment
from lucid_storage.stores.mongodb.types import IndexDefinition, KeyOrder

Connect = Callable[..., MongoDeployment]


def index(*keys: tuple[str, KeyOrder], **options: Any) -> IndexDefinition:
    return IndexDefinition(keys=keys, **options)


async def eventually(
    condition: Callable[[], Awaitable[Any]], what: str, *, seconds: float = 30, every: float = 0.02
) -> Any:
    """The first truthy answer of `condition`."""
    end = time.monotonic() + seconds
    while True:
        answer = await condition()
        if answer:
            return answer
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        await asyncio.sleep(every)
