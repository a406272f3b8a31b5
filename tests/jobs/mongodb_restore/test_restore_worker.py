"""The restore worker as a process: what it stages from real backups is what was there at the moment."""

import asyncio
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from restoring import restored as in_process
from workshop import Workshop, only

from lucid_storage.errors import Reason
from lucid_storage.models.orders import RestoreResult
from lucid_storage.stores.mongodb.restore.adapter import MongoRestores
from testbed.stores.mongodb import Client, MongoDB

pytestmark = pytest.mark.mongodb
Make = Callable[..., Workshop]


@pytest.fixture
def target(client: Client, database: str) -> Iterator[str]:
    yield f"{database}_t"
    client.drop_database(f"{database}_t")


def restore(shop: Workshop, backup: str | None, **more: Any) -> RestoreResult:
    assert backup is not None
    order = {**shop.order("back", ["mongodb"]), "backupId": backup, **more}
    del order["id"], order["type"]
    process = shop.start("restore", order)
    out, err = process.communicate(timeout=150)
    assert process.returncode == 0, err
    assert out.splitlines()[-1].startswith('{"result"')
    text = shop.termination(order).read_text()
    assert len(text.encode()) <= 4096
    return RestoreResult.model_validate_json(text)


async def swap(uri: str, told: RestoreResult, *, drop_existing: bool = True) -> None:
    assert told.ok, told.message
    port = MongoRestores(uri, label="the test's MongoDB", app_name="lucid-test", guard=lambda: None)
    try:
        await port.swap(told.run, told.databases, drop_existing=drop_existing, keep_minutes=0)
    finally:
        await port.close()


def documents(client: Client, database: str) -> dict[str, list[Any]]:
    return {
        name: list(client[database][name].find(sort=[("_id", 1)]))
        for name in client[database].list_collection_names(filter={"type": "collection"})
        if not name.startswith(("lucid_", "system."))
    }


async def test_a_full_backup_comes_back_into_another_database(
    shop: Workshop, client: Client, mongodb: MongoDB, database: str, target: str
) -> None:
    client[database].a.insert_many([{"_id": n, "text": "x" * 200} for n in range(5000)])
    client[database].b.create_index("field", unique=True)
    full = shop.back_up("full", ["mongodb"], **only(database))
    told = restore(shop, full.id, targetDatabase=target)
    assert (told.ok, told.loaded_documents, told.collections) == (True, 5000, 2), told.message
    assert documents(client, target) == {}
    await swap(mongodb.uri, told, drop_existing=False)
    assert documents(client, target) == documents(client, database)
    assert client[target].b.index_information()["field_1"]["unique"]


async def test_incremental_and_differential_lead_to_their_own_end(
    shop: Workshop, client: Client, mongodb: MongoDB, database: str, target: str
) -> None:
    live = client[database]
    live.a.insert_many([{"_id": n} for n in range(100)])
    shop.back_up("full", ["mongodb"], **only(database))
    states = []
    for number, kind in enumerate(("incremental", "incremental", "differential")):
        live.a.update_many({"_id": {"$lt": 10}}, {"$set": {"n": number}})
        live[f"made{number}"].insert_one({"_id": number})
        live.a.delete_one({"_id": 50 + number})
        told = shop.back_up(f"b{number}", ["mongodb"], type=kind, **only(database))
        assert told.ok, told.message
        states.append((told.id, documents(client, database)))
    for backup, state in states:
        told = restore(shop, backup, targetDatabase=target, dropExisting=True)
        await swap(mongodb.uri, told)
        assert documents(client, target) == state


async def test_every_write_up_to_the_second_is_there_and_none_after_it(
    shop: Workshop, client: Client, mongodb: MongoDB, database: str, target: str
) -> None:
    """Writers count up, alone and in transactions, while fulls and slices run."""
    live, stop = client[database], threading.Event()
    live.create_collection("pairs_a")
    live.create_collection("pairs_b")
    live.create_collection("counts")
    stamps: list[tuple[int, int]] = []

    def count() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            answer = live.command({"insert": "counts", "documents": [{"_id": number}]})
            stamps.append((answer["operationTime"].time, number))

    def pairs() -> None:
        number = 0
        with client.start_session() as session:
            while not stop.is_set():
                number += 1
                with session.start_transaction():
                    live.pairs_a.insert_one({"_id": number, "filler": "x" * 500}, session=session)
                    live.pairs_b.insert_one({"_id": number}, session=session)

    writers = [threading.Thread(target=count), threading.Thread(target=pairs)]
    for writer in writers:
        writer.start()
    try:
        full = shop.back_up("full", ["mongodb"], **only(database))
        for number in range(2):
            told = shop.back_up(f"i{number}", ["mongodb"], type="incremental", **only(database))
            assert told.ok, told.message
        begun, deadline = stamps[-1][0], time.monotonic() + 30
        while stamps[-1][0] <= begun + 1:  # a second of which all is known
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        last = shop.back_up("last", ["mongodb"], type="incremental", **only(database))
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert full.to is not None
    assert last.to is not None
    moment = int(last.to.timestamp()) - 1
    told = restore(
        shop, full.id, targetDatabase=target, pointInTime=datetime.fromtimestamp(moment, UTC).isoformat()
    )
    await swap(mongodb.uri, told)
    expected = [number for second, number in stamps if second <= moment]
    assert [d["_id"] for d in client[target].counts.find(sort=[("_id", 1)])] == sorted(expected)
    first, second = ({d["_id"] for d in client[target][name].find()} for name in ("pairs_a", "pairs_b"))
    assert first == second
    assert sorted(first) == list(range(1, len(first) + 1))


async def test_what_a_ttl_deletes_at_once_is_counted_before_and_told_as_it_was_staged(
    shop: Workshop, client: Client, mongodb: MongoDB, database: str, target: str
) -> None:
    """With a TTL that came after the full backup, a partial one, a time series and one that its collection has."""
    live = client[database]
    old, fresh = datetime(2020, 1, 1, tzinfo=UTC), datetime.now(UTC)
    live.late.insert_many([{"_id": n, "at": old if n < 3 else fresh} for n in range(5)])
    live.part.insert_many([{"_id": n, "at": old, "done": n < 1} for n in range(4)])
    live.part.create_index("at", expireAfterSeconds=10**9, partialFilterExpression={"done": True})
    for name, options in (
        ("ts", {"timeseries": {"timeField": "t"}}),
        ("byid", {"clusteredIndex": {"key": {"_id": 1}, "unique": True}}),
    ):
        live.create_collection(name, expireAfterSeconds=10**9, **options)
    live.ts.insert_many([{"t": old, "v": n} for n in range(2)])
    live.byid.insert_many([{"_id": old}, {"_id": fresh}])
    shop.back_up("full", ["mongodb"], **only(database))
    live.late.create_index("at", expireAfterSeconds=10**9)
    live.late.insert_one({"_id": 9, "at": old})
    # Changed as the last thing, since the server would soon begin to delete.
    client.admin.command({"setParameter": 1, "ttlMonitorEnabled": False})
    try:
        for name in ("late", "part"):
            live.command({"collMod": name, "index": {"keyPattern": {"at": 1}, "expireAfterSeconds": 10**6}})
        for name in ("ts", "byid"):
            live.command({"collMod": name, "expireAfterSeconds": 10**6})
        last = shop.back_up("last", ["mongodb"], type="incremental", **only(database))
        assert last.ok, last.message
        told = restore(shop, last.id, targetDatabase=target, planOnly=True, countExpiring=True)
        assert told.plan is not None, told.message
        assert told.plan.expiring_documents == 3 + 4 + 2 + 1
        assert told.plan.warnings[-1].startswith(
            "Up to 10 documents of the full backup are past their time to live"
        )
        assert f"{database}.late" in told.plan.warnings[-1]
        assert "Later writes, updates and deletes are not taken into account." in told.plan.warnings[-1]
        notes = {item.target: item.note for item in told.plan.targets}
        assert notes[f"{target}.ts"] == "timeseries, up to 2 past their time to live"
        assert documents(client, target) == {}, "nothing is written"
        staged = restore(shop, last.id, targetDatabase=target)
        assert staged.expiring_documents == 4 + 1 + 2 + 1, (
            "the server knows the condition, and what came later"
        )
        client.drop_database(target)
        client[target].late.insert_one({"_id": "mine"})
        added = await asyncio.to_thread(in_process, shop, last.id, targetDatabase=target, inPlace=True)
        assert added.expiring_documents == 1 + 2 + 1, "what is there keeps its own indexes"
    finally:
        client.admin.command({"setParameter": 1, "ttlMonitorEnabled": True})


def test_a_plan_writes_nothing_and_says_what_blocks(
    shop: Workshop, client: Client, database: str, target: str
) -> None:
    client[database].a.insert_many([{"_id": n} for n in range(10)])
    client[database].a.create_index("at", expireAfterSeconds=60)
    full = shop.back_up("full", ["mongodb"], **only(database))
    before = sorted(client[database].list_collection_names())
    told = restore(shop, full.id, planOnly=True)
    assert told.ok
    assert told.plan is not None
    assert told.plan.blocked_reason is Reason.TARGET_NOT_EMPTY
    assert [(t.target, t.documents, t.overwrites) for t in told.plan.targets] == [(f"{database}.a", 10, 10)]
    assert any("time to live" in warning for warning in told.plan.warnings)
    assert told.plan.needed_bytes > 0
    assert told.plan.free_bytes
    assert sorted(client[database].list_collection_names()) == before
    allowed = restore(shop, full.id, planOnly=True, dropExisting=True)
    assert allowed.plan is not None
    assert allowed.plan.blocked_by is None
    refused = restore(shop, full.id)
    assert (refused.ok, refused.reason) == (False, Reason.TARGET_NOT_EMPTY)
    assert sorted(client[database].list_collection_names()) == before


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"backupId": "00000000-0000-4000-8000-00000000abcd"}, Reason.RESTORE_BLOCKED),
        ({"pointInTime": "2001-01-01T00:00:00Z"}, Reason.RESTORE_BLOCKED),
        ({"pointInTime": "2099-01-01T00:00:00Z"}, Reason.RESTORE_BLOCKED),
        ({"sourceDatabase": "nothere"}, Reason.RESTORE_BLOCKED),
        ({"collections": ["nothere"]}, Reason.RESTORE_BLOCKED),
        ({"databasePatterns": ["mine_*"]}, Reason.DATABASE_NOT_ALLOWED),
    ],
)
def test_what_cannot_be_reached_is_said(
    shop: Workshop, client: Client, database: str, more: dict[str, Any], reason: Reason
) -> None:
    client[database].a.insert_one({"_id": 1})
    full = shop.back_up("full", ["mongodb"], **only(database))
    told = restore(shop, **{"backup": full.id, **more})
    assert (told.ok, told.reason) == (False, reason), told.message


def test_a_damaged_archive_leaves_the_target_as_it_was(
    shop: Workshop, client: Client, database: str, target: str
) -> None:
    client[database].a.insert_many([{"_id": n, "x": uuid.uuid4().hex} for n in range(20_000)])
    client[target].a.insert_one({"_id": "mine"})
    full = shop.back_up("full", ["mongodb"], **only(database))
    (archive,) = Path(shop.destination).rglob("mongodb.archive")
    data = bytearray(archive.read_bytes())
    data[len(data) * 2 // 3] ^= 1
    archive.write_bytes(data)
    told = restore(shop, full.id, targetDatabase=target, dropExisting=True)
    assert (told.ok, told.reason) == (False, Reason.ARCHIVE_DAMAGED)
    assert documents(client, target) == {"a": [{"_id": "mine"}]}
    assert not [n for n in client[target].list_collection_names() if n.startswith(f"lucid_stg_{told.run}")]


def test_a_worker_told_to_stop_leaves_the_target_as_it_was(
    shop: Workshop, client: Client, database: str, target: str
) -> None:
    client[database].a.insert_many([{"_id": n, "x": "y" * 2000} for n in range(60_000)])
    full = shop.back_up("full", ["mongodb"], **only(database))
    order = {**shop.order("back", ["mongodb"]), "backupId": full.id, "targetDatabase": target}
    del order["id"], order["type"]
    process = shop.start("restore", order)
    assert process.stdout is not None
    for line in process.stdout:
        if '"Loading"' in line:
            process.terminate()
            break
    process.communicate(timeout=60)
    told = RestoreResult.model_validate_json(shop.termination(order).read_text())
    assert (told.ok, told.reason) == (False, Reason.CANCELLED)
    names = client[target].list_collection_names()
    assert not [n for n in names if n.startswith(f"lucid_stg_{told.run}")]


async def test_a_backup_is_found_in_a_destination_without_its_cluster(
    shop: Workshop, client: Client, mongodb: MongoDB, database: str, target: str
) -> None:
    client[database].a.insert_one({"_id": 1})
    full = shop.back_up("full", ["mongodb"], **only(database))
    owner = {"cluster": str(uuid.uuid4()), "namespace": "elsewhere", "name": "x", "uid": "u", "specHash": "h"}
    mine = {"owner": owner, "chain": "other", "elsewhere": True, "targetDatabase": target}
    refused = restore(shop, full.id, onlyNamespace="elsewhere", **mine)
    assert (refused.ok, refused.reason) == (False, Reason.RESTORE_BLOCKED)
    told = restore(shop, full.id, **mine)
    await swap(mongodb.uri, told)
    assert documents(client, target) == documents(client, database)
