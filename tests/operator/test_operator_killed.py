"""The operator killed at any moment: what comes back finishes the work, and does it once."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from operator_bed import index_spec, indexes, said
from pymongo.database import Database

from lucid_storage.kube.client import Json
from testbed.pytest_operator import World
from testbed.stores.mongodb import MongoDB

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]

EMAIL = ("email", 1)
OLD, NEW = "users_email_1", "users_email_1_g2"
LEASE = {"LEASE_SECONDS": "4"}


@pytest.fixture
def server(private_mongodb: Callable[..., MongoDB], world: World) -> MongoDB:
    made = private_mongodb(parameters={"enableTestCommands": "1"})
    world.environment["MONGODB_URI"] = made.uri
    return made


@pytest.fixture
def db(server: MongoDB, world: World) -> Iterator[Database[Any]]:
    with server.client() as client:
        yield client[world.environment["MONGODB_DATABASE"]]


def hold(db: Database[Any], command: str) -> None:
    """A command waits on the server before it does anything. One that is held already goes on when its time is over,
    also after the operator's end, and who comes next has to wait for it.
    """
    data = {"failCommands": [command], "blockConnection": True, "blockTimeMS": 15_000}
    db.client.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=data)


def hold_builds(db: Database[Any], _: str = "") -> None:
    db.client.admin.command("configureFailPoint", "hangAfterStartingIndexBuild", mode="alwaysOn")


def release(db: Database[Any]) -> None:
    for point in ("failCommand", "hangAfterStartingIndexBuild"):
        db.client.admin.command("configureFailPoint", point, mode="off")


def hidden(db: Database[Any]) -> bool:
    return bool(indexes(db, "users").get(OLD, {}).get("hidden"))


def built(db: Database[Any]) -> bool:
    return NEW in indexes(db, "users")


def begun(db: Database[Any]) -> bool:
    return NEW in str(db.command("listIndexes", "users", includeBuildUUIDs=True))


Moment = tuple[Callable[[Database[Any], str], None] | None, str, Callable[[Database[Any]], bool] | None]

MOMENTS: dict[str, Moment] = {
    "its name is recorded and nothing is built": (hold, "createIndexes", None),
    "the build has begun": (hold_builds, "", begun),
    "the new one is built and the old one not hidden": (hold, "collMod", built),
    "the old one is hidden": (None, "", hidden),
    "the old one is about to be dropped": (hold, "dropIndexes", hidden),
}


@pytest.mark.parametrize("moment", MOMENTS)
async def test_an_index_replacement_is_finished_after_a_kill_when(
    world: World, db: Database[Any], moment: str
) -> None:
    prepare, command, reached = MOMENTS[moment]
    db.users.insert_many([{"email": f"{n}", "active": True} for n in range(100)])
    operator = world.start_operator(**LEASE)
    options = {"dropAfterSeconds": 3}
    await world.create("Index", "email", index_spec("users", EMAIL, options=options))
    await world.ready("Index", "email")
    if prepare is not None:
        prepare(db, command)
    change = {"mongodb": {"partialFilterExpression": {"active": True}}}
    await world.patch("Index", "email", {"spec": change})

    async def reached_it() -> bool:
        status = (await world.get("Index", "email"))["status"]
        recorded = NEW in (status.get("pending", {}).get("indexName"), status.get("indexName"))
        return recorded and (reached is None or reached(db))

    await world.until(reached_it, 30, moment)
    operator.kill()
    release(db)
    second = world.start_operator(**LEASE)

    async def finished() -> bool:
        resource = await world.get("Index", "email")
        status = resource["status"]
        done = said(resource)["status"] == "True" and "superseded" not in status and "pending" not in status
        return done and list(indexes(db, "users")) == [status["indexName"]] == [NEW]

    await world.until(finished, 60, "one index, and nothing left over")
    assert indexes(db, "users")[NEW]["partialFilterExpression"] == {"active": True}
    settled = (await world.get("Index", "email"))["metadata"]["resourceVersion"]
    third_look = second.metric("lucid_reconciles_total", kind="Index")
    db.command("collMod", "users", validator={})  # a change of somebody else's is a reason to look

    async def looked() -> bool:
        return second.metric("lucid_reconciles_total", kind="Index") > third_look

    await world.until(looked, 10, "one more look")
    assert (await world.get("Index", "email"))["metadata"]["resourceVersion"] == settled


@pytest.mark.parametrize("ready", [1, 15, 40])
async def test_a_create_storm_is_finished_after_a_kill(world: World, db: Database[Any], ready: int) -> None:
    count = 30
    operator = world.start_operator(**LEASE)
    for n in range(count):
        await world.create("Collection", f"c{n}", {"validationLevel": "moderate"})
        await world.create("Index", f"i{n}", index_spec(f"c{n}", EMAIL))

    async def ready_count() -> int:
        found: list[Json] = []
        for kind in ("Collection", "Index"):
            listed = await world.kube.get(world.path(kind))
            found += listed["items"] if listed is not None else []
        return sum(said(r).get("status") == "True" for r in found)

    async def far_enough() -> bool:
        return await ready_count() >= ready

    await world.until(far_enough, 60, f"{ready} resources to be ready")
    operator.kill()
    second = world.start_operator(**LEASE)

    async def all_ready() -> bool:
        return await ready_count() == 2 * count

    await world.until(all_ready, 60, "all resources to be ready")
    assert sorted(db.list_collection_names()) == sorted(f"c{n}" for n in range(count))
    assert all(list(indexes(db, f"c{n}")) == [f"c{n}_email_1"] for n in range(count))
    assert second.metric("lucid_status_writes_total") <= 3 * 2 * count
