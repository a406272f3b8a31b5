"""Time series on real shards: sharded by what MongoDB allows, refused with a sentence otherwise."""

import random
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.database import Database
from sharded_life import Life

from lucid_storage.errors import ServerRefusedError
from lucid_storage.stores.mongodb.adapter import MongoDeployment
from lucid_storage.stores.mongodb.sharding.types import ShardKey
from lucid_storage.stores.mongodb.types import IndexDefinition
from testbed.pytest_sharded import Foreign
from testbed.stores.sharded import Sharded

pytestmark = pytest.mark.mongodb

START = datetime(2026, 11, 21, tzinfo=UTC)
SENSOR_AT: ShardKey = (("sensor.id", 1), ("at", 1))
SENSOR_HASHED: ShardKey = (("sensor.id", "hashed"),)


@pytest.fixture
async def router(sharded: Sharded | Foreign) -> AsyncIterator[MongoDeployment]:
    deployment = MongoDeployment(
        sharded.uri, label="the test's cluster", app_name="lucid-test", guard=lambda: None
    )
    yield deployment
    await deployment.close()


@pytest.fixture
def db(sharded: Sharded | Foreign, sharded_database: str) -> Iterator[Database[Any]]:
    """With the empty time series `readings`."""
    with sharded.client() as client:
        database = client[sharded_database]
        database.create_collection("readings", timeseries={"timeField": "at", "metaField": "sensor"})
        yield database


def readings(count: int = 300) -> list[dict[str, Any]]:
    """One of each sensor, in no order of their ids."""
    drawn = random.Random(7).sample(range(10_000), count)
    return [{"at": START + timedelta(seconds=n), "sensor": {"id": one}} for n, one in enumerate(drawn)]


def life(router: MongoDeployment, db: Database[Any], key: ShardKey, **spec: Any) -> Life:
    return Life(router, key, database=db.name, collection="readings", **spec)


def buckets(db: Database[Any]) -> dict[str, Any]:
    """What the cluster's catalogue says; empty where the series is not sharded."""
    return db.client.config.collections.find_one({"_id": f"{db.name}.system.buckets.readings"}) or {}


async def test_an_empty_time_series_is_sharded_and_its_documents_go_to_both_sides(
    router: MongoDeployment, db: Database[Any], sharded: Sharded | Foreign
) -> None:
    status = await life(router, db, SENSOR_HASHED, numInitialChunks=4).until_ready()
    assert (status["key"], status["chunks"], status["shardCount"]) == ("sensor.id:hashed", 4, 2)
    assert buckets(db)["key"] == {"meta.id": "hashed"}
    db.readings.insert_many(readings())
    lying = []
    for shard in sharded.shard_names:
        with sharded.shard_client(shard) as client:
            lying.append(client[db.name]["system.buckets.readings"].count_documents({}))
    assert sum(lying) == 300, "a bucket for each sensor"
    assert min(lying) > 0


async def test_a_time_series_with_documents_is_examined_and_sharded_by_its_meta_and_time_fields(
    router: MongoDeployment, db: Database[Any]
) -> None:
    db.readings.insert_many(readings())
    resource = life(router, db, SENSOR_AT)
    await resource.look()
    assert resource.ready["reason"] == "SupportingIndexMissing"
    # Past the adapter it would be seen only when the shared listing of half a second is over.
    await router.create_index(db.name, "readings", "by_sensor", IndexDefinition(keys=SENSOR_AT))
    status = await resource.until_ready()
    assert status["key"] == "sensor.id:1, at:1"
    assert buckets(db)["key"] == {"meta.id": 1, "control.min.at": 1}
    checks = {check["check"]: check for check in status["preflight"]["checks"]}
    assert "300 documents were looked at and 300 drawn" in checks["Coverage"]["message"]
    assert (checks["NullKeys"]["verdict"], checks["Cardinality"]["verdict"]) == ("Good", "Good")
    assert db.readings.count_documents({}) == 300


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ((("at", 1), ("sensor.id", 1)), "its timeField at can only stand last in the key"),
        ((("at", "hashed"),), "its timeField at can only stand last in the key, with order 1"),
        ((("sensor", 1), ("value", 1)), "take value out of the key"),
        ((("sensors", 1),), "take sensors out of the key"),
    ],
)
async def test_a_key_that_no_time_series_can_have_is_refused_with_a_sentence_as_the_server_refuses_it(
    router: MongoDeployment, db: Database[Any], key: ShardKey, words: str
) -> None:
    resource = life(router, db, key)
    await resource.look()
    assert resource.ready["reason"] == "NotShardable"
    assert words in resource.ready["message"]
    with pytest.raises(ServerRefusedError):
        await router.sharding.shard(db.name, "readings", key)
    assert buckets(db) == {}


async def test_a_sharded_time_series_keeps_its_key_and_has_no_zones(
    router: MongoDeployment, db: Database[Any]
) -> None:
    resource = life(router, db, SENSOR_HASHED)
    await resource.until_ready()
    resource.change(SENSOR_AT, changePolicy="Reshard")
    await resource.look()
    assert resource.ready["reason"] == "NotSupported"
    assert "set the declared key back" in resource.ready["message"]
    assert "operation" not in resource.status
    bounds = {"min": {"sensor.id": {"$minKey": 1}}, "max": {"sensor.id": {"$maxKey": 1}}}
    resource.change(SENSOR_HASHED, zones=[{"name": "z", "shards": ["shard0"], "ranges": [bounds]}])
    await resource.look()
    assert (resource.ready["reason"], "remove zones" in resource.ready["message"]) == ("NotShardable", True)
    assert buckets(db)["key"] == {"meta.id": "hashed"}
