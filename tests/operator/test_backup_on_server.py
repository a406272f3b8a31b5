"""Backups as an operator carries them out: one Job each, told by its pod, whatever happens to either."""

import pytest
from backup_bed import BackupBed, conditions, reason
from operator_bed import noted

from lucid_storage.kube.client import Json

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]


async def test_a_backup_runs_in_one_job_and_tells_its_progress_and_its_end(bed: BackupBed) -> None:
    bed.world.start_operator()
    await bed.create("first")
    running = await bed.phase("first", "Running")
    assert running["jobName"].startswith("first-backup-")
    assert conditions(running)["Reconciling"] == "True"

    async def told() -> bool:
        return "%" in (await bed.status("first")).get("progress", "")

    try:
        await bed.world.until(told, 20, "progress")
    except AssertionError as error:
        raise AssertionError(f"{error}: {await bed.told('first')}") from None
    bed.mark("verify-first")
    await bed.phase("first", "Verifying")
    bed.release("first")
    status = await bed.phase("first", "Completed")
    assert conditions(status) == {
        "Ready": "True",
        "Reconciling": "False",
        "Stalled": "False",
        "Complete": "True",
        "Failed": "False",
        "Verified": "True",
    }
    shown = {key: status[key] for key in ("type", "progress", "size", "verified", "chain")}
    assert shown == {
        "type": "full",
        "progress": "100%",
        "size": "1.0Ki",
        "verified": "Checksum",
        "chain": "manual",
    }
    assert status["expires"]
    assert bed.ran("first") == 1
    await bed.let_go("first")
    for event in ("Started", "Completed"):
        await noted(bed.world, "first", event)
    assert reason(status) == "Completed"


async def test_a_full_waits_for_another_of_the_same_deployment_and_an_incremental_does_not(
    bed: BackupBed,
) -> None:
    bed.world.start_operator()
    await bed.create("one")
    await bed.phase("one", "Running")
    await bed.create("two")
    waiting = await bed.phase("two", "Queued")
    assert waiting["queuedBehind"] == "backup one"
    assert (reason(waiting), conditions(waiting)["Reconciling"]) == ("Queued", "True")
    await bed.create("three", type="incremental")
    await bed.phase("three", "Running")
    await bed.create("wait")
    await bed.phase("wait", "Queued")
    assert bed.ran("two") == bed.ran("wait") == 0
    bed.release("one")
    await bed.phase("one", "Completed")
    await bed.phase("two", "Running", deadline=10)
    assert (await bed.status("wait"))["queuedBehind"] == "backup two"
    for name in ("two", "three", "wait"):
        bed.release(name)
        await bed.phase(name, "Completed")
    assert [bed.ran(n) for n in ("one", "two", "three", "wait")] == [1, 1, 1, 1]


async def test_an_incremental_that_becomes_a_full_waits_for_another_one(bed: BackupBed) -> None:
    bed.world.start_operator()
    bed.mark("unbased-inc")
    await bed.create("one")
    await bed.phase("one", "Running")
    await bed.create("inc", type="incremental")
    waiting = await bed.phase("inc", "Queued")
    assert (waiting["type"], waiting["queuedBehind"]) == ("full", "backup one")
    bed.release("inc")
    assert bed.ran("inc") == 1, "it dumps nothing yet"
    bed.release("one")
    await bed.phase("one", "Completed")
    done = await bed.phase("inc", "Completed")
    assert (bed.ran("inc"), bed.order("inc")["mayDump"]) == (2, True)
    assert done["jobName"].startswith("inc-full-")


async def test_fulls_that_come_together_run_one_after_another(bed: BackupBed) -> None:
    operator = bed.world.operator()
    names = [f"b{n}" for n in range(4)]
    for name in names:
        await bed.create(name)
    operator.start()
    for _ in names:
        await bed.world.until(lambda: _active(bed, 1), 20, "one worker")
        active = [n for n in names if (await bed.status(n))["phase"] == "Running"]
        assert len(active) == 1
        bed.release(active[0])
        await bed.phase(active[0], "Completed")
    assert [bed.ran(n) for n in names] == [1, 1, 1, 1]


async def _active(bed: BackupBed, count: int) -> bool:
    return len(bed.runner.running_pods()) == count


async def test_a_result_that_is_no_success_is_failed_with_its_reason(bed: BackupBed) -> None:
    bed.world.start_operator()
    await bed.create("gap", type="incremental")
    await bed.phase("gap", "Running")
    bed.mark("fail-gap")
    bed.release("gap")
    status = await bed.phase("gap", "Failed")
    assert reason(status) == "OplogGap"
    assert conditions(status)["Failed"] == conditions(status)["Stalled"] == "True"
    assert bed.ran("gap") == 1


async def test_a_worker_that_dies_is_lost_and_nothing_runs_again(bed: BackupBed) -> None:
    bed.world.start_operator()
    await bed.create("dies")
    await bed.phase("dies", "Running")
    bed.mark("crash-dies")
    status = await bed.phase("dies", "Failed")
    assert reason(status) == "WorkerLost"
    assert "exit status 137" in status["conditions"][0]["message"]
    await bed.let_go("dies")
    order = bed.order("dies", "prune")
    assert (order["discard"], order.get("remove")) == ([status["id"]], []), "what it uploaded is removed"
    assert bed.ran("dies") == 1


async def test_a_job_deleted_at_work_is_a_lost_worker(bed: BackupBed) -> None:
    bed.world.start_operator()
    await bed.create("robbed")
    await bed.at_work("robbed")
    await bed.delete_jobs()
    status = await bed.phase("robbed", "Failed")
    assert reason(status) == "WorkerLost"
    assert bed.stopped("robbed")
    assert bed.ran("robbed") == 1


async def test_a_finished_job_that_somebody_deletes_is_not_made_again(bed: BackupBed) -> None:
    operator = bed.world.start_operator()
    await bed.create("done")
    await bed.at_work("done")
    bed.release("done")
    await bed.phase("done", "Completed")
    before = await bed.status("done")
    await bed.delete_jobs()
    operator.stop()
    again = bed.world.start_operator()
    looked = again.metric("lucid_reconciles_total", kind="Backup")
    assert looked >= 1
    assert await bed.status("done") == before
    assert await bed.jobs() == []
    assert bed.ran("done") == 1


@pytest.mark.parametrize("moment", ["Running", "job", "work"])
async def test_an_operator_killed_after_it_made_the_job_makes_no_second_one(
    bed: BackupBed, moment: str
) -> None:
    operator = bed.world.start_operator(LEASE_SECONDS="4")
    await bed.create("once")
    if moment == "Running":
        await bed.phase("once", "Running")
    elif moment == "job":
        await bed.world.until(lambda: _has_job(bed), 20, "the Job")
    else:
        await bed.at_work("once")
    operator.kill()
    bed.world.start_operator(LEASE_SECONDS="4")
    await bed.at_work("once")
    bed.release("once")
    status = await bed.phase("once", "Completed")
    assert bed.ran("once") == 1
    assert len(await bed.jobs()) == 1
    assert status["jobName"] == (await bed.jobs())[0]["metadata"]["name"]


async def _has_job(bed: BackupBed) -> bool:
    return bool(await bed.jobs())


async def test_cancel_stops_the_worker_and_removes_what_it_uploaded(bed: BackupBed) -> None:
    bed.world.start_operator()
    await bed.create("stop")
    await bed.at_work("stop")
    await bed.world.patch("Backup", "stop", {"spec": {"cancel": True}})
    status = await bed.phase("stop", "Cancelled")
    assert bed.stopped("stop")
    assert reason(status) == "Cancelled"
    assert conditions(status)["Stalled"] == "True"
    await bed.let_go("stop")
    assert bed.order("stop", "prune")["discard"] == [status["id"]]
    told = (await bed.status("stop"))["conditions"][0]["message"]
    assert told == "Cancelled; what was uploaded is removed."


async def test_cancel_before_the_start_starts_nothing(bed: BackupBed) -> None:
    operator = bed.world.operator()
    await bed.create("never", cancel=True)
    operator.start()
    await bed.phase("never", "Cancelled")
    assert await bed.jobs() == []


async def test_deleting_a_running_backup_stops_the_worker_first(bed: BackupBed) -> None:
    bed.world.start_operator()
    await bed.create("gone")
    await bed.at_work("gone")
    await bed.world.delete("Backup", "gone")
    assert bed.stopped("gone")
    assert bed.runner.running_pods() == []
    assert bed.order("gone", "prune")["discard"] != []


async def test_a_deleted_backup_leaves_its_data_under_retain_and_removes_them_under_delete(
    bed: BackupBed,
) -> None:
    bed.world.start_operator()
    for name, policy in (("kept", "Retain"), ("removed", "Delete")):
        await bed.create(name, deletionPolicy=policy)
        bed.release(name)
        await bed.phase(name, "Completed")
    removed = await bed.status("removed")
    await bed.world.delete("Backup", "kept")
    await bed.world.delete("Backup", "removed")
    assert bed.ran("kept", "prune") == 0
    assert bed.order("removed", "prune")["remove"] == [removed["id"]]


async def test_a_backup_waits_for_the_secret_with_its_key(bed: BackupBed) -> None:
    bed.world.start_operator()
    encryption = {"secretName": "keys", "keyId": "k2"}
    await bed.create("sealed", encryption=encryption)
    await bed.world.refused("Backup", "sealed", "SecretNotFound")
    assert (await bed.status("sealed"))["phase"] == "Pending"
    await bed.world.secret("keys", {"k1": "a" * 32, "k2": "b" * 32})
    await bed.at_work("sealed")
    bed.release("sealed")
    status = await bed.phase("sealed", "Completed")
    assert (status["encrypted"], status["keyId"]) == (True, "k2")
    pod = next(iter(bed.runner.pods.values()))
    keys = {p.name: p.read_text() for p in (pod.folder / "volumes" / "keys").iterdir()}
    assert keys == {"k1": "a" * 32, "k2": "b" * 32}
    assert "MONGODB_URI" in bed.order("sealed")["environment"]


async def test_a_secret_without_the_key_or_the_label_is_said(bed: BackupBed) -> None:
    await bed.world.secret("keys", {"k1": "a" * 32})
    await bed.world.secret("foreign", {"k1": "a" * 32}, allowed=False)
    bed.world.start_operator()
    await bed.create("lacks", encryption={"secretName": "keys", "keyId": "k2"})
    await bed.create("forbidden", encryption={"secretName": "foreign", "keyId": "k1"})
    await bed.world.refused("Backup", "lacks", "KeyMissing")
    await bed.world.refused("Backup", "forbidden", "SecretNotAllowed")
    assert await bed.jobs() == []


async def test_credentials_of_a_namespace_stay_in_it_and_those_of_the_operator_in_its_own(
    bed: BackupBed,
) -> None:
    world = bed.world
    await world.secret("own", {"MONGODB_URI": world.environment["MONGODB_URI"]})
    world.start_operator()
    await bed.create("own", connection={"secretName": "own"})
    await bed.at_work("own")
    [job] = await bed.jobs()
    named = {
        variable["valueFrom"]["secretKeyRef"]["name"]
        for variable in job["spec"]["template"]["spec"]["containers"][0]["env"]
        if "valueFrom" in variable
    }
    assert named == {"own"}
    assert "suspend" not in job["spec"] or job["spec"]["suspend"] is False
    assert world.environment["MONGODB_URI"] not in str(job)
    bed.release("own")
    await bed.phase("own", "Completed")


async def test_what_cannot_work_is_failed_at_once(bed: BackupBed) -> None:
    bed.world.start_operator()
    await bed.create("oplogless", type="incremental", engines=["redis"])
    await bed.create("volumes", engines=["volumes"])
    refused = {name: reason(await bed.phase(name, "Failed")) for name in ("oplogless", "volumes")}
    assert refused == {"oplogless": "InvalidSpec", "volumes": "InvalidSpec"}


async def test_an_unchanged_backup_is_not_written_again(bed: BackupBed) -> None:
    operator = bed.world.start_operator()
    await bed.create("calm")
    bed.release("calm")
    await bed.phase("calm", "Completed")
    await bed.let_go("calm")
    before = (await bed.world.get("Backup", "calm"))["metadata"]["resourceVersion"]
    operator.stop()
    bed.world.start_operator()
    assert (await bed.world.get("Backup", "calm"))["metadata"]["resourceVersion"] == before


async def test_a_job_that_cannot_be_made_keeps_nobody_waiting_and_is_made_when_it_can(bed: BackupBed) -> None:
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"count/jobs.batch": "0"}}}
    path = f"/api/v1/namespaces/{bed.world.namespace}/resourcequotas"
    await bed.world.kube.request("POST", path, body=quota)

    async def counted() -> bool:
        found = await bed.world.kube.get(f"{path}/none")
        return found is not None and "hard" in found.get("status", {})

    await bed.world.until(counted, 30, "the quota to be counted")
    bed.world.start_operator()
    await bed.create("first")

    status: Json = {}  # of that moment: it is tried again soon

    async def refused() -> bool:
        nonlocal status
        status = await bed.status("first")
        return status.get("phase") == "Pending" and "quota" in str(status["conditions"])

    await bed.world.until(refused, 20, "the refusal")
    assert (reason(status), "troubleSince" in status) == ("AccessDenied", True)
    await bed.world.kube.request("DELETE", f"{path}/none")
    await bed.at_work("first")
    assert "troubleSince" not in await bed.status("first")
    bed.release("first")
    await bed.phase("first", "Completed")
    assert bed.ran("first") == 1
    await noted(bed.world, "first", "Started")
    events = [e for e in await bed.world.events("first") if e["reason"] == "Started"]
    assert len(events) == 1
