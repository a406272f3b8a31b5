"""Bad input is refused at apply, or is one clear condition; it never makes a loop."""

from time import monotonic
from typing import Any

import pytest
from operator_bed import index_spec, indexes
from pymongo.database import Database

from lucid_storage.kube.client import KubeApiError
from testbed.pytest_operator import World

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]

TTL = {"expireAfterSeconds": 60}

REFUSED_AT_APPLY: dict[str, tuple[str, dict[str, Any], str]] = {
    "a dollar in a name": ("Collection", {"name": "a$b"}, "name"),
    "a system collection": ("Collection", {"name": "system.users"}, "system"),
    "a name of 300 characters": ("Collection", {"name": "n" * 300}, "name"),
    "a namespace too long": ("Collection", {"name": "n" * 235, "database": "d" * 30}, "too long"),
    "a reserved database": ("Collection", {"database": "admin"}, "database"),
    "an unknown field": ("Collection", {"validatr": {}}, "validatr"),
    "a key twice": ("Index", index_spec("users", ("a", 1), ("a", -1)), "only once"),
    "TTL on two fields": ("Index", index_spec("users", ("a", 1), ("b", 1), options=TTL), "exactly one field"),
    "an index on a system collection": ("Index", index_spec("system.users", ("a", 1)), "system"),
    "an unknown field in a block": ("Index", index_spec("users", ("a", 1), options={"uniqe": True}), "uniqe"),
    "a path through a dollar": ("Index", index_spec("users", ("a.$b", 1)), "can start with $"),
    "two engines": ("Index", {**index_spec("users", ("a", 1)), "engine": "elasticsearch"}, "engine"),
}


@pytest.mark.parametrize("case", REFUSED_AT_APPLY)
async def test_refused_at_apply(world: World, case: str) -> None:
    kind, spec, names = REFUSED_AT_APPLY[case]
    with pytest.raises(KubeApiError) as refusal:
        await world.create(kind, "bad", spec)
    assert refusal.value.status in (400, 422)
    assert names in refusal.value.message


CHANGED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "a collection's name": ("Collection", {"name": "users"}, {"name": "people"}),
    "a collection's database": ("Collection", {"database": "app"}, {"database": "other"}),
    "an index's collection": ("Index", index_spec("users", ("a", 1)), {"mongodb": {"collection": "people"}}),
    "an index's name": ("Index", index_spec("users", ("a", 1), name="a"), {"name": "b"}),
    "credentials taken away": ("Collection", {"connection": {"secretName": "mine"}}, {"connection": None}),
}


@pytest.mark.parametrize("case", CHANGED)
async def test_an_immutable_field_cannot_be_changed(world: World, case: str) -> None:
    kind, spec, change = CHANGED[case]
    made = await world.create(kind, "fixed", spec)
    with pytest.raises(KubeApiError) as refusal:
        await world.patch(kind, "fixed", {"spec": change})
    assert refusal.value.status == 422
    assert (await world.get(kind, "fixed"))["spec"] == made["spec"]


LARGE = {"$jsonSchema": {"required": [f"field{n:06d}" for n in range(20_000)]}}

ONE_CONDITION: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "a spec of 300 KiB": ("Collection", {"validator": LARGE}, "InvalidSpec", "KiB"),
    "JavaScript": ("Collection", {"validator": {"$where": "true"}}, "InvalidSpec", "$where"),
    "JavaScript within": (
        "Collection",
        {"validator": {"$expr": {"$function": {"body": "x", "args": [], "lang": "js"}}}},
        "InvalidSpec",
        "$function",
    ),
    "an unknown operator": ("Collection", {"validator": {"a": {"$almost": 1}}}, "ServerRefused", "$almost"),
    "an unknown locale": ("Collection", {"collation": {"locale": "tlh"}}, "ServerRefused", "locale"),
    "an unsupported filter": (
        "Index",
        index_spec("users", ("a", 1), options={"partialFilterExpression": {"a": {"$ne": 1}}}),
        "ServerRefused",
        "artial",
    ),
}


async def test_one_clear_condition_and_no_loop(mongo_world: World, db: Database[Any]) -> None:
    """What the API server cannot see. All at once: the quiet after it is waited for once."""
    db.create_collection("users")
    operator = mongo_world.start_operator()
    names = {case: f"bad-{number}" for number, case in enumerate(ONE_CONDITION)}
    for case, (kind, spec, _, _) in ONE_CONDITION.items():
        await mongo_world.create(kind, names[case], spec)
    for case, (kind, _, reason, word) in ONE_CONDITION.items():
        condition = await mongo_world.refused(kind, names[case], reason)
        assert word in condition["message"], case

    async def counted() -> bool:
        return operator.metric("lucid_status_writes_total") >= len(ONE_CONDITION)

    await mongo_world.until(counted, 10, "the writes to be counted, which follows their being seen")
    writes = operator.metric("lucid_status_writes_total")
    looks = operator.metric("lucid_reconciles_total")
    end = monotonic() + 5

    async def over() -> bool:
        return monotonic() >= end

    await mongo_world.until(over, 10, "five seconds")
    assert operator.metric("lucid_status_writes_total") == writes
    assert operator.metric("lucid_reconciles_total") - looks <= 4 * len(ONE_CONDITION)
    assert db.list_collection_names() == ["users"]
    assert indexes(db, "users") == {}
    assert operator.running()
