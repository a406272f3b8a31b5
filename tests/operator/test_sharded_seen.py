"""What others do to sharded collections is seen: at once where the servers tell it, else by the next look. What nobody
changed is left alone.
"""

from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest
from operator_bed import noted, one_more_look, said, version
from pymongo.database import Database
from sharded_bed import KIND, Cluster, entry, spec

from lucid_storage.models.meta import BACKED_UP_AT
from testbed.pytest_operator import OperatorProcess, World

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]

NEVER = {"FALLBACK_SWEEP_SECONDS": "3600", "SWEEP_SECONDS": "3600"}
STREAM_SECONDS, ROUTER_STREAM_SECONDS = 2.0, 15.0
"""A mongos tells an event when every other shard, and the config server, wrote something later: every 10 s at least."""
LOOKS = 6


@pytest.fixture
def db(sharded_db: Database[Any]) -> Database[Any]:
    return sharded_db


@pytest.fixture
def zone(sharded: Cluster, db: Database[Any]) -> Iterator[str]:
    """The name of a zone that has the first shard; it has none afterwards."""
    name = f"zone-{db.name}"
    first = sharded.shard_names[0]
    with sharded.client() as client:
        client.admin.command({"addShardToZone": first, "zone": name})
        yield name
        for tag in client.config.tags.find({"tag": name}):
            bounds = {"min": tag["min"], "max": tag["max"], "zone": None}
            client.admin.command({"updateZoneKeyRange": tag["ns"], **bounds})
        for shard in client.config.shards.find({"tags": name}):
            client.admin.command({"removeShardFromZone": shard["_id"], "zone": name})


def zoned(name: str, shard: str) -> list[dict[str, Any]]:
    """A zone of all regions before M, on one shard."""
    return [
        {"name": name, "shards": [shard], "ranges": [{"min": {"$minKey": 1}, "max": {"region": "M"}}]},
    ]


def switch_balancing(db: Database[Any], collection: str, *, enabled: bool) -> None:
    """As the shells of MongoDB 6 do it."""
    found = db.client.config.collections.update_one(
        {"_id": f"{db.name}.{collection}"}, {"$set": {"noBalance": not enabled}}
    )
    assert found.matched_count == 1


async def drifted(world: World, name: str, field: str, seconds: float) -> dict[str, Any]:
    """Wait until this field is told as drift; returns the resource."""
    found: dict[str, Any] = {}

    async def holds() -> bool:
        found.clear()
        found.update(await world.get(KIND, name))
        fields = [one["field"] for one in found["status"].get("drift", ())]
        return field in fields and said(found, "Drifted")["status"] == "True"

    await world.until(holds, seconds, f"{name} to have drifted in {field}")
    return found


async def nudged(world: World, operator: OperatorProcess, db: Database[Any], mark: str) -> None:
    """Change what nobody declares, and wait for the look at `orders` that it is a reason for."""
    async with one_more_look(world, operator, KIND):
        db.orders.create_index([(mark, 1)])


async def test_what_others_do_is_seen_at_once_and_not_by_sweeps(
    sharded_world: World, sharded: Cluster, db: Database[Any]
) -> None:
    within = STREAM_SECONDS if sharded.is_stand_in() else ROUTER_STREAM_SECONDS
    db.late.insert_many([{"region": number} for number in range(20)])
    operator = sharded_world.start_operator(**NEVER)
    for name, policy in (("told", "Report"), ("mended", "Correct"), ("late", "Correct")):
        await sharded_world.create(KIND, name, spec(name, ("region", 1), driftPolicy=policy))
    for name in ("told", "mended"):
        await sharded_world.ready(KIND, name)
    await sharded_world.refused(KIND, "late", "SupportingIndexMissing")

    async def streaming() -> bool:
        return operator.metric("lucid_change_stream_up") == 1

    await sharded_world.until(streaming, 15, "the change stream")
    before = entry(db, "mended")["uuid"]

    db.late.create_index([("region", 1)])
    await sharded_world.ready(KIND, "late", within)

    db.told.drop()
    found = await drifted(sharded_world, "told", "shardKey", within)
    assert "dropped it or made it anew" in found["status"]["message"]
    assert entry(db, "told") == {}, "told, and not sharded anew"

    db.client.admin.command("shardCollection", f"{db.name}.told", key={"other": 1})

    async def other_key() -> bool:
        drift = (await sharded_world.get(KIND, "told"))["status"].get("drift", ())
        return [(one["expected"], one["actual"]) for one in drift] == [("region:1", "other:1")]

    await sharded_world.until(other_key, within, "the other key to be told")

    db.mended.drop()

    async def again() -> bool:
        return entry(db, "mended").get("uuid") not in (None, before)

    await sharded_world.until(again, within, "it to be sharded again")
    event = await noted(sharded_world, "mended", "DriftCorrected")
    assert "shardKey" in event["note"]


async def test_what_no_event_tells_is_found_by_the_next_sweep_and_told_or_mended(
    sharded_world: World, db: Database[Any]
) -> None:
    sharded_world.start_operator()
    balanced = {"enabled": True}
    for name, policy in (("told", "Report"), ("mended", "Correct"), ("ignored", "Ignore")):
        declared = spec(name, ("region", 1), balancing=balanced, driftPolicy=policy)
        await sharded_world.create(KIND, name, declared)
    await sharded_world.create(KIND, "refined", spec("refined", ("region", 1)))
    for name in ("told", "mended", "ignored", "refined"):
        await sharded_world.ready(KIND, name)
    for name in ("told", "mended", "ignored"):
        switch_balancing(db, name, enabled=False)
    both = {"region": 1, "order_id": 1}
    db.refined.create_index(list(both.items()))
    db.client.admin.command("refineCollectionShardKey", f"{db.name}.refined", key=both)

    found = await drifted(sharded_world, "told", "balancing.enabled", 12)
    assert said(found)["status"] == "True"
    assert "driftPolicy: Report" in said(found)["message"]

    async def mended() -> bool:
        return not entry(db, "mended").get("noBalance")

    await sharded_world.until(mended, 12, "balancing to be switched on again")
    event = await noted(sharded_world, "mended", "DriftCorrected")
    assert "balancing.enabled" in event["note"]
    condition = await sharded_world.refused(KIND, "refined", "KeyDiffers", 12)
    assert "region:1, order_id:1" in condition["message"]
    assert "not changed back" in condition["message"]
    refined = await sharded_world.get(KIND, "refined")
    assert BACKED_UP_AT in said(refined, "BackupNeeded")["message"], "whoever changed the key"

    async def off() -> bool:
        return (await sharded_world.get(KIND, "ignored"))["status"]["balanced"] == "Off"

    await sharded_world.until(off, 12, "it to be seen")
    ignored = await sharded_world.get(KIND, "ignored")
    assert said(ignored, "Drifted")["status"] == "False"
    assert all(entry(db, name)["noBalance"] for name in ("told", "ignored"))


async def test_an_unchanged_resource_with_zones_is_not_written_while_the_balancer_works(
    sharded_world: World, sharded: Cluster, db: Database[Any], zone: str
) -> None:
    first = sharded.shard_names[0]
    db.client.admin.command("enableSharding", db.name, primaryShard=first)
    operator = sharded_world.start_operator()
    declared = spec("orders", ("region", 1), zones=zoned(zone, first), balancing={"enabled": True})
    await sharded_world.create(KIND, "orders", declared)
    await sharded_world.ready(KIND, "orders")

    async def split() -> bool:
        return db.client.config.chunks.count_documents({"uuid": entry(db, "orders")["uuid"]}) == 2

    await sharded_world.until(split, 40, "the balancer to split at the zone's end")
    await nudged(sharded_world, operator, db, "first")

    async def balanced() -> bool:
        return (await sharded_world.get(KIND, "orders"))["status"].get("balanced") == "True"

    await sharded_world.until(balanced, 15, "it to be balanced")
    await nudged(sharded_world, operator, db, "second")
    names = ("lucid_status_writes_total", "lucid_actions_total", "lucid_drift_corrections_total")
    written = [operator.metric(name) for name in names]
    resource_version = await version(sharded_world, KIND, "orders")
    events = len(await sharded_world.events("orders"))
    rounds = db.client.admin.command("balancerStatus")["numBalancerRounds"]
    for number in range(LOOKS):
        await nudged(sharded_world, operator, db, f"another_{number}")

    async def worked() -> bool:
        return db.client.admin.command("balancerStatus")["numBalancerRounds"] > rounds

    await sharded_world.until(worked, 15, "a round of the balancer")
    await nudged(sharded_world, operator, db, "last")
    assert [operator.metric(name) for name in names] == written
    assert await version(sharded_world, KIND, "orders") == resource_version
    assert len(await sharded_world.events("orders")) == events


async def test_a_zone_that_other_collections_use_keeps_its_shards(
    sharded_world: World, sharded: Cluster, db: Database[Any], zone: str
) -> None:
    first, second = sharded.shard_names[:2]
    namespace = f"{db.name}.theirs"
    db.client.admin.command("shardCollection", namespace, key={"country": 1})
    bounds = {"min": {"country": "AT"}, "max": {"country": "DE"}}
    db.client.admin.command({"updateZoneKeyRange": namespace, **bounds, "zone": zone})
    sharded_world.start_operator()
    await sharded_world.create(KIND, "orders", spec("orders", ("region", 1), zones=zoned(zone, second)))
    condition = await sharded_world.refused(KIND, "orders", "Conflict")
    for part in (zone, first, "would be moved", "name the same shards"):
        assert part in condition["message"]
    assert said(await sharded_world.get(KIND, "orders"), "Stalled")["status"] == "True"

    def members() -> list[str]:
        return [shard["_id"] for shard in db.client.config.shards.find({"tags": zone})]

    assert members() == [first], "nothing was added or removed"
    assert [tag["ns"] for tag in db.client.config.tags.find({"tag": zone})] == [namespace]
    db.client.admin.command({"updateZoneKeyRange": namespace, **bounds, "zone": None})
    await sharded_world.ready(KIND, "orders", 15)
    assert members() == [second], "when nobody else uses it, it is as declared"


async def test_what_is_not_sharded_is_told_once_and_looked_at_no_more_often(mongo_world: World) -> None:
    operator = mongo_world.start_operator(FALLBACK_SWEEP_SECONDS="5", SWEEP_SECONDS="5")
    await mongo_world.create(KIND, "orders", spec("orders", ("region", 1)))
    condition = await mongo_world.refused(KIND, "orders", "NotSharded")
    assert "mongos" in condition["message"]
    assert said(await mongo_world.get(KIND, "orders"), "Stalled")["status"] == "True"
    await noted(mongo_world, "orders", "NotSharded")
    began, looks = monotonic(), operator.metric("lucid_reconciles_total", kind=KIND)

    async def swept() -> bool:
        return operator.metric("lucid_reconciles_total", kind=KIND) >= looks + 2

    await mongo_world.until(swept, 20, "two more looks")
    assert monotonic() - began > 3, "sweeps, and no retries"
    assert operator.metric("lucid_status_writes_total") <= 2
    assert operator.metric("lucid_actions_total") == 0
    events = [event for event in await mongo_world.events("orders") if event["reason"] == "NotSharded"]
    assert len(events) == 1
    assert events[0].get("series") is None
    assert operator.metric("lucid_reconciles_total", kind=KIND, result="failed") == 0
