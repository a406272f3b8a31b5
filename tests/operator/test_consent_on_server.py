"""What could lose data is counted, and what others declare stays: the operator on real servers."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from operator_bed import index_spec, indexes
from pymongo.database import Database
from tcp_relay import Relay

from testbed.pytest_operator import World
from testbed.stores.redis import Redis

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]

ENFORCE = {"cache": [{"keyPattern": "user:{id}", "ttlSeconds": 600, "ttlPolicy": "Enforce"}]}
CONSENT = {"spec": {"allowDataLoss": "user:{id}"}}


async def test_a_ttl_that_moves_is_counted_and_an_expiry_that_is_taken_out_ends(
    mongo_world: World, db: Database[Any]
) -> None:
    old = datetime.now(UTC) - timedelta(days=3)
    db.sessions.insert_many([{"seenAt": old} for _ in range(3)])
    mongo_world.start_operator()
    ttl = index_spec("sessions", ("createdAt", 1), options={"expireAfterSeconds": 60}, name="ttl")
    await mongo_world.create("Index", "ttl", ttl)
    series = {"timeField": "at", "expireAfterSeconds": 3600}
    await mongo_world.create("Collection", "ticks", {"timeSeries": series})
    await mongo_world.create(
        "Collection", "ids", {"clusteredIndex": {"unique": True, "expireAfterSeconds": 3600}}
    )
    await mongo_world.ready("Index", "ttl")
    await mongo_world.ready("Collection", "ticks")
    await mongo_world.ready("Collection", "ids")
    moved = {"mongodb": {"keys": [{"field": "seenAt", "order": 1}]}}
    await mongo_world.patch("Index", "ttl", {"spec": moved})
    condition = await mongo_world.refused("Index", "ttl", "DataLossRefused")
    assert "delete up to 3 documents" in condition["message"]
    assert list(indexes(db, "sessions")) == ["ttl"]
    await mongo_world.patch("Collection", "ticks", {"spec": {"timeSeries": {"expireAfterSeconds": None}}})
    await mongo_world.patch("Collection", "ids", {"spec": {"clusteredIndex": {"expireAfterSeconds": None}}})
    await mongo_world.ready("Collection", "ticks")
    await mongo_world.ready("Collection", "ids")
    found = {c["name"]: c["options"] for c in db.list_collections(filter={"name": {"$in": ["ticks", "ids"]}})}
    assert [name for name in found if "expireAfterSeconds" in found[name]] == []
    await mongo_world.patch("Index", "ttl", {"spec": {"allowDataLoss": f"{db.name}.sessions"}})
    status = await mongo_world.ready("Index", "ttl")
    (serving,) = indexes(db, "sessions").values()
    assert (serving["name"], serving["key"]) == (status["indexName"], {"seenAt": 1})


async def test_what_others_declare_by_now_is_neither_dropped_nor_left_hidden(
    mongo_world: World, db: Database[Any]
) -> None:
    db.create_collection("users")
    mongo_world.start_operator()
    await mongo_world.create("Collection", "orders", {"deletionPolicy": "Delete"})
    await mongo_world.create("Index", "orders-at", index_spec("orders", ("at", 1)))
    first = index_spec("users", ("email", 1), name="first", deletionPolicy="Delete")
    await mongo_world.create("Index", "a-first", first)
    await mongo_world.ready("Index", "a-first")
    await mongo_world.patch("Index", "a-first", {"spec": {"mongodb": {"sparse": True}}})
    await mongo_world.ready("Index", "a-first")
    assert indexes(db, "users")["first"]["hidden"] is True
    await mongo_world.create("Index", "b-second", index_spec("users", ("email", 1), name="second"))
    status = await mongo_world.ready("Index", "b-second")
    assert status["indexName"] == "first"
    assert "hidden" not in indexes(db, "users")["first"]

    async def let_go() -> bool:
        return "superseded" not in (await mongo_world.get("Index", "a-first"))["status"]

    await mongo_world.until(let_go, 10, "the first to let go of the index")
    await mongo_world.delete("Index", "a-first")
    assert list(indexes(db, "users")) == ["first"]
    await mongo_world.ready("Index", "orders-at")
    await mongo_world.delete("Collection", "orders")
    assert "orders" in db.list_collection_names(), "an Index under Retain is about it"


@pytest.mark.redis
async def test_consent_to_enforce_does_not_follow_the_name_to_another_redis(
    mongo_world: World, private_redis: Callable[..., Redis]
) -> None:
    one, two = private_redis(), private_redis()
    with one.client() as client:
        client.set("user:1", "x")
    with two.client() as client:
        client.mset({"user:2": "x", "user:3": "x"})
    relay = Relay(one.port)
    try:
        url = one.url.replace(str(one.port), str(relay.port))
        mongo_world.start_operator(REDIS_URL=url, SWEEP_SECONDS="5", CACHE_SCAN_SECONDS="5")
        await mongo_world.create("Collection", "users", ENFORCE)
        condition = await mongo_world.refused("Collection", "users", "DataLossRefused")
        assert "let 1 keys of user:{id} expire" in condition["message"]
        await mongo_world.patch("Collection", "users", CONSENT)
        await mongo_world.ready("Collection", "users")
        with one.client() as client:

            async def enforced() -> bool:
                return int(client.ttl("user:1")) > 0

            await mongo_world.until(enforced, 15, "the TTL that was agreed to")
        await mongo_world.patch("Collection", "users", {"spec": {"allowDataLoss": None}})
        await mongo_world.ready("Collection", "users")
        relay.target = two.port
        relay.refuse()
        relay.accept()
        condition = await mongo_world.refused("Collection", "users", "DataLossRefused", 40)
        assert "let 2 keys of user:{id} expire" in condition["message"]
        with two.client() as client:
            assert (client.ttl("user:2"), client.ttl("user:3")) == (-1, -1)
            await mongo_world.patch("Collection", "users", CONSENT)

            async def agreed() -> bool:
                return min(int(client.ttl("user:2")), int(client.ttl("user:3"))) > 0

            await mongo_world.until(agreed, 20, "the TTLs in the other Redis")
    finally:
        relay.close()
