"""Builds what a Collection's plan is made from; every test says only what matters to it."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from lucid_storage.kinds.collection.desired import CollectionDesired, resolve
from lucid_storage.kinds.collection.observed import CollectionObserved
from lucid_storage.kinds.contract import Scope
from lucid_storage.models.base import Origin
from lucid_storage.models.collection import CollectionSpec, CollectionStatus
from lucid_storage.stores.mongodb.types import (
    CollectionOptions,
    CollectionState,
    CollectionStats,
    ServerInfo,
    Topology,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
UUID = "a" * 32


def server(major: int = 6, minor: int = 0) -> ServerInfo:
    return ServerInfo("set-1", (major, minor, 0), Topology.REPLICA_SET)


def desired(**spec: Any) -> CollectionDesired:
    return resolve(CollectionSpec.model_validate(spec), "users", "app")


def scope(*, settled: bool = False) -> Scope:
    return Scope(now=NOW, settled=settled)


def state(
    options: CollectionOptions | None = None, *, kind: str = "collection", uuid: str = UUID
) -> CollectionState:
    return CollectionState("app", "users", kind, uuid, options or CollectionOptions())


def observed(options: CollectionOptions | None = None, **more: Any) -> CollectionObserved:
    made = CollectionObserved(server(), state(options))
    return replace(made, **more)


def absent() -> CollectionObserved:
    return CollectionObserved(server(), None)


def status(**known: Any) -> CollectionStatus:
    return CollectionStatus(**{"origin": Origin.CREATED, "uuid": UUID, "stats_time": NOW, **known})


def stats(documents: int = 0, size: int = 0) -> CollectionStats:
    return CollectionStats(documents, size, size)
