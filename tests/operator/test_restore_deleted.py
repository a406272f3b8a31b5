"""A Restore that is deleted before the time of what it replaced is over: the operator drops that in its time."""

from datetime import timedelta
from typing import Any

import pytest
from backup_bed import CLAIM
from pymongo.database import Database

from testbed.pytest_operator import World

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]


async def completed(working_world: World, kind: str, name: str) -> None:
    async def holds() -> bool:
        return (await working_world.get(kind, name)).get("status", {}).get("phase") == "Completed"

    try:
        await working_world.until(holds, 90, f"{kind} {name}")
    except AssertionError as error:
        raise AssertionError(f"{error}: {(await working_world.get(kind, name)).get('status')}") from None


async def test_what_it_replaced_stays_its_time_and_goes_then(working_world: World, db: Database[Any]) -> None:
    db.a.insert_one({"_id": 1})
    first = working_world.start_operator()
    storage = {"storage": {"volume": {"claimName": CLAIM}}, "mongodb": {"databases": [db.name]}}
    await working_world.create("Backup", "full", {"engines": ["mongodb"], **storage})
    await completed(working_world, "Backup", "full")
    db.a.insert_one({"_id": 2})
    await working_world.create(
        "Restore", "back", {"backupName": "full", "dropExisting": True, "keepOldMinutes": 60}
    )
    await completed(working_world, "Restore", "back")
    await working_world.delete("Restore", "back", wait=10)

    (journal,) = db.lucid_stg_journal.find({"state": "swapped"})
    asked_at = journal["until"] - db.client.admin.command("hello")["localTime"]
    assert timedelta(minutes=55) < asked_at <= timedelta(minutes=60)
    (old,) = [name for name in db.list_collection_names() if name.startswith("lucid_old_")]
    assert db[old].count_documents({}) == 2

    first.stop()
    db.lucid_stg_journal.update_one({"_id": journal["_id"]}, [{"$set": {"until": "$$NOW"}}])
    second = working_world.start_operator()

    async def dropped() -> bool:
        return old not in db.list_collection_names()

    await working_world.until(dropped, 20, "what was replaced to be dropped")
    assert [d["_id"] for d in db.a.find()] == [1]
    assert f"what the deleted Restore {working_world.namespace}/back replaced" in second.log
