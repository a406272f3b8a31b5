"""Schedules as an operator follows them: one backup a slot, retention by a worker, whatever ends the operator."""

from datetime import UTC, datetime

import pytest
from backup_bed import BackupBed, backup_spec, reason

from lucid_storage.kinds.workers.standing import StandingSweep
from lucid_storage.kube.client import Json
from lucid_storage.kube.deployments import Deployments
from lucid_storage.kube.resources import Resource
from lucid_storage.models.meta import OWNER_UID_LABEL, RETENTION, SCHEDULE

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]

NEVER = "0 0 1 1 *"


async def create(bed: BackupBed, name: str = "nightly", **spec: object) -> Json:
    body = {"schedule": NEVER, "immediate": True, "template": {"type": "full", **backup_spec()}, **spec}
    return await bed.world.create("BackupSchedule", name, body)


async def children(bed: BackupBed, schedule: str = "nightly") -> list[Json]:
    found = await bed.world.kube.get(bed.world.path("Backup"))
    assert found is not None
    return [b for b in found["items"] if b["metadata"].get("annotations", {}).get(SCHEDULE) == schedule]


async def child(bed: BackupBed, schedule: str = "nightly", deadline: float = 30) -> Json:
    """The one Backup of a schedule."""

    async def there() -> bool:
        return len(await children(bed, schedule)) > 0

    await bed.world.until(there, deadline, f"a Backup of {schedule}")
    (found,) = await children(bed, schedule)
    return found


async def status(bed: BackupBed, name: str = "nightly") -> Json:
    found: Json = (await bed.world.get("BackupSchedule", name)).get("status", {})
    return found


async def completed(bed: BackupBed, name: str = "nightly") -> str:
    """Let the one Backup of a schedule complete; its name."""
    made = (await child(bed, name))["metadata"]["name"]
    await bed.at_work(made)
    bed.release(made)
    await bed.phase(made, "Completed")
    return str(made)


async def test_an_immediate_schedule_makes_one_backup_that_is_its_own_master(bed: BackupBed) -> None:
    bed.world.start_operator()
    await create(bed, retention={"days": 5})
    made = await child(bed)
    assert made["metadata"]["name"].startswith("nightly-2")
    assert "ownerReferences" not in made["metadata"]
    assert made["metadata"]["annotations"][RETENTION] == '{"days": 5}'
    name = await completed(bed)
    assert (await bed.status(name))["schedule"] == "nightly"
    assert bed.order(name)["scheduled"] is True
    assert bed.order(name)["chain"] == "nightly"

    async def told() -> bool:
        return "Completed" in (await status(bed)).get("last", "")

    await bed.world.until(told, 20, "the column LAST")
    said = await status(bed)
    assert said["lastSuccessfulBackup"] == name
    assert "Checksum" in said["lastVerified"]
    assert said["next"] == f"{datetime.now(UTC).year + 1}-01-01 00:00 UTC"
    assert reason(said) == "Scheduled"
    assert len(await children(bed)) == 1


async def test_retention_is_applied_by_a_worker_after_the_backup(bed: BackupBed) -> None:
    bed.world.start_operator()
    await create(bed, retention={"days": 5})
    name = await completed(bed)

    async def swept() -> bool:
        return (await status(bed)).get("retention", {}).get("lastAt") is not None

    await bed.world.until(swept, 30, "retention to be applied")
    order = bed.order("nightly", "prune")
    assert order["sweep"] is True
    assert order["rules"] == {"nightly": {"days": 5}}
    assert order["known"] == [(await bed.status(name))["id"]]

    async def explained() -> bool:
        return (await bed.status(name)).get("expires", "").endswith("Z")

    await bed.world.until(explained, 20, "the Backup to say when it expires")
    assert len(await children(bed)) == 1
    assert bed.ran("nightly", "prune") == 1


async def test_a_backup_that_cannot_be_restored_any_more_does_not_stay_verified(bed: BackupBed) -> None:
    """Nor does an operator that starts anew take it for what it was."""
    operator = bed.world.start_operator(LEASE_SECONDS="4")
    bed.mark("lost")
    await create(bed, retention={"days": 5})
    name = await completed(bed)

    async def revoked() -> bool:
        said = await bed.status(name)
        verified = {c["reason"] for c in said.get("conditions", []) if c["type"] == "Verified"}
        return (said.get("verified"), verified) == ("ArchiveDamaged", {"ArchiveDamaged"})

    await bed.world.until(revoked, 30, "the Backup to say that it is lost")
    operator.kill()
    bed.world.start_operator(LEASE_SECONDS="4")
    await bed.world.patch("BackupSchedule", "nightly", {"spec": {"suspend": True}})
    await bed.world.condition("BackupSchedule", "nightly", "True", "Suspended", 30)
    assert await revoked()
    said = await bed.status(name)
    assert {c["type"] for c in said["conditions"]} >= {"Ready", "Verified"}
    assert said["phase"] == "Completed"


async def test_a_suspended_schedule_makes_nothing(bed: BackupBed) -> None:
    bed.world.start_operator()
    await create(bed, suspend=True)
    said = await bed.world.ready("BackupSchedule", "nightly")
    assert reason(said) == "Suspended"
    assert await children(bed) == []
    await bed.world.patch("BackupSchedule", "nightly", {"spec": {"suspend": False}})
    await bed.world.condition("BackupSchedule", "nightly", "True", "Scheduled", 20)


@pytest.mark.parametrize("moment", ["created", "at work"])
async def test_an_operator_killed_at_any_moment_makes_one_backup_a_slot(bed: BackupBed, moment: str) -> None:
    operator = bed.world.start_operator(LEASE_SECONDS="4")
    await create(bed)
    made = (await child(bed))["metadata"]["name"]
    if moment == "at work":
        await bed.at_work(made)
    operator.kill()
    bed.world.start_operator(LEASE_SECONDS="4")
    name = await completed(bed)
    assert name == made
    assert [b["metadata"]["name"] for b in await children(bed)] == [made]
    assert bed.ran(made) == 1


async def test_a_status_that_was_lost_makes_no_second_backup_of_the_slot(bed: BackupBed) -> None:
    """Killed after the creation and before the status: the next look knows nothing of the first."""
    operator = bed.world.start_operator()
    await create(bed)
    name = await completed(bed)
    operator.stop()
    path = bed.world.path("BackupSchedule", "nightly", "status")
    gone = await bed.world.kube.request("GET", path)
    await bed.world.kube.request("PUT", path, body={**gone, "status": {}})
    bed.world.start_operator()

    async def told() -> bool:
        return (await status(bed)).get("lastBackup") == name

    await bed.world.until(told, 20, "the schedule to find its Backup")
    assert [b["metadata"]["name"] for b in await children(bed)] == [name]
    assert bed.ran(name) == 1


async def test_a_schedule_that_cannot_be_is_stalled_with_a_sentence(bed: BackupBed) -> None:
    bed.world.start_operator()
    await create(bed, schedule="0 0 31 2 *")
    refused = await bed.world.refused("BackupSchedule", "nightly", "InvalidSpec")
    assert "spec.schedule" in refused["message"]


async def test_deleting_the_schedule_leaves_its_backups(bed: BackupBed) -> None:
    bed.world.start_operator()
    await create(bed)
    name = await completed(bed)
    await bed.world.delete("BackupSchedule", "nightly")
    assert (await bed.status(name))["phase"] == "Completed"


async def test_an_unchanged_schedule_is_not_written_again(bed: BackupBed) -> None:
    operator = bed.world.start_operator()
    await create(bed, immediate=False)
    await bed.world.ready("BackupSchedule", "nightly")
    version = (await bed.world.get("BackupSchedule", "nightly"))["metadata"]["resourceVersion"]
    operator.stop()
    again = bed.world.start_operator()
    assert again.metric("lucid_reconciles_total", kind="BackupSchedule") >= 1
    assert (await bed.world.get("BackupSchedule", "nightly"))["metadata"]["resourceVersion"] == version
    assert again.metric("lucid_backup_schedule_interval_seconds") > 300 * 86_400


async def test_point_in_time_keeps_one_slicing_worker_and_ends_it_with_the_schedule(bed: BackupBed) -> None:
    bed.world.start_operator()
    await create(bed, immediate=False, pointInTime={"enabled": True, "intervalSeconds": 600})
    made = await deployment(bed, 20)
    spec = made["spec"]
    assert (spec["replicas"], spec["strategy"]["type"]) == (1, "Recreate")
    assert spec["template"]["spec"]["containers"][0]["args"] == ["slice"]
    assert "mongodb://" not in str(made), "the login is in the Secret alone"
    name = made["metadata"]["name"]
    secret = await bed.world.kube.secret(bed.world.namespace, name)
    assert secret is not None
    assert "MONGODB_URI" in secret["data"]

    async def named() -> bool:
        return (await status(bed)).get("slicer", {}).get("deployment") == name

    await bed.world.until(named, 20, "the worker's name in status")
    await bed.world.patch("BackupSchedule", "nightly", {"spec": {"pointInTime": {"intervalSeconds": 60}}})

    async def told() -> bool:
        return '"intervalSeconds":60' in str((await deployment(bed, 5))["spec"])

    await bed.world.until(told, 20, "the worker to be told the new interval")
    await bed.world.patch("BackupSchedule", "nightly", {"spec": {"pointInTime": None}})

    async def gone() -> bool:
        return await bed.world.kube.secret(bed.world.namespace, name) is None

    await bed.world.until(gone, 20, "the worker to be ended")


async def deployment(bed: BackupBed, deadline: float) -> Json:
    """The one Deployment of the world."""
    path = f"/apis/apps/v1/namespaces/{bed.world.namespace}/deployments"
    found: list[Json] = []

    async def there() -> bool:
        nonlocal found
        found = ((await bed.world.kube.get(path)) or {})["items"]
        return bool(found)

    await bed.world.until(there, deadline, "a Deployment")
    return found[0]


async def test_a_slicing_worker_that_belongs_nowhere_is_swept_and_others_are_not(bed: BackupBed) -> None:
    """It may run in the operator's namespace, where no owner reference reaches."""
    namespace, deployments = bed.world.namespace, Deployments(bed.world.kube)
    for uid in ("gone", "moved", "there"):
        labels = {OWNER_UID_LABEL: uid}
        container = {"name": "worker", "image": "none"}
        body = {
            "metadata": {"name": uid, "namespace": namespace, "labels": labels},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        }
        assert await deployments.create(body) is not None
        await deployments.put_secret(
            {"metadata": {"name": uid, "namespace": namespace}, "data": {"a": "YQ=="}}
        )
    known = {
        uid: Resource.from_body(
            "backupschedules", {"metadata": {"namespace": namespace, "name": uid, "uid": uid}}
        )
        for uid in ("moved", "there")
    }
    sweep = StandingSweep(
        deployments,
        [namespace],
        known.get,
        home=lambda schedule: namespace if schedule.uid == "there" else "elsewhere",
        operator_namespace=namespace,
    )
    await sweep.sweep()

    async def swept() -> bool:
        return [d["metadata"]["name"] for d in await deployments.labelled(OWNER_UID_LABEL, namespace)] == [
            "there"
        ]

    await bed.world.until(swept, 20, "the Deployments without a schedule to go")
    assert await bed.world.kube.secret(namespace, "gone") is None
    assert await bed.world.kube.secret(namespace, "there") is not None
