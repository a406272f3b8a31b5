"""A Secret that leads to another server between a restore's plan and its beginning: two real servers."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from backup_bed import CLAIM, IMAGE, make_claim

from lucid_storage.kube.client import Json
from testbed.job_runner import JobRunner, worker_command
from testbed.pytest_operator import World
from testbed.stores.mongodb import MongoDB

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]

OWN = {"connection": {"secretName": "store"}}


@pytest.fixture
async def bed(mongo_world: World, tmp_path: Path) -> AsyncIterator[World]:
    await make_claim(mongo_world)
    mongo_world.environment.update(IMAGE)
    runner = JobRunner(mongo_world.kube, [mongo_world.namespace], tmp_path / "node", worker_command)
    async with runner.running():
        yield mongo_world
        for operator in mongo_world.operators:
            operator.stop()


async def status(bed: World, kind: str, name: str, what: str, wanted: Callable[[Json], bool]) -> Json:
    last: Json = {}

    async def holds() -> bool:
        nonlocal last
        found = await bed.kube.get(bed.path(kind, name))
        last = (found or {}).get("status", {})
        return wanted(last)

    try:
        await bed.until(holds, 90, what)
    except AssertionError as error:
        raise AssertionError(f"{error}: {last}") from None
    return last


async def test_the_restore_is_planned_and_protected_anew_and_leaves_the_first_server_alone(
    bed: World, mongodb: MongoDB, private_mongodb: Callable[..., MongoDB]
) -> None:
    other = private_mongodb()
    name = bed.environment["MONGODB_DATABASE"]
    with mongodb.client() as first, other.client() as second:
        first[name].a.insert_one({"_id": "backed up"})
        second[name].a.insert_one({"_id": "of the second"})
        await bed.secret("store", {"MONGODB_URI": mongodb.uri})
        operator = bed.start_operator()
        spec: dict[str, Any] = {"engines": ["mongodb"], "mongodb": {"databases": [name]}, **OWN}
        spec["storage"] = {"volume": {"claimName": CLAIM}}
        await bed.create("Backup", "full", spec)
        await status(bed, "Backup", "full", "the Backup", lambda s: s.get("phase") == "Completed")
        first[name].a.insert_one({"_id": "since"})
        asked = {"backupName": "full", "dropExisting": True, "backupBefore": True, **OWN}
        await bed.create("Restore", "back", asked)
        planned = await status(bed, "Restore", "back", "a plan", lambda s: "backupBefore" in s)
        before = planned["backupBefore"]
        await status(bed, "Backup", before, "its Backup at work", lambda s: "startedAt" in s)
        operator.stop()  # one that goes on would remember what the Secret holds for half a minute
        switched = {"stringData": {"MONGODB_URI": other.uri}}
        await bed.kube.patch(f"/api/v1/namespaces/{bed.namespace}/secrets/store", switched)
        bed.start_operator()
        done = await status(bed, "Restore", "back", "the Restore", lambda s: s.get("phase") == "Completed")
        assert done["run"] != planned["run"]
        assert done["serverIdentity"] != planned["serverIdentity"]
        assert done["backupBefore"] != before
        kept = (await bed.get("Backup", done["backupBefore"]))["status"]
        assert kept["serverIdentity"] == kept["engines"][0]["serverIdentity"] == done["serverIdentity"]
        assert [d["_id"] for d in second[name].a.find()] == ["backed up"]
        assert {d["_id"] for d in first[name].a.find()} == {"backed up", "since"}
        assert first[name].list_collection_names() == ["a"]
