"""Stores that stop, freeze, step down or refuse the login: said in conditions, healed without a restart or a storm."""

import asyncio
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import Any

import pytest
from operator_bed import index_spec, indexes, said, version
from tcp_relay import Relay

from lucid_storage.kube.client import Json
from testbed.pytest_operator import OperatorProcess, World
from testbed.stores.elasticsearch import Elasticsearch
from testbed.stores.mongodb import MongoDB
from testbed.stores.redis import Redis
from testbed.testrun import TestRun

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]

COUNT = 6
"""Collections, and as many Indexes, that live through an outage."""


@dataclass
class Stores:
    """One server of each kind, to be stopped and frozen; who breaks them heals them."""

    mongodb: MongoDB
    redis: Redis
    elasticsearch: Elasticsearch

    def environment(self) -> dict[str, str]:
        return {
            "MONGODB_URI": self.mongodb.uri,
            "REDIS_URL": self.redis.url,
            "ELASTICSEARCH_URL": self.elasticsearch.url,
        }

    def start(self) -> None:
        """All at the same time."""
        with ThreadPoolExecutor() as pool:
            for started in [pool.submit(s.start) for s in (self.elasticsearch, self.mongodb, self.redis)]:
                started.result()


@pytest.fixture(scope="module")
def stores(testbed_run: TestRun) -> Iterator[Stores]:
    instance, name = testbed_run.instance, f"lost-{uuid.uuid4().hex[:8]}"
    made = Stores(
        MongoDB(instance, f"mongodb-{name}"),
        Redis(instance, f"redis-{name}"),
        Elasticsearch(instance, f"elasticsearch-{name}"),
    )
    made.start()
    yield made
    for store in (made.mongodb, made.redis, made.elasticsearch):
        store.kill()
        shutil.rmtree(store.folder)


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


def key_space(pattern: str, ttl: int = 600) -> Json:
    return {"cache": [{"keyPattern": pattern, "ttlSeconds": ttl, "ttlPolicy": "Report"}]}


def series(stem: str, *fields: str) -> Json:
    mappings = {"properties": {field: {"type": "date"} for field in fields}}
    pattern = f"lucid-{stem}-{{YYYY.MM}}"
    return {"engine": "elasticsearch", "elasticsearch": {"pattern": pattern, "mappings": mappings}}


async def in_use(world: World, stores: Stores, stem: str) -> None:
    """Resources of every store, all ready; those of `settled` use MongoDB alone."""
    await asyncio.to_thread(stores.start)  # a test that failed may have left one stopped
    with stores.redis.client() as client:
        client.set(f"{stem}:1", "x")
    await world.create("Collection", "cached", key_space(f"{stem}:{{id}}"))
    await world.create("Index", "events", series(stem, "at"))
    await settled(world)
    await world.ready("Collection", "cached")
    await world.ready("Index", "events", 90)


async def explained(world: World, kind: str, names: Sequence[str], store: str, address: str) -> None:
    """Their conditions say that this store refuses connections, and where; at first only that the connection broke."""
    for name in names:
        await world.refused(kind, name, "StoreUnavailable", 60)
        messages: list[str] = []

        async def why(name: str = name, messages: list[str] = messages) -> bool:
            message = said(await world.get(kind, name))["message"]
            messages.append(message)
            parts = (
                f"{store} (operator)",
                "refuse",
                address.rsplit("//", maxsplit=1)[-1].split("/", maxsplit=1)[0],
            )
            return all(part in message for part in parts)

        try:
            await world.until(why, 40, "")
        except AssertionError:
            pytest.fail(f"{kind} {name} says of {store}: {dict.fromkeys(messages)}")


@pytest.mark.slow
@pytest.mark.redis
@pytest.mark.elasticsearch
async def test_all_stores_stopped_for_a_minute_in_the_middle_of_work(world: World, stores: Stores) -> None:
    operator = world.start_operator(**stores.environment())
    await in_use(world, stores, "stopped")
    plain = await version(world, "Collection", "c0")
    writes = operator.metric("lucid_status_writes_total")

    # Of a Collection MongoDB is asked before Redis, which therefore goes first.
    stores.redis.kill()
    await world.patch("Collection", "cached", {"spec": key_space("stopped:{id}", 1200)})
    await world.create("Collection", "late-cached", key_space("late:{id}"))
    await explained(world, "Collection", ("cached", "late-cached"), "Redis", stores.redis.url)
    assert await version(world, "Collection", "c0") == plain, "who uses no Redis hears nothing of it"

    stores.mongodb.kill()
    stores.elasticsearch.kill()
    since = monotonic()
    await world.create("Collection", "late", {})
    await world.create("Index", "late", index_spec("late", ("email", 1)))
    await world.patch("Collection", "c0", {"spec": {"validationLevel": "strict"}})
    await world.patch("Index", "i0", {"spec": {"mongodb": {"unique": True}}})
    await world.patch("Index", "events", {"spec": series("stopped", "at", "until")})
    await world.create("Index", "late-events", series("late", "at"))
    await explained(world, "Collection", ("late", "c0"), "MongoDB", stores.mongodb.addresses[0])
    await explained(world, "Index", ("late", "i0"), "MongoDB", stores.mongodb.addresses[0])
    await explained(world, "Index", ("events", "late-events"), "Elasticsearch", stores.elasticsearch.url)
    for n in range(COUNT):
        await world.refused("Collection", f"c{n}", "StoreUnavailable")
        await world.refused("Index", f"i{n}", "StoreUnavailable")
    for resource in await every(world):
        assert said(resource, "Stalled")["status"] == "False", "nobody has to change anything"
    checks = operator.probe("readyz")[1]["checks"]
    for store in ("mongodb", "redis", "elasticsearch"):
        assert checks[f"{store} (operator)"]["ok"] is False
    await wait_for(world, 30 - (monotonic() - since))
    told = operator.metric("lucid_status_writes_total")
    await wait_for(world, 60 - (monotonic() - since))
    assert operator.metric("lucid_status_writes_total") - told <= 4, "an outage that lasts is no news"
    assert not any(s.running() for s in (stores.mongodb, stores.redis, stores.elasticsearch))

    await asyncio.to_thread(stores.start)
    for name in ("late", "cached", "late-cached", *(f"c{n}" for n in range(COUNT))):
        await world.ready("Collection", name, 60)
    for name in ("late", "events", "late-events", *(f"i{n}" for n in range(COUNT))):
        await world.ready("Index", name, 60)
    alive(operator)
    assert operator.metric("lucid_status_writes_total") - writes <= 4 * (2 * COUNT + 6)
    with stores.mongodb.client() as client:
        db = client[world.environment["MONGODB_DATABASE"]]
        assert {"late", "late-cached"} <= set(db.list_collection_names())
        assert list(indexes(db, "late")) == ["late_email_1"]
        assert indexes(db, "c0")["c0_email_1"]["unique"] is True
        (options,) = [found["options"] for found in db.list_collections(filter={"name": "c0"})]
        assert options["validationLevel"] == "strict"
    made = stores.elasticsearch.request("GET", "/lucid-stopped-*,lucid-late-*/_mapping")
    fields = {name[:-8]: set(index["mappings"]["properties"]) for name, index in made.items()}
    assert fields == {"lucid-stopped": {"at", "until"}, "lucid-late": {"at"}}


@pytest.mark.redis
@pytest.mark.elasticsearch
async def test_stores_that_freeze_are_told_and_healed(world: World, stores: Stores) -> None:
    operator = world.start_operator(**stores.environment())
    await in_use(world, stores, "frozen")
    plain = await version(world, "Collection", "c0")
    frozen = (stores.redis, stores.elasticsearch, stores.mongodb)
    try:
        stores.redis.freeze()
        stores.elasticsearch.freeze()
        await world.patch("Collection", "cached", {"spec": key_space("frozen:{id}", 1200)})
        await world.patch("Index", "events", {"spec": series("frozen", "at", "until")})
        condition = await world.refused("Collection", "cached", "StoreUnavailable", 60)
        assert "Redis" in condition["message"]
        condition = await world.refused("Index", "events", "StoreUnavailable", 60)
        assert "Elasticsearch" in condition["message"]
        assert await version(world, "Collection", "c0") == plain, "who uses neither hears nothing of it"
        stores.mongodb.freeze()
        await world.create("Collection", "late", {})
        condition = await world.refused("Collection", "late", "StoreUnavailable", 60)
        assert "MongoDB" in condition["message"]
    finally:
        for store in frozen:
            store.thaw()
    for name in ("late", "cached", *(f"c{n}" for n in range(COUNT))):
        await world.ready("Collection", name, 60)
    for name in ("events", *(f"i{n}" for n in range(COUNT))):
        await world.ready("Index", name, 60)
    alive(operator)


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
    await wait_for(world, 10)
    # The driver itself looks twice a second for as long as somebody waits for a server.
    assert relay.accepted - before <= 50
    relay.accept()
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


@pytest.mark.redis
async def test_a_redis_password_is_rotated(
    world: World, mongodb: MongoDB, private_redis: Callable[..., Redis]
) -> None:
    server = private_redis(auth=True)
    old = server.password or ""
    data = {"REDIS_URL": server.url, "MONGODB_URI": mongodb.uri, "MONGODB_DATABASE": world.namespace}
    await world.secret("stores", data)
    operator = world.start_operator(SWEEP_SECONDS="5")
    await world.create(
        "Collection", "users", {"connection": {"secretName": "stores"}, **key_space("user:{id}")}
    )
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


@pytest.mark.elasticsearch
async def test_an_elasticsearch_password_is_rotated(
    world: World, private_elasticsearch: Callable[..., Elasticsearch]
) -> None:
    server = private_elasticsearch(security=True)
    old = server.password or ""
    await world.secret("search", {"ELASTICSEARCH_URL": server.url})
    operator = world.start_operator(SWEEP_SECONDS="5")
    spec = {"connection": {"secretName": "search"}, **series("events", "at")}
    await world.create("Index", "events", spec)
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
