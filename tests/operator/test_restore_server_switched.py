"""A Secret that leads to another server between a restore's plan and its beginning: two real servers."""

from collections.abc import Callable
from typing import Any

import pytest
from backup_bed import CLAIM

from lucid_storage.kube.client import Json
from testbed.pytest_operator import World
from testbed.stores.mongodb import MongoDB

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]

OWN = {"connection": {"secretName": "store"}}


async def status(
    working_world: World, kind: str, name: str, what: str, wanted: Callable[[Json], bool]
) -> Json:
    last: Json = {}

    async def holds() -> bool:
        nonlocal last
        found = await working_world.kube.get(working_world.path(kind, name))
        last = (found or {}).get("status", {})
        return wanted(last)

    try:
        await working_world.until(holds, 90, what)
    except AssertionError as error:
        raise AssertionError(f"{error}: {last}") from None
    return last


async def test_the_restore_is_planned_and_protected_anew_and_leaves_the_first_server_alone(
    working_world: World, mongodb: MongoDB, private_mongodb: Callable[..., MongoDB]
) -> None:
    other = private_mongodb()
    name = working_world.environment["MONGODB_DATABASE"]
    with mongodb.client() as first, other.client() as second:
        first[name].a.insert_one({"_id": "backed up"})
        second[name].a.insert_one({"_id": "of the second"})
        await working_world.secret("store", {"MONGODB_URI": mongodb.uri})
        operator = working_world.start_operator()
        spec: dict[str, Any] = {"engines": ["mongodb"], "mongodb": {"databases": [name]}, **OWN}
        spec["storage"] = {"volume": {"claimName": CLAIM}}
        await working_world.create("Backup", "full", spec)
        await status(working_world, "Backup", "full", "the Backup", lambda s: s.get("phase") == "Completed")
        first[name].a.insert_one({"_id": "since"})
        asked = {"backupName": "full", "dropExisting": True, "backupBefore": True, **OWN}
        await working_world.create("Restore", "back", asked)
        planned = await status(working_world, "Restore", "back", "a plan", lambda s: "backupBefore" in s)
        before = planned["backupBefore"]
        await status(working_world, "Backup", before, "its Backup at work", lambda s: "startedAt" in s)
        operator.stop()  # one that goes on would remember what the Secret holds for half a minute
        switched = {"stringData": {"MONGODB_URI": other.uri}}
        await working_world.kube.patch(
            f"/api/v1/namespaces/{working_world.namespace}/secrets/store", switched
        )
        working_world.start_operator()
        done = await status(
            working_world, "Restore", "back", "the Restore", lambda s: s.get("phase") == "Completed"
        )
        assert done["run"] != planned["run"]
        assert done["serverIdentity"] != planned["serverIdentity"]
        assert done["backupBefore"] != before
        kept = (await working_world.get("Backup", done["backupBefore"]))["status"]
        assert kept["serverIdentity"] == kept["engines"][0]["serverIdentity"] == done["serverIdentity"]
        assert [d["_id"] for d in second[name].a.find()] == ["backed up"]
        assert {d["_id"] for d in first[name].a.find()} == {"backed up", "since"}
        assert first[name].list_collection_names() == ["a"]
