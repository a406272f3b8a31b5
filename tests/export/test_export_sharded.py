"""Shard keys as resources: what is exported of a sharded collection declares exactly what is there."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_export_on_servers import exported, files

from lucid_storage.app.stores import store_engines
from lucid_storage.kinds.contract import Scope
from lucid_storage.kinds.export.shardedcollection import sharded_manifest
from lucid_storage.kinds.shardedcollection.desired import resolve
from lucid_storage.kinds.shardedcollection.observed import ShardedObserved
from lucid_storage.kinds.shardedcollection.plan import plan
from lucid_storage.models.settings import Settings
from lucid_storage.models.shardedcollection import ShardedCollectionSpec, ShardedCollectionStatus
from lucid_storage.stores.mongodb.sharding.types import KeyRange, ShardedState, ZoneState

EU = KeyRange({"region": "EU", "n": {"$minKey": 1}}, {"region": "EV", "n": {"$numberLong": "5"}})


def state(**more: Any) -> ShardedState:
    known: dict[str, Any] = {"key": (("region", 1), ("n", "hashed")), "unique": False, "balancing": True}
    return ShardedState("shop", "orders", "a" * 32, **{**known, **more})


def test_only_what_differs_from_the_servers_default_is_written() -> None:
    made, skipped = sharded_manifest(state(), (), None)
    assert made is not None
    assert made["spec"] == {
        "database": "shop",
        "collection": "orders",
        "shardKey": [{"field": "region", "order": 1}, {"field": "n", "order": "hashed"}],
    }
    assert not skipped


def test_zones_keep_the_types_of_their_bounds() -> None:
    zones = (ZoneState("europe", ("s0", "s1"), (EU,)),)
    made, _ = sharded_manifest(state(balancing=False), zones, "lucid")
    assert made is not None
    spec = ShardedCollectionSpec.model_validate(made["spec"])
    desired = resolve(spec, "shop")
    assert desired.balancing is False
    assert desired.zones is not None
    assert desired.zones[0].shards == {"s0", "s1"}
    assert desired.zones[0].ranges == (EU,)


def test_a_key_that_cannot_be_declared_is_listed_as_left_out() -> None:
    made, skipped = sharded_manifest(state(key=(("region", -1),)), (), None)
    assert made is None
    assert [entry.what for entry in skipped] == ["shard key of shop.orders"]


@pytest.mark.mongodb
async def test_what_is_exported_of_a_sharded_database_declares_exactly_what_is_there(
    sharded: Any, sharded_database: str, tmp_path: Path
) -> None:
    name, shard = sharded_database, sharded.shard_names[0]
    zone = f"zone-{name}"
    with sharded.client() as client:
        admin = client.admin
        admin.command({"enableSharding": name})
        admin.command({"shardCollection": f"{name}.orders", "key": {"region": 1}, "unique": True})
        admin.command({"shardCollection": f"{name}.events", "key": {"user": "hashed"}})
        admin.command({"addShardToZone": shard, "zone": zone})
        bounds = {"min": {"region": "A"}, "max": {"region": "M"}}
        admin.command({"updateZoneKeyRange": f"{name}.orders", **bounds, "zone": zone})
        client[name].create_collection("plain")
    try:
        environment = {"MONGODB_URI": sharded.uri}
        left_out = exported(name, tmp_path / "first", **environment)
        assert "shard key" not in left_out
        exported(name, tmp_path / "second", **environment)
        assert files(tmp_path / "first") == files(tmp_path / "second")
        read = [d for f in (tmp_path / "first").glob("*.yaml") for d in yaml.safe_load_all(f.read_text())]
        specs = {d["spec"]["collection"]: d["spec"] for d in read if d["kind"] == "ShardedCollection"}
        assert sorted(specs) == ["events", "orders"]
        assert specs["orders"]["zones"][0]["ranges"] == [bounds]
        for spec in specs.values():
            await _nothing_to_do(sharded.uri, ShardedCollectionSpec.model_validate(spec))
    finally:
        with sharded.client() as client:
            client.admin.command(
                {
                    "updateZoneKeyRange": f"{name}.orders",
                    "min": {"region": "A"},
                    "max": {"region": "M"},
                    "zone": None,
                }
            )
            client.admin.command({"removeShardFromZone": shard, "zone": zone})


async def _nothing_to_do(uri: str, spec: ShardedCollectionSpec) -> None:
    assert spec.database is not None
    port = store_engines(Settings.read({}), lambda: None).mongodb.open(uri, "MONGODB_URI")
    try:
        database, name, sharding = spec.database, spec.collection, port.sharding
        observed = ShardedObserved(
            await port.info(),
            await sharding.cluster(),
            await port.collection(database, name),
            await sharding.sharded(database, name),
            zones=await sharding.zones(database, name),
        )
    finally:
        await port.close()
    made = plan(
        resolve(spec, database), observed, ShardedCollectionStatus(), Scope(datetime.now(UTC), settled=False)
    )
    assert made.verdict is None
    assert not made.actions
