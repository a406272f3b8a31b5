"""What stands in the way of a shard key, what was sharded by hand, and the balancer, on a real sharded cluster."""

from collections.abc import Callable
from typing import Any

import pytest
from operator_bed import changed, index_spec, looked_at, noted, said
from pymongo.database import Database
from sharded_bed import KIND, QUICK, Cluster, entry, spec

from testbed.pytest_operator import OperatorProcess, World
from testbed.stores.sharded import Sharded

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]

WINDOW = {"start": "01:00", "stop": "04:30"}


@pytest.fixture
def db(sharded_db: Database[Any]) -> Database[Any]:
    return sharded_db


def verdicts(status: dict[str, Any]) -> dict[str, str]:
    return {check["check"]: check["verdict"] for check in status["preflight"]["checks"]}


# Uniqueness


async def test_a_unique_key_with_duplicates_is_refused_until_an_index_proves_that_there_are_none(
    sharded_world: World, db: Database[Any]
) -> None:
    mails = [f"{n}@x" for n in range(40)] + ["7@x", "7@x", "8@x"]
    db.users.insert_many([{"_id": n, "mail": mail} for n, mail in enumerate(mails)])
    sharded_world.start_operator()
    await sharded_world.create(KIND, "users", spec("users", ("mail", 1), unique=True))
    condition = await sharded_world.refused(KIND, "users", "SupportingIndexMissing")
    assert "keys: [{field: mail, order: 1}], unique: true" in condition["message"]
    status = (await sharded_world.get(KIND, "users"))["status"]
    assert (status["preflight"]["verdict"], verdicts(status)["Uniqueness"]) == ("Refused", "Refused")
    told = next(c["message"] for c in status["preflight"]["checks"] if c["check"] == "Uniqueness")
    assert told.startswith("2 keys {mail: 1} stand in more than one document (5 documents)")
    assert "7@x" not in str(status), "no value of a document"
    await sharded_world.create("Index", "mail", index_spec("users", ("mail", 1), options={"unique": True}))
    await sharded_world.refused("Index", "mail", "DuplicateKeys")
    assert entry(db, "users") == {}
    db.users.delete_many({"_id": {"$gte": 40}})
    await sharded_world.patch("Index", "mail", changed())
    await sharded_world.ready("Index", "mail")
    status = await sharded_world.ready(KIND, "users")
    assert "Uniqueness" not in verdicts(status), "the index proves it"
    assert entry(db, "users")["unique"] is True
    assert db.users.count_documents({}) == 40


# Collections that cannot be sharded


async def not_shardable(world: World, name: str, words: str) -> None:
    """Wait until it is refused with these words."""

    async def refused() -> bool:
        ready = said(await world.get(KIND, name))
        return ready.get("reason") == "NotShardable" and words in ready["message"]

    await world.until(refused, 20, f"{name} to say: {words}")


async def test_what_a_collection_declares_as_capped_is_not_sharded_whichever_comes_first(
    sharded_world: World, db: Database[Any]
) -> None:
    capped = {"capped": {"sizeBytes": 4096}}
    db.ordinary.insert_many([{"a": n} for n in range(9)])
    db.ordinary.create_index("a")
    for name in ("together", "ordinary"):
        await sharded_world.create(KIND, name, spec(name, ("a", 1)))
        await sharded_world.create("Collection", name, capped)
    sharded_world.start_operator()
    await sharded_world.ready("Collection", "together")
    await sharded_world.create("Collection", "log", capped)
    await sharded_world.ready("Collection", "log")
    await sharded_world.create(KIND, "log", spec("log", ("a", 1)))
    for name in ("together", "log"):
        words = f"is capped, as the Collection {sharded_world.namespace}/{name} declares"
        await not_shardable(sharded_world, name, words)
    await sharded_world.refused("Collection", "ordinary", "NotInPlace")
    words = f"The Collection {sharded_world.namespace}/ordinary declares {db.name}.ordinary as capped"
    await not_shardable(sharded_world, "ordinary", words)
    for name in ("together", "log", "ordinary"):
        assert entry(db, name) == {}
        assert (await sharded_world.get(KIND, name))["status"].get("operation") is None


async def test_a_collection_that_declares_what_is_sharded_already_as_capped_is_refused_and_harms_nothing(
    sharded_world: World, db: Database[Any]
) -> None:
    operator = sharded_world.start_operator()
    await sharded_world.create(KIND, "ring", spec("ring", ("a", 1)))
    await sharded_world.ready(KIND, "ring")
    db.ring.insert_many([{"a": n} for n in range(9)])
    await sharded_world.create("Collection", "ring", {"capped": {"sizeBytes": 4096}})
    condition = await sharded_world.refused("Collection", "ring", "NotInPlace")
    assert "what is sharded cannot be capped" in condition["message"]
    await looked_at(sharded_world, operator, KIND, "ring")
    await sharded_world.ready(KIND, "ring")
    assert entry(db, "ring")["key"] == {"a": 1}
    assert "capped" not in db.ring.options()
    assert db.ring.count_documents({}) == 9


# Sharded by hand


async def test_a_collection_that_was_sharded_by_hand_with_another_key_is_told_in_a_sentence_and_left_alone(
    sharded_world: World, db: Database[Any]
) -> None:
    db.client.admin.command({"shardCollection": f"{db.name}.orders", "key": {"region": 1}})
    db.orders.insert_many([{"region": "A", "order_id": n} for n in range(20)])
    before = entry(db, "orders")
    operator = sharded_world.start_operator()
    await sharded_world.create(KIND, "orders", spec("orders", ("order_id", "hashed")))
    condition = await sharded_world.refused(KIND, "orders", "KeyDiffers")
    assert condition["message"].startswith(
        f"{db.name}.orders is sharded by region:1 and declared with order_id:hashed: set the declared key back, or"
        " allow the change: changePolicy: Reshard writes the whole collection anew."
    )
    resource = await sharded_world.get(KIND, "orders")
    assert (resource["status"]["key"], resource["status"]["chunks"]) == ("region:1", 1)
    assert said(resource, "Stalled")["status"] == "True"
    await looked_at(sharded_world, operator, KIND, "orders")
    writes = operator.metric("lucid_status_writes_total")
    await looked_at(sharded_world, operator, KIND, "orders")
    assert operator.metric("lucid_status_writes_total") == writes, "said once"
    await sharded_world.patch(KIND, "orders", {"spec": {"changePolicy": "Refine"}})
    condition = await sharded_world.refused(KIND, "orders", "KeyDiffers")
    assert "refining can only add fields at the end of the server's key" in condition["message"]
    await sharded_world.patch(KIND, "orders", {"spec": spec("orders", ("region", 1), unique=True)})
    condition = await sharded_world.refused(KIND, "orders", "KeyDiffers")
    assert "is not unique and declared as unique" in condition["message"]
    await sharded_world.patch(KIND, "orders", {"spec": {"unique": None}})
    await sharded_world.ready(KIND, "orders")
    assert entry(db, "orders") == before
    resource = await sharded_world.get(KIND, "orders")
    assert said(resource, "BackupNeeded") == {}, "nobody changed the key"
    log = operator.log
    for action in ("refine the shard key", "reshard ", "enable sharding"):
        assert action not in log


# Figures and the balancer


async def test_jumbo_chunks_bytes_and_the_balancer_are_in_status_and_metrics_as_the_servers_have_them(
    sharded_world: World, sharded: Cluster, db: Database[Any]
) -> None:
    operator = sharded_world.start_operator()
    key = ("session_id", "hashed")
    await sharded_world.create(KIND, "first", spec("chunks", key, numInitialChunks=4))
    await sharded_world.ready(KIND, "first")
    db.chunks.insert_many([{"session_id": n, "text": "x" * (n % 50)} for n in range(300)])
    await sharded_world.delete(KIND, "first")
    await sharded_world.create(KIND, "chunks", spec("chunks", key))
    status = await sharded_world.ready(KIND, "chunks")
    for shard in status["shards"]:
        with sharded.shard_client(shard["name"]) as client:
            there = client[db.name].command("collStats", "chunks")
        assert (shard["documents"], shard["sizeBytes"]) == (there["count"], there["size"])
        assert gauge(operator, "size_bytes", shard=shard["name"]) == there["size"] > 0
    assert len(status["shards"]) == 2
    assert status["balancer"]["enabled"] is True
    assert (status["jumboChunks"], status.get("message")) == (0, None)

    second = sharded.shard_names[1]
    chunk = {"uuid": entry(db, "chunks")["uuid"], "shard": second}
    marked = db.client.config.chunks.update_one(chunk, {"$set": {"jumbo": True}})
    assert marked.modified_count == 1

    async def jumbo() -> int:
        await looked_at(sharded_world, operator, KIND, "chunks")
        return int((await sharded_world.get(KIND, "chunks"))["status"]["jumboChunks"])

    async def marked_is_told() -> bool:
        return await jumbo() == 1

    async def nothing_is_told() -> bool:
        return await jumbo() == 0

    await sharded_world.until(marked_is_told, 15, "the jumbo chunk to be told")
    resource = await sharded_world.get(KIND, "chunks")
    assert said(resource)["message"].startswith("1 chunk is too big to be moved; refine the key")
    by_shard = {one["name"]: one["jumboChunks"] for one in resource["status"]["shards"]}
    assert by_shard == {sharded.shard_names[0]: 0, second: 1}
    assert gauge(operator, "jumbo_chunks", shard=second) == 1
    assert gauge(operator, "jumbo_chunks") == 1
    rounds = gauge(operator, "balancer_rounds")
    assert rounds > 0
    assert gauge(operator, "balancer_enabled") == 1

    async def turned() -> bool:
        await looked_at(sharded_world, operator, KIND, "chunks")
        return gauge(operator, "balancer_rounds") > rounds

    await sharded_world.until(turned, 15, "a look to tell of further rounds")
    db.client.config.chunks.update_many(chunk, {"$unset": {"jumbo": True}})
    await sharded_world.until(nothing_is_told, 15, "the end of it to be told")
    assert gauge(operator, "jumbo_chunks") == 0


def gauge(operator: OperatorProcess, name: str, **labels: str) -> float:
    return operator.metric(f"lucid_sharded_collection_{name}", **labels)


async def test_an_operator_with_a_balancer_window_sets_it_for_the_deployment_and_puts_it_back(
    world: World, private_sharded: Callable[..., Sharded]
) -> None:
    """On a cluster of its own, since the balancer is that of all its collections."""
    cluster = private_sharded(shards=1)
    world.environment.update({"MONGODB_URI": cluster.uri, "BALANCER_WINDOW": "01:00-04:30", **QUICK})
    with cluster.client() as client:
        settings = client.config.settings
        operator = world.start_operator()
        # Other policies are those of the resource; the window is the operator's.
        await world.create(KIND, "orders", spec("orders", ("region", 1), driftPolicy="Report"))
        await world.ready(KIND, "orders")
        assert settings.find_one({"_id": "balancer"})["activeWindow"] == WINDOW
        assert gauge(operator, "balancer_enabled") == 1
        client.admin.command("balancerStop")
        theirs = {"start": "09:00", "stop": "17:00"}
        settings.update_one({"_id": "balancer"}, {"$set": {"activeWindow": theirs}})

        async def back() -> bool:
            return bool(settings.find_one({"_id": "balancer"})["activeWindow"] == WINDOW)

        await world.until(back, 15, "the window to be put back")
        assert "balancerWindow" in (await noted(world, "orders", "DriftCorrected"))["note"]

        async def off() -> bool:
            return bool((await world.get(KIND, "orders"))["status"]["balanced"] == "Off")

        await world.until(off, 15, "the balancer to be told as off")
        assert settings.find_one({"_id": "balancer"})["mode"] == "off", "what is not declared stays"
        assert gauge(operator, "balancer_enabled") == 0
        message = said(await world.get(KIND, "orders"))["message"]
        assert message == "The deployment's balancer is off, so no chunks are moved."
