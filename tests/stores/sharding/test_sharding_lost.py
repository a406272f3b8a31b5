"""Parts of the cluster are away: each call ends in time and says which."""

import asyncio
import contextlib
from collections.abc import Callable

import pytest
from sharding_bed import Cluster, counted, insert

from lucid_storage.errors import NotShardedError, StoreUnavailableError
from lucid_storage.stores.mongodb.adapter import MongoDeployment
from lucid_storage.stores.mongodb.sharding.types import ShardKey
from testbed.stores.sharded import Sharded

pytestmark = pytest.mark.mongodb
USER: ShardKey = (("user", "hashed"),)


async def test_a_lost_part_is_an_outage_and_what_is_asked_again_works_when_it_is_back(
    private_sharded: Callable[..., Sharded],
) -> None:
    cluster = private_sharded()
    router = MongoDeployment(cluster.uri, label="the cluster", app_name="lucid-test", guard=lambda: None)
    sharding = router.sharding
    try:
        await sharding.shard("shop", "orders", USER, num_initial_chunks=4)
        insert(cluster, "shop", "orders", [{"user": number} for number in range(20)])
        before = await sharding.cluster()
        shard = cluster.servers[cluster.shard_names[0]]
        shard.kill()
        async with asyncio.timeout(30):
            # Which of the two comes first: the end of the budget, or the router's notice that the shard is away.
            with contextlib.suppress(StoreUnavailableError):
                assert await sharding.figures("shop", "orders", 2) is None
        cluster.kill()
        with pytest.raises(StoreUnavailableError, match="the cluster: cannot"):
            async with asyncio.timeout(30):
                await sharding.sharded("shop", "orders")
        await asyncio.to_thread(cluster.start)
        figures = await sharding.figures("shop", "orders", 10)
        assert figures is not None
        assert [found.shard for found in figures] == cluster.shard_names
        assert sum(counted(cluster, "shop", "orders").values()) == 20
        assert await sharding.cluster() == before
    finally:
        await router.close()


async def test_a_connection_past_the_router_is_told_to_be_none(sharded: Cluster) -> None:
    """A shard is a replica set to whoever connects to it: nothing may be sharded there."""
    with sharded.shard_client(sharded.shard_names[0]) as client:
        client.admin.command("ping")
        host, port = client.address or ("", 0)
    uri = f"mongodb://{host}:{port}/?directConnection=true"
    shard = MongoDeployment(uri, label="a shard", app_name="lucid-test", guard=lambda: None)
    try:
        with pytest.raises(NotShardedError, match="a shard: the server is not the router"):
            await shard.sharding.cluster()
    finally:
        await shard.close()
