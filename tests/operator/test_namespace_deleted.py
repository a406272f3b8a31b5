"""A namespace deleted with live resources is gone within a minute, and data stay under Retain."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

import pytest
from operator_bed import PAUSED, index_spec, indexes
from tcp_relay import Relay

from testbed.pytest_operator import World
from testbed.stores.elasticsearch import Elasticsearch
from testbed.stores.mongodb import MongoDB

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]

SECONDS = 60.0


@dataclass
class Relayed:
    """The shared Elasticsearch behind a relay, and the prefix of what is made there."""

    server: Elasticsearch
    relay: Relay
    prefix: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.relay.port}"

    def names(self) -> set[str]:
        """Indices and templates, asked for past the relay."""
        templates = self.server.request("GET", f"/_index_template/{self.prefix}*")["index_templates"]
        return {*self.server.request("GET", f"/{self.prefix}*"), *(t["name"] for t in templates)}


@pytest.fixture
def elasticsearch(elasticsearch_server: Elasticsearch, index_prefix: str) -> Iterator[Relayed]:
    relay = Relay(elasticsearch_server.port)
    yield Relayed(elasticsearch_server, relay, index_prefix)
    relay.close()


async def populate(tenant: World, spec: dict[str, Any], suffix: str = "") -> None:
    for policy in ("Retain", "Delete"):
        name = policy.lower() + suffix
        await tenant.create("Collection", name, {**spec, "deletionPolicy": policy})
        await tenant.create("Index", name, index_spec(name, ("email", 1), **spec, deletionPolicy=policy))
    for name in ("retain", "delete"):
        await tenant.ready("Collection", name + suffix)
        await tenant.ready("Index", name + suffix)


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


@pytest.mark.elasticsearch
async def test_what_cannot_be_dropped_is_let_go_and_stays(
    world: World,
    tenant: World,
    private_mongodb: Callable[..., MongoDB],
    mongodb: MongoDB,
    database: str,
    elasticsearch: Relayed,
) -> None:
    """MongoDB and Elasticsearch down, a Secret gone before, a resource paused: all in one minute."""
    server = private_mongodb()
    world.environment |= {"MONGODB_URI": server.uri, "MONGODB_DATABASE": "app"}
    world.environment["ELASTICSEARCH_URL"] = elasticsearch.url
    operator = world.start_operator()
    await tenant.secret("store", {"MONGODB_URI": mongodb.uri, "MONGODB_DATABASE": database})
    await populate(tenant, {})
    await populate(tenant, {"connection": {"secretName": "store"}}, "-by-secret")
    await tenant.create("Collection", "paused", {"deletionPolicy": "Delete"})
    series = {"pattern": f"{elasticsearch.prefix}events-{{YYYY.MM}}"}
    spec = {"engine": "elasticsearch", "elasticsearch": series, "deletionPolicy": "Delete"}
    await tenant.create("Index", "series", spec)
    await tenant.ready("Collection", "paused")
    await tenant.ready("Index", "series", 60)
    made = elasticsearch.names()
    assert made

    operator.stop()  # the next one has read no Secret yet
    await tenant.patch("Collection", "paused", {"metadata": {"annotations": {PAUSED: "true"}}})
    await tenant.kube.request("DELETE", f"/api/v1/namespaces/{tenant.namespace}/secrets/store")
    server.kill()
    elasticsearch.relay.refuse()
    operator = world.start_operator()
    await delete_namespace(tenant)

    held = {"delete", "delete-by-secret", "paused"}
    let_go = [line for line in operator.log.splitlines() if "Let go because the namespace" in line]
    assert operator.metric("lucid_deletions_let_go_total", kind="Collection") == len(held)
    assert operator.metric("lucid_deletions_let_go_total", kind="Index") == len(held), "one is the series"
    assert len(let_go) == 2 * len(held)
    assert all("the data stays" in line for line in let_go)
    server.start()
    with server.client() as client:
        assert set(client.app.list_collection_names()) == {"retain", "delete", "paused"}
        assert list(indexes(client.app, "delete")) == ["delete_email_1"]
    with mongodb.client() as client:
        kept = client[database]
        assert set(kept.list_collection_names()) == {"retain-by-secret", "delete-by-secret"}
        assert list(indexes(kept, "delete-by-secret")) == ["delete-by-secret_email_1"]
    assert elasticsearch.names() == made
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
