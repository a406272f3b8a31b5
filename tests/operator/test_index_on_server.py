"""Indexes, reconciled by the operator process on a real MongoDB and a real API server."""

from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import pytest
from bson import ObjectId
from operator_bed import CONFIRM, index_spec, indexes, noted, said
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from testbed.pytest_operator import World

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]

EMAIL = ("email", 1)
CREATED = ("createdAt", 1)


async def test_an_index_is_created_with_its_options(mongo_world: World, db: Database[Any]) -> None:
    db.create_collection("users")
    mongo_world.start_operator()
    options = {
        "unique": True,
        "partialFilterExpression": {"email": {"$exists": True}},
        "collation": {"locale": "en", "strength": 2},
    }
    await mongo_world.create("Index", "email", index_spec("users", EMAIL, options=options))
    status = await mongo_world.ready("Index", "email")
    made = indexes(db, "users")["users_email_1"]
    assert made["unique"] is True
    assert made["partialFilterExpression"] == {"email": {"$exists": True}}
    assert made["collation"]["strength"] == 2
    assert status["indexName"] == "users_email_1"
    assert status["origin"] == "Created"
    assert status["progress"] == "100%"
    assert status["keys"] == "email:1"


async def test_an_equal_index_is_adopted_under_its_own_name(mongo_world: World, db: Database[Any]) -> None:
    db.users.create_index([EMAIL], name="made_by_hand", unique=True)
    mongo_world.start_operator()
    await mongo_world.create("Index", "email", index_spec("users", EMAIL, options={"unique": True}))
    status = await mongo_world.ready("Index", "email")
    assert status["indexName"] == "made_by_hand"
    assert status["origin"] == "Adopted"
    assert list(indexes(db, "users")) == ["made_by_hand"]


async def test_a_name_that_a_different_index_has_is_a_conflict_until_it_is_free(
    mongo_world: World, db: Database[Any]
) -> None:
    db.users.create_index([("name", 1)], name="users_email_1")
    mongo_world.start_operator()
    await mongo_world.create("Index", "email", index_spec("users", EMAIL))
    condition = await mongo_world.refused("Index", "email", "IndexConflict")
    assert "differs from this declaration in keys" in condition["message"]
    assert indexes(db, "users")["users_email_1"]["key"] == {"name": 1}
    db.users.drop_index("users_email_1")
    await mongo_world.ready("Index", "email")
    assert indexes(db, "users")["users_email_1"]["key"] == {"email": 1}


async def test_an_index_waits_for_its_collection_and_goes_on_at_once(
    mongo_world: World, db: Database[Any]
) -> None:
    mongo_world.start_operator()
    await mongo_world.create("Index", "email", index_spec("users", EMAIL))
    condition = await mongo_world.refused("Index", "email", "CollectionNotReady")
    assert f"{db.name}.users" in condition["message"]
    assert "users" not in db.list_collection_names(), "the index must not make the collection"
    started = monotonic()
    await mongo_world.create("Collection", "users", {"validator": {"email": {"$exists": True}}})
    await mongo_world.ready("Index", "email")
    assert monotonic() - started < 5
    assert "users_email_1" in indexes(db, "users")


async def test_duplicates_are_told_without_their_values_and_their_removal_heals(
    mongo_world: World, db: Database[Any]
) -> None:
    first, second = ObjectId(), ObjectId()
    db.users.insert_many(
        [{"_id": first, "email": "secret@x"}, {"_id": second, "email": "secret@x"}, {"email": "b"}]
    )
    operator = mongo_world.start_operator()
    await mongo_world.create("Index", "email", index_spec("users", EMAIL, options={"unique": True}))
    condition = await mongo_world.refused("Index", "email", "DuplicateKeys")
    resource = await mongo_world.get("Index", "email")
    duplicates = resource["status"]["duplicates"]
    assert (duplicates["groups"], duplicates["documents"], duplicates["complete"]) == (1, 2, True)
    assert {str(first), str(second)} == set(duplicates["examples"][0])
    assert "1 keys stand in more than one document" in condition["message"]
    notes = [e["note"] for e in await mongo_world.events("email")]
    assert "secret@x" not in f"{resource}{notes}{operator.log}"
    assert indexes(db, "users") == {}
    db.users.delete_one({"_id": second})
    await mongo_world.ready("Index", "email", 60)
    assert "duplicates" not in (await mongo_world.get("Index", "email"))["status"]
    with pytest.raises(DuplicateKeyError):
        db.users.insert_one({"email": "secret@x"})


async def test_a_second_text_index_is_refused(mongo_world: World, db: Database[Any]) -> None:
    db.users.create_index([("about", "text")], name="search")
    mongo_world.start_operator()
    await mongo_world.create("Index", "text", index_spec("users", ("name", "text")))
    condition = await mongo_world.refused("Index", "text", "IndexConflict")
    assert "text index already (search)" in condition["message"]
    assert list(indexes(db, "users")) == ["search"]


async def test_hidden_and_a_longer_ttl_change_in_place(mongo_world: World, db: Database[Any]) -> None:
    db.create_collection("sessions")
    mongo_world.start_operator()
    await mongo_world.create(
        "Index", "ttl", index_spec("sessions", CREATED, options={"expireAfterSeconds": 3600})
    )
    await mongo_world.ready("Index", "ttl")
    db.sessions.create_index([("other", 1)], name="witness")
    change = {"mongodb": {"expireAfterSeconds": 7200, "hidden": True}}
    await mongo_world.patch("Index", "ttl", {"spec": change})
    await mongo_world.ready("Index", "ttl")
    found = indexes(db, "sessions")
    assert found["sessions_createdAt_1"]["expireAfterSeconds"] == 7200
    assert found["sessions_createdAt_1"]["hidden"] is True
    assert list(found) == ["sessions_createdAt_1", "witness"], "an index that is built again stands last"
    await mongo_world.patch("Index", "ttl", {"spec": {"mongodb": {"hidden": None}}})
    await mongo_world.ready("Index", "ttl")
    assert "hidden" not in indexes(db, "sessions")["sessions_createdAt_1"]


async def test_an_index_becomes_a_ttl_one_only_with_consent_to_what_expires(
    mongo_world: World, db: Database[Any]
) -> None:
    old = datetime.now(UTC) - timedelta(days=3)
    db.sessions.insert_many([{"createdAt": old} for _ in range(3)])
    mongo_world.start_operator()
    await mongo_world.create("Index", "created", index_spec("sessions", CREATED))
    await mongo_world.ready("Index", "created")
    await mongo_world.patch("Index", "created", {"spec": {"mongodb": {"expireAfterSeconds": 60}}})
    condition = await mongo_world.refused("Index", "created", "DataLossRefused")
    assert "delete up to 3 documents" in condition["message"]
    assert "expireAfterSeconds" not in indexes(db, "sessions")["sessions_createdAt_1"]
    consent = {"spec": {"allowDataLoss": f"{db.name}.sessions"}}
    await mongo_world.patch("Index", "created", consent)
    await mongo_world.ready("Index", "created")
    assert indexes(db, "sessions")["sessions_createdAt_1"]["expireAfterSeconds"] == 60


async def test_an_index_becomes_unique_in_place(mongo_world: World, db: Database[Any]) -> None:
    db.users.insert_many([{"email": "a"}, {"email": "b"}])
    mongo_world.start_operator()
    await mongo_world.create("Index", "email", index_spec("users", EMAIL))
    await mongo_world.ready("Index", "email")
    await mongo_world.patch("Index", "email", {"spec": {"mongodb": {"unique": True}}})
    status = await mongo_world.ready("Index", "email")
    assert status["indexName"] == "users_email_1"
    assert indexes(db, "users")["users_email_1"]["unique"] is True
    with pytest.raises(DuplicateKeyError):
        db.users.insert_one({"email": "a"})


async def test_a_conversion_to_unique_that_fails_lets_writes_in_again(
    mongo_world: World, db: Database[Any]
) -> None:
    db.users.insert_many([{"email": "a"}, {"email": "a"}])
    mongo_world.start_operator()
    await mongo_world.create("Index", "email", index_spec("users", EMAIL))
    await mongo_world.ready("Index", "email")
    await mongo_world.patch("Index", "email", {"spec": {"mongodb": {"unique": True}}})
    await mongo_world.refused("Index", "email", "DuplicateKeys")
    assert "prepareUnique" not in indexes(db, "users")["users_email_1"]
    extra = db.users.insert_one({"email": "a"}).inserted_id
    assert (await mongo_world.get("Index", "email"))["status"]["duplicates"]["groups"] == 1
    db.users.delete_one({"_id": extra})
    db.users.delete_one({"email": "a"})
    await mongo_world.ready("Index", "email", 60)
    assert indexes(db, "users")["users_email_1"]["unique"] is True


async def test_the_successor_is_built_first_and_the_old_one_hidden_then_dropped(
    mongo_world: World, db: Database[Any]
) -> None:
    db.create_collection("users")
    mongo_world.start_operator()
    options = {"dropAfterSeconds": 5}
    await mongo_world.create("Index", "email", index_spec("users", EMAIL, options=options))
    await mongo_world.ready("Index", "email")
    change = {"mongodb": {"partialFilterExpression": {"active": True}}}
    await mongo_world.patch("Index", "email", {"spec": change})
    status = await mongo_world.ready("Index", "email")
    assert status["indexName"] == "users_email_1_g2"
    assert [s["indexName"] for s in status["superseded"]] == ["users_email_1"]
    found = indexes(db, "users")
    assert found["users_email_1"]["hidden"] is True
    assert found["users_email_1_g2"]["partialFilterExpression"] == {"active": True}

    async def dropped() -> bool:
        return list(indexes(db, "users")) == ["users_email_1_g2"]

    await mongo_world.until(dropped, 15, "the old index to be dropped")

    async def cleared() -> bool:
        return "superseded" not in (await mongo_world.get("Index", "email"))["status"]

    await mongo_world.until(cleared, 5, "status to name no superseded index")


async def test_going_back_before_the_drop_uses_the_old_index_again(
    mongo_world: World, db: Database[Any]
) -> None:
    db.create_collection("users")
    mongo_world.start_operator()
    await mongo_world.create("Index", "email", index_spec("users", EMAIL))
    await mongo_world.ready("Index", "email")
    await mongo_world.patch("Index", "email", {"spec": {"mongodb": {"sparse": True}}})
    await mongo_world.ready("Index", "email")
    await mongo_world.patch("Index", "email", {"spec": {"mongodb": {"sparse": None}}})
    status = await mongo_world.ready("Index", "email")
    assert status["indexName"] == "users_email_1"
    found = indexes(db, "users")
    assert "hidden" not in found["users_email_1"]
    assert found["users_email_1_g2"]["hidden"] is True


async def test_an_index_replaced_again_does_not_fail_because_of_what_was_hidden_for_it(
    mongo_world: World, db: Database[Any]
) -> None:
    db.create_collection("sessions")
    mongo_world.start_operator()
    await mongo_world.create("Index", "created", index_spec("sessions", CREATED))
    await mongo_world.ready("Index", "created")
    change = {"expireAfterSeconds": 3600, "partialFilterExpression": {"active": True}}
    await mongo_world.patch("Index", "created", {"spec": {"mongodb": change}})
    await mongo_world.ready("Index", "created")
    assert indexes(db, "sessions")["sessions_createdAt_1"]["hidden"] is True
    # The server refuses two indexes that differ in their TTL alone, and one of them is hidden for ten minutes.
    await mongo_world.patch("Index", "created", {"spec": {"mongodb": {"partialFilterExpression": None}}})
    status = await mongo_world.ready("Index", "created")
    assert status["indexName"] == "sessions_createdAt_1_g3"
    found = indexes(db, "sessions")
    assert list(found) == ["sessions_createdAt_1_g3"]
    assert found["sessions_createdAt_1_g3"]["expireAfterSeconds"] == 3600


@pytest.mark.parametrize("option", [{"unique": True}, {"expireAfterSeconds": 3600}])
async def test_an_old_unique_or_ttl_index_is_dropped_at_once(
    mongo_world: World, db: Database[Any], option: dict[str, Any]
) -> None:
    db.create_collection("users")
    mongo_world.start_operator()
    await mongo_world.create("Index", "created", index_spec("users", CREATED, options=option))
    await mongo_world.ready("Index", "created")
    await mongo_world.patch("Index", "created", {"spec": {"mongodb": {"sparse": True}}})
    status = await mongo_world.ready("Index", "created")
    assert status["indexName"] == "users_createdAt_1_g2"
    assert list(indexes(db, "users")) == ["users_createdAt_1_g2"]


async def test_text_options_change_only_by_drop_first(mongo_world: World, db: Database[Any]) -> None:
    db.create_collection("users")
    mongo_world.start_operator()
    await mongo_world.create("Index", "text", index_spec("users", ("about", "text")))
    await mongo_world.ready("Index", "text")
    await mongo_world.patch("Index", "text", {"spec": {"mongodb": {"defaultLanguage": "german"}}})
    condition = await mongo_world.refused("Index", "text", "NotInPlace")
    assert "replacePolicy: DropFirst" in condition["message"]
    assert indexes(db, "users")["users_about_text"]["default_language"] == "english"
    await mongo_world.patch("Index", "text", {"spec": {"replacePolicy": "DropFirst"}})
    await mongo_world.ready("Index", "text")
    assert indexes(db, "users")["users_about_text"]["default_language"] == "german"


async def test_a_dropped_index_is_back_at_once(mongo_world: World, db: Database[Any]) -> None:
    db.create_collection("users")
    operator = mongo_world.start_operator()
    await mongo_world.create("Index", "email", index_spec("users", EMAIL))
    await mongo_world.ready("Index", "email")
    db.users.drop_index("users_email_1")
    dropped = monotonic()

    async def back() -> bool:
        return "users_email_1" in indexes(db, "users")

    await mongo_world.until(back, 10, "the index to come back")
    assert monotonic() - dropped < 3, "far sooner than any sweep"
    assert operator.metric("lucid_drift_corrections_total", kind="Index") == 1


async def test_an_index_changed_by_hand_is_put_right(mongo_world: World, db: Database[Any]) -> None:
    db.create_collection("sessions")
    mongo_world.start_operator()
    spec = index_spec("sessions", CREATED, options={"expireAfterSeconds": 3600, "hidden": False})
    await mongo_world.create("Index", "ttl", spec)
    await mongo_world.ready("Index", "ttl")
    for change, field, value in (
        ({"expireAfterSeconds": 5000}, "expireAfterSeconds", 3600),
        ({"hidden": True}, "hidden", None),
    ):
        db.command({"collMod": "sessions", "index": {"name": "sessions_createdAt_1", **change}})

        async def right(field: str = field, value: object = value) -> bool:
            return indexes(db, "sessions")["sessions_createdAt_1"].get(field) == value

        await mongo_world.until(right, 10, f"{field} to be put right")
    await noted(mongo_world, "ttl", "DriftCorrected")


@pytest.mark.parametrize("policy", ["Report", "Ignore"])
async def test_a_dropped_index_stays_dropped_unless_drift_is_corrected(
    mongo_world: World, db: Database[Any], policy: str
) -> None:
    db.create_collection("users")
    operator = mongo_world.start_operator()
    await mongo_world.create("Index", "email", index_spec("users", EMAIL, driftPolicy=policy))
    await mongo_world.ready("Index", "email")
    looks = operator.metric("lucid_reconciles_total", kind="Index")
    db.users.drop_index("users_email_1")

    async def looked() -> bool:
        seen = operator.metric("lucid_reconciles_total", kind="Index") > looks
        drifted = said(await mongo_world.get("Index", "email"), "Drifted").get("status")
        return seen and (policy == "Ignore" or drifted == "True")

    await mongo_world.until(looked, 10, "the operator to look")
    assert indexes(db, "users") == {}
    status = (await mongo_world.get("Index", "email"))["status"]
    fields = [d["field"] for d in status.get("drift", [])]
    assert fields == (["index"] if policy == "Report" else [])


async def test_retain_keeps_the_index_and_delete_drops_what_was_created(
    mongo_world: World, db: Database[Any]
) -> None:
    db.create_collection("users")
    db.users.create_index([("adopted", 1)], name="adopted")
    mongo_world.start_operator()
    await mongo_world.create("Index", "kept", index_spec("users", ("kept", 1)))
    for field in ("made", "adopted"):
        await mongo_world.create("Index", field, index_spec("users", (field, 1), deletionPolicy="Delete"))
    for name in ("kept", "made", "adopted"):
        await mongo_world.ready("Index", name)
    for name in ("kept", "made", "adopted"):
        await mongo_world.delete("Index", name)
    assert set(indexes(db, "users")) == {"users_kept_1", "adopted"}
    await mongo_world.create(
        "Index",
        "adopted",
        index_spec("users", ("adopted", 1), deletionPolicy="Delete"),
        {CONFIRM: f"{db.name}.users"},
    )
    await mongo_world.ready("Index", "adopted")
    await mongo_world.delete("Index", "adopted")
    assert set(indexes(db, "users")) == {"users_kept_1"}


async def test_the_older_of_two_resources_wins_by_name_and_by_definition(
    mongo_world: World, db: Database[Any]
) -> None:
    db.create_collection("users")
    mongo_world.start_operator()
    await mongo_world.create("Index", "a-first", index_spec("users", EMAIL, name="shared"))
    await mongo_world.ready("Index", "a-first")
    await mongo_world.create("Index", "b-same-name", index_spec("users", ("phone", 1), name="shared"))
    await mongo_world.create("Index", "c-same-keys", index_spec("users", EMAIL, name="another"))
    for name in ("b-same-name", "c-same-keys"):
        condition = await mongo_world.refused("Index", name, "Conflict")
        assert "a-first" in condition["message"]
    assert list(indexes(db, "users")) == ["shared"]
    await mongo_world.delete("Index", "a-first")
    status = await mongo_world.ready("Index", "c-same-keys")
    assert status["indexName"] == "shared", "the index that is there serves whoever declares it"


async def test_a_replaced_index_that_another_resource_declares_is_never_dropped(
    mongo_world: World, db: Database[Any]
) -> None:
    db.create_collection("users")
    mongo_world.start_operator()
    options = {"dropAfterSeconds": 0}
    await mongo_world.create("Index", "a-first", index_spec("users", EMAIL, name="first", options=options))
    await mongo_world.ready("Index", "a-first")
    await mongo_world.create(
        "Index", "b-second", index_spec("users", EMAIL, name="second", deletionPolicy="Delete")
    )
    await mongo_world.refused("Index", "b-second", "Conflict")
    await mongo_world.patch("Index", "a-first", {"spec": {"mongodb": {"sparse": True}}})
    await mongo_world.ready("Index", "a-first")
    status = await mongo_world.ready("Index", "b-second")
    assert status["indexName"] == "first"
    found = indexes(db, "users")
    assert set(found) == {"first", "first_g2"}
    assert "hidden" not in found["first"]
    await mongo_world.delete("Index", "b-second")
    assert "first" in indexes(db, "users"), "it was adopted, and nobody confirmed its deletion"


async def test_delete_spares_an_index_that_another_resource_declares(
    mongo_world: World, db: Database[Any]
) -> None:
    db.create_collection("users")
    mongo_world.start_operator()
    await mongo_world.create("Index", "a-first", index_spec("users", EMAIL, deletionPolicy="Delete"))
    await mongo_world.ready("Index", "a-first")
    await mongo_world.create("Index", "b-second", index_spec("users", EMAIL))
    await mongo_world.refused("Index", "b-second", "Conflict")
    await mongo_world.delete("Index", "a-first")
    await mongo_world.ready("Index", "b-second")
    assert list(indexes(db, "users")) == ["users_email_1"]
