"""A Restore of which the server refuses a part ends, says so, and can be deleted (rule 2.2)."""

from typing import Any

import pytest
from backup_bed import CLAIM, reason
from pymongo.database import Database

from lucid_storage.kube.client import Json
from testbed.pytest_operator import World

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]


async def phase(world: World, kind: str, name: str, wanted: str) -> Json:
    async def holds() -> bool:
        return (await world.get(kind, name)).get("status", {}).get("phase") == wanted

    try:
        await world.until(holds, 90, f"{kind} {name} to be {wanted}")
    except AssertionError as error:
        raise AssertionError(f"{error}: {(await world.get(kind, name)).get('status')}") from None
    return (await world.get(kind, name))["status"]


async def test_a_view_that_the_server_refuses_ends_the_swap_and_is_told(
    working_world: World, db: Database[Any]
) -> None:
    db.a.insert_one({"_id": "backup"})
    db.command({"create": "v", "viewOn": "a", "pipeline": [], "collation": {"locale": "en"}})
    working_world.start_operator()
    backup = {
        "engines": ["mongodb"],
        "storage": {"volume": {"claimName": CLAIM}},
        "mongodb": {"databases": [db.name]},
    }
    await working_world.create("Backup", "full", backup)
    await phase(working_world, "Backup", "full", "Completed")
    db.a.insert_one({"_id": "live"})
    db.v.drop()
    db.command({"create": "other", "viewOn": "v", "pipeline": []})  # of no collation, and in no backup
    asked = {"backupName": "full", "dropExisting": True, "keepOldMinutes": 0}
    await working_world.create("Restore", "back", asked)
    status = await phase(working_world, "Restore", "back", "Failed")
    (said,) = [c["message"] for c in status["conditions"] if c["type"] == "Ready"]
    assert reason(status) == "PartiallyFailed"
    assert said.startswith(f"Not all of it is restored: the view {db.name}.v is not there (")
    assert "1 collection is in place; the replaced one stays until" in said
    assert [d["_id"] for d in db.a.find()] == ["backup"]

    async def settled() -> bool:
        kept = (await working_world.get("Restore", "back"))["status"].get("kept")
        return not kept and not [n for n in db.list_collection_names() if n.startswith("lucid_old_")]

    await working_world.until(settled, 20, "what was replaced to be dropped in its time")
    await working_world.delete("Restore", "back", wait=10)
