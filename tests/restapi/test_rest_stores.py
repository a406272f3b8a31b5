"""The REST API over real stores: true figures, and what it says when a store hangs, stops or limps."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import pytest
from rest_clients import Rest, serving
from rest_contract import check

from lucid_storage.restapi.backend import StoreAccess
from lucid_storage.restapi.store_backend import StoreBackend, StoreClients
from lucid_storage.stores.mongodb.adapter import MongoDeployment
from lucid_storage.stores.statistics import ElasticStatistics, MongoStatistics, RedisStatistics
from testbed.stores.elasticsearch import Elasticsearch
from testbed.stores.mongodb import MongoDB
from testbed.stores.redis import Redis


def clients(
    mongodb_uri: str | None = None, redis_url: str | None = None, elasticsearch_url: str | None = None
) -> StoreClients:
    def never() -> None:
        raise AssertionError("the REST API reads only")

    return StoreClients(
        mongodb=mongodb_uri
        and (lambda: MongoDeployment(mongodb_uri, label="MongoDB", app_name="rest-test", guard=never)),
        mongodb_statistics=mongodb_uri and (lambda: MongoStatistics(mongodb_uri)),
        redis_statistics=redis_url and (lambda: RedisStatistics(redis_url)),
        elasticsearch_statistics=elasticsearch_url and (lambda: ElasticStatistics(elasticsearch_url)),
    )


@contextmanager
def over(stores: StoreClients, databases: tuple[str, ...], default: str | None = None) -> Iterator[Rest]:
    def access(namespace: str) -> StoreAccess | None:
        return StoreAccess(namespace, databases, default) if namespace == "lucid" else None

    with serving(StoreBackend(stores, access)) as rest:
        yield rest


@pytest.fixture
async def data(mongodb: MongoDB, database: str) -> AsyncIterator[str]:
    with mongodb.client() as client:
        blocks = client[database]["blocks"]
        blocks.insert_many({"height": n, "title": "x", "place": [0, 0]} for n in range(50))
        blocks.create_index([("z", -1), ("a", 1)], name="ordered", unique=False)
        blocks.create_index([("title", "text")], name="words")
        blocks.create_index([("place", "2dsphere")], name="places")
        blocks.create_index([("height", "hashed")], name="hash")
        blocks.create_index([("height", 1)], name="heights", unique=True, sparse=True)
        client[database].create_collection("empty")
        client[database].command("create", "recent", viewOn="blocks", pipeline=[])
        client.admin.command("fsync")  # the sizes on the disk move with a checkpoint
    yield database


@pytest.mark.mongodb
async def test_collections_show_the_true_figures(mongodb: MongoDB, data: str) -> None:
    with over(clients(mongodb.uri), (data,), data) as rest:
        listed = await rest.call("/database/collections")
        blocks = await rest.call("/database/collections/blocks")
        absent = await rest.call("/database/collections/absent")
    check(listed.body, "CollectionListResponse")
    assert [found["name"] for found in listed.body["collections"]] == ["blocks", "empty", "recent"]
    assert {found["database"] for found in listed.body["collections"]} == {data}
    assert listed.body["pagination"]["total"] == 3
    check(blocks.body, "CollectionResponse")
    with mongodb.client() as client:
        stats = client[data].command("collStats", "blocks")
    assert blocks.body == {
        "name": "blocks",
        "database": data,
        "document_count": 50,
        "data_size": stats["size"],
        "storage_size": stats["storageSize"],
        "index_count": 6,
        "index_size": stats["totalIndexSize"],
    }
    assert absent.status == 404


@pytest.mark.mongodb
async def test_indexes_show_keys_in_order_and_sizes(mongodb: MongoDB, data: str) -> None:
    with over(clients(mongodb.uri), (data,), data) as rest:
        reply = await rest.call("/database/collections/blocks/indexes")
        view = await rest.call("/database/collections/recent/indexes")
    check(reply.body, "IndexListResponse")
    found = {index["name"]: index for index in reply.body["indexes"]}
    keys = {name: list(index["key"].items()) for name, index in found.items()}
    assert keys == {
        "_id_": [("_id", 1)],
        "ordered": [("z", -1), ("a", 1)],
        "words": [("title", "text")],
        "places": [("place", "2dsphere")],
        "hash": [("height", "hashed")],
        "heights": [("height", 1)],
    }
    assert all(index["size"] > 0 and index["collection"] == "blocks" for index in found.values())
    assert (found["heights"]["unique"], found["heights"]["sparse"]) == (True, True)
    assert (found["words"]["unique"], found["words"]["sparse"]) == (False, False)
    assert view.body == {"indexes": []}


@pytest.mark.mongodb
async def test_namespace_sees_its_databases_only(mongodb: MongoDB, data: str) -> None:
    with over(clients(mongodb.uri), (f"{data}-other*", f"{data[:-1]}?")) as rest:
        listed = await rest.call("/database/collections")
        named = await rest.call(f"/database/collections/blocks?database={data}")
        foreign = await rest.call("/database/collections?database=lucid")
        without = await rest.call("/database/collections/blocks")
    assert {found["database"] for found in listed.body["collections"]} == {data}
    assert named.status == 200
    assert foreign.status == 403
    assert without.status == 422
    assert "?database=" in without.message


@pytest.mark.mongodb
@pytest.mark.redis
@pytest.mark.elasticsearch
async def test_health_and_statistics_of_all_three_stores(
    mongodb: MongoDB, redis_server: Redis, elasticsearch_server: Elasticsearch, data: str
) -> None:
    stores = clients(mongodb.uri, redis_server.url, elasticsearch_server.url)
    with over(stores, (data,), data) as rest:
        health = await rest.call("/database/health")
        stats = await rest.call("/database/stats")
    check(health.body, "DatabaseHealthResponse")
    assert health.body["status"] == "healthy", health.body
    services = health.body["services"]
    assert set(services) == {"mongodb", "redis", "elasticsearch"}
    assert services["elasticsearch"]["version"].startswith("8.")
    assert all(0 < part["response_time"] < 1500 and "message" not in part for part in services.values())
    check(stats.body, "DatabaseStatsResponse")
    assert "unavailable" not in stats.body
    with mongodb.client() as client:
        totals = client[data].command("dbStats")
    assert stats.body["mongodb"]["documents"] == totals["objects"] >= 50
    assert stats.body["mongodb"]["collections"] == totals["collections"] >= 2
    assert stats.body["mongodb"]["index_size"] == totals["indexSize"] > 0
    assert stats.body["mongodb"]["operations"]["insert"] >= 50
    assert stats.body["mongodb"]["connections"]["current"] > 0
    assert stats.body["redis"]["used_memory"] > 0
    assert 0 <= stats.body["redis"]["hit_rate"] <= 1
    assert stats.body["elasticsearch"]["nodes"] == 1
    assert stats.body["elasticsearch"]["cluster_status"] in {"green", "yellow"}


@pytest.mark.mongodb
@pytest.mark.redis
async def test_hanging_store_is_unhealthy_within_two_seconds_and_holds_up_nobody(
    mongodb: MongoDB, private_redis: Callable[..., Redis]
) -> None:
    frozen = private_redis()
    with over(clients(mongodb.uri, frozen.url), ("*",)) as rest:
        assert (await rest.call("/database/health")).body["status"] == "healthy"
        frozen.freeze()
        try:
            health = await _until(rest, lambda body: body["services"]["redis"]["status"] == "unhealthy")
            assert health["services"]["mongodb"]["status"] == "healthy"
            assert health["status"] == "degraded"
            assert health["services"]["redis"]["message"]
            stats = await rest.call("/database/stats")
            assert stats.status == 200
            assert set(stats.body["unavailable"]) == {"redis"}
            started = time.monotonic()
            assert (await rest.call("/database/collections")).status == 200
            assert time.monotonic() - started < 2
        finally:
            frozen.thaw()
        await _until(rest, lambda body: body["status"] == "healthy")


@pytest.mark.mongodb
async def test_frozen_mongodb_is_503_with_a_sentence_and_heals(
    private_mongodb: Callable[..., MongoDB],
) -> None:
    frozen = private_mongodb()
    with over(clients(frozen.uri), ("*",), "lucid") as rest:
        assert (await rest.call("/database/health")).status == 200
        assert (await rest.call("/database/collections")).status == 200
        frozen.freeze()
        try:
            started = time.monotonic()
            while (health := await rest.call("/database/health")).status == 200:
                assert time.monotonic() - started < 6
                await asyncio.sleep(0.1)
            assert health.code == "LUCID_ERR_5001"
            started = time.monotonic()
            listed = await rest.call("/database/collections")
            assert listed.status in {503, 504}
            assert listed.code in {"LUCID_ERR_5001", "LUCID_ERR_5007"}
            assert time.monotonic() - started < 12
        finally:
            frozen.thaw()
        started = time.monotonic()
        while (await rest.call("/database/health")).status != 200:
            assert time.monotonic() - started < 30
            await asyncio.sleep(0.2)
        assert (await rest.call("/database/collections")).status == 200


@pytest.mark.mongodb
async def test_replica_set_without_a_member_is_degraded_and_names_it(
    private_mongodb: Callable[..., MongoDB],
) -> None:
    limping = private_mongodb(members=3)
    primary = limping.primary()
    with over(clients(limping.uri), ("*",)) as rest:
        limping.kill(member=next(index for index in range(3) if index != primary))
        health = await _until(rest, lambda body: body["services"]["mongodb"]["status"] == "degraded", 30)
    message = health["services"]["mongodb"]["message"]
    assert any(address in message for address in limping.addresses)


@pytest.mark.mongodb
async def test_refused_login_is_said_without_the_password(private_mongodb: Callable[..., MongoDB]) -> None:
    locked = private_mongodb(auth=True)
    wrong = locked.uri_for("root", "wrong-secret")
    with over(clients(wrong), ("*",)) as rest:
        health = await rest.call("/database/health")
        listed = await rest.call("/database/collections")
    assert (health.status, listed.status) == (503, 503)
    assert "wrong-secret" not in str(health.body) + str(listed.body)
    assert listed.body["error"]["details"]["reason"] == "LoginFailed"


@pytest.mark.mongodb
async def test_login_that_may_only_read_gets_what_it_may_see(private_mongodb: Callable[..., MongoDB]) -> None:
    guarded = private_mongodb(auth=True)
    guarded.create_user("reader", "reader-secret", [("readAnyDatabase", "admin")])
    with guarded.client() as client:
        client["lucid"]["blocks"].insert_one({"height": 1})
    with over(clients(guarded.uri_for("reader", "reader-secret")), ("lucid",), "lucid") as rest:
        health = await rest.call("/database/health")
        stats = await rest.call("/database/stats")
        indexes = await rest.call("/database/collections/blocks/indexes")
    assert (health.status, health.body["status"]) == (200, "healthy")
    assert stats.body["mongodb"]["documents"] == 1
    assert not {"connections", "operations"} & set(stats.body["mongodb"])
    assert indexes.body["indexes"][0]["size"] > 0


async def _until(rest: Rest, wanted: Callable[[dict], bool], deadline: float = 10) -> dict:  # type: ignore[type-arg]
    """The first health that is as wanted; every answer must come within 2 s."""
    end = time.monotonic() + deadline
    while True:
        started = time.monotonic()
        reply = await rest.call("/database/health")
        assert time.monotonic() - started < 2
        body = reply.body if reply.status == 200 else reply.body["error"]["details"]
        if wanted(body):
            return body
        assert time.monotonic() < end, body
        await asyncio.sleep(0.1)
