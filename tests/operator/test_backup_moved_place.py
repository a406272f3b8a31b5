"""What a setting moved elsewhere is not removed, and not called removed."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from backup_bed import CLAIM, BackupBed, reason
from pymongo.database import Database

from testbed.job_runner import JobRunner
from testbed.pytest_operator import World

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]


async def test_a_deletion_waits_for_data_that_lie_where_a_setting_pointed_before(
    working_world: World, runner: JobRunner, db: Database[Any], tmp_path: Path
) -> None:
    world, bed = working_world, BackupBed(working_world, runner, tmp_path)
    volume = {"BACKUP_STORAGE_TYPE": "volume", "BACKUP_STORAGE_CLAIM": CLAIM}
    operator = world.start_operator(**volume, BACKUP_STORAGE_PATH="old")
    db.users.insert_many([{"n": n} for n in range(50)])
    spec = {"engines": ["mongodb"], "mongodb": {"databases": [db.name]}, "deletionPolicy": "Delete"}
    await world.create("Backup", "mine", spec)
    done = await bed.phase("mine", "Completed", "Failed")
    assert done["phase"] == "Completed"
    operator.stop()
    world.start_operator(**volume, BACKUP_STORAGE_PATH="new")
    path = f"/apis/storage.lucid-blockchain.org/v1alpha1/namespaces/{world.namespace}/backups/mine"
    await world.kube.request("DELETE", path)

    async def told() -> bool:
        return reason(await bed.status("mine")) == "TargetChanged"

    await world.until(told, 20, "the sentence")
    message = (await bed.status("mine"))["conditions"][0]["message"]
    assert f"Its data lie in {done['location']}" in message
    assert f"volume {CLAIM}/new" in message
    await world.patch("Backup", "mine", {"spec": {"deletionPolicy": "Retain"}})

    async def left() -> bool:
        return await world.kube.get(path) is None

    await world.until(left, 10, "the object to go")
    assert len(await asyncio.to_thread(lambda: list(tmp_path.rglob("manifest.json")))) == 1
    assert not any(
        "removed" in str(e["note"]) and e["reason"] == "Deleted" for e in await world.events("mine")
    )
