import gc
from collections.abc import AsyncIterator, Callable

import pytest
from mongo_bed import Connect

from lucid_storage.stores.mongodb.adapter import MongoDeployment
from testbed.stores.mongodb import MongoDB


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """`connect(uri, guard=...)`: an adapter that is closed after the test."""
    opened: list[MongoDeployment] = []

    def make(uri: str, guard: Callable[[], None] = lambda: None) -> MongoDeployment:
        deployment = MongoDeployment(uri, label="the test's MongoDB", app_name="lucid-test", guard=guard)
        opened.append(deployment)
        return deployment

    yield make
    for deployment in opened:
        await deployment.close()
    # A connection attempt of the driver that is cut short leaves its socket to the collector of garbage: that has
    # to happen in the test that did it, and not in a later one.
    gc.collect()


@pytest.fixture
async def deployment(mongodb: MongoDB, connect: Connect) -> MongoDeployment:
    return connect(mongodb.uri)
