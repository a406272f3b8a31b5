"""Changes of a shard key on a real cluster, and collections that changed since they were looked at."""

import asyncio

import pytest
from sharding_bed import Cluster, counted, insert

from lucid_storage.errors import (
    Reason,
    ServerRefusedError,
    StoreUnavailableError,
)
from lucid_storage.stores.mongodb.adapter import MongoDeployment
from lucid_storage.stores.mongodb.sharding.types import ReshardPhase, ShardKey
from lucid_storage.stores.mongodb.types import IndexDefinition

pytestmark = pytest.mark.mongodb

USER: ShardKey = (("user", "hashed"),)
COUNTRY: ShardKey = (("country", 1),)
COUNTRY_DAY: ShardKey = (("country", 1), ("day", 1))


async def test_refining_adds_fields_and_needs_their_index(
    router: MongoDeployment, sharded_database: str
) -> None:
    sharding = router.sharding
    await sharding.shard(sharded_database, "places", COUNTRY)
    with pytest.raises(ServerRefusedError, match="create an index"):
        await sharding.refine(sharded_database, "places", COUNTRY_DAY)
    definition = IndexDefinition(keys=COUNTRY_DAY)
    await router.create_index(sharded_database, "places", "country_1_day_1", definition)
    await sharding.refine(sharded_database, "places", COUNTRY_DAY)
    await sharding.refine(sharded_database, "places", COUNTRY_DAY)
    state = await sharding.sharded(sharded_database, "places")
    assert state is not None
    assert state.key == COUNTRY_DAY


@pytest.mark.usefixtures("resharding_alone")
async def test_a_collection_made_anew_since_the_look_is_neither_sharded_nor_refined_nor_resharded(
    router: MongoDeployment, sharded: Cluster, sharded_database: str
) -> None:
    sharding = router.sharding
    await sharding.shard(sharded_database, "places", COUNTRY)
    state = await sharding.sharded(sharded_database, "places")
    assert state is not None
    with sharded.client() as client:
        client[sharded_database].drop_collection("places")
        client[sharded_database].create_collection("places")
    with pytest.raises(ServerRefusedError, match="made anew") as refused:
        await sharding.shard(sharded_database, "places", COUNTRY, uuid=state.uuid)
    assert (refused.value.reason, refused.value.stalled) == (Reason.COLLECTION_NOT_READY, False)
    found = await router.collection(sharded_database, "places")
    assert found is not None
    await sharding.shard(sharded_database, "places", COUNTRY, uuid=found.uuid, empty=True)
    for keys in (COUNTRY_DAY, USER):
        await router.create_index(sharded_database, "places", f"by_{len(keys)}", IndexDefinition(keys=keys))
    for change in (
        sharding.refine(sharded_database, "places", COUNTRY_DAY, uuid=state.uuid),
        sharding.reshard(sharded_database, "places", USER, uuid=state.uuid),
    ):
        with pytest.raises(ServerRefusedError, match="made anew"):
            await change
    await sharding.refine(sharded_database, "places", COUNTRY_DAY, uuid=found.uuid)


async def test_documents_that_came_since_an_empty_look_stop_the_sharding(
    router: MongoDeployment, sharded: Cluster, sharded_database: str
) -> None:
    insert(sharded, sharded_database, "places", [{"country": "AT"}])
    with sharded.client() as client:
        client[sharded_database].places.create_index("country")
    with pytest.raises(ServerRefusedError, match="holds documents now") as refused:
        await router.sharding.shard(sharded_database, "places", COUNTRY, empty=True)
    assert not refused.value.stalled
    assert await router.sharding.sharded(sharded_database, "places") is None


@pytest.mark.usefixtures("resharding_alone")
async def test_a_resharding_is_seen_while_it_runs_and_goes_on_without_the_caller(
    router: MongoDeployment, sharded: Cluster, sharded_database: str
) -> None:
    sharding = router.sharding
    await sharding.shard(sharded_database, "events", COUNTRY)
    insert(sharded, sharded_database, "events", [{"country": "AT", "user": n} for n in range(300)])
    assert await sharding.resharding(sharded_database, "events") is None
    point = "reshardingPauseCoordinatorBeforeBlockingWrites"
    sharded.fail_point("config", point, on=True)
    try:
        caller = asyncio.create_task(sharding.reshard(sharded_database, "events", USER, num_initial_chunks=4))
        async with asyncio.timeout(60):
            while True:
                found = await sharding.resharding(sharded_database, "events")
                if found is not None and found.phase is ReshardPhase.CATCHING_UP:
                    break
                await asyncio.sleep(0.05)
        assert found.key == USER
        assert found.percent is not None
        state = await sharding.sharded(sharded_database, "events")
        assert state is not None
        assert (state.resharding, state.key) == (True, COUNTRY)
        with pytest.raises(StoreUnavailableError, match="conflicting operation"):
            await sharding.reshard(sharded_database, "events", (("day", "hashed"),))
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        joined = asyncio.create_task(sharding.reshard(sharded_database, "events", USER, num_initial_chunks=4))
    finally:
        sharded.fail_point("config", point, on=False)
    await asyncio.wait_for(joined, 60)
    state = await sharding.sharded(sharded_database, "events")
    assert state is not None
    assert (state.resharding, state.key) == (False, USER)
    assert await sharding.resharding(sharded_database, "events") is None
    assert sum(counted(sharded, sharded_database, "events").values()) == 300


@pytest.mark.usefixtures("resharding_alone")
async def test_an_aborted_resharding_is_told_as_such(
    router: MongoDeployment, sharded: Cluster, sharded_database: str
) -> None:
    sharding, point = router.sharding, "reshardingPauseCoordinatorBeforeBlockingWrites"
    await sharding.shard(sharded_database, "events", COUNTRY)
    sharded.fail_point("config", point, on=True)
    try:
        caller = asyncio.create_task(sharding.reshard(sharded_database, "events", USER))
        async with asyncio.timeout(60):
            while True:
                if await sharding.resharding(sharded_database, "events") is not None:
                    break
                await asyncio.sleep(0.05)
        with sharded.client() as client:
            client.admin.command("abortReshardCollection", f"{sharded_database}.events")
    finally:
        sharded.fail_point("config", point, on=False)
    with pytest.raises(ServerRefusedError, match="it was aborted, and the old key stays"):
        await asyncio.wait_for(caller, 60)
    state = await sharding.sharded(sharded_database, "events")
    assert state is not None
    assert state.key == COUNTRY
