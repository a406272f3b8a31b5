import gc
from collections.abc import AsyncIterator

import pytest
from sharding_bed import Cluster

from lucid_storage.stores.mongodb.adapter import MongoDeployment


@pytest.fixture
async def router(sharded: Cluster) -> AsyncIterator[MongoDeployment]:
    """An adapter on the shared cluster's router."""
    deployment = MongoDeployment(
        sharded.uri, label="the test's cluster", app_name="lucid-test", guard=lambda: None
    )
    yield deployment
    await deployment.close()
    gc.collect()
