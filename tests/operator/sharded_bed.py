"""Specs of sharded collections, and how the cluster looks, in the words of these tests."""

from typing import Any

from pymongo.database import Database

from testbed.pytest_operator import World
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


async def noted(world: World, name: str, reason: str) -> dict[str, Any]:
    """The Event about an object with this reason, as soon as it is there."""
    found: list[dict[str, Any]] = []

    async def there() -> bool:
        found[:] = [event for event in await world.events(name) if event["reason"] == reason]
        return bool(found)

    await world.until(there, 15, f"the event {reason}")
    return found[0]
