"""Redis and Elasticsearch come back with the same worker, each from its nearest full."""

import random
from collections.abc import Callable, Iterator

import pytest
from test_restore_worker import documents, restore, swap
from workshop import Workshop, only

from lucid_storage.errors import Reason
from testbed.stores.mongodb import MongoDB
from testbed.stores.redis import Redis

pytestmark = [pytest.mark.mongodb, pytest.mark.redis]


@pytest.fixture
def own_redis(private_redis: Callable[..., Redis]) -> Iterator[Redis]:
    yield private_redis()


async def test_both_stores_come_back_from_one_backup(
    mongodb: MongoDB, own_redis: Redis, workshop: Callable[..., Workshop], database: str
) -> None:
    shop = workshop(MONGODB_URI=mongodb.uri, REDIS_URL=own_redis.url)
    with mongodb.client() as client, own_redis.client() as redis:
        client[database].a.insert_many([{"_id": n} for n in range(10)])
        redis.mset({f"user:{n}": n for n in range(50)})
        full = shop.back_up("full", ["mongodb", "redis"], **only(database))
        assert full.ok, full.message
        before = documents(client, database)
        client[database].a.delete_many({})
        redis.flushall()
        redis.set("user:1", "newer")
        told = restore(shop, full.id, engines=["mongodb", "redis"])
        assert told.ok, told.message
        assert [(e.engine, e.ok, e.documents) for e in told.engines] == [("redis", True, 49)]
        assert redis.get("user:1") in (b"newer", "newer")
        assert redis.dbsize() == 50
        await swap(mongodb.uri, told)
        assert documents(client, database) == before


@pytest.mark.parametrize("told_by", ["plan", "file"])
def test_in_place_nothing_of_mongodb_is_touched_before_redis_was_looked_at(
    mongodb: MongoDB, own_redis: Redis, workshop: Callable[..., Workshop], database: str, told_by: str
) -> None:
    shop = workshop(MONGODB_URI=mongodb.uri, REDIS_URL=own_redis.url)
    in_place = {"engines": ["mongodb", "redis"], "inPlace": True, "dropExisting": True}
    with mongodb.client() as client, own_redis.client() as redis:
        client[database].a.insert_many([{"_id": n} for n in range(10)])
        redis.mset({f"user:{n}": random.randbytes(1000) for n in range(2000)})
        full = shop.back_up("full", ["mongodb", "redis"], **only(database))
        assert full.ok, full.message
        redis.flushall()
        client[database].a.delete_many({})
        client[database].a.insert_one({"_id": "of today"})
        before = documents(client, database)
        full_by = 1 if told_by == "plan" else int(redis.info("memory")["used_memory"]) + 500_000
        redis.config_set("maxmemory", full_by)
        planned = restore(shop, full.id, planOnly=True, **in_place)
        assert planned.plan is not None, planned.message
        if told_by == "plan":
            assert planned.plan.blocked_reason is Reason.NOT_ENOUGH_SPACE
            assert "Redis" in (planned.plan.blocked_by or "")
        told = restore(shop, full.id, **in_place)
        assert (told.ok, told.reason) == (False, Reason.NOT_ENOUGH_SPACE)
        assert "nothing was written to Redis" in told.message
        assert "incomplete" not in told.message
        assert documents(client, database) == before
        redis.config_set("maxmemory", 0)
        again = restore(shop, full.id, **in_place)
        assert (again.ok, redis.dbsize()) == (True, 2000), again.message


def test_what_a_redis_is_not_fit_for_blocks_the_plan(
    own_redis: Redis, private_redis: Callable[..., Redis], workshop: Callable[..., Workshop]
) -> None:
    shop = workshop(REDIS_URL=own_redis.url)
    with own_redis.client() as redis:
        redis.mset({f"user:{n}": n for n in range(50)})
    full = shop.back_up("full", ["redis"])
    for url, reason, words in (
        (private_redis(replica_of=own_redis).url, Reason.STORE_UNAVAILABLE, "read-only replica"),
        (private_redis(options={"cluster-enabled": "yes"}).url, Reason.NOT_SUPPORTED, "Cluster mode"),
        (own_redis.url.replace("redis://", "redis://nobody:x@"), Reason.LOGIN_FAILED, "refused the login"),
        ("redis://127.0.0.1:1", Reason.STORE_UNAVAILABLE, "refuses connections"),
    ):
        shop.environ["REDIS_URL"] = url
        planned = restore(shop, full.id, engines=["redis"], planOnly=True)
        assert planned.plan is not None, planned.message
        assert planned.plan.blocked_reason is reason
        assert words in (planned.plan.blocked_by or "")


def test_redis_alone_needs_no_mongodb(own_redis: Redis, workshop: Callable[..., Workshop]) -> None:
    shop = workshop(REDIS_URL=own_redis.url)
    with own_redis.client() as redis:
        redis.mset({f"user:{n}": n for n in range(50)})
        full = shop.back_up("full", ["redis"])
        redis.flushall()
        planned = restore(shop, full.id, engines=["redis"], planOnly=True)
        assert planned.plan is not None
        assert [(t.target, t.documents) for t in planned.plan.targets] == [("redis keys", 50)]
        assert redis.dbsize() == 0
        told = restore(shop, full.id, engines=["redis"])
        assert (told.ok, told.databases) == (True, ()), told.message
        assert redis.dbsize() == 50


def test_an_engine_that_the_backup_lacks_is_said(
    mongodb: MongoDB, workshop: Callable[..., Workshop], database: str
) -> None:
    shop = workshop(MONGODB_URI=mongodb.uri, REDIS_URL="redis://127.0.0.1:1")
    with mongodb.client() as client:
        client[database].a.insert_one({"_id": 1})
    full = shop.back_up("full", ["mongodb"], **only(database))
    told = restore(shop, full.id, engines=["mongodb", "redis"])
    assert (told.ok, told.reason) == (False, Reason.RESTORE_BLOCKED)
