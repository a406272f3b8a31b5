"""Strategy InPlace (rule 2.3, 2.9): over the live data, by workers that hold a lease."""

import asyncio
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from test_restore_worker import documents, restore, swap
from workshop import Workshop, only

from lucid_storage.errors import Reason
from lucid_storage.models.orders import RestoreResult
from lucid_storage.stores.mongodb.restore.adapter import MongoRestores
from lucid_storage.stores.mongodb.restore.journal import JOURNALS
from testbed.stores.mongodb import Client, MongoDB

pytestmark = pytest.mark.mongodb


def reserved(client: Client, database: str) -> list[str]:
    """What a restore left, its journal apart."""
    names = client[database].list_collection_names()
    return [name for name in names if name.startswith("lucid_") and name != JOURNALS]


async def test_with_consent_each_collection_is_dropped_and_loaded_under_its_own_name(
    shop: Workshop, client: Client, mongodb: MongoDB, database: str
) -> None:
    live = client[database]
    live.a.insert_many([{"_id": n, "n": n} for n in range(1000)])
    live.a.create_index("n", unique=True)
    live.a.create_index("at", expireAfterSeconds=10**8)
    live.old.insert_one({"_id": 1})
    live.create_collection("ts", timeseries={"timeField": "t"})
    live.ts.insert_one({"_id": 1, "t": datetime(2026, 1, 1, tzinfo=UTC)})
    shop.back_up("full", ["mongodb"], **only(database))
    live.a.update_one({"_id": 1}, {"$set": {"n": -1}})
    live.old.rename("new")
    live.made.insert_one({"_id": 1})
    last = shop.back_up("later", ["mongodb"], type="incremental", **only(database))
    assert last.ok, last.message
    wanted, series = documents(client, database), list(live.ts.find())
    live.a.delete_many({"_id": {"$lt": 500}})
    live.a.insert_one({"_id": "newer", "n": "newer"})
    live.ts.insert_one({"_id": 2, "t": datetime(2026, 1, 2, tzinfo=UTC)})
    live.untouched.insert_one({"_id": 1})
    planned = restore(shop, last.id, inPlace=True, dropExisting=True, planOnly=True)
    assert planned.plan is not None
    assert planned.plan.blocked_by is None
    assert "leaves the target incomplete" in planned.plan.warnings[0]
    told = restore(shop, last.id, inPlace=True, dropExisting=True)
    assert told.ok, told.message
    assert live.a.count_documents({}) == 1000, "it is live before any swap"
    await swap(mongodb.uri, told)
    assert documents(client, database) == {**wanted, "untouched": [{"_id": 1}]}
    assert list(live.ts.find()) == series
    assert live.a.index_information()["n_1"]["unique"]
    assert live.a.index_information()["at_1"]["expireAfterSeconds"] == 10**8
    old = [name for name in reserved(client, database) if not name.startswith("lucid_old_")]
    assert old == []


async def test_without_consent_only_absent_documents_are_added(
    shop: Workshop, client: Client, mongodb: MongoDB, database: str
) -> None:
    live = client[database]
    live.a.insert_many([{"_id": n, "of": "backup"} for n in range(10)])
    live.a.create_index("of")
    live.gone.insert_one({"_id": 1})
    live.gone.create_index("x")
    full = shop.back_up("full", ["mongodb"], **only(database))
    live.a.delete_many({"_id": {"$gte": 5}})
    live.a.update_one({"_id": 1}, {"$set": {"of": "live"}})
    live.a.insert_one({"_id": "newer"})
    live.a.drop_index("of_1")
    live.drop_collection("gone")
    told = restore(shop, full.id, inPlace=True)
    await swap(mongodb.uri, told, drop_existing=False)
    assert documents(client, database)["a"] == [
        {"_id": n, "of": "live" if n == 1 else "backup"} for n in range(10)
    ] + [{"_id": "newer"}]
    assert set(live.a.index_information()) == {"_id_"}, "what is there stays as it is"
    assert documents(client, database)["gone"] == [{"_id": 1}]
    assert "x_1" in live.gone.index_information()
    assert reserved(client, database) == []


def test_a_failure_says_that_the_target_is_incomplete(shop: Workshop, client: Client, database: str) -> None:
    live = client[database]
    live.a.insert_many([{"_id": n, "x": os.urandom(300)} for n in range(30_000)])
    full = shop.back_up("full", ["mongodb"], **only(database))
    (archive,) = Path(shop.destination).rglob("mongodb.archive")
    data = bytearray(archive.read_bytes())
    data[len(data) * 2 // 3] ^= 1
    archive.write_bytes(data)
    live.other.insert_one({"_id": 1})
    told = restore(shop, full.id, inPlace=True, dropExisting=True)
    assert (told.ok, told.reason) == (False, Reason.ARCHIVE_DAMAGED)
    assert "target is incomplete" in told.message
    assert documents(client, database)["other"] == [{"_id": 1}]
    assert reserved(client, database) == []


async def test_a_worker_that_was_given_up_writes_no_further_batch(
    shop: Workshop, client: Client, mongodb: MongoDB, database: str
) -> None:
    live = client[database]
    live.a.insert_many([{"_id": n, "x": "y" * 2000} for n in range(40_000)])
    full = shop.back_up("full", ["mongodb"], **only(database))
    order = {**shop.order("back", ["mongodb"]), "backupId": full.id, "inPlace": True, "dropExisting": True}
    del order["id"], order["type"]
    process = shop.start("restore", order)
    assert process.stdout is not None
    for line in process.stdout:
        if '"Loading"' in line:
            break
    port = MongoRestores(mongodb.uri, label="MongoDB", app_name="lucid-test", guard=lambda: None)
    deadline = time.monotonic() + 30
    while live.a.estimated_document_count() == 40_000:  # until it was dropped, and the load has begun
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    assert await port.discard(order["run"], [database])
    await port.close()
    process.communicate(timeout=60)
    told = RestoreResult.model_validate_json(shop.termination(order).read_text())
    assert (told.ok, told.reason) == (False, Reason.WORKER_LOST)
    assert live.a.count_documents({}) < 40_000
