"""A namespace deleted with live resources is gone within a minute, and data stay under Retain."""

import json
import uuid
from collections.abc import AsyncIterator, Callable
from time import monotonic
from typing import Any

import pytest
from operator_bed import index_spec, indexes

from testbed.pytest_operator import World
from testbed.stores.mongodb import MongoDB

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]

SECONDS = 60.0


@pytest.fixture
async def tenant(world: World) -> AsyncIterator[World]:
    """A namespace beside the operator's own, served with the operator's credentials too."""
    name = f"tenant-{uuid.uuid4().hex[:8]}"
    await world.kube.request("POST", "/api/v1/namespaces", body={"metadata": {"name": name}})
    world.environment["WATCH_NAMESPACES"] = f"{world.namespace},{name}"
    world.environment["SERVED_NAMESPACES"] = json.dumps({name: {}})
    yield World(world.kube, name, world.kubeconfig, world.instance, world.environment, world.operators)
    if await world.kube.get(f"/api/v1/namespaces/{name}") is not None:
        await world.kube.request("DELETE", f"/api/v1/namespaces/{name}")


async def populate(tenant: World, spec: dict[str, Any]) -> None:
    for policy in ("Retain", "Delete"):
        name = policy.lower()
        await tenant.create("Collection", name, {**spec, "deletionPolicy": policy})
        await tenant.create("Index", name, index_spec(name, ("email", 1), **spec, deletionPolicy=policy))
    for name in ("retain", "delete"):
        await tenant.ready("Collection", name)
        await tenant.ready("Index", name)


async def delete_namespace(tenant: World) -> float:
    """Seconds until it is gone."""
    path = f"/api/v1/namespaces/{tenant.namespace}"
    started = monotonic()
    await tenant.kube.request("DELETE", path)

    async def gone() -> bool:
        return await tenant.kube.get(path) is None

    await tenant.until(gone, SECONDS, "the namespace to be gone")
    return monotonic() - started


async def test_with_the_store_up(
    world: World, tenant: World, private_mongodb: Callable[..., MongoDB]
) -> None:
    server = private_mongodb()
    operator = world.start_operator(MONGODB_URI=server.uri, MONGODB_DATABASE="app")
    await populate(tenant, {})
    with server.client() as client:
        client.app.retain.insert_one({"email": "a"})
        client.app.delete.insert_one({"email": "a"})
        await delete_namespace(tenant)
        assert client.app.retain.count_documents({}) == 1
        assert list(indexes(client.app, "retain")) == ["retain_email_1"]
        assert "delete" not in client.app.list_collection_names()
    assert operator.metric("lucid_deletions_let_go_total") == 0


async def test_with_the_store_down(
    world: World, tenant: World, private_mongodb: Callable[..., MongoDB]
) -> None:
    server = private_mongodb()
    operator = world.start_operator(MONGODB_URI=server.uri, MONGODB_DATABASE="app")
    await populate(tenant, {})
    server.kill()
    await delete_namespace(tenant)
    assert operator.metric("lucid_deletions_let_go_total") == 2
    assert "Let go because the namespace is being deleted" in operator.log
    server.start()
    with server.client() as client:
        assert {"retain", "delete"} <= set(client.app.list_collection_names())


async def test_with_its_secret_gone_already(
    world: World, tenant: World, private_mongodb: Callable[..., MongoDB]
) -> None:
    server = private_mongodb()
    operator = world.start_operator()
    await tenant.secret("store", {"MONGODB_URI": server.uri, "MONGODB_DATABASE": "app"})
    await populate(tenant, {"connection": {"secretName": "store"}})
    await tenant.kube.request("DELETE", f"/api/v1/namespaces/{tenant.namespace}/secrets/store")
    await delete_namespace(tenant)
    with server.client() as client:
        assert "retain" in client.app.list_collection_names()
    assert operator.running()


async def test_with_a_store_that_comes_back_in_time(
    world: World, tenant: World, private_mongodb: Callable[..., MongoDB]
) -> None:
    server = private_mongodb()
    operator = world.start_operator(MONGODB_URI=server.uri, MONGODB_DATABASE="app")
    await populate(tenant, {})
    server.kill()
    path = f"/api/v1/namespaces/{tenant.namespace}"
    await tenant.kube.request("DELETE", path)

    async def tried() -> bool:
        found = await tenant.kube.get(tenant.path("Collection", "delete"))
        return found is not None and "not dropped yet" in found["status"].get("message", "")

    await tenant.until(tried, 30, "a first try")
    server.start()
    await delete_namespace(tenant)
    with server.client() as client:
        assert client.app.list_collection_names() == ["retain"]
    assert operator.metric("lucid_deletions_let_go_total") == 0
