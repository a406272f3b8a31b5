"""A resharding on real shards that a person aborts while no operator runs."""

import asyncio

import pytest
from pymongo import MongoClient
from sharded_life import Life

from lucid_storage.kinds import longcalls
from lucid_storage.stores.mongodb.adapter import MongoDeployment
from testbed.pytest_sharded import Foreign
from testbed.stores.sharded import Document, Sharded

pytestmark = [pytest.mark.mongodb, pytest.mark.usefixtures("resharding_alone")]

PAUSE = "reshardingPauseCoordinatorBeforeBlockingWrites"


async def test_what_a_person_aborted_is_not_begun_again_by_the_next_operator(
    sharded: Sharded | Foreign, sharded_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(longcalls, "QUICK_SECONDS", 0.2)
    router = MongoDeployment(sharded.uri, label="cluster", app_name="lucid-test", guard=lambda: None)
    namespace = f"{sharded_database}.events"
    life = Life(router, (("kind", 1),), database=sharded_database, collection="events")
    client: MongoClient[Document]
    try:
        with sharded.client() as client:
            await life.until_ready()
            events = client[sharded_database].events
            events.insert_many([{"kind": n, "user": n} for n in range(200)])
            events.create_index([("user", "hashed")])
            sharded.fail_point("config", PAUSE, on=True)
            try:
                life.change((("user", "hashed"),), changePolicy="Reshard")
                await _until(life, "Resharding")
                await asyncio.to_thread(client.admin.command, {"abortReshardCollection": namespace})
            finally:
                sharded.fail_point("config", PAUSE, on=False)
            await _until(life, "ServerRefused")
            assert "aborted" in life.ready["message"]
            for _ in range(3):
                await life.look()
            found = client.config.collections.find_one({"_id": namespace})
            assert found is not None
            assert (found["key"], "reshardingFields" in found) == ({"kind": 1}, False)
    finally:
        await router.close()


async def _until(life: Life, reason: str) -> None:
    """Looks, each time by another operator, until Ready has the reason and status knows what runs."""
    async with asyncio.timeout(30):
        while life.ready.get("reason") != reason or not life.status.get("reshardingSeen"):
            await life.look()
            await asyncio.sleep(0.05)
