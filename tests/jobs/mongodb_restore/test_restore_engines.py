"""Redis and Elasticsearch come back with the same worker, each from its nearest full."""

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
