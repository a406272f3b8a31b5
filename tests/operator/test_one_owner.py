"""One real object has one owner, whatever the addresses and logins are that lead to it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from operator_bed import index_spec, indexes, said
from pymongo.database import Database

from lucid_storage.kube.client import Json
from testbed.pytest_operator import World
from testbed.stores.mongodb import MongoDB

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]


@pytest.fixture
def database(world: World, mongodb: MongoDB) -> Iterator[Database[Any]]:
    """The operator itself has no connection: each resource brings its own."""
    with mongodb.client() as client:
        yield client[world.environment["MONGODB_DATABASE"]]
        client.drop_database(world.environment["MONGODB_DATABASE"])


@pytest.fixture
def credentials(world: World, database: Database[Any]) -> Callable[[str, str], Any]:
    async def make(name: str, uri: str) -> Json:
        await world.secret(name, {"MONGODB_URI": uri, "MONGODB_DATABASE": database.name})
        return {"connection": {"secretName": name}}

    return make


async def test_the_oldest_resource_that_can_log_in_owns_what_two_addresses_lead_to(
    world: World, mongodb: MongoDB, database: Database[Any], credentials: Callable[[str, str], Any]
) -> None:
    port = mongodb.addresses[0].rpartition(":")[2]
    direct = "/?directConnection=true"
    refused = await credentials("refused", f"mongodb://nobody:wrong@127.0.0.1:{port}{direct}")
    numbers = await credentials("numbers", f"mongodb://127.0.0.1:{port}{direct}")
    names = await credentials("names", f"mongodb://localhost:{port}{direct}")
    operator = world.start_operator(SWEEP_SECONDS="5")
    users = {"name": "users", "validationLevel": "moderate"}
    await world.create("Collection", "a-refused", {**users, **refused})
    await world.refused("Collection", "a-refused", "LoginFailed")
    await world.create("Collection", "b-numbers", {**users, **numbers})
    await world.create("Index", "b-numbers", {**index_spec("users", ("email", 1)), **numbers})
    await world.ready("Collection", "b-numbers")
    await world.ready("Index", "b-numbers")
    await world.create("Collection", "c-names", {**users, "validationLevel": "strict", **names})
    unique = index_spec("users", ("email", 1), options={"unique": True})
    await world.create("Index", "c-names", {**unique, **names})
    for kind in ("Collection", "Index"):
        condition = await world.refused(kind, "c-names", "Conflict")
        assert f"{world.namespace}/b-numbers, which is older" in condition["message"]
    (found,) = database.list_collections(filter={"name": "users"})
    assert found["options"]["validationLevel"] == "moderate"
    assert "unique" not in indexes(database, "users")["users_email_1"]

    # The oldest can log in now: from its next look on, the other one gives way.
    right = {"stringData": {"MONGODB_URI": f"mongodb://127.0.0.1:{port}{direct}"}}
    await world.kube.patch(f"/api/v1/namespaces/{world.namespace}/secrets/refused", right)
    await world.ready("Collection", "a-refused", 60)
    condition = await world.refused("Collection", "b-numbers", "Conflict")
    assert f"{world.namespace}/a-refused, which is older" in condition["message"]
    assert said(await world.get("Collection", "c-names"))["reason"] == "Conflict"
    assert operator.metric("lucid_drift_corrections_total") == 0, "nobody wrote over another's declaration"
