"""The REST API, wired: its own thread, its own connections, made when they are first needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from lucid_storage.errors import LeadershipLostError
from lucid_storage.kinds.metrics import Metrics
from lucid_storage.kube.authz import AccessReviews
from lucid_storage.kube.client import Kube, load_configuration
from lucid_storage.models.settings import Settings
from lucid_storage.restapi.app import create_app
from lucid_storage.restapi.auth import ApiKeySecret, Auth
from lucid_storage.restapi.backend import StoreAccess
from lucid_storage.restapi.server import RestServer
from lucid_storage.restapi.store_backend import StoreBackend, StoreClients
from lucid_storage.stores.mongodb.adapter import MongoDeployment
from lucid_storage.stores.statistics import ElasticStatistics, MongoStatistics, RedisStatistics

API_KEYS_SECRET = "lucid-storage-api-keys"  # noqa: S105 - the name of a Secret
APP_NAME = "lucid-storage-rest"

C = TypeVar("C")


def rest_server(settings: Settings, metrics: Metrics) -> RestServer:
    """Not started. It serves on every replica, the standing-by ones too: it only reads."""
    app = create_app(
        StoreBackend(_clients(settings), lambda namespace: _access(settings, namespace)),
        Auth(_reviews, api_keys=ApiKeySecret(settings.operator_namespace, API_KEYS_SECRET)),
        namespace=settings.operator_namespace,
        observe=lambda method, route, status, seconds: metrics.rest_seconds.labels(
            method, route, str(status)
        ).observe(seconds),
    )
    return RestServer(app, settings.rest_host, settings.rest_port)


async def _reviews() -> AccessReviews:
    return AccessReviews(Kube(await load_configuration(), pool_size=4))


def _access(settings: Settings, namespace: str) -> StoreAccess | None:
    served = settings.served(namespace)
    if served is None:
        return None
    return StoreAccess(namespace, served.databases, settings.mongodb_database)


def _clients(settings: Settings) -> StoreClients:
    mongodb, redis, elasticsearch = settings.mongodb(), settings.redis(), settings.elasticsearch()
    return StoreClients(
        mongodb=_made(
            mongodb, lambda uri: MongoDeployment(uri, label="rest", app_name=APP_NAME, guard=_never)
        ),
        mongodb_statistics=_made(mongodb, MongoStatistics),
        redis_statistics=_made(redis, RedisStatistics),
        elasticsearch_statistics=_made(elasticsearch, ElasticStatistics),
    )


def _made(address: str | None, make: Callable[[str], C]) -> Callable[[], C] | None:
    return None if address is None else lambda: make(address)


def _never() -> None:
    raise LeadershipLostError("the REST API of this version only reads")
