"""Builds what an Index's plan is made from; every test says only what matters to it."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from lucid_storage.kinds.contract import Scope
from lucid_storage.kinds.index_mongodb.desired import IndexDesired, resolve
from lucid_storage.kinds.index_mongodb.observed import IndexObserved
from lucid_storage.models.base import Origin
from lucid_storage.models.index import IndexSpec, IndexStatus
from lucid_storage.stores.mongodb.types import IndexDefinition, IndexState, ServerInfo, Topology

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
EMAIL = (("email", 1),)
NAME = "users_email_1"


def server(major: int = 6, minor: int = 0) -> ServerInfo:
    return ServerInfo("set-1", (major, minor, 0), Topology.REPLICA_SET)


def desired(top: dict[str, Any] | None = None, **index: Any) -> IndexDesired:
    block = {"collection": "users", "keys": [{"field": "email", "order": 1}], **index}
    spec = IndexSpec.model_validate({"engine": "mongodb", "mongodb": block, **(top or {})})
    assert spec.mongodb is not None
    return resolve(spec, spec.mongodb, "app")


def index(name: str = NAME, **definition: Any) -> IndexState:
    building = definition.pop("building", False)
    preparing = definition.pop("prepare_unique", False)
    made = IndexDefinition(**{"keys": EMAIL, **definition})
    return IndexState(name, made, building=building, prepare_unique=preparing)


def observed(*indexes: IndexState, **more: Any) -> IndexObserved:
    primary = IndexState("_id_", IndexDefinition((("_id", 1),)))
    return replace(IndexObserved(server(), (primary, *indexes)), **more)


def scope(*, settled: bool = False) -> Scope:
    return Scope(now=NOW, settled=settled)


def status(**known: Any) -> IndexStatus:
    fields = {"index_name": NAME, "origin": Origin.CREATED, "observed_generation": 2, **known}
    return IndexStatus(**fields)


def fresh() -> IndexStatus:
    return IndexStatus(observed_generation=1)
