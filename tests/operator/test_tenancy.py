"""Who may use which credentials: every refusal is a condition, and no secret shows anywhere."""

import json
import uuid
from collections.abc import AsyncIterator, Callable

import pytest
from operator_bed import index_spec, log_lines

from lucid_storage.kube.client import Json
from testbed import leftovers
from testbed.pytest_operator import World
from testbed.stores.mongodb import MongoDB

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]

ALLOWED = "storage.lucid-blockchain.org/allowed"
WITH_SECRET = {"connection": {"secretName": "store"}}


@pytest.fixture
async def tenant(mongo_world: World) -> AsyncIterator[World]:
    """A namespace that the operator watches and does not serve."""
    world = mongo_world
    name = f"tenant-{uuid.uuid4().hex[:8]}"
    await world.kube.request("POST", "/api/v1/namespaces", body={"metadata": {"name": name}})
    world.environment["WATCH_NAMESPACES"] = f"{world.namespace},{name}"
    yield World(world.kube, name, world.kubeconfig, world.instance, world.environment, world.operators)
    for operator in world.operators:
        operator.stop()
    await leftovers.clear(world.kube, name)


async def test_another_namespace_may_not_use_the_operators_credentials(
    mongo_world: World, tenant: World, mongodb: MongoDB
) -> None:
    mongo_world.start_operator()
    await tenant.create("Collection", "users", {})
    await tenant.create("Index", "email", index_spec("users", ("email", 1)))
    for kind, name in (("Collection", "users"), ("Index", "email")):
        condition = await tenant.refused(kind, name, "NamespaceNotServed")
        assert tenant.namespace in condition["message"]
        assert "spec.connection.secretName" in condition["message"]
    with mongodb.client() as client:
        assert mongo_world.environment["MONGODB_DATABASE"] not in client.list_database_names()


async def test_a_secret_of_another_namespace_is_out_of_reach(
    mongo_world: World, tenant: World, mongodb: MongoDB
) -> None:
    mongo_world.start_operator()
    await mongo_world.secret("store", {"MONGODB_URI": mongodb.uri, "MONGODB_DATABASE": "foreign"})
    await tenant.create("Collection", "users", WITH_SECRET)
    condition = await tenant.refused("Collection", "users", "SecretNotFound")
    assert "does not exist in this namespace" in condition["message"]


async def test_a_secret_works_only_with_the_label(
    mongo_world: World, tenant: World, mongodb: MongoDB
) -> None:
    mongo_world.start_operator()
    data = {"MONGODB_URI": mongodb.uri, "MONGODB_DATABASE": mongo_world.environment["MONGODB_DATABASE"]}
    await tenant.secret("store", data, allowed=False)
    await tenant.create("Collection", "users", WITH_SECRET)
    condition = await tenant.refused("Collection", "users", "SecretNotAllowed")
    assert f'{ALLOWED}: "true"' in condition["message"]
    label = {"metadata": {"labels": {ALLOWED: "true"}}}
    await tenant.kube.patch(f"/api/v1/namespaces/{tenant.namespace}/secrets/store", label)
    await tenant.ready("Collection", "users", 60)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("169.254.169.254:27017", "EndpointRefused"),
        ("%2Ftmp%2Fmongodb-27017.sock", "SecretInvalid"),
        ("[fe80::1]:27017", "EndpointRefused"),
        ("a..b:27017", "SecretInvalid"),
    ],
    ids=["metadata address", "unix socket", "link-local IPv6", "an empty label"],
)
async def test_some_addresses_are_never_dialled(
    mongo_world: World, tenant: World, address: str, reason: str
) -> None:
    operator = mongo_world.start_operator()
    uri = f"mongodb://root:hidden-word@{address}/"
    await tenant.secret("store", {"MONGODB_URI": uri, "MONGODB_DATABASE": "app"})
    await tenant.create("Collection", "users", WITH_SECRET)
    await tenant.refused("Collection", "users", reason)
    assert "hidden-word" not in await shown(operator.log, tenant, "users")


async def test_loopback_is_refused_unless_the_settings_allow_it(
    mongo_world: World, tenant: World, mongodb: MongoDB
) -> None:
    mongo_world.start_operator(ALLOW_LOOPBACK_ENDPOINTS="false")
    await tenant.secret("store", {"MONGODB_URI": mongodb.uri, "MONGODB_DATABASE": "app"})
    await tenant.create("Collection", "users", WITH_SECRET)
    await tenant.refused("Collection", "users", "EndpointRefused")


async def test_a_served_namespace_may_use_only_its_databases(
    mongo_world: World, tenant: World, mongodb: MongoDB
) -> None:
    mine = f"{mongo_world.environment['MONGODB_DATABASE']}_mine"
    served = {tenant.namespace: {"databases": [f"{mine}*"]}}
    mongo_world.start_operator(SERVED_NAMESPACES=json.dumps(served))
    await tenant.create("Collection", "allowed", {"database": mine})
    await tenant.create("Collection", "other", {"database": "payments"})
    await tenant.create("Collection", "default", {})
    await tenant.ready("Collection", "allowed")
    for name in ("other", "default"):
        condition = await tenant.refused("Collection", name, "DatabaseNotAllowed")
        assert "SERVED_NAMESPACES" in condition["message"]
    with mongodb.client() as client:
        assert "payments" not in client.list_database_names()
        client.drop_database(mine)


async def test_no_secret_shows_in_status_events_or_log(
    mongo_world: World, tenant: World, private_mongodb: Callable[..., MongoDB]
) -> None:
    server = private_mongodb(auth=True)
    server.create_user("lucid", "right-hidden-word", [("readWriteAnyDatabase", "admin")])
    operator = mongo_world.start_operator()
    for name, password in (("right", "right-hidden-word"), ("wrong", "wrong-hidden-word")):
        uri = server.uri_for("lucid", password)
        await tenant.secret(name, {"MONGODB_URI": uri, "MONGODB_DATABASE": "app"})
        await tenant.create("Collection", name, {"connection": {"secretName": name}})
    await tenant.ready("Collection", "right")
    condition = await tenant.refused("Collection", "wrong", "LoginFailed")
    assert "user name" in condition["message"]
    server.kill()
    await tenant.create("Collection", "late", {"connection": {"secretName": "right"}})
    await tenant.refused("Collection", "late", "StoreUnavailable", 60)
    for name in ("right", "wrong", "late"):
        assert "hidden-word" not in await shown(operator.log, tenant, name)
    assert "hidden-word" not in json.dumps(operator.probe("readyz")[1])
    lines = log_lines(operator)
    told = {(line["logger"].split(".")[0], line.get("store")) for line in lines}
    assert ("lucid_storage", f"secret {tenant.namespace}/right") in told, (
        "the lost store is told with its name"
    )
    made = [line for line in lines if line.get("resource") == f"collections/{tenant.namespace}/right"]
    assert [line["level"] for line in made] == ["info"]
    assert "lucid-storage-operator" in {line.get("lease") for line in lines}


async def shown(log: str, tenant: World, name: str) -> str:
    """All that a person can see about a Collection."""
    resource: Json = await tenant.get("Collection", name)
    return f"{log}{json.dumps(resource)}{json.dumps(await tenant.events(name))}"
