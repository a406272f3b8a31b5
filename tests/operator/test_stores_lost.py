"""Stores that stop, freeze, step down or refuse the login: said in conditions, healed without a restart or a storm."""

from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import pytest
from operator_bed import index_spec, indexes, said, version
from tcp_relay import Relay

from testbed.pytest_operator import OperatorProcess, World
from testbed.stores.elasticsearch import Elasticsearch
from testbed.stores.mongodb import MongoDB
from testbed.stores.redis import Redis

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]

COUNT = 6
"""Collections, and as many Indexes, that live through an outage."""


@pytest.fixture
def relayed(world: World) -> Iterator[Callable[[str], tuple[Relay, str]]]:
    """`relayed(address)`: a relay to the port of a URL or URI, and the address that leads through it."""
    made = []

    def make(address: str) -> tuple[Relay, str]:
        head, _, tail = address.rpartition(":")
        port = tail.split("/")[0]
        relay = Relay(int(port))
        made.append(relay)
        return relay, f"{head}:{relay.port}{tail[len(port) :]}"

    yield make
    for relay in made:
        relay.close()


async def settled(world: World) -> None:
    for n in range(COUNT):
        await world.create("Collection", f"c{n}", {"validationLevel": "moderate"})
        await world.create("Index", f"i{n}", index_spec(f"c{n}", ("email", 1)))
    for n in range(COUNT):
        await world.ready("Collection", f"c{n}")
        await world.ready("Index", f"i{n}")


async def every(world: World) -> list[Any]:
    return [
        await world.get(kind, f"{kind[0].lower()}{n}")
        for kind in ("Collection", "Index")
        for n in range(COUNT)
    ]


async def wait_for(world: World, seconds: float) -> None:
    """An outage lasts; nothing can be waited for but time."""
    end = monotonic() + seconds

    async def over() -> bool:
        return monotonic() >= end

    await world.until(over, seconds + 5, "the outage to last")


def alive(operator: OperatorProcess) -> None:
    assert operator.running()
    assert operator.probe("healthz")[0] == 200


@pytest.mark.parametrize("seconds", [20, pytest.param(60, marks=pytest.mark.slow)])
async def test_mongodb_stopped_in_the_middle_of_work(
    world: World, private_mongodb: Callable[..., MongoDB], seconds: float
) -> None:
    server = private_mongodb()
    world.environment["MONGODB_URI"] = server.uri
    operator = world.start_operator()
    await settled(world)
    writes = operator.metric("lucid_status_writes_total")
    server.kill()
    await world.create("Collection", "late", {})
    await world.patch("Collection", "c0", {"spec": {"validationLevel": "strict"}})
    condition = await world.refused("Collection", "late", "StoreUnavailable")
    assert "connection refused" in condition["message"]
    assert server.addresses[0] in condition["message"]
    await wait_for(world, seconds)
    for resource in await every(world):
        assert said(resource)["reason"] == "StoreUnavailable", resource["metadata"]["name"]
        assert said(resource, "Stalled")["status"] == "False"
    checks = operator.probe("readyz")[1]["checks"]
    assert checks["mongodb (operator)"]["ok"] is False
    server.start()
    await world.ready("Collection", "late", 60)
    for n in range(COUNT):
        await world.ready("Collection", f"c{n}")
        await world.ready("Index", f"i{n}")
    alive(operator)
    assert operator.metric("lucid_status_writes_total") - writes <= 3 * (2 * COUNT + 1)
    with server.client() as client:
        db = client[world.environment["MONGODB_DATABASE"]]
        assert "late" in db.list_collection_names()
        assert (
            next(iter(db.list_collections(filter={"name": "c0"})))["options"]["validationLevel"] == "strict"
        )


async def test_a_lost_mongodb_is_dialled_with_restraint(
    world: World, private_mongodb: Callable[..., MongoDB], relayed: Callable[[str], tuple[Relay, str]]
) -> None:
    server = private_mongodb()
    relay, uri = relayed(f"mongodb://{server.addresses[0]}/?directConnection=true")
    world.environment["MONGODB_URI"] = uri
    operator = world.start_operator()
    await settled(world)
    relay.refuse()
    before = relay.accepted
    await world.refused("Index", "i0", "StoreUnavailable")
    await wait_for(world, 20)
    # The driver itself looks twice a second for as long as somebody waits for a server.
    assert relay.accepted - before <= 100
    relay.accept()
    for n in range(COUNT):
        await world.ready("Index", f"i{n}", 60)
    alive(operator)


async def test_a_frozen_mongodb_is_told_and_healed(
    world: World, private_mongodb: Callable[..., MongoDB]
) -> None:
    server = private_mongodb()
    world.environment["MONGODB_URI"] = server.uri
    operator = world.start_operator()
    await settled(world)
    server.freeze()
    await world.create("Collection", "late", {})
    condition = await world.refused("Collection", "late", "StoreUnavailable", 60)
    assert "MongoDB" in condition["message"] or "operator" in condition["message"]
    server.thaw()
    await world.ready("Collection", "late", 60)
    for n in range(COUNT):
        await world.ready("Index", f"i{n}", 60)
    alive(operator)


async def test_a_step_down_in_a_storm_makes_no_settled_resource_say_so(
    world: World, private_mongodb: Callable[..., MongoDB]
) -> None:
    server = private_mongodb(members=3)
    world.environment["MONGODB_URI"] = server.uri
    operator = world.start_operator()
    await settled(world)
    versions = [r["metadata"]["resourceVersion"] for r in await every(world)]
    for n in range(20):
        await world.create("Collection", f"storm{n}", {})
        await world.create("Index", f"storm{n}", index_spec(f"storm{n}", ("email", 1)))
    server.step_down()
    for n in range(20):
        await world.ready("Index", f"storm{n}", 90)
        await world.ready("Collection", f"storm{n}", 90)
    assert [r["metadata"]["resourceVersion"] for r in await every(world)] == versions
    alive(operator)
    with server.client() as client:
        db = client[world.environment["MONGODB_DATABASE"]]
        assert all(list(indexes(db, f"storm{n}")) == [f"storm{n}_email_1"] for n in range(20))


async def test_a_refused_login_is_told_and_a_rotated_password_heals(
    world: World, private_mongodb: Callable[..., MongoDB]
) -> None:
    server = private_mongodb(auth=True)
    server.create_user(
        "lucid", "first-secret", [("readWriteAnyDatabase", "admin"), ("dbAdminAnyDatabase", "admin")]
    )
    await world.secret(
        "store", {"MONGODB_URI": server.uri_for("lucid", "first-secret"), "MONGODB_DATABASE": "app"}
    )
    operator = world.start_operator()
    connection = {"secretName": "store"}
    await world.create("Collection", "users", {"connection": connection})
    await world.ready("Collection", "users")
    server.set_password("lucid", "second-secret")
    server.restart()  # connections that are logged in would stay so
    await world.create("Collection", "late", {"connection": connection})
    for name in ("late", "users"):
        condition = await world.refused("Collection", name, "LoginFailed", 60)
        assert "secret " in condition["message"], "it says whose credentials were refused"
    patch = {"stringData": {"MONGODB_URI": server.uri_for("lucid", "second-secret")}}
    await world.kube.patch(f"/api/v1/namespaces/{world.namespace}/secrets/store", patch)
    await world.ready("Collection", "late", 90)
    await world.ready("Collection", "users", 90)
    alive(operator)
    shown = f"{operator.log}{await world.get('Collection', 'late')}{await world.events('late')}"
    assert "first-secret" not in shown
    assert "second-secret" not in shown


CACHE = {"cache": [{"keyPattern": "user:{id}", "ttlSeconds": 600, "ttlPolicy": "Report"}]}


@pytest.mark.redis
async def test_redis_stopped_frozen_and_back(mongo_world: World, private_redis: Callable[..., Redis]) -> None:
    server = private_redis()
    with server.client() as client:
        client.set("user:1", "x")
    operator = mongo_world.start_operator(REDIS_URL=server.url, SWEEP_SECONDS="5")
    await mongo_world.create("Collection", "users", CACHE)
    await mongo_world.create("Collection", "plain", {})
    await mongo_world.ready("Collection", "users")
    await mongo_world.ready("Collection", "plain")
    plain = await version(mongo_world, "Collection", "plain")
    server.kill()
    condition = await mongo_world.refused("Collection", "users", "StoreUnavailable", 60)
    assert "Redis" in condition["message"]
    assert operator.probe("readyz")[1]["checks"]["redis (operator)"]["ok"] is False
    writes = operator.metric("lucid_status_writes_total")
    await wait_for(mongo_world, 15)
    assert operator.metric("lucid_status_writes_total") - writes <= 2
    server.start()
    await mongo_world.ready("Collection", "users", 60)
    server.freeze()
    await mongo_world.refused("Collection", "users", "StoreUnavailable", 60)
    server.thaw()
    await mongo_world.ready("Collection", "users", 60)
    assert await version(mongo_world, "Collection", "plain") == plain, "who uses no Redis hears nothing of it"
    alive(operator)


@pytest.mark.redis
async def test_a_redis_password_is_rotated(
    world: World, mongodb: MongoDB, private_redis: Callable[..., Redis]
) -> None:
    server = private_redis(auth=True)
    old = server.password or ""
    data = {"REDIS_URL": server.url, "MONGODB_URI": mongodb.uri, "MONGODB_DATABASE": world.namespace}
    await world.secret("stores", data)
    operator = world.start_operator(SWEEP_SECONDS="5")
    await world.create("Collection", "users", {"connection": {"secretName": "stores"}, **CACHE})
    await world.ready("Collection", "users")
    server.set_password("rotated-secret")
    server.restart()
    await world.refused("Collection", "users", "LoginFailed", 60)
    await world.kube.patch(
        f"/api/v1/namespaces/{world.namespace}/secrets/stores", {"stringData": {"REDIS_URL": server.url}}
    )
    await world.ready("Collection", "users", 90)
    checks = operator.probe("readyz")[1]["checks"]
    assert all(check["ok"] for check in checks.values()), checks
    assert old not in operator.log
    assert "rotated-secret" not in operator.log
    with mongodb.client() as client:
        client.drop_database(world.namespace)


SERIES = {
    "engine": "elasticsearch",
    "elasticsearch": {
        "pattern": "lucid-events-{YYYY.MM}",
        "mappings": {"properties": {"at": {"type": "date"}}},
    },
}


@pytest.mark.elasticsearch
async def test_elasticsearch_frozen_stopped_and_back(
    world: World, private_elasticsearch: Callable[..., Elasticsearch]
) -> None:
    server = private_elasticsearch()
    operator = world.start_operator(ELASTICSEARCH_URL=server.url, SWEEP_SECONDS="5")
    await world.create("Index", "events", SERIES)
    await world.ready("Index", "events", 90)
    server.freeze()
    condition = await world.refused("Index", "events", "StoreUnavailable", 90)
    assert "Elasticsearch" in condition["message"]
    server.thaw()
    await world.ready("Index", "events", 90)
    server.kill()
    await world.refused("Index", "events", "StoreUnavailable", 90)
    writes = operator.metric("lucid_status_writes_total")
    await wait_for(world, 15)
    assert operator.metric("lucid_status_writes_total") - writes <= 2
    server.start()
    await world.ready("Index", "events", 90)
    alive(operator)


@pytest.mark.elasticsearch
async def test_an_elasticsearch_password_is_rotated(
    world: World, private_elasticsearch: Callable[..., Elasticsearch]
) -> None:
    server = private_elasticsearch(security=True)
    old = server.password or ""
    await world.secret("search", {"ELASTICSEARCH_URL": server.url})
    operator = world.start_operator(SWEEP_SECONDS="5")
    await world.create("Index", "events", {"connection": {"secretName": "search"}, **SERIES})
    await world.ready("Index", "events", 90)
    server.set_password("rotated-secret")
    await world.refused("Index", "events", "LoginFailed", 60)
    await world.kube.patch(
        f"/api/v1/namespaces/{world.namespace}/secrets/search",
        {"stringData": {"ELASTICSEARCH_URL": server.url}},
    )
    await world.ready("Index", "events", 90)
    alive(operator)
    assert old not in operator.log
    assert "rotated-secret" not in operator.log
