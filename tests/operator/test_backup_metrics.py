"""What an operator tells Prometheus of backups that run, and that it tells nothing of what was deleted."""

import urllib.request
from time import time

import pytest
from backup_bed import FINISHED, BackupBed, backup_spec

from lucid_storage.kube.client import Json
from lucid_storage.models.meta import SCHEDULE
from testbed.pytest_operator import OperatorProcess

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]


def series(operator: OperatorProcess) -> dict[str, float]:
    """All samples about one schedule, by name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{operator.health_port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    mine = [line for line in lines if 'schedule="nightly"' in line]
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in mine}


async def made(bed: BackupBed) -> str:
    """The Backup that the schedule makes."""
    found: list[Json] = []

    async def there() -> bool:
        answer = await bed.world.kube.get(bed.world.path("Backup"))
        assert answer is not None
        found[:] = [b for b in answer["items"] if SCHEDULE in b["metadata"].get("annotations", {})]
        return len(found) == 1

    await bed.world.until(there, 30, "a Backup of the schedule")
    return str(found[0]["metadata"]["name"])


async def test_a_scheduled_backup_is_told_while_it_is_there_and_not_after(bed: BackupBed) -> None:
    operator = bed.world.start_operator()
    template = {"type": "full", **backup_spec()}
    spec: Json = {"schedule": "0 0 1 1 *", "immediate": True, "template": template}
    began = time()
    await bed.world.create("BackupSchedule", "nightly", spec)
    name = await made(bed)
    await bed.at_work(name)
    assert operator.metric("lucid_backups_total", type="full") == 0
    bed.release(name)
    await bed.phase(name, "Completed")
    prefix = "lucid_backup_schedule_"
    success = f"{prefix}last_success_timestamp_seconds"

    async def told() -> bool:
        return operator.metric(success, schedule="nightly") > 0

    await bed.world.until(told, 20, "the schedule to tell of its backup")
    own = {"resource_namespace": bed.world.namespace, "schedule": "nightly"}
    assert began - 2 <= operator.metric(success, **own) <= time() + 1
    verified = operator.metric(f"{prefix}last_verified_timestamp_seconds", level="Checksum", **own)
    assert began - 2 <= verified <= time() + 1
    assert 0 <= operator.metric(f"{prefix}rpo_seconds", **own) < time() - began + 2
    assert 365 * 86_400 <= operator.metric(f"{prefix}interval_seconds", **own) <= 366 * 86_400
    assert operator.metric(f"{prefix}last_size_bytes", **own) == 1024
    assert operator.metric("lucid_backups_total", type="full", result="Completed") == 1
    assert operator.metric("lucid_backup_duration_seconds_count", type="full") == 1
    assert operator.metric("lucid_backup_stored_bytes_sum", type="full") == 1024

    await bed.world.delete("BackupSchedule", "nightly")
    await bed.world.delete("Backup", name)

    async def silent() -> bool:
        return not series(operator)

    await bed.world.until(silent, 10, "the series of the schedule to end")
    assert operator.metric("lucid_backups_total", type="full", result="Completed") == 1


async def test_a_backup_that_fails_is_counted_with_its_reason_and_once(bed: BackupBed) -> None:
    operator = bed.world.start_operator()
    await bed.create("gap", type="incremental")
    await bed.at_work("gap")
    bed.mark("fail-gap")
    bed.release("gap")
    await bed.phase("gap", "Failed")

    async def counted() -> bool:
        return operator.metric("lucid_backup_failures_total", type="incremental", reason="OplogGap") == 1

    await bed.world.until(counted, 10, "the failure to be counted")
    await bed.let_go("gap")
    await bed.world.patch("Backup", "gap", {"metadata": {"annotations": {"a": "b"}}})
    await bed.create("next", type="incremental")
    await bed.at_work("next")
    bed.release("next")
    await bed.phase("next", *FINISHED)
    assert operator.metric("lucid_backups_total", result="Failed") == 1


async def test_a_restore_that_is_cancelled_is_counted_and_not_as_a_failed_one(bed: BackupBed) -> None:
    operator = bed.world.start_operator()
    await bed.world.create("Restore", "back", {"backupName": "none"})
    await bed.world.refused("Restore", "back", "RestoreBlocked")
    assert operator.metric("lucid_restores_total") == 0
    await bed.world.patch("Restore", "back", {"spec": {"cancel": True}})

    async def counted() -> bool:
        return operator.metric("lucid_restores_total", result="Cancelled") == 1

    await bed.world.until(counted, 20, "the cancelled restore to be counted")
    assert operator.metric("lucid_restores_total") == 1
    assert operator.metric("lucid_restore_failures_total", reason="Cancelled") == 1
