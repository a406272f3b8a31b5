"""Declarations and documents made to break something: one clear condition, no defect, and no value ever shown."""

import json
from typing import Any

import pytest
from bson.datetime_ms import DatetimeMS
from pymongo.database import Database

from lucid_storage.stores.mongodb.adapter import MongoDeployment
from testbed.pytest_operator import World
from testbed.stores.mongodb import MongoDB

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]

CANARY = "canary-7f3a"
BEYOND_YEAR_9999 = {"$date": {"$numberLong": "9223372036854775807"}}


def index(collection: str, *keys: tuple[str, object], **options: object) -> dict[str, Any]:
    fields = [{"field": field, "order": order} for field, order in keys]
    return {"engine": "mongodb", "mongodb": {"collection": collection, "keys": fields, **options}}


def text_of(expression: dict[str, Any]) -> dict[str, Any]:
    return {"validator": {"$expr": {"$gt": [expression, 0]}}}


DOCUMENTS: dict[str, list[dict[str, Any]]] = {
    "numbers": [{"text": CANARY}],
    "dates": [{"text": CANARY}],
    "lists": [{"text": CANARY}],
    "patterns": [{"text": f"[{CANARY}("}],
    "arrays": [{"a": [CANARY, 2], "b": [CANARY, 3]}],
    "places": [{"place": CANARY}],
    "people": [{"_id": f"{CANARY}{n}", "mail": CANARY, "lang": CANARY} for n in range(3)],
}

SPEAKING_SERVERS: dict[str, tuple[str, dict[str, Any]]] = {
    "numbers": ("Collection", text_of({"$toInt": "$text"})),
    "dates": ("Collection", text_of({"$dateFromString": {"dateString": "$text"}})),
    "lists": ("Collection", {"validator": {"$expr": {"$in": ["$text", "$text"]}}}),
    "patterns": (
        "Collection",
        {"validator": {"$expr": {"$regexMatch": {"input": "$text", "regex": "$text"}}}},
    ),
    "parallel-arrays": ("Index", index("arrays", ("a", 1), ("b", 1))),
    "no-place": ("Index", index("places", ("place", "2dsphere"))),
    "duplicates": ("Index", index("people", ("mail", 1), unique=True)),
    "no-language": ("Index", index("people", ("mail", "text"), languageOverride="lang")),
}
"""Each of them makes the server quote a document in its error."""


async def test_no_value_of_a_document_shows_where_the_server_quotes_it(
    mongo_world: World, db: Database[Any]
) -> None:
    for name, documents in DOCUMENTS.items():
        db[name].insert_many(documents)
    operator = mongo_world.start_operator()
    for name, (kind, spec) in SPEAKING_SERVERS.items():
        await mongo_world.create(kind, name, spec)
    for name, (kind, _) in SPEAKING_SERVERS.items():
        status = await mongo_world.condition(kind, name, "False", None, 40)
        assert CANARY not in json.dumps(status), name
        assert CANARY not in json.dumps(await mongo_world.events(name)), name
    assert CANARY not in operator.log
    assert "a defect while looking" not in operator.log


STRANGE: dict[str, dict[str, Any]] = {
    "a date after all calendars": {"validator": {"a": {"$ne": BEYOND_YEAR_9999}}},
    "not a number": {"validator": {"a": {"$ne": {"$numberDouble": "NaN"}}}},
    "the largest decimal": {"validator": {"a": {"$ne": {"$numberDecimal": "9E6144"}}}},
    "an integer beyond doubles": {"validator": {"a": {"$ne": 9007199254740993}}},
    "a regular expression that never ends": {"validator": {"a": {"$regex": "(a+)+$"}}},
    "keys with dots": {"validator": {"a.b.c": 1}},
    "an empty key": {"validator": {"": 1}},
    "an emoji": {"name": "💥"},
    "text from right to left": {"name": "\u202egnirts\u202c"},
    "one byte": {"capped": {"sizeBytes": 1}},
    "a petabyte": {"capped": {"sizeBytes": 1_125_899_906_842_624}},
}


async def test_strange_declarations_settle_and_are_left_alone(mongo_world: World) -> None:
    operator = mongo_world.start_operator()
    for number, spec in enumerate(STRANGE.values()):
        await mongo_world.create("Collection", f"strange-{number}", spec)
    for number in range(len(STRANGE)):
        await mongo_world.ready("Collection", f"strange-{number}", 40)
    writes = operator.metric("lucid_actions_total")
    operator.stop()
    operator = mongo_world.start_operator()
    assert writes == len(STRANGE)
    assert operator.metric("lucid_actions_total") == 0
    assert "a defect while looking" not in operator.log


@pytest.mark.parametrize("name", ["a..b", "a."])
async def test_a_name_that_no_driver_can_address_is_refused_before_it_is_made(
    mongo_world: World, db: Database[Any], name: str
) -> None:
    mongo_world.start_operator()
    await mongo_world.create("Collection", "odd", {"name": name})
    condition = await mongo_world.refused("Collection", "odd", "InvalidSpec")
    assert "dot" in condition["message"]
    assert db.client.admin.command("listDatabases", filter={"name": db.name})["databases"] == []


async def test_one_collection_with_a_strange_date_hides_no_other(
    mongodb: MongoDB, mongo_world: World
) -> None:
    name = mongo_world.environment["MONGODB_DATABASE"]
    with mongodb.client() as client:
        client[name].create_collection("poison", validator={"a": {"$ne": DatetimeMS(2**63 - 1)}})
        client[name].create_collection("plain")
    deployment = MongoDeployment(mongodb.uri, label="test", app_name="test", guard=lambda: None)
    try:
        listed = await deployment.collections(name)
    finally:
        await deployment.close()
    assert [state.name for state in listed] == ["plain", "poison"]
    assert listed[1].options.validator == {"a": {"$ne": BEYOND_YEAR_9999}}
