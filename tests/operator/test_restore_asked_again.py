"""A value of run-again that comes back, as after a revert in Git: real workers restore again."""

from typing import Any

import pytest
from backup_bed import CLAIM
from pymongo.database import Database

from lucid_storage.kube.client import Json
from testbed.pytest_operator import World

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]
ANNOTATION = "storage.lucid-blockchain.org/run-again"


async def ended(world: World, kind: str, name: str, value: str = "") -> Json:
    last: Json = {}

    async def holds() -> bool:
        nonlocal last
        last = (await world.get(kind, name)).get("status", {})
        return last.get("phase") in ("Completed", "Failed") and last.get("runAgain", "") == value

    await world.until(holds, 60, f"{kind} {name}, {value}")
    assert last["phase"] == "Completed", last
    return last


@pytest.mark.parametrize(
    "spec",
    [{}, {"strategy": "InPlace", "backupBefore": False}],
    ids=["staged", "in place"],
)
async def test_it_is_restored_again(working_world: World, db: Database[Any], spec: Json) -> None:
    db.a.insert_one({"_id": "backup"})
    working_world.start_operator()
    storage = {"storage": {"volume": {"claimName": CLAIM}}, "mongodb": {"databases": [db.name]}}
    await working_world.create("Backup", "full", {"engines": ["mongodb"], **storage})
    await ended(working_world, "Backup", "full")
    runs = set()
    for value in ("1", "2", "1"):
        db.a.insert_one({"_id": f"since {len(runs)}"})
        asked = {ANNOTATION: value}
        if runs:
            await working_world.patch("Restore", "back", {"metadata": {"annotations": asked}})
        else:
            wanted = {"backupName": "full", "dropExisting": True, **spec}
            await working_world.create("Restore", "back", wanted, asked)
        runs.add((await ended(working_world, "Restore", "back", value))["run"])
        assert [d["_id"] for d in db.a.find()] == ["backup"]
    assert len(runs) == 3
