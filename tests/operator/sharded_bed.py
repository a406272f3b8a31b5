"""Specs of sharded collections, and how the cluster looks, in the words of these tests."""

from typing import Any

from pymongo.database import Database

from testbed.pytest_sharded import Foreign
from testbed.stores.sharded import Sharded

Cluster = Sharded | Foreign
KIND = "ShardedCollection"
QUICK = {"FALLBACK_SWEEP_SECONDS": "5", "SWEEP_SECONDS": "5"}


def spec(collection: str, *keys: tuple[str, int | str], **more: object) -> dict[str, Any]:
    return {
        "collection": collection,
        "shardKey": [{"field": field, "order": order} for field, order in keys],
        **more,
    }


def entry(db: Database[Any], collection: str) -> dict[str, Any]:
    """What the cluster's catalogue says; empty where it is not sharded."""
    return db.client.config.collections.find_one({"_id": f"{db.name}.{collection}"}) or {}
