"""The sharded cluster of the test bed is one: documents go where the catalogue says, and its balancer moves chunks."""

import uuid
from typing import Any

import pytest
from pymongo.errors import OperationFailure

from testbed.process import wait_until
from testbed.pytest_sharded import Foreign
from testbed.stores.sharded import Sharded
from testbed.testrun import TestRun

pytestmark = pytest.mark.mongodb

Cluster = Sharded | Foreign
Document = dict[str, Any]


def counted(
    cluster: Cluster, database: str, collection: str, match: Document | None = None
) -> dict[str, int]:
    """Documents on each shard, past the router."""
    counts = {}
    for shard in cluster.shard_names:
        with cluster.shard_client(shard) as client:
            counts[shard] = client[database][collection].count_documents(match or {})
    return counts


def test_a_driver_sees_a_router(sharded: Cluster) -> None:
    with sharded.client() as client:
        assert client.admin.command("hello")["msg"] == "isdbgrid"
        assert client.is_mongos
        assert ("standIn" in client.admin.command("buildInfo")) is sharded.is_stand_in()


def test_hashed_chunks_hold_the_documents_that_go_through_the_router(
    sharded: Cluster, sharded_database: str
) -> None:
    with sharded.client() as client:
        orders = client[sharded_database]["orders"]
        client.admin.command(
            "shardCollection", f"{sharded_database}.orders", key={"user": "hashed"}, numInitialChunks=8
        )
        orders.insert_many([{"user": number, "group": number % 7} for number in range(700)])
        entry = client.config.collections.find_one({"_id": f"{sharded_database}.orders"})
        assert entry is not None
        assert client.config.chunks.count_documents({"uuid": entry["uuid"]}) == 8
        assert orders.count_documents({}) == 700
        assert orders.count_documents({"group": 3}) == 100
        assert [found["user"] for found in orders.find({"group": 3}).sort("user", 1).batch_size(9)] == list(
            range(3, 700, 7)
        )
    there = counted(sharded, sharded_database, "orders")
    assert sum(there.values()) == 700
    assert min(there.values()) > 100


def test_the_balancer_moves_a_zone_to_its_shard(sharded: Cluster, sharded_database: str) -> None:
    zone, target = f"zone-{sharded_database}", sharded.shard_names[1]
    namespace = f"{sharded_database}.places"
    with sharded.client() as client:
        client.admin.command("enableSharding", sharded_database, primaryShard=sharded.shard_names[0])
        client.admin.command("shardCollection", namespace, key={"country": 1})
        places = client[sharded_database]["places"]
        places.insert_many(
            [{"country": country, "n": n} for country in ("AT", "DE", "PL") for n in range(50)]
        )
        assert counted(sharded, sharded_database, "places") == {sharded.shard_names[0]: 150, target: 0}
        client.admin.command("addShardToZone", target, zone=zone)
        bounds: Document = {"min": {"country": "DE"}, "max": {"country": "DF"}}
        try:
            client.admin.command("updateZoneKeyRange", namespace, **bounds, zone=zone)
            wait_until(
                lambda: counted(sharded, sharded_database, "places", {"country": "DE"})[target] == 50,
                60,
                "The documents of the zone on its shard",
            )
            assert places.count_documents({}) == 150
        finally:
            client.admin.command("updateZoneKeyRange", namespace, **bounds, zone=None)
            client.admin.command("removeShardFromZone", target, zone=zone)


def test_a_shard_refuses_a_unique_index_that_it_cannot_enforce(
    sharded: Cluster, sharded_database: str
) -> None:
    with sharded.client() as client:
        client.admin.command("shardCollection", f"{sharded_database}.users", key={"country": 1})
        users = client[sharded_database]["users"]
        users.create_index([("country", 1), ("mail", 1)], unique=True)
        with pytest.raises(OperationFailure, match="shard key pattern"):
            users.create_index([("mail", 1)], unique=True)


@pytest.mark.usefixtures("resharding_alone")
def test_resharding_changes_the_key_and_loses_nothing(sharded: Cluster, sharded_database: str) -> None:
    namespace = f"{sharded_database}.events"
    with sharded.client() as client:
        client.admin.command("shardCollection", namespace, key={"day": 1})
        events = client[sharded_database]["events"]
        events.insert_many([{"day": number % 3, "user": number} for number in range(300)])
        client.admin.command("reshardCollection", namespace, key={"user": "hashed"}, numInitialChunks=4)
        entry = client.config.collections.find_one({"_id": namespace})
        assert entry is not None
        assert entry["key"] == {"user": "hashed"}
        assert events.count_documents({}) == 300
        # The server draws the bounds of the new chunks from a sample, so the shares vary.
        shares = counted(sharded, sharded_database, "events").values()
        assert min(shares) > 0
        assert sum(shares) == 300


def test_changes_of_definitions_are_seen_on_all_shards(sharded: Cluster, sharded_database: str) -> None:
    with (
        sharded.client() as client,
        client.watch(
            [{"$match": {"ns.db": sharded_database}}], show_expanded_events=True, max_await_time_ms=200
        ) as stream,
    ):
        client[sharded_database].create_collection("seen")
        event = wait_until(stream.try_next, 20, "The event of the new collection")
        assert event is not None
        assert (event["operationType"], event["ns"]["coll"]) == ("create", "seen")


def test_with_another_address_the_cluster_begins_empty(testbed_run: TestRun) -> None:
    """As when the machine got another one since the last start."""
    name = f"sharded-{uuid.uuid4().hex[:8]}"
    first = Sharded(testbed_run.instance, name, shards=1)
    first.start()
    with first.client() as client:
        client.old.things.insert_one({})
    first.stop()
    moved = Sharded(testbed_run.instance, name, shards=1, host="127.0.0.2")
    moved.start()
    with moved.client() as client:
        assert client.list_database_names() == ["admin", "config"]
        client.new.things.insert_one({})
        assert client.new.things.count_documents({}) == 1
    moved.kill()
