"""Index builds that take long, held by the server's own fail points."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from operator_bed import index_spec, indexes, said
from pymongo import MongoClient
from pymongo.database import Database

from testbed.pytest_operator import World

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]


@pytest.fixture
def db(held_db: Database[Any]) -> Database[Any]:
    return held_db


@contextmanager
def held_builds(client: MongoClient[Any]) -> Iterator[None]:
    """Every index build waits on the server, after it has begun and before it reads."""
    point = "hangAfterStartingIndexBuild"
    client.admin.command("configureFailPoint", point, mode="alwaysOn")
    try:
        yield
    finally:
        client.admin.command("configureFailPoint", point, mode="off")


async def test_a_long_build_shows_as_building_with_progress(world: World, db: Database[Any]) -> None:
    db.users.insert_many([{"email": f"{n}"} for n in range(2000)])
    world.start_operator()
    with held_builds(db.client):
        await world.create("Index", "email", index_spec("users", ("email", 1)))
        condition = await world.refused("Index", "email", "Building")
        assert "users_email_1" in condition["message"]
        resource = await world.get("Index", "email")
        assert resource["status"]["progress"].endswith("%")
        assert resource["status"]["progress"] != "100%"
        assert said(resource, "Reconciling")["status"] == "True"
        assert said(resource, "Stalled")["status"] == "False"
    status = await world.ready("Index", "email")
    assert status["progress"] == "100%"


async def test_an_operator_killed_in_a_build_finds_it_again_and_starts_no_second(
    world: World, db: Database[Any]
) -> None:
    db.users.insert_many([{"email": f"{n}"} for n in range(2000)])
    operator = world.start_operator(LEASE_SECONDS="3")
    with held_builds(db.client):
        await world.create("Index", "email", index_spec("users", ("email", 1)))
        await world.refused("Index", "email", "Building")
        operator.kill()
        second = world.start_operator(LEASE_SECONDS="3")
        await world.refused("Index", "email", "Building")
        running = [op.get("desc", "") for op in db.client.admin.aggregate([{"$currentOp": {}}])]
        assert sum(desc.startswith("IndexBuildsCoordinator") for desc in running) == 1
    status = await world.ready("Index", "email")
    assert list(indexes(db, "users")) == ["users_email_1"]
    assert status["origin"] == "Created"
    assert second.metric("lucid_actions_total", kind="Index", action="BuildIndex") == 0


async def test_a_successor_of_a_superseded_generation_is_dropped(world: World, db: Database[Any]) -> None:
    db.users.insert_many([{"email": f"{n}"} for n in range(2000)])
    world.start_operator()
    await world.create("Index", "email", index_spec("users", ("email", 1), options={"dropAfterSeconds": 0}))
    await world.ready("Index", "email")
    with held_builds(db.client):
        await world.patch("Index", "email", {"spec": {"mongodb": {"sparse": True}}})

        async def building() -> bool:
            return "users_email_1_g2" in str(db.command("listIndexes", "users", includeBuildUUIDs=True))

        await world.until(building, 10, "the build of the second generation")
        change = {"sparse": None, "partialFilterExpression": {"active": True}}
        await world.patch("Index", "email", {"spec": {"mongodb": change}})
    status = await world.ready("Index", "email")
    assert status["indexName"] == "users_email_1_g3"

    async def alone() -> bool:
        return list(indexes(db, "users")) == ["users_email_1_g3"]

    await world.until(alone, 10, "nothing of the other generations to be left")
