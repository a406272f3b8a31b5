"""Drift while there is no change stream: one that was cut is opened again with a full look, one that cannot be had is
replaced by frequent looks.
"""

from collections.abc import Callable
from typing import Any

import pytest
from operator_bed import index_spec, indexes
from pymongo.database import Database
from tcp_relay import Relay

from lucid_storage.kube.client import Json
from testbed.pytest_operator import OperatorProcess, World
from testbed.stores.mongodb import MongoDB

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]

SELDOM = {"SWEEP_SECONDS": "600", "FALLBACK_SWEEP_SECONDS": "600"}
COUNT = 5
EMAIL = ("email", 1)


CUT, SILENT = "c", "s"
"""Names of resources that use a connection that is reset, and one that goes silent."""


async def streaming(world: World, operator: OperatorProcess, up: int, **credentials: str) -> None:
    async def so() -> bool:
        return operator.metric("lucid_change_stream_up", **credentials) == up

    await world.until(so, 40, f"lucid_change_stream_up to be {up}")


async def declare(world: World, prefix: str, spec: Json) -> None:
    for n in range(COUNT):
        name = f"{prefix}{n}"
        await world.create("Collection", name, {"validationLevel": "moderate", **spec})
        await world.create("Index", name, {**index_spec(name, EMAIL), **spec})
    for n in range(COUNT):
        await world.ready("Collection", f"{prefix}{n}")
        await world.ready("Index", f"{prefix}{n}")


def change(db: Database[Any], prefix: str) -> None:
    db[f"{prefix}1"].drop_index(f"{prefix}1_email_1")
    db.command("collMod", f"{prefix}0", validationLevel="off")


async def put_right(world: World, db: Database[Any], prefix: str) -> None:
    async def right() -> bool:
        (found,) = db.list_collections(filter={"name": f"{prefix}0"})
        level = found["options"].get("validationLevel")
        return f"{prefix}1_email_1" in indexes(db, f"{prefix}1") and level == "moderate"

    await world.until(right, 60, "what was changed behind the operator's back to be put right")


async def test_what_is_changed_while_a_stream_is_cut_is_put_right(
    mongo_world: World, mongodb: MongoDB, db: Database[Any], relayed: Callable[[str], tuple[Relay, str]]
) -> None:
    address = f"mongodb://{mongodb.addresses[0]}/?directConnection=true"
    cut, cut_uri = relayed(address)
    silent, silent_uri = relayed(address)
    await mongo_world.secret("silent", {"MONGODB_URI": silent_uri, "MONGODB_DATABASE": db.name})
    operator = mongo_world.start_operator(MONGODB_URI=cut_uri, **SELDOM)
    await declare(mongo_world, CUT, {})
    await declare(mongo_world, SILENT, {"connection": {"secretName": "silent"}})
    await streaming(mongo_world, operator, 2)
    looks = operator.metric("lucid_reconciles_total")
    silent.cut()
    cut.refuse()
    change(db, CUT)
    change(db, SILENT)
    await streaming(mongo_world, operator, 0, credentials="operator")
    cut.accept()
    await put_right(mongo_world, db, CUT)
    await put_right(mongo_world, db, SILENT)
    await streaming(mongo_world, operator, 2)
    assert operator.metric("lucid_drift_corrections_total") == 4
    # Each is looked at when its store goes, when it comes back, when the stream opens, and after a correction.
    assert operator.metric("lucid_reconciles_total") - looks <= 4 * 4 * COUNT, "a full look is one look"


async def test_a_login_without_the_right_to_a_stream_has_its_drift_found_by_sweeps(
    world: World, private_mongodb: Callable[..., MongoDB]
) -> None:
    server = private_mongodb(auth=True)
    name = world.environment["MONGODB_DATABASE"]
    actions = ["find", "collStats", "listCollections", "listIndexes", "createCollection", "createIndex"]
    every = {"resource": {"db": name, "collection": ""}, "actions": [*actions, "collMod", "dropIndex"]}
    with server.client() as client:
        client.admin.command("createRole", "definitions", privileges=[every], roles=[])
        server.create_user("narrow", "secret", [("definitions", "admin")])
        operator = world.start_operator(
            MONGODB_URI=server.uri_for("narrow", "secret"), SWEEP_SECONDS="600", FALLBACK_SWEEP_SECONDS="5"
        )
        db = client[name]
        await declare(world, CUT, {})

        async def refused() -> bool:
            return "drift is found by sweeps only" in operator.log

        await world.until(refused, 20, "the stream to be refused")
        assert operator.metric("lucid_change_stream_up") == 0
        change(db, CUT)
        await put_right(world, db, CUT)
    assert operator.metric("lucid_change_stream_up") == 0
    assert operator.metric("lucid_drift_corrections_total") == 2
