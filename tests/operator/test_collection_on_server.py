"""Collections, reconciled by the operator process on a real MongoDB and a real API server."""

from typing import Any

import pytest
from operator_bed import CONFIRM, PAUSED, index_spec, indexes, looked_at, noted
from pymongo.database import Database

from testbed.pytest_operator import World

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]

VALIDATOR = {"$jsonSchema": {"bsonType": "object", "required": ["email"]}}


def options(db: Database[Any], name: str) -> dict[str, Any]:
    found = next(iter(db.list_collections(filter={"name": name})), None)
    assert found is not None, f"{name} is not there"
    chosen: dict[str, Any] = found["options"]
    return chosen


async def test_a_collection_is_created_with_its_options(mongo_world: World, db: Database[Any]) -> None:
    mongo_world.start_operator()
    await mongo_world.create("Collection", "users", {"validator": VALIDATOR, "validationLevel": "moderate"})
    status = await mongo_world.ready("Collection", "users")
    assert options(db, "users")["validator"] == VALIDATOR
    assert options(db, "users")["validationLevel"] == "moderate"
    assert status["origin"] == "Created"
    assert status["target"] == f"{db.name}.users"
    assert (status["documents"], status["sizeBytes"]) == (0, 0)


async def test_an_existing_collection_is_adopted_and_its_documents_stay(
    mongo_world: World, db: Database[Any]
) -> None:
    db.create_collection("users", validator=VALIDATOR)
    db.users.insert_one({"email": "a"})
    mongo_world.start_operator()
    await mongo_world.create("Collection", "users", {"validator": VALIDATOR})
    status = await mongo_world.ready("Collection", "users")
    assert status["origin"] == "Adopted"
    assert status["documents"] == db.users.count_documents({}) == 1


async def test_what_is_omitted_is_left_as_the_server_has_it(mongo_world: World, db: Database[Any]) -> None:
    db.create_collection("users", validator=VALIDATOR, validationAction="warn")
    mongo_world.start_operator()
    await mongo_world.create("Collection", "users", {})
    await mongo_world.ready("Collection", "users")
    assert options(db, "users")["validator"] == VALIDATOR
    assert options(db, "users")["validationAction"] == "warn"


async def test_a_field_that_was_managed_and_is_removed_returns_to_the_default(
    mongo_world: World, db: Database[Any]
) -> None:
    mongo_world.start_operator()
    await mongo_world.create("Collection", "users", {"validator": VALIDATOR, "validationAction": "warn"})
    await mongo_world.ready("Collection", "users")
    await mongo_world.patch("Collection", "users", {"spec": {"validationAction": None}})
    await mongo_world.ready("Collection", "users")
    assert options(db, "users").get("validationAction", "error") == "error"
    assert options(db, "users")["validator"] == VALIDATOR


async def test_an_empty_validator_removes_the_one_there_is(mongo_world: World, db: Database[Any]) -> None:
    db.create_collection("users", validator=VALIDATOR)
    mongo_world.start_operator()
    await mongo_world.create("Collection", "users", {"validator": {}})
    await mongo_world.ready("Collection", "users")
    assert not options(db, "users").get("validator")


async def test_documents_that_break_a_new_validator_are_counted(
    mongo_world: World, db: Database[Any]
) -> None:
    db.users.insert_many([{"email": "a"}, {"name": "b"}, {"name": "c"}])
    mongo_world.start_operator()
    await mongo_world.create("Collection", "users", {"validator": VALIDATOR})
    status = await mongo_world.ready("Collection", "users")
    assert status["violations"]["checked"] == 3
    assert status["violations"]["violating"] == 2
    assert status["violations"]["complete"] is True
    assert "2 documents break the validator" in status["message"]


async def test_a_changed_validator_is_put_right_at_once(mongo_world: World, db: Database[Any]) -> None:
    operator = mongo_world.start_operator()
    await mongo_world.create("Collection", "users", {"validator": VALIDATOR})
    await mongo_world.ready("Collection", "users")
    db.command({"collMod": "users", "validator": {}})

    async def restored() -> bool:
        return options(db, "users").get("validator") == VALIDATOR

    await mongo_world.until(restored, 10, "the validator to come back")
    assert operator.metric("lucid_drift_corrections_total", kind="Collection") == 1
    await noted(mongo_world, "users", "DriftCorrected")


async def test_report_tells_drift_and_does_not_touch_it(mongo_world: World, db: Database[Any]) -> None:
    mongo_world.start_operator()
    await mongo_world.create("Collection", "users", {"validator": VALIDATOR, "driftPolicy": "Report"})
    await mongo_world.ready("Collection", "users")
    db.command({"collMod": "users", "validator": {}})

    async def told() -> bool:
        status = (await mongo_world.get("Collection", "users"))["status"]
        return [d["field"] for d in status.get("drift", [])] == ["validator"]

    await mongo_world.until(told, 10, "the drift to be told")
    status = (await mongo_world.get("Collection", "users"))["status"]
    assert next(c for c in status["conditions"] if c["type"] == "Drifted")["status"] == "True"
    assert status["driftSummary"] == "validator"
    assert not options(db, "users").get("validator")
    await mongo_world.patch("Collection", "users", {"spec": {"validationLevel": "moderate"}})
    await mongo_world.ready("Collection", "users")
    assert options(db, "users")["validator"] == VALIDATOR, "a new generation is applied under Report too"


async def test_a_smaller_cap_is_refused_until_the_loss_is_agreed_to(
    mongo_world: World, db: Database[Any]
) -> None:
    mongo_world.start_operator()
    await mongo_world.create("Collection", "logs", {"capped": {"sizeBytes": 1_048_576}})
    await mongo_world.ready("Collection", "logs")
    db.logs.insert_many([{"n": n, "fill": "x" * 500} for n in range(1000)])
    await mongo_world.patch("Collection", "logs", {"spec": {"capped": {"sizeBytes": 65_536}}})
    condition = await mongo_world.refused("Collection", "logs", "DataLossRefused")
    assert f"allowDataLoss: {db.name}.logs" in condition["message"]
    assert db.logs.count_documents({}) == 1000
    await mongo_world.patch("Collection", "logs", {"spec": {"allowDataLoss": f"{db.name}.logs"}})
    await mongo_world.ready("Collection", "logs")
    assert options(db, "logs")["size"] == 65_536


async def test_what_cannot_be_changed_in_place_says_how_to_do_it(
    mongo_world: World, db: Database[Any]
) -> None:
    db.users.insert_one({})
    mongo_world.start_operator()
    await mongo_world.create("Collection", "users", {"capped": {"sizeBytes": 65_536}})
    condition = await mongo_world.refused("Collection", "users", "NotInPlace")
    assert "convertToCapped" in condition["message"]
    assert db.users.count_documents({}) == 1


async def test_retain_leaves_no_finalizer_and_no_trace_of_kopf(mongo_world: World, db: Database[Any]) -> None:
    mongo_world.start_operator()
    await mongo_world.create("Collection", "users", {})
    await mongo_world.ready("Collection", "users")
    meta = (await mongo_world.get("Collection", "users"))["metadata"]
    assert "finalizers" not in meta
    assert "annotations" not in meta
    await mongo_world.delete("Collection", "users")
    assert "users" in db.list_collection_names()


async def test_delete_drops_what_was_created_here(mongo_world: World, db: Database[Any]) -> None:
    mongo_world.start_operator()
    await mongo_world.create("Collection", "users", {"deletionPolicy": "Delete"})
    status = await mongo_world.ready("Collection", "users")
    assert status["origin"] == "Created"
    await mongo_world.delete("Collection", "users")
    assert "users" not in db.list_collection_names()


async def test_delete_keeps_adopted_data_without_the_confirmation(
    mongo_world: World, db: Database[Any]
) -> None:
    db.users.insert_one({"email": "a"})
    mongo_world.start_operator()
    await mongo_world.create("Collection", "users", {"deletionPolicy": "Delete"})
    await mongo_world.ready("Collection", "users")
    await mongo_world.delete("Collection", "users")
    assert db.users.count_documents({}) == 1

    async def said() -> bool:
        return any("confirm-delete" in e["note"] for e in await mongo_world.events("users"))

    await mongo_world.until(said, 10, "the Event that says why the data stays")
    await mongo_world.create(
        "Collection", "users", {"deletionPolicy": "Delete"}, {CONFIRM: f"{db.name}.users"}
    )
    await mongo_world.ready("Collection", "users")
    await mongo_world.delete("Collection", "users")
    assert "users" not in db.list_collection_names()


async def test_forbid_drops_wins_over_delete(mongo_world: World, db: Database[Any]) -> None:
    mongo_world.start_operator(FORBID_DROPS="true")
    await mongo_world.create("Collection", "users", {"deletionPolicy": "Delete"})
    await mongo_world.ready("Collection", "users")
    await mongo_world.delete("Collection", "users")
    assert "users" in db.list_collection_names()


async def test_a_collection_made_anew_by_somebody_else_is_not_dropped(
    mongo_world: World, db: Database[Any]
) -> None:
    operator = mongo_world.start_operator()
    await mongo_world.create("Collection", "users", {"deletionPolicy": "Delete"})
    await mongo_world.ready("Collection", "users")
    operator.stop()
    db.users.drop()
    db.users.insert_one({"precious": True})
    mongo_world.start_operator()
    await mongo_world.ready("Collection", "users")
    await mongo_world.delete("Collection", "users")
    assert db.users.count_documents({"precious": True}) == 1


async def test_collections_whose_names_were_swapped_by_hand_get_their_validators_and_are_not_dropped(
    mongo_world: World, db: Database[Any]
) -> None:
    operator = mongo_world.start_operator()
    wanted = {name: {name: {"$exists": True}} for name in ("left", "right")}
    for name, validator in wanted.items():
        await mongo_world.create("Collection", name, {"validator": validator, "deletionPolicy": "Delete"})
        await mongo_world.ready("Collection", name)
        db[name].insert_one({name: 1})
    operator.freeze()  # in between, it would make the collection that is not there
    db.left.rename("between")
    db.right.rename("left")
    db.between.rename("right")
    operator.thaw()

    async def put_right() -> bool:
        found = {entry["name"]: entry["options"].get("validator") for entry in db.list_collections()}
        statuses = [(await mongo_world.get("Collection", name))["status"] for name in wanted]
        return found == wanted and all(status["origin"] == "Adopted" for status in statuses)

    await mongo_world.until(
        put_right, 20, "both validators to be put right, and other collections to be seen"
    )
    for name in wanted:
        await mongo_world.delete("Collection", name)
    assert db.left.count_documents({"right": 1}) == 1
    assert db.right.count_documents({"left": 1}) == 1


async def test_what_out_replaces_is_put_right_with_its_documents(
    mongo_world: World, db: Database[Any]
) -> None:
    mongo_world.start_operator()
    await mongo_world.create("Collection", "report", {"validator": {"n": {"$gt": 0}}})
    await mongo_world.create("Index", "report", index_spec("report", ("n", 1), options={"unique": True}))
    await mongo_world.ready("Index", "report")
    db.source.insert_many([{"n": n} for n in range(1, 51)])
    db.source.aggregate([{"$out": "report"}])
    db.command("convertToCapped", "report", size=100_000)

    async def whole() -> bool:
        return (
            options(db, "report").get("validator") == {"n": {"$gt": 0}}
            and indexes(db, "report").get("report_n_1", {}).get("unique") is True
        )

    await mongo_world.until(whole, 20, "validator and index to be there")
    for kind in ("Collection", "Index"):
        await mongo_world.ready(kind, "report")
    assert db.report.count_documents({}) == 50


async def test_pause_stops_all_writes_and_says_so(mongo_world: World, db: Database[Any]) -> None:
    mongo_world.start_operator()
    await mongo_world.create("Collection", "users", {}, {PAUSED: "true"})
    condition = await mongo_world.refused("Collection", "users", "Paused")
    assert f"create the collection {db.name}.users" in condition["message"]
    assert "users" not in db.list_collection_names()
    await mongo_world.patch("Collection", "users", {"metadata": {"annotations": {PAUSED: None}}})
    await mongo_world.ready("Collection", "users")
    assert "users" in db.list_collection_names()


async def test_the_older_of_two_resources_for_one_collection_wins(
    mongo_world: World, db: Database[Any]
) -> None:
    mongo_world.start_operator()
    await mongo_world.create("Collection", "a-first", {"name": "users", "validator": VALIDATOR})
    await mongo_world.ready("Collection", "a-first")
    await mongo_world.create("Collection", "b-second", {"name": "users", "validator": {}})
    condition = await mongo_world.refused("Collection", "b-second", "Conflict")
    assert "a-first" in condition["message"]
    assert options(db, "users")["validator"] == VALIDATOR
    await mongo_world.delete("Collection", "a-first")
    await mongo_world.ready("Collection", "b-second")
    assert not options(db, "users").get("validator")


async def test_a_changed_default_database_never_moves_a_resource(
    mongo_world: World, db: Database[Any]
) -> None:
    operator = mongo_world.start_operator()
    await mongo_world.create("Collection", "users", {})
    await mongo_world.ready("Collection", "users")
    operator.stop()
    mongo_world.start_operator(MONGODB_DATABASE=f"{db.name}_other")
    condition = await mongo_world.refused("Collection", "users", "TargetChanged")
    assert db.name in condition["message"]
    assert db.client[f"{db.name}_other"].list_collection_names() == []


async def test_an_unknown_keyword_in_a_validator_is_one_clear_condition(
    mongo_world: World, db: Database[Any]
) -> None:
    operator = mongo_world.start_operator()
    await mongo_world.create("Collection", "users", {"validator": {"$jsonSchema": {"requird": ["email"]}}})
    condition = await mongo_world.refused("Collection", "users", "ServerRefused")
    assert "requird" in condition["message"]
    await looked_at(mongo_world, operator, "Collection", "users")
    writes = operator.metric("lucid_status_writes_total")
    await looked_at(mongo_world, operator, "Collection", "users")
    await mongo_world.refused("Collection", "users", "ServerRefused")
    assert operator.metric("lucid_status_writes_total") == writes, "the same refusal is no new write"
    mended = {"$jsonSchema": {"requird": None, **VALIDATOR["$jsonSchema"]}}
    await mongo_world.patch("Collection", "users", {"spec": {"validator": mended}})
    await mongo_world.ready("Collection", "users")


async def test_javascript_in_a_validator_is_refused(mongo_world: World, db: Database[Any]) -> None:
    mongo_world.start_operator()
    await mongo_world.create("Collection", "users", {"validator": {"$where": "sleep(1000)"}})
    condition = await mongo_world.refused("Collection", "users", "InvalidSpec")
    assert "$where" in condition["message"]
    assert "users" not in db.list_collection_names()


async def test_settled_resources_are_not_written_again(mongo_world: World, db: Database[Any]) -> None:
    operator = mongo_world.start_operator(SWEEP_SECONDS="5")
    for n in range(5):
        await mongo_world.create("Collection", f"c{n}", {"validator": VALIDATOR})
    for n in range(5):
        await mongo_world.ready("Collection", f"c{n}")
    versions = {
        n: (await mongo_world.get("Collection", f"c{n}"))["metadata"]["resourceVersion"] for n in range(5)
    }
    looks = operator.metric("lucid_reconciles_total")

    async def swept() -> bool:
        db.c0.insert_one({"email": "busy"})
        return operator.metric("lucid_reconciles_total") >= looks + 10

    await mongo_world.until(swept, 30, "two sweeps")
    after = {
        n: (await mongo_world.get("Collection", f"c{n}"))["metadata"]["resourceVersion"] for n in range(5)
    }
    assert after == versions
