"""manifests/lucid on real servers: the API server takes it, MongoDB builds it, validators tell good from bad."""

import subprocess
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import yaml
from lucid_layer import FOLDER, documents, layer, schema, valid_document, wrong_value
from pymongo import WriteConcern
from pymongo.database import Database
from pymongo.errors import WriteError

from lucid_storage.kinds.collection.desired import CollectionDesired
from lucid_storage.stores.mongodb.adapter import MongoDeployment
from testbed.cluster.controlplane import ControlPlane
from testbed.pytest_operator import World
from testbed.stores.elasticsearch import Elasticsearch
from testbed.stores.mongodb import MongoDB
from testbed.stores.redis import Redis

VALIDATED = sorted(name for name, c in layer().collections.items() if c.options.validator)


def rendered(plane: ControlPlane) -> list[dict[str, Any]]:
    """What `kubectl apply -k` would send."""
    command = [plane.kubectl, "kustomize", FOLDER]
    return list(
        yaml.safe_load_all(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    )


def apply(plane: ControlPlane, resources: list[dict[str, Any]]) -> str:
    command = [plane.kubectl, f"--kubeconfig={plane.kubeconfig}", "apply", "--validate=strict", "-f", "-"]
    done = subprocess.run(
        command, input=yaml.safe_dump_all(resources), check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


@pytest.mark.apiserver
async def test_one_kustomization_holds_all_of_it_in_one_namespace(control_plane: ControlPlane) -> None:
    resources = rendered(control_plane)
    assert len(resources) == len(documents())
    assert {r["metadata"].get("namespace") for r in resources if r["kind"] != "Namespace"} == {"lucid"}
    assert [r["metadata"]["name"] for r in resources if r["kind"] == "Namespace"] == ["lucid"]


@pytest.mark.apiserver
async def test_the_api_server_takes_every_resource_strictly(
    control_plane: ControlPlane, world: World
) -> None:
    resources = [r for r in rendered(control_plane) if r["kind"] != "Namespace"]
    for resource in resources:
        resource["metadata"]["namespace"] = world.namespace
    said = apply(control_plane, resources)
    assert said.count(" created") == len(resources)


@pytest.fixture
async def built(mongodb: MongoDB, database: str) -> AsyncIterator[Database[Any]]:
    """All collections and indexes of the layer in a database of its own, made by the adapter."""
    deployment = MongoDeployment(mongodb.uri, label="test", app_name="lucid-test", guard=lambda: None)
    for collection in layer().collections.values():
        assert await deployment.create_collection(database, collection.name, collection.options)
    for index in layer().indexes.values():
        await deployment.create_index(database, index.collection, index.name, index.definition)
    await deployment.close()
    with mongodb.client() as client:
        yield client[database].with_options(write_concern=WriteConcern(w=1))


@pytest.mark.mongodb
async def test_validators_and_indexes_hold_on_a_real_server(built: Database[Any]) -> None:
    for collection in layer().collections.values():
        names = {i.name for i in layer().indexes.values() if i.collection == collection.name}
        on_server = set(built[collection.name].index_information())
        assert on_server - {"_id_"} == names, collection.name
    for name in VALIDATED:
        _good_and_bad(built, layer().collections[name])


def _good_and_bad(db: Database[Any], collection: CollectionDesired) -> None:
    target = db[collection.name]
    for everything in (False, True):
        document = valid_document(collection, everything=everything)
        target.insert_one(document)
        target.delete_one({"_id": document["_id"]})
    rules = schema(collection)["properties"]
    for field, rule in rules.items():
        broken = {**valid_document(collection, everything=True), field: wrong_value(rule)}
        with pytest.raises(WriteError, match="failed validation"):
            target.insert_one(broken)
    for field in schema(collection)["required"]:
        lacking = valid_document(collection, everything=True)
        del lacking[field]
        with pytest.raises(WriteError, match="failed validation"):
            target.insert_one(lacking)


@pytest.mark.mongodb
async def test_a_document_from_before_the_validator_can_still_be_changed(built: Database[Any]) -> None:
    """The reason for validationLevel moderate."""
    old = {"_id": 1, "user_id": "u", "email": "e@example.org", "username": "n"}
    built.get_collection("users").insert_one(old, bypass_document_validation=True)
    built.users.update_one({"_id": 1}, {"$set": {"username": "other"}})
    found = built.users.find_one({"_id": 1})
    assert found is not None
    assert found["username"] == "other"


@pytest.mark.mongodb
async def test_metrics_are_a_time_series(built: Database[Any]) -> None:
    (found,) = built.list_collections(filter={"name": "metrics"})
    assert found["type"] == "timeseries"
    assert found["options"]["expireAfterSeconds"] == 30 * 86_400


@pytest.fixture
def all_stores(
    world: World, mongodb: MongoDB, redis_server: Redis, elasticsearch_server: Elasticsearch, database: str
) -> Iterator[World]:
    world.environment |= {
        "MONGODB_URI": mongodb.uri,
        "REDIS_URL": redis_server.url,
        "ELASTICSEARCH_URL": elasticsearch_server.url,
        "BACKUP_STORAGE_TYPE": "volume",
        "BACKUP_STORAGE_CLAIM": "backups",
    }
    yield world
    for operator in world.operators:
        operator.stop()


@pytest.mark.mongodb
@pytest.mark.redis
@pytest.mark.elasticsearch
@pytest.mark.apiserver
async def test_the_whole_layer_becomes_ready_and_its_ttls_are_enforced(
    all_stores: World,
    control_plane: ControlPlane,
    redis_server: Redis,
    elasticsearch_server: Elasticsearch,
    database: str,
    index_prefix: str,
    key_prefix: str,
) -> None:
    resources = [r for r in rendered(control_plane) if r["kind"] != "Namespace"]
    for resource in resources:
        resource["metadata"]["namespace"] = all_stores.namespace
        _moved(resource["spec"], database, index_prefix, key_prefix)
    apply(control_plane, resources)
    all_stores.start_operator(CACHE_SCAN_SECONDS="5")
    for resource in resources:
        await all_stores.ready(resource["kind"], resource["metadata"]["name"], 120)
    for entity in ("audit-logs", "blocks", "manifests", "sessions", "transactions", "users"):
        assert elasticsearch_server.request("GET", f"/_alias/{index_prefix}lucid-{entity}")
    with redis_server.client() as client:
        client.set(f"{key_prefix}lucid:lock:payment:tx789", "held")
        client.set(f"{key_prefix}lucid:user:u1", "kept")

        async def enforced() -> bool:
            return 0 < client.ttl(f"{key_prefix}lucid:lock:payment:tx789") <= 30

        await all_stores.until(enforced, 40, "the lock to get its TTL")
        assert client.ttl(f"{key_prefix}lucid:user:u1") == -1


def _moved(spec: dict[str, Any], database: str, index_prefix: str, key_prefix: str) -> None:
    """Into names of this test's own: the servers are shared."""
    for holder in (spec, spec.get("mongodb", {})):
        if "database" in holder:
            holder["database"] = database
    for space in spec.get("cache", []):
        space["keyPattern"] = key_prefix + space["keyPattern"]
    if "elasticsearch" in spec:
        spec["elasticsearch"]["pattern"] = index_prefix + spec["elasticsearch"]["pattern"]
