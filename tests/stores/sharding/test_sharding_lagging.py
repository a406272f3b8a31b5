"""Secondaries that lag: what they do not hold yet is not taken for nothing.

The router asks each shard with the same read preferences as a driver asks a replica set, so one replica set shows it.
"""

from collections.abc import Callable

import pytest
from pymongo import MongoClient
from pymongo.write_concern import WriteConcern
from sharding_bed import Document

from lucid_storage.kinds.shardedcollection import judgement
from lucid_storage.kinds.shardedcollection.actions import KeyFindings
from lucid_storage.kinds.shardedcollection.desired import resolve
from lucid_storage.models.shardedcollection import KeyVerdict, ShardedCollectionSpec
from lucid_storage.stores.mongodb.adapter import MongoDeployment
from lucid_storage.stores.mongodb.sharding.types import Occupancy, ShardKey
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb

KEY: ShardKey = (("country", 1),)


async def test_a_collection_that_no_secondary_has_heard_of_is_neither_empty_nor_a_good_key(
    private_mongodb: Callable[..., MongoDB],
) -> None:
    server = private_mongodb(members=3, parameters={"enableTestCommands": "1"})
    deployment = MongoDeployment(server.uri, label="MongoDB", app_name="lucid-test", guard=lambda: None)
    try:
        with server.client() as client:
            hello = client.admin.command("hello")
            for host in set(hello["hosts"]) - {hello["primary"]}:
                with MongoClient[Document](host, directConnection=True) as secondary:
                    secondary.admin.command("configureFailPoint", "rsSyncApplyStop", mode="alwaysOn")
            orders = client.shop.get_collection("orders", write_concern=WriteConcern(1))
            orders.insert_many([{"country": n} for n in range(500)])
        gaps = await deployment.sharding.key_gaps("shop", "orders", KEY, 10)
        occupancy = await deployment.sharding.occupancy("shop", "orders")
    finally:
        await deployment.close()
    assert (gaps.checked, gaps.complete) == (0, True), "a secondary was read, to its end"
    assert occupancy == Occupancy(empty=False, documents=500)
    spec = {"collection": "orders", "shardKey": [{"field": "country", "order": 1}]}
    desired = resolve(ShardedCollectionSpec.model_validate(spec), "shop")
    found = KeyFindings(gaps, documents=occupancy.documents, empty=occupancy.empty)
    assert not found.empty
    assert judgement.worst(judgement.of_documents(desired, found, shards=2)) is KeyVerdict.UNKNOWN
