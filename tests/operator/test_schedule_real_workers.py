"""A schedule from end to end: real backups, a real slicing worker, and retention that removes real data."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from backup_bed import CLAIM
from pymongo.database import Database

from lucid_storage.kube.client import Json
from testbed.job_runner import JobRunner
from testbed.pytest_operator import World

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver, pytest.mark.slow]


async def test_slices_and_retention_of_real_backups(
    mongo_world: World, runner: JobRunner, db: Database[Any]
) -> None:
    """keepLast 1: when the second full completes, data and object of the first go, and the window stays whole."""
    world = mongo_world
    db.a.insert_many([{"_id": n} for n in range(100)])
    world.start_operator()
    template = {
        "type": "full",
        "engines": ["mongodb"],
        "mongodb": {"databases": [world.environment["MONGODB_DATABASE"]]},
        "storage": {"volume": {"claimName": CLAIM}},
    }
    spec: Json = {
        "schedule": "* * * * *",
        "immediate": True,
        "template": template,
        "retention": {"keepLast": 1},
        "pointInTime": {"enabled": True, "intervalSeconds": 60},
    }
    await world.create("BackupSchedule", "minutely", spec)
    first = await completed(world, 1, 60)
    db.a.insert_one({"_id": "later"})
    both = await completed(world, 2, 100)
    await world.patch("BackupSchedule", "minutely", {"spec": {"suspend": True}})
    newest = max(both)
    slot = datetime.strptime(newest, "minutely-%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    made = datetime.fromisoformat((await world.get("Backup", newest))["metadata"]["creationTimestamp"])
    assert slot.second == 0, "it is of a slot, and named by it"
    assert 0 <= (made - slot).total_seconds() < 30
    folder = runner.claim_folder(world.namespace, CLAIM)

    async def swept() -> bool:
        there = {path.parent.name for path in folder.glob("**/manifest.json")}
        return set(await backups(world)) == {newest} and there == {both[newest]["id"]}

    await world.until(swept, 60, "retention to remove the first backup with its data")
    assert min(first) != newest

    said: Json = {}

    async def whole() -> bool:
        # One answer for all: a window of the first backup can still be told, and is gone in the next answer.
        said.clear()
        said.update((await world.get("BackupSchedule", "minutely"))["status"])
        return bool(said.get("recoverable"))

    try:
        await world.until(whole, 100, "a window that can be restored")
    except AssertionError as error:
        logs = [pod.log.read_text()[-2000:] for pod in runner.running_pods()]
        raise AssertionError("\n".join([str(error), json.dumps(said), json.dumps(both), *logs])) from None
    start, end = (datetime.fromisoformat(said["recoverable"][-1][key]) for key in ("from", "to"))
    assert start < end
    assert said["slicer"]["lastSliceAt"]
    assert said["oplogWindowSeconds"] > 0
    assert said["timeline"] == both[newest]["timeline"], "the full joined the timeline of the slices"


async def backups(world: World) -> dict[str, Json]:
    """Status by name."""
    found = await world.kube.get(world.path("Backup"))
    assert found is not None
    return {b["metadata"]["name"]: b.get("status", {}) for b in found["items"]}


async def completed(world: World, count: int, deadline: float) -> dict[str, Json]:
    """Wait until so many backups have completed since the beginning; those that are there."""
    seen: dict[str, Json] = {}

    async def enough() -> bool:
        for name, status in (await backups(world)).items():
            assert status.get("phase") not in ("Failed", "PartiallyFailed"), status
            if status.get("phase") == "Completed":
                seen[name] = status
        return len(seen) >= count

    try:
        await world.until(enough, deadline, f"{count} backups to complete")
    except AssertionError as error:
        log = world.operators[-1].log.splitlines()[-15:]
        raise AssertionError("\n".join([str(error), json.dumps(await backups(world)), *log])) from None
    return seen
