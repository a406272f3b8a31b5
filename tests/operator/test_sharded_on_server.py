"""Sharded collections, reconciled by the operator process on a real sharded cluster and a real API server."""

import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from operator_bed import index_spec, indexes, noted, said
from pymongo.database import Database
from sharded_bed import KIND, Cluster, entry, spec

from lucid_storage.models.meta import ACCEPT_SHARD_KEY, BACKED_UP_AT
from testbed.cluster.controlplane import ControlPlane
from testbed.pytest_operator import World

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]


@pytest.fixture
def db(sharded_db: Database[Any]) -> Database[Any]:
    return sharded_db


def lying(sharded: Cluster, db: Database[Any], collection: str) -> dict[str, int]:
    """Documents by shard, counted on each shard itself."""
    found = {}
    for shard in sharded.shard_names:
        with sharded.shard_client(shard) as client:
            found[shard] = client[db.name][collection].count_documents({})
    return {shard: count for shard, count in found.items() if count}


def columns(plane: ControlPlane, world: World, name: str) -> list[str]:
    """What `kubectl get` shows between NAME and AGE."""
    command = [plane.kubectl, f"--kubeconfig={plane.kubeconfig}", f"--namespace={world.namespace}"]
    command += ["get", "shardedcollection", name, "--no-headers"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[1:-1]


def told(status: dict[str, Any], figure: str) -> dict[str, int]:
    return {one["name"]: one[figure] for one in status["shards"] if one.get(figure)}


async def test_a_new_collection_is_sharded_and_its_documents_lie_where_status_says(
    sharded_world: World, sharded: Cluster, db: Database[Any], control_plane: ControlPlane
) -> None:
    hashed = ("session_id", "hashed")
    sharded_world.start_operator()
    declared = spec("chunks", hashed, numInitialChunks=4, deletionPolicy="Delete")
    await sharded_world.create(KIND, "chunks", declared)
    status = await sharded_world.ready(KIND, "chunks")
    assert entry(db, "chunks")["key"] == {"session_id": "hashed"}
    assert (status["key"], status["shardCount"], status["chunks"]) == ("session_id:hashed", 2, 4)
    assert status["balanced"] == "True"
    assert told(status, "chunks") == dict.fromkeys(sharded.shard_names, 2)
    db.chunks.insert_many([{"session_id": number} for number in range(400)])
    on_shards = lying(sharded, db, "chunks")
    assert sum(on_shards.values()) == 400
    assert len(on_shards) == 2, "documents went to both sides"
    await sharded_world.delete(KIND, "chunks")
    assert entry(db, "chunks")["key"] == {"session_id": "hashed"}, "sharding cannot be undone"
    await sharded_world.create(KIND, "adopted", spec("chunks", hashed))
    status = await sharded_world.ready(KIND, "adopted")
    assert told(status, "documents") == on_shards
    for reason, words in (("Sharded", "is sharded by"), ("Deleted", "stays sharded by")):
        assert words in (await noted(sharded_world, "chunks", reason))["note"]
    shown = columns(control_plane, sharded_world, "adopted")
    assert shown == [f"{db.name}.chunks", "session_id:hashed", "2", "4", "True", "True"]


async def test_a_key_is_examined_and_refined_only_when_that_is_allowed(
    sharded_world: World, sharded: Cluster, db: Database[Any]
) -> None:
    db.orders.insert_many([{"region": "EU", "order_id": number} for number in range(300)])
    sharded_world.start_operator()
    await sharded_world.create(KIND, "orders", spec("orders", ("region", 1)))
    condition = await sharded_world.refused(KIND, "orders", "SupportingIndexMissing")
    assert "keys: [{field: region, order: 1}]" in condition["message"]
    await sharded_world.create("Index", "region", index_spec("orders", ("region", 1)))
    condition = await sharded_world.refused(KIND, "orders", "PoorShardKey")
    assert ACCEPT_SHARD_KEY in condition["message"]
    status = (await sharded_world.get(KIND, "orders"))["status"]
    assert status["preflight"]["verdict"] == "Poor"
    assert "EU" not in str(status), "no value of a document"
    assert entry(db, "orders") == {}
    accepted = {"metadata": {"annotations": {ACCEPT_SHARD_KEY: "region:1"}}}
    await sharded_world.patch(KIND, "orders", accepted)
    await sharded_world.ready(KIND, "orders")
    assert entry(db, "orders")["key"] == {"region": 1}
    both = spec("orders", ("region", 1), ("order_id", 1))
    await sharded_world.patch(KIND, "orders", {"spec": both})
    condition = await sharded_world.refused(KIND, "orders", "KeyDiffers")
    for part in ("region:1, order_id:1", "changePolicy: Refine", "changePolicy: Reshard"):
        assert part in condition["message"]
    await sharded_world.create("Index", "both", index_spec("orders", ("region", 1), ("order_id", 1)))
    await sharded_world.patch(KIND, "orders", {"spec": {"changePolicy": "Refine"}})
    status = await sharded_world.ready(KIND, "orders")
    assert entry(db, "orders")["key"] == {"region": 1, "order_id": 1}
    assert status["key"] == "region:1, order_id:1"
    needed = said(await sharded_world.get(KIND, "orders"), "BackupNeeded")
    assert (needed["status"], needed["reason"]) == ("True", "ShardKeyChanged")
    assert (await noted(sharded_world, "orders", "ShardKeyChanged"))["type"] == "Warning"
    began = (datetime.now(UTC) + timedelta(seconds=5)).isoformat()
    annotations = {BACKED_UP_AT: began}
    await sharded_world.patch(KIND, "orders", {"metadata": {"annotations": annotations}})

    async def cleared() -> bool:
        resource = await sharded_world.get(KIND, "orders")
        return said(resource, "BackupNeeded").get("status") == "False"

    await sharded_world.until(cleared, 15, "the need of a backup to be over")
    assert sum(lying(sharded, db, "orders").values()) == 300


@pytest.mark.usefixtures("resharding_alone")
async def test_an_operator_killed_while_resharding_recognises_it_and_ends_the_work_once(
    sharded_world: World, sharded: Cluster, db: Database[Any]
) -> None:
    # The killed one does not give its lease back, which is not what is tested here.
    sharded_world.environment["LEADER_ELECTION"] = "false"
    operator = sharded_world.start_operator()
    await sharded_world.create(KIND, "events", spec("events", ("kind", 1)))
    await sharded_world.ready(KIND, "events")
    db.events.insert_many([{"kind": number % 40, "user": number} for number in range(300)])
    db.events.create_index([("user", "hashed")])
    before = entry(db, "events")["uuid"]
    sharded.fail_point("config", "reshardingPauseCoordinatorBeforeCloning", on=True)
    try:
        changed = spec("events", ("user", "hashed"), changePolicy="Reshard")
        await sharded_world.patch(KIND, "events", {"spec": changed})
        await sharded_world.refused(KIND, "events", "Resharding")
        operator.kill()
        sharded_world.start_operator()
        condition = await sharded_world.refused(KIND, "events", "Resharding")
        assert "user:hashed" in condition["message"]
    finally:
        sharded.fail_point("config", "reshardingPauseCoordinatorBeforeCloning", on=False)
    status = await sharded_world.ready(KIND, "events", 60)
    assert status["key"] == "user:hashed"
    assert entry(db, "events")["key"] == {"user": "hashed"}
    assert entry(db, "events")["uuid"] != before
    assert "operation" not in status
    assert said(await sharded_world.get(KIND, "events"), "BackupNeeded")["status"] == "True"
    on_shards = lying(sharded, db, "events")
    assert sum(on_shards.values()) == 300
    assert told(status, "documents") == on_shards
    log = "\n".join(made.log for made in sharded_world.operators)
    assert log.count(f"reshard {db.name}.events by user:hashed") == 1


async def test_zones_and_balancing_are_as_declared_and_put_right(
    sharded_world: World, sharded: Cluster, db: Database[Any]
) -> None:
    second = sharded.shard_names[1]
    zone = f"zone-{db.name}"
    ranges = [{"min": {"region": {"$minKey": 1}}, "max": {"region": "M"}}]
    zones = [{"name": zone, "shards": [second], "ranges": ranges}]
    sharded_world.start_operator()
    declared = spec("orders", ("region", 1), zones=zones, balancing={"enabled": True})
    await sharded_world.create(KIND, "orders", declared)
    await sharded_world.ready(KIND, "orders")
    tags = list(db.client.config.tags.find({"ns": f"{db.name}.orders"}))
    assert [(tag["tag"], tag["max"]) for tag in tags] == [(zone, {"region": "M"})]

    async def placed() -> bool:
        status = (await sharded_world.get(KIND, "orders"))["status"]
        return status.get("balanced") == "True" and second in told(status, "chunks")

    await sharded_world.until(placed, 40, "the balancer to move the zone's chunks")
    db.orders.insert_many([{"region": "A"} for _ in range(50)])
    assert lying(sharded, db, "orders") == {second: 50}
    namespace = f"{db.name}.orders"
    db.client.admin.command(
        {"updateZoneKeyRange": namespace, "min": tags[0]["min"], "max": tags[0]["max"], "zone": None}
    )

    async def back() -> bool:
        return db.client.config.tags.count_documents({"ns": namespace}) == 1

    await sharded_world.until(back, 20, "the range to be put back")
    await sharded_world.patch(KIND, "orders", {"spec": {"zones": []}})
    await sharded_world.ready(KIND, "orders")
    assert db.client.config.tags.count_documents({"ns": namespace}) == 0
    await sharded_world.patch(KIND, "orders", {"spec": {"balancing": {"enabled": False}}})
    status = await sharded_world.ready(KIND, "orders")
    assert status["balanced"] == "Off"
    assert entry(db, "orders")["noBalance"] is True
    with sharded.client() as client:
        client.admin.command({"removeShardFromZone": second, "zone": zone})


async def test_conflicts_refusals_and_neighbours_of_a_shard_key(
    sharded_world: World, db: Database[Any]
) -> None:
    db.create_collection("log", capped=True, size=4096)
    db.create_collection("seen", viewOn="log", pipeline=[])
    sharded_world.start_operator()
    await sharded_world.create(KIND, "users", spec("users", ("tenant", 1), ("user_id", 1), unique=True))
    await sharded_world.create("Collection", "users", {"validator": {"tenant": {"$exists": True}}})
    for name in ("log", "seen"):
        await sharded_world.create(KIND, name, spec(name, ("a", 1)))
    await sharded_world.create(KIND, "younger", spec("users", ("other", 1)))
    await sharded_world.ready("Collection", "users")
    await sharded_world.ready(KIND, "users")
    assert entry(db, "users")["unique"] is True
    await sharded_world.create("Index", "email", index_spec("users", ("email", 1), options={"unique": True}))
    condition = await sharded_world.refused(KIND, "younger", "Conflict")
    assert "/users" in condition["message"]
    for name in ("log", "seen"):
        await sharded_world.refused(KIND, name, "NotShardable")
    condition = await sharded_world.refused("Index", "email", "ServerRefused")
    assert "shard key" in condition["message"]
    assert "users_email_1" not in indexes(db, "users")
    keys = (("tenant", 1), ("user_id", 1), ("email", 1))
    await sharded_world.create("Index", "fits", index_spec("users", *keys, options={"unique": True}))
    await sharded_world.ready("Index", "fits")
    await sharded_world.patch("Collection", "users", {"spec": {"validationAction": "warn"}})
    await sharded_world.ready("Collection", "users")
