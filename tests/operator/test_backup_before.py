"""backupBefore on real servers: the backup is there and verified before anything is lost."""

from typing import Any

import pytest
from backup_bed import CLAIM, reason
from pymongo.database import Database

from lucid_storage.kube.client import Json
from testbed.pytest_operator import World

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]

SMALL = {"sizeBytes": 65_536}


@pytest.fixture
def bed(working_world: World) -> World:
    working_world.environment |= {"BACKUP_STORAGE_TYPE": "volume", "BACKUP_STORAGE_CLAIM": CLAIM}
    return working_world


async def backups(bed: World) -> list[Json]:
    found: list[Json] = ((await bed.kube.get(bed.path("Backup"))) or {})["items"]
    return found


def size(db: Database[Any]) -> int:
    (found,) = db.list_collections(filter={"name": "logs"})
    return int(found["options"]["size"])


async def test_a_smaller_cap_waits_for_its_backup_also_when_the_operator_is_killed(
    bed: World, db: Database[Any]
) -> None:
    operator = bed.start_operator(LEASE_SECONDS="4")
    await bed.create("Collection", "logs", {"capped": {"sizeBytes": 1_048_576}, "backupBefore": True})
    await bed.ready("Collection", "logs")
    db.logs.insert_many([{"n": n, "fill": "x" * 500} for n in range(1000)])
    await bed.patch("Collection", "logs", {"spec": {"capped": SMALL, "allowDataLoss": f"{db.name}.logs"}})

    async def made() -> bool:
        return len(await backups(bed)) == 1

    await bed.until(made, 30, "the Backup")
    operator.kill()
    bed.start_operator(LEASE_SECONDS="4")

    async def shrunk() -> bool:
        return size(db) == SMALL["sizeBytes"]

    await bed.until(shrunk, 60, "the change")
    (backup,) = await backups(bed)
    assert (backup["status"]["phase"], reason(backup["status"], "Verified")) == ("Completed", "Verified")
    assert backup["status"]["engines"][0]["documents"] == 1000
    await bed.ready("Collection", "logs")
    protection = (await bed.get("Collection", "logs"))["status"]["protection"]
    assert (protection["backup"], protection["used"]) == (backup["metadata"]["name"], True)


async def test_without_a_place_for_backups_nothing_is_lost(mongo_world: World, db: Database[Any]) -> None:
    mongo_world.start_operator()
    await mongo_world.create("Collection", "logs", {"capped": {"sizeBytes": 1_048_576}, "backupBefore": True})
    await mongo_world.ready("Collection", "logs")
    db.logs.insert_many([{"n": n, "fill": "x" * 500} for n in range(1000)])
    change = {"capped": SMALL, "allowDataLoss": f"{db.name}.logs"}
    await mongo_world.patch("Collection", "logs", {"spec": change})

    async def told() -> bool:
        status = (await mongo_world.get("Collection", "logs"))["status"]
        return "BACKUP_STORAGE_TYPE" in status.get("message", "")

    await mongo_world.until(told, 30, "what is missing")
    assert db.logs.count_documents({}) == 1000


async def test_a_restore_is_preceded_by_a_backup_of_what_it_overwrites(bed: World, db: Database[Any]) -> None:
    db.a.insert_one({"_id": "backed up"})
    bed.start_operator()
    await bed.create("Backup", "full", {"engines": ["mongodb"], "mongodb": {"databases": [db.name]}})
    await phase(bed, "Backup", "full", "Completed")
    db.a.insert_one({"_id": "since"})
    await bed.create("Restore", "back", {"backupName": "full", "dropExisting": True, "backupBefore": True})
    status = await phase(bed, "Restore", "back", "Completed")
    assert [d["_id"] for d in db.a.find()] == ["backed up"]
    (before,) = [b for b in await backups(bed) if b["metadata"]["name"] != "full"]
    assert before["metadata"]["name"] == status["backupBefore"]
    assert before["status"]["engines"][0]["documents"] == 2
    assert before["status"]["completedAt"] < status["completedAt"]


async def phase(bed: World, kind: str, name: str, wanted: str) -> Json:
    last: Json = {}

    async def holds() -> bool:
        nonlocal last
        last = (await bed.get(kind, name)).get("status", {})
        return last.get("phase") == wanted

    try:
        await bed.until(holds, 90, f"{kind} {name} to be {wanted}")
    except AssertionError as error:
        raise AssertionError(f"{error}: {last}") from None
    return last
