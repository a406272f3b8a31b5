"""Restores as an operator carries them out: planned and staged by real workers, swapped by the leader."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from backup_bed import CLAIM, IMAGE, conditions, make_claim, reason
from pymongo.database import Database

from lucid_storage.kube.client import Json
from testbed.job_runner import JobRunner, worker_command
from testbed.pytest_operator import World

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]


class Restores:
    """A world with a node whose workers are the real ones."""

    def __init__(self, world: World, runner: JobRunner, database: str) -> None:
        self.world = world
        self.runner = runner
        self.database = database

    async def back_up(self, name: str, **spec: object) -> Json:
        await self.world.create(
            "Backup",
            name,
            {
                "engines": ["mongodb"],
                "storage": {"volume": {"claimName": CLAIM}},
                "mongodb": {"databases": [self.database]},
                **spec,
            },
        )
        return await self.phase("Backup", name, "Completed")

    async def restore(self, name: str, **spec: object) -> None:
        await self.world.create("Restore", name, {"backupName": "full", **spec})

    async def phase(self, kind: str, name: str, *wanted: str, deadline: float = 60) -> Json:
        last: Json = {}

        async def holds() -> bool:
            nonlocal last
            last = (await self.world.get(kind, name)).get("status", {})
            return last.get("phase") in wanted

        try:
            await self.world.until(holds, deadline, f"{kind} {name} to be {wanted}")
        except AssertionError as error:
            log = self.world.operators[-1].log.splitlines()[-15:]
            raise AssertionError("\n".join([str(error), json.dumps(last), *log])) from None
        return last

    async def swapped_to(self, name: str) -> Json:
        return await self.phase("Restore", name, "Completed")

    def workers(self) -> list[str]:
        """Those that were begun to load."""
        return [name for name in self.runner.started if "-restore-" in name]

    async def loading_worker_killed(self, db: Database[Any]) -> None:
        """Ends the worker when it has begun to load, and is far from its end."""

        async def loading() -> bool:
            for pod in self.runner.running_pods():
                if "-restore-" in pod.name and staged(db):
                    pod.process.kill()
                    return True
            return False

        await self.world.until(loading, 60, "a worker that loads")

    async def clean(self, db: Database[Any]) -> None:
        async def holds() -> bool:
            return not staged(db)

        await self.world.until(holds, 20, "the staged collections to go")


@pytest.fixture
async def bed(mongo_world: World, tmp_path: Path) -> AsyncIterator[Restores]:
    await make_claim(mongo_world)
    mongo_world.environment.update(IMAGE)
    runner = JobRunner(mongo_world.kube, [mongo_world.namespace], tmp_path / "node", worker_command)
    async with runner.running():
        yield Restores(mongo_world, runner, mongo_world.environment["MONGODB_DATABASE"])
        for operator in mongo_world.operators:
            operator.stop()


def reserved(db: Database[Any]) -> list[str]:
    return [name for name in db.list_collection_names() if name.startswith(("lucid_old_", "lucid_stg_"))]


def staged(db: Database[Any]) -> list[str]:
    """Collections of runs, the operator's own records apart."""
    return [name for name in reserved(db) if not name.endswith(("journal", "markers"))]


def others_since(db: Database[Any]) -> dict[str, list[Any]]:
    """Changes what was backed up; returns what is there then."""
    db.a.delete_many({"_id": {"$gte": 5}})
    db.a.update_one({"_id": 1}, {"$set": {"x": "changed since"}})
    db.a.insert_one({"_id": "made since"})
    db.a.create_index("x")
    db.b.insert_one({"_id": "in no backup"})
    return content(db)


def content(db: Database[Any]) -> dict[str, list[Any]]:
    """Documents and indexes of all collections but the operator's own."""
    names = sorted(set(db.list_collection_names()) - set(reserved(db)))
    return {name: [sorted(db[name].index_information()), *db[name].find()] for name in names}


async def test_a_restore_brings_back_what_was_backed_up(bed: Restores, db: Database[Any]) -> None:
    db.a.insert_many([{"_id": n} for n in range(100)])
    db.a.create_index("x", unique=True, sparse=True)
    bed.world.start_operator()
    await bed.back_up("full")
    db.a.delete_many({})
    db.a.insert_one({"_id": "disaster"})
    await bed.restore("back", dropExisting=True)
    status = await bed.swapped_to("back")
    assert sorted(d["_id"] for d in db.a.find()) == list(range(100))
    assert db.a.index_information()["x_1"]["unique"]
    assert conditions(status) == {
        "Ready": "True",
        "Reconciling": "False",
        "Stalled": "False",
        "Complete": "True",
        "Failed": "False",
    }
    assert reason(status) == "Completed"
    assert (status["swapped"], status["loadedDocuments"]) == (1, 100)
    assert status["plan"]["targets"] == [{"target": f"{bed.database}.a", "documents": 100, "overwrites": 1}]
    (old,) = [name for name in db.list_collection_names() if name.startswith("lucid_old_")]
    assert [d["_id"] for d in db[old].find()] == ["disaster"]


async def test_consent_is_asked_for_before_anything_is_loaded(bed: Restores, db: Database[Any]) -> None:
    db.a.insert_one({"_id": 1})
    bed.world.start_operator()
    await bed.back_up("full")
    await bed.restore("back")
    status = await bed.phase("Restore", "back", "Failed")
    assert reason(status) == "TargetNotEmpty"
    assert "dropExisting" in status["conditions"][0]["message"]
    assert not staged(db)


async def test_a_dry_run_only_plans(bed: Restores, db: Database[Any]) -> None:
    db.a.insert_one({"_id": 1})
    bed.world.start_operator()
    await bed.back_up("full")
    await bed.restore("look", dryRun=True)
    status = await bed.swapped_to("look")
    assert reason(status) == "Planned"
    assert "dropExisting" in status["plan"]["blockedBy"]
    assert reserved(db) == []


async def test_old_collections_go_when_their_time_is_over(bed: Restores, db: Database[Any]) -> None:
    db.a.insert_one({"_id": 1})
    bed.world.start_operator()
    await bed.back_up("full")
    db.a.insert_one({"_id": 2})
    await bed.restore("back", dropExisting=True, keepOldMinutes=0)
    await bed.swapped_to("back")

    async def gone() -> bool:
        status = (await bed.world.get("Restore", "back"))["status"]
        return "oldUntil" not in status and not [n for n in reserved(db) if n.startswith("lucid_old_")]

    await bed.world.until(gone, 20, "the replaced collections to be dropped")
    assert [d["_id"] for d in db.a.find()] == [1]


async def test_the_same_restore_made_again_writes_nothing_until_it_is_asked_to(
    bed: Restores, db: Database[Any]
) -> None:
    db.a.insert_one({"_id": 1})
    bed.world.start_operator()
    await bed.back_up("full")
    await bed.restore("back", dropExisting=True)
    await bed.swapped_to("back")
    db.a.insert_one({"_id": "since"})
    await bed.world.delete("Restore", "back")
    await bed.restore("back", dropExisting=True)
    status = await bed.swapped_to("back")
    assert reason(status) == "AlreadyRestored"
    # Rule 2.10: where the server has lost its marker, the one in the destination has a person decide.
    await bed.world.delete("Restore", "back")
    db.drop_collection("lucid_stg_markers")
    await bed.restore("back", dropExisting=True)
    status = await bed.phase("Restore", "back", "Failed")
    assert (reason(status), conditions(status)["Stalled"]) == ("RunAgainNeeded", "True")
    assert db.a.count_documents({}) == 2
    again_please = {"storage.lucid-blockchain.org/run-again": "1"}
    await bed.world.patch("Restore", "back", {"metadata": {"annotations": again_please}})

    async def again() -> bool:
        status = (await bed.world.get("Restore", "back"))["status"]
        return status.get("runAgain") == "1" and status["phase"] == "Completed"

    await bed.world.until(again, 60, "another run")
    assert [d["_id"] for d in db.a.find()] == [1]


async def test_neither_a_cancel_nor_a_killed_worker_changes_the_target(
    bed: Restores, db: Database[Any]
) -> None:
    """Rule 2.2: until the first rename the target is as it was."""
    db.a.insert_many([{"_id": n, "x": "y" * 1000} for n in range(30_000)])
    bed.world.start_operator()
    await bed.back_up("full")
    live = others_since(db)
    await bed.restore("cancelled", dropExisting=True)
    await bed.phase("Restore", "cancelled", "Loading")
    await bed.world.patch("Restore", "cancelled", {"spec": {"cancel": True}})
    status = await bed.phase("Restore", "cancelled", "Cancelled")
    assert reason(status) == "Cancelled"
    await bed.clean(db)
    assert content(db) == live

    ran = len(bed.workers())
    await bed.restore("killed", dropExisting=True)
    await bed.loading_worker_killed(db)
    status = await bed.phase("Restore", "killed", "Failed")
    assert reason(status) == "WorkerLost"
    assert "the target is as it was" in status["conditions"][0]["message"]
    await bed.clean(db)
    assert content(db) == live
    assert len(bed.workers()) == ran + 1, "it was restored again by itself"


async def test_an_operator_that_is_killed_is_followed_by_one_that_finishes(
    bed: Restores, db: Database[Any]
) -> None:
    names = [f"c{n:02}" for n in range(25)]
    for name in names:
        db[name].insert_one({"_id": "backup"})
    bed.world.environment["LEASE_SECONDS"] = "4"
    operator = bed.world.start_operator()
    await bed.back_up("full")
    for name in names:
        db[name].insert_one({"_id": "live"})
    await bed.restore("back", dropExisting=True)
    await bed.phase("Restore", "back", "Loading", "Replaying", "Swapping")
    operator.kill()
    operator = bed.world.start_operator()
    await bed.phase("Restore", "back", "Swapping", "Completed")
    operator.kill()
    bed.world.start_operator()
    status = await bed.swapped_to("back")
    assert status["swapped"] == len(names)
    assert {name: [d["_id"] for d in db[name].find()] for name in names} == {
        name: ["backup"] for name in names
    }
    assert len(bed.workers()) == 1


async def test_in_place_it_comes_over_the_live_data(bed: Restores, db: Database[Any]) -> None:
    """Rule 2.3: with consent replaced, without it only what is absent is added."""
    db.a.insert_many([{"_id": n} for n in range(10)])
    bed.world.start_operator()
    await bed.back_up("full")
    db.a.delete_many({"_id": {"$lt": 5}})
    db.a.insert_one({"_id": "newer"})
    await bed.restore("added", strategy="InPlace", backupBefore=False)
    await bed.swapped_to("added")
    assert {d["_id"] for d in db.a.find()} == {*range(10), "newer"}
    await bed.restore("replaced", strategy="InPlace", dropExisting=True, backupBefore=False)
    status = await bed.swapped_to("replaced")
    assert {d["_id"] for d in db.a.find()} == set(range(10))
    assert "leaves the target incomplete" in status["plan"]["warnings"][0]
    assert "1 collection is in place." in status["conditions"][0]["message"]
    assert not staged(db)


async def test_in_place_no_worker_begins_while_the_marker_of_the_run_before_stands(
    bed: Restores, db: Database[Any]
) -> None:
    """A target that is left incomplete must never pass for AlreadyRestored."""
    db.a.insert_one({"_id": "backup"})
    bed.world.environment["LEASE_SECONDS"] = "4"
    operator = bed.world.start_operator()
    await bed.back_up("full")
    await bed.restore("back", strategy="InPlace", dropExisting=True, backupBefore=False)
    await bed.swapped_to("back")
    db.a.insert_one({"_id": "since"})
    db.command({"collMod": "lucid_stg_markers", "validator": {"result": "Completed"}})
    again = {"storage.lucid-blockchain.org/run-again": "1"}
    await bed.world.patch("Restore", "back", {"metadata": {"annotations": again}})

    async def hindered() -> bool:
        return (await bed.world.get("Restore", "back"))["status"].get("troubleSince") is not None

    await bed.world.until(hindered, 60, "the marker to be refused")
    operator.kill()
    db.command({"collMod": "lucid_stg_markers", "validator": {}})
    assert {d["_id"] for d in db.a.find()} == {"backup", "since"}
    assert len(bed.workers()) == 1
    bed.world.start_operator()
    status = await bed.phase("Restore", "back", "Completed")
    assert status["runAgain"] == "1"
    assert [d["_id"] for d in db.a.find()] == ["backup"]
    (marker,) = db.lucid_stg_markers.find()
    assert (marker["run"], marker["result"]) == (status["run"], "Completed")
