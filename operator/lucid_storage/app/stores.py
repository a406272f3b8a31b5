"""The three kinds of store, wired: how each is addressed, checked, opened and probed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from lucid_storage.kinds.connections import Engine
from lucid_storage.kinds.restore.server import OpenRestores
from lucid_storage.models.settings import Settings, StoreSettings
from lucid_storage.stores.elasticsearch.port import ElasticPort
from lucid_storage.stores.endpoints import check_mongodb, check_url
from lucid_storage.stores.mongodb.adapter import MongoDeployment
from lucid_storage.stores.mongodb.port import MongoPort
from lucid_storage.stores.mongodb.restore.adapter import MongoRestores
from lucid_storage.stores.redis.port import RedisPort

APP_NAME = "lucid-storage"


@dataclass(frozen=True, slots=True)
class StoreEngines:
    mongodb: Engine[MongoPort]
    redis: Engine[RedisPort]
    elasticsearch: Engine[ElasticPort]


def restores(guard: Callable[[], None]) -> OpenRestores:
    """How the server that a Restore writes to is opened. `guard` is asked before every write."""
    return lambda uri, label: MongoRestores(uri, label=_mongodb(label), app_name=APP_NAME, guard=guard)


def store_engines(settings: Settings, guard: Callable[[], None]) -> StoreEngines:
    """`guard` is asked before every write to a store."""
    loopback = settings.allow_loopback
    return StoreEngines(
        mongodb=Engine(
            name="mongodb",
            title="MongoDB",
            variable="MONGODB_URI",
            address=StoreSettings.mongodb,
            check=partial(check_mongodb, allow_loopback=loopback),
            open=lambda uri, label: MongoDeployment(
                uri, label=_mongodb(label), app_name=APP_NAME, guard=guard
            ),
            probe=lambda port: port.info(),
        ),
        redis=Engine(
            name="redis",
            title="Redis",
            variable="REDIS_URL",
            address=StoreSettings.redis,
            check=lambda url: check_url(
                url, frozenset({"redis", "rediss"}), "REDIS_URL", allow_loopback=loopback
            ),
            open=lambda url, label: _redis(url, label, guard),
            probe=lambda port: port.info(),
        ),
        elasticsearch=Engine(
            name="elasticsearch",
            title="Elasticsearch",
            variable="ELASTICSEARCH_URL",
            address=StoreSettings.elasticsearch,
            check=lambda url: check_url(
                url, frozenset({"http", "https"}), "ELASTICSEARCH_URL", allow_loopback=loopback
            ),
            open=lambda url, label: _elasticsearch(url, label, guard),
            probe=lambda port: port.info(),
        ),
    )


def _mongodb(label: str) -> str:
    """How sentences about it begin: a resource can use a MongoDB and a Redis with the same credentials."""
    return f"MongoDB ({label})"


# The two drivers take 12 MiB and a third of a second, or a second and a half on a Raspberry Pi: they are imported when
# the first server of their kind is opened, and never by an operator that serves MongoDB alone.


def _redis(url: str, label: str, guard: Callable[[], None]) -> RedisPort:
    from lucid_storage.stores.redis.adapter import RedisDeployment

    return RedisDeployment(url, label=label, guard=guard)


def _elasticsearch(url: str, label: str, guard: Callable[[], None]) -> ElasticPort:
    from lucid_storage.stores.elasticsearch.adapter import ElasticCluster

    return ElasticCluster(url, label=label, guard=guard)
