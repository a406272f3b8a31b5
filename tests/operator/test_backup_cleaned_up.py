"""What a stopped or lost worker leaves: it is removed once, and holds up neither the deployment nor the deletion."""

import pytest
from backup_bed import BackupBed, conditions, reason
from operator_bed import noted

from lucid_storage.kube.client import Json

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]


def path(bed: BackupBed, name: str) -> str:
    return f"/apis/storage.lucid-blockchain.org/v1alpha1/namespaces/{bed.world.namespace}/backups/{name}"


async def quota(bed: BackupBed) -> str:
    """No Job can be made in the namespace until the quota is gone; returns its path."""
    place = f"/api/v1/namespaces/{bed.world.namespace}/resourcequotas"
    body = {"metadata": {"name": "none"}, "spec": {"hard": {"count/jobs.batch": "0"}}}
    await bed.world.kube.request("POST", place, body=body)

    async def counted() -> bool:
        found = await bed.world.kube.get(f"{place}/none")
        return found is not None and "hard" in found.get("status", {})

    await bed.world.until(counted, 30, "the quota to be counted")
    return f"{place}/none"


@pytest.mark.parametrize("how", ["cancel", "delete"])
async def test_an_upload_that_cannot_be_removed_holds_up_nobody(bed: BackupBed, how: str) -> None:
    bed.world.start_operator()
    await bed.create("stuck")
    await bed.at_work("stuck")
    await bed.create("other")
    await bed.phase("other", "Queued")
    bed.mark("away")
    if how == "cancel":
        await bed.world.patch("Backup", "stuck", {"spec": {"cancel": True}})
    else:
        await bed.world.delete("Backup", "stuck")
    await bed.at_work("other")
    said = (await noted(bed.world, "stuck", "NotCleanedUp"))["note"]
    assert "The bucket does not answer. A later prune of the chain removes" in said
    assert bed.stopped("stuck")
    assert bed.ran("stuck", "prune") == 1
    if how == "cancel":
        status = await bed.phase("stuck", "Cancelled")
        await bed.let_go("stuck")
        assert "not removed" in status["conditions"][0]["message"]
        assert "progress" not in status


async def test_a_backup_at_work_that_is_deleted_together_with_its_secret_goes(bed: BackupBed) -> None:
    """As `kubectl delete -f folder` does it, and the deletion of an application in Argo CD."""
    world = bed.world
    await world.secret("own", {"MONGODB_URI": world.environment["MONGODB_URI"]})
    world.start_operator()
    await bed.create("app", connection={"secretName": "own"})
    await bed.at_work("app")
    await world.kube.request("DELETE", f"/api/v1/namespaces/{world.namespace}/secrets/own")
    await world.delete("Backup", "app")
    assert bed.stopped("app")
    assert "A later prune" in (await noted(bed.world, "app", "NotCleanedUp"))["note"]
    await bed.create("other")
    await bed.at_work("other")


async def test_a_deletion_that_waits_for_its_data_says_so_tries_seldom_and_can_be_let_go(
    bed: BackupBed,
) -> None:
    operator = bed.world.start_operator()
    await bed.create("gone", deletionPolicy="Delete")
    bed.release("gone")
    await bed.phase("gone", "Completed")
    bed.mark("away")
    await bed.world.kube.request("DELETE", path(bed, "gone"))
    said = (await noted(bed.world, "gone", "DeletionWaits"))["note"]
    assert "The bucket does not answer. The deletion waits for that; with deletionPolicy: Retain" in said
    for n in range(5):
        looks = operator.metric("lucid_reconciles_total", kind="Backup")
        await bed.world.patch("Backup", "gone", {"spec": {"retentionDays": 40 + n}})

        async def looked(before: float = looks) -> bool:
            return operator.metric("lucid_reconciles_total", kind="Backup") > before

        await bed.world.until(looked, 10, "a look")
    assert bed.ran("gone", "prune") <= 2, "a look between two attempts is no attempt"
    status = await bed.status("gone")
    assert (reason(status), conditions(status)["Stalled"]) == ("Deleting", "True")
    await bed.world.patch("Backup", "gone", {"spec": {"deletionPolicy": "Retain"}})

    async def left() -> bool:
        return await bed.world.kube.get(path(bed, "gone")) is None

    await bed.world.until(left, 10, "the object to go")
    waits = [e for e in await bed.world.events("gone") if e["reason"] == "DeletionWaits"]
    assert len(waits) == 1


async def test_a_job_deleted_at_work_runs_no_second_time_where_its_clean_up_is_refused(
    bed: BackupBed,
) -> None:
    bed.world.start_operator()
    await bed.create("once")
    await bed.at_work("once")
    in_the_way = await quota(bed)
    await bed.delete_jobs()
    status: Json = await bed.phase("once", "Failed")
    assert reason(status) == "WorkerLost"
    assert "quota" in (await noted(bed.world, "once", "NotCleanedUp"))["note"]
    await bed.let_go("once")
    await bed.world.kube.request("DELETE", in_the_way)
    await bed.create("next")
    await bed.at_work("next")
    assert (bed.ran("once"), (await bed.status("once"))["phase"]) == (1, "Failed")
