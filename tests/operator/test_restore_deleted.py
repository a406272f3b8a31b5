"""A Restore that is deleted before the time of what it replaced is over: the operator drops that in its time."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from backup_bed import CLAIM, IMAGE, make_claim
from pymongo.database import Database

from testbed.job_runner import JobRunner, worker_command
from testbed.pytest_operator import World

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]


@pytest.fixture
async def bed(mongo_world: World, tmp_path: Path) -> AsyncIterator[World]:
    await make_claim(mongo_world)
    mongo_world.environment.update(IMAGE)
    runner = JobRunner(mongo_world.kube, [mongo_world.namespace], tmp_path / "node", worker_command)
    async with runner.running():
        yield mongo_world
        for operator in mongo_world.operators:
            operator.stop()


async def completed(bed: World, kind: str, name: str) -> None:
    async def holds() -> bool:
        return (await bed.get(kind, name)).get("status", {}).get("phase") == "Completed"

    try:
        await bed.until(holds, 90, f"{kind} {name}")
    except AssertionError as error:
        raise AssertionError(f"{error}: {(await bed.get(kind, name)).get('status')}") from None


async def test_what_it_replaced_stays_its_time_and_goes_then(bed: World, db: Database[Any]) -> None:
    db.a.insert_one({"_id": 1})
    first = bed.start_operator()
    storage = {"storage": {"volume": {"claimName": CLAIM}}, "mongodb": {"databases": [db.name]}}
    await bed.create("Backup", "full", {"engines": ["mongodb"], **storage})
    await completed(bed, "Backup", "full")
    db.a.insert_one({"_id": 2})
    await bed.create("Restore", "back", {"backupName": "full", "dropExisting": True, "keepOldMinutes": 60})
    await completed(bed, "Restore", "back")
    await bed.delete("Restore", "back", wait=10)

    (journal,) = db.lucid_stg_journal.find({"state": "swapped"})
    asked_at = journal["until"] - db.client.admin.command("hello")["localTime"]
    assert timedelta(minutes=55) < asked_at <= timedelta(minutes=60)
    (old,) = [name for name in db.list_collection_names() if name.startswith("lucid_old_")]
    assert db[old].count_documents({}) == 2

    first.stop()
    db.lucid_stg_journal.update_one({"_id": journal["_id"]}, [{"$set": {"until": "$$NOW"}}])
    second = bed.start_operator()

    async def dropped() -> bool:
        return old not in db.list_collection_names()

    await bed.until(dropped, 20, "what was replaced to be dropped")
    assert [d["_id"] for d in db.a.find()] == [1]
    assert f"what the deleted Restore {bed.namespace}/back replaced" in second.log
