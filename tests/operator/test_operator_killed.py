"""The operator killed at any moment: what comes back finishes the work, and does it once."""

from dataclasses import dataclass
from typing import Any

import pytest
from operator_bed import index_spec, indexes, one_more_look, said
from pymongo.database import Database

from lucid_storage.kube.client import Json
from testbed.pytest_operator import World

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]

EMAIL = ("email", 1)
OLD, NEW = "users_email_1", "users_email_1_g2"
LEASE = {"LEASE_SECONDS": "4"}


@pytest.fixture
def db(held_db: Database[Any]) -> Database[Any]:
    return held_db


def held(db: Database[Any], command: str) -> list[int]:
    """The operations of this command that the server has begun and not ended."""
    chosen = {"$match": {f"command.{command}": {"$exists": True}, "active": True}}
    return [found["opid"] for found in db.client.admin.aggregate([{"$currentOp": {}}, chosen])]


@dataclass(frozen=True)
class Hold:
    """The server holds a command before it does anything: the first, or one after so many."""

    command: str
    after: int = 0

    def prepare(self, db: Database[Any]) -> None:
        data = {"failCommands": [self.command], "blockConnection": True, "blockTimeMS": 60_000}
        mode = {"skip": self.after} if self.after else "alwaysOn"
        db.client.admin.command("configureFailPoint", "failCommand", mode=mode, data=data)

    def reached(self, db: Database[Any]) -> bool:
        return bool(held(db, self.command))

    def release(self, db: Database[Any]) -> None:
        """Who had sent it is dead. The server turns a fail point off when nobody is held by it any more."""
        for operation in held(db, self.command):
            db.client.admin.command("killOp", op=operation)
        db.client.admin.command("configureFailPoint", "failCommand", mode="off")


class HoldBuild:
    """The build begins and does not go on."""

    point = "hangAfterStartingIndexBuild"

    def prepare(self, db: Database[Any]) -> None:
        db.client.admin.command("configureFailPoint", self.point, mode="alwaysOn")

    def reached(self, db: Database[Any]) -> bool:
        return NEW in str(db.command("listIndexes", "users", includeBuildUUIDs=True))

    def release(self, db: Database[Any]) -> None:
        db.client.admin.command("configureFailPoint", self.point, mode="off")


class Hidden:
    """Nothing is held: the old index is kept for a while."""

    def prepare(self, db: Database[Any]) -> None: ...

    def reached(self, db: Database[Any]) -> bool:
        return bool(indexes(db, "users").get(OLD, {}).get("hidden"))

    def release(self, db: Database[Any]) -> None: ...


@dataclass(frozen=True)
class Replacement:
    """What is declared, how it changes, and the one index that there is in the end."""

    options: Json
    change: Json
    name: str
    fields: Json


BESIDE = Replacement(
    {"dropAfterSeconds": 3},
    {"mongodb": {"partialFilterExpression": {"active": True}}},
    NEW,
    {"partialFilterExpression": {"active": True}},
)
ACTS_WHILE_HIDDEN = Replacement(
    {"unique": True, "expireAfterSeconds": 3600},
    {"mongodb": {"sparse": True}},
    NEW,
    {"unique": True, "expireAfterSeconds": 3600, "sparse": True},
)
TO_UNIQUE = Replacement({}, {"mongodb": {"unique": True}}, OLD, {"unique": True, "prepareUnique": None})
DROP_FIRST = Replacement(
    {"expireAfterSeconds": 3600},
    {"mongodb": {"expireAfterSeconds": None}, "replacePolicy": "DropFirst"},
    OLD,
    {"expireAfterSeconds": None},
)

MOMENTS: dict[str, tuple[Replacement, Hold | HoldBuild | Hidden]] = {
    "its name is recorded and nothing is built": (BESIDE, Hold("createIndexes")),
    "the build has begun": (BESIDE, HoldBuild()),
    "the new one is built and the old one not hidden": (BESIDE, Hold("collMod")),
    "the old one is hidden": (BESIDE, Hidden()),
    "the old one is about to be dropped": (BESIDE, Hold("dropIndexes")),
    "the new one is built and the old one still enforces and expires": (
        ACTS_WHILE_HIDDEN,
        Hold("dropIndexes"),
    ),
    "it is prepared to be unique and not unique": (TO_UNIQUE, Hold("collMod", after=1)),
    "the old one is dropped and nothing is built": (DROP_FIRST, Hold("createIndexes")),
}


@pytest.mark.parametrize("moment", MOMENTS)
async def test_an_index_replacement_is_finished_after_a_kill_when(
    world: World, db: Database[Any], moment: str
) -> None:
    replacement, step = MOMENTS[moment]
    db.users.insert_many([{"email": f"{n}", "active": True} for n in range(100)])
    operator = world.start_operator(**LEASE)
    await world.create("Index", "email", index_spec("users", EMAIL, options=replacement.options))
    await world.ready("Index", "email")
    step.prepare(db)
    await world.patch("Index", "email", {"spec": replacement.change})

    async def reached_it() -> bool:
        return step.reached(db)

    await world.until(reached_it, 30, moment)
    operator.kill()
    shown = (moment, indexes(db, "users"))
    step.release(db)
    second = world.start_operator(**LEASE)

    async def finished() -> bool:
        resource = await world.get("Index", "email")
        status, ready = resource["status"], said(resource)
        current = ready.get("observedGeneration") == resource["metadata"]["generation"]
        done = current and ready["status"] == "True" and not {"superseded", "pending"} & status.keys()
        return done and list(indexes(db, "users")) == [status["indexName"]] == [replacement.name]

    await world.until(finished, 60, f"one index, and nothing left over; at the kill there was {shown}")
    found = indexes(db, "users")[replacement.name]
    assert {field: found.get(field) for field in replacement.fields} == replacement.fields
    settled = (await world.get("Index", "email"))["metadata"]["resourceVersion"]
    async with one_more_look(world, second, "Index"):
        db.command("collMod", "users", validator={})  # a change of somebody else's is a reason to look
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
