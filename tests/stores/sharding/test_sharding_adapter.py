"""The adapter on a real cluster: what it says is what the servers have, and what it does is done."""

from collections.abc import Callable

import pytest
from sharding_bed import Cluster, counted, insert

from lucid_storage.errors import (
    NotShardedError,
    Reason,
    ServerRefusedError,
)
from lucid_storage.stores.mongodb.adapter import MongoDeployment
from lucid_storage.stores.mongodb.sharding.bounds import full_range, same_range
from lucid_storage.stores.mongodb.sharding.supporting import supporting_indexes
from lucid_storage.stores.mongodb.sharding.types import BalancerWindow, KeyRange, ShardKey
from lucid_storage.stores.mongodb.types import CollectionOptions, IndexDefinition
from testbed.stores.mongodb import MongoDB
from testbed.stores.sharded import Sharded

pytestmark = pytest.mark.mongodb

USER: ShardKey = (("user", "hashed"),)
COUNTRY: ShardKey = (("country", 1),)
COUNTRY_DAY: ShardKey = (("country", 1), ("day", 1))


async def test_a_replica_set_is_told_not_to_be_sharded(mongodb: MongoDB, database: str) -> None:
    deployment = MongoDeployment(mongodb.uri, label="MongoDB", app_name="lucid-test", guard=lambda: None)
    try:
        sharding = deployment.sharding
        calls = (
            sharding.cluster(),
            sharding.sharded(database, "orders"),
            sharding.zones(database, "orders"),
            sharding.balancer(),
            sharding.figures(database, "orders", 5),
            sharding.shard(database, "orders", USER),
            sharding.set_balancer_window(None),
        )
        for call in calls:
            with pytest.raises(NotShardedError, match="mongos") as refused:
                await call
            assert refused.value.reason is Reason.NOT_SHARDED
    finally:
        await deployment.close()


async def test_a_cluster_has_an_identity_and_shards(router: MongoDeployment, sharded: Cluster) -> None:
    cluster = await router.sharding.cluster()
    assert cluster.identity == (await router.info()).identity
    assert len(cluster.identity) == 24
    assert [shard.name for shard in cluster.shards] == sharded.shard_names


async def test_chunks_and_figures_are_where_the_documents_are(
    router: MongoDeployment, sharded: Cluster, sharded_database: str
) -> None:
    sharding = router.sharding
    assert await sharding.sharded(sharded_database, "orders") is None
    assert await sharding.figures(sharded_database, "orders", 5) == ()
    await sharding.enable_sharding(sharded_database)
    await sharding.enable_sharding(sharded_database)
    await sharding.shard(sharded_database, "orders", USER, num_initial_chunks=8)
    await sharding.shard(sharded_database, "orders", USER, num_initial_chunks=8)
    insert(sharded, sharded_database, "orders", [{"user": number} for number in range(500)])

    state = await sharding.sharded(sharded_database, "orders")
    assert state is not None
    assert (state.key, state.unique, state.balancing, state.resharding) == (USER, False, True, False)
    collection = await router.collection(sharded_database, "orders")
    assert collection is not None
    assert state.uuid == collection.uuid
    chunks = await sharding.chunks(state)
    assert sum(found.chunks for found in chunks) == 8
    assert [found.shard for found in chunks] == sharded.shard_names
    figures = await sharding.figures(sharded_database, "orders", 10)
    assert figures is not None
    assert {found.shard: found.documents for found in figures} == counted(sharded, sharded_database, "orders")
    assert sum(found.documents for found in figures) == 500
    assert all(found.size_bytes > 0 for found in figures)
    assert (await sharding.balance(sharded_database, "orders")).compliant


async def test_another_key_than_the_servers_is_refused(
    router: MongoDeployment, sharded_database: str
) -> None:
    await router.sharding.shard(sharded_database, "orders", USER)
    with pytest.raises(ServerRefusedError, match="already enabled"):
        await router.sharding.shard(sharded_database, "orders", COUNTRY)


async def test_what_cannot_be_sharded_is_refused_with_the_servers_words(
    router: MongoDeployment, sharded: Cluster, sharded_database: str
) -> None:
    insert(sharded, sharded_database, "plain", [{"country": "AT"}])
    with sharded.client() as client:
        client[sharded_database].create_collection("ring", capped=True, size=4096)
    with pytest.raises(ServerRefusedError, match="create an index"):
        await router.sharding.shard(sharded_database, "plain", COUNTRY)
    with pytest.raises(ServerRefusedError, match="capped"):
        await router.sharding.shard(sharded_database, "ring", COUNTRY)


async def test_a_collection_with_a_collation_is_sharded_by_the_simple_one(
    router: MongoDeployment, sharded_database: str
) -> None:
    await router.create_collection(sharded_database, "names", CollectionOptions(collation={"locale": "de"}))
    await router.sharding.shard(sharded_database, "names", COUNTRY, simple_collation=True)
    state = await router.sharding.sharded(sharded_database, "names")
    assert state is not None
    assert state.collation is not None
    assert state.collation["locale"] == "de"
    found = supporting_indexes(COUNTRY, await router.indexes(sharded_database, "names") or ())
    assert found.names == ("country_1",)


async def test_a_unique_index_apart_from_the_key_is_refused_with_the_way_out(
    router: MongoDeployment, sharded_database: str
) -> None:
    await router.sharding.shard(sharded_database, "users", COUNTRY)
    definition = IndexDefinition(keys=(("mail", 1),), unique=True)
    with pytest.raises(ServerRefusedError, match="begin the index with the shard key"):
        await router.create_index(sharded_database, "users", "mail_1", definition)


async def test_zones_are_set_and_cleared(
    router: MongoDeployment, sharded: Cluster, sharded_database: str
) -> None:
    sharding, zone, shard = router.sharding, f"zone-{sharded_database}", sharded.shard_names[0]
    await sharding.shard(sharded_database, "places", COUNTRY_DAY)
    await sharding.set_balancing(sharded_database, "places", enabled=False)
    bounds = KeyRange({"country": "AT"}, {"$maxKey": 1})
    with pytest.raises(ServerRefusedError):
        await sharding.assign_range(sharded_database, "places", bounds, zone)
    await sharding.add_shard_to_zone(shard, zone)
    await sharding.add_shard_to_zone(shard, zone)
    try:
        await sharding.assign_range(sharded_database, "places", bounds, zone)
        await sharding.assign_range(sharded_database, "places", bounds, zone)
        (found,) = await sharding.zones(sharded_database, "places")
        assert (found.name, found.shards) == (zone, (shard,))
        assert same_range(found.ranges[0], full_range(bounds, COUNTRY_DAY))
        users = await sharding.zone_users([zone, "nowhere"])
        assert users == {zone: frozenset({f"{sharded_database}.places"})}
        inside = KeyRange({"country": "BE"}, {"country": "DE"})
        with pytest.raises(ServerRefusedError, match="overlapping"):
            await sharding.assign_range(sharded_database, "places", inside, zone)
        with pytest.raises(ServerRefusedError, match="cannot remove a shard from zone"):
            await sharding.remove_shard_from_zone(shard, zone)
        with pytest.raises(ServerRefusedError, match="does not exist"):
            await sharding.add_shard_to_zone("nowhere", zone)
    finally:
        await sharding.clear_range(sharded_database, "places", bounds)
        await sharding.clear_range(sharded_database, "places", bounds)
        await sharding.remove_shard_from_zone(shard, zone)
        await sharding.remove_shard_from_zone(shard, zone)
    assert await sharding.zones(sharded_database, "places") == ()


async def test_balancing_is_switched_for_one_collection(
    router: MongoDeployment, sharded_database: str
) -> None:
    sharding = router.sharding
    await sharding.shard(sharded_database, "orders", USER)
    for enabled in (False, False, True):
        await sharding.set_balancing(sharded_database, "orders", enabled=enabled)
        state = await sharding.sharded(sharded_database, "orders")
        assert state is not None
        assert state.balancing is enabled
    with pytest.raises(ServerRefusedError, match="not there"):
        await sharding.set_balancing(sharded_database, "nothing", enabled=False)


async def test_the_balancers_window_leaves_its_other_settings(
    private_sharded: Callable[..., Sharded],
) -> None:
    cluster = private_sharded(shards=1)
    router = MongoDeployment(cluster.uri, label="cluster", app_name="lucid-test", guard=lambda: None)
    try:
        await router.sharding.set_balancer_window(None)
        with cluster.client() as client:
            client.admin.command("balancerStop")
        await router.sharding.set_balancer_window(BalancerWindow("01:00", "04:30"))
        state = await router.sharding.balancer()
        assert (state.enabled, state.window) == (False, BalancerWindow("01:00", "04:30"))
        await router.sharding.set_balancer_window(None)
        state = await router.sharding.balancer()
        assert (state.enabled, state.window) == (False, None)
    finally:
        await router.close()
