"""Many changes in a short time: the last one holds, nothing is left over, and the writes stay bounded."""

import asyncio
from typing import Any

import pytest
from pymongo.database import Database

from lucid_storage.kube.client import KubeApiError
from testbed.pytest_operator import World

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]


def index(collection: str, *fields: str, name: str | None = None, **options: object) -> dict[str, Any]:
    keys = [{"field": field, "order": 1} for field in fields]
    spec = {"engine": "mongodb", "mongodb": {"collection": collection, "keys": keys, **options}}
    return spec if name is None else {**spec, "name": name}


def names(db: Database[Any], collection: str) -> set[str]:
    return set(db[collection].index_information()) - {"_id_"}


async def test_two_hundred_changes_of_a_validator_end_with_the_last_one(
    mongo_world: World, db: Database[Any]
) -> None:
    operator = mongo_world.start_operator()
    await mongo_world.create("Collection", "users", {"validator": {"a": 0}})
    for number in range(1, 201):
        await mongo_world.patch("Collection", "users", {"spec": {"validator": {"a": number}}})
    await mongo_world.ready("Collection", "users")
    options = next(iter(db.list_collections(filter={"name": "users"})))["options"]
    assert options["validator"] == {"a": 200}
    assert operator.metric("lucid_status_writes_total") <= 2 * 201


async def test_forty_replacements_of_an_index_leave_sixteen_old_ones_at_most(
    mongo_world: World, db: Database[Any]
) -> None:
    db.create_collection("users")
    mongo_world.start_operator()
    await mongo_world.create("Index", "mail", index("users", "mail", name="mail", dropAfterSeconds=600))
    await mongo_world.ready("Index", "mail")
    for number in range(40):
        partial = {"mongodb": {"partialFilterExpression": {"a": number}}}
        await mongo_world.patch("Index", "mail", {"spec": partial})
        await mongo_world.ready("Index", "mail")
    status = (await mongo_world.get("Index", "mail"))["status"]
    assert len(status["superseded"]) <= 16
    serving = db.users.index_information()[status["indexName"]]
    assert serving["partialFilterExpression"] == {"a": 39}
    assert names(db, "users") == {status["indexName"], *(s["indexName"] for s in status["superseded"])}
    await mongo_world.patch("Index", "mail", {"spec": {"mongodb": {"dropAfterSeconds": 0}}})
    await mongo_world.ready("Index", "mail")
    await mongo_world.until(lambda: _only(db, status["indexName"]), 20, "the old indexes to be gone")


async def _only(db: Database[Any], name: str) -> bool:
    return names(db, "users") == {name}


async def test_two_resources_for_one_index_in_the_same_instant_make_one_index(
    mongo_world: World, db: Database[Any]
) -> None:
    db.create_collection("users")
    mongo_world.start_operator()
    await asyncio.gather(
        mongo_world.create("Index", "first", index("users", "mail", name="one")),
        mongo_world.create("Index", "second", index("users", "mail", name="two")),
    )
    await mongo_world.ready("Index", "first")
    await mongo_world.refused("Index", "second", "Conflict")
    assert len(names(db, "users")) == 1
    await mongo_world.delete("Index", "first")
    await mongo_world.ready("Index", "second")
    assert len(names(db, "users")) == 1


async def test_creating_and_deleting_in_a_loop_leaves_nothing(mongo_world: World, db: Database[Any]) -> None:
    operator = mongo_world.start_operator()
    for _ in range(20):
        await mongo_world.create("Collection", "brief", {"deletionPolicy": "Delete"})
        await mongo_world.create("Index", "brief", {**index("brief", "a"), "deletionPolicy": "Delete"})
        await mongo_world.delete("Collection", "brief", wait=None)
        await mongo_world.delete("Index", "brief", wait=None)

        async def gone() -> bool:
            kinds = ("Collection", "Index")
            return not any([await mongo_world.kube.get(mongo_world.path(kind, "brief")) for kind in kinds])

        await mongo_world.until(gone, 30, "both to be gone")
    # An index build that begins while its collection is dropped makes the collection again: createIndexes knows no
    # other way. Then it is empty (docs/limits.md).
    assert "brief" not in db.list_collection_names() or not db["brief"].count_documents({})
    assert "a defect while looking" not in operator.log


async def test_fifty_indexes_on_one_collection_are_made_and_removed(
    mongo_world: World, db: Database[Any]
) -> None:
    db.create_collection("wide")
    mongo_world.start_operator()
    wanted = [f"wide-{number}" for number in range(50)]
    specs = [
        {**index("wide", f"f{n}", name=name), "deletionPolicy": "Delete"} for n, name in enumerate(wanted)
    ]
    await asyncio.gather(*(mongo_world.create("Index", n, s) for n, s in zip(wanted, specs, strict=True)))
    for name in wanted:
        await mongo_world.ready("Index", name, 60)
    assert names(db, "wide") == set(wanted)
    await asyncio.gather(*(mongo_world.delete("Index", name, wait=60) for name in wanted))
    assert names(db, "wide") == set()


async def test_the_engine_of_an_index_cannot_be_changed(mongo_world: World) -> None:
    await mongo_world.create("Index", "mail", index("users", "mail"))
    change = {"engine": "elasticsearch", "mongodb": None, "elasticsearch": {"pattern": "lucid-x-{YYYY.MM}"}}
    with pytest.raises(KubeApiError) as refusal:
        await mongo_world.patch("Index", "mail", {"spec": change})
    assert refusal.value.status == 422
