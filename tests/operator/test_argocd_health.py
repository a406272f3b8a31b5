"""What Argo CD shows of backups, restores and schedules in each state, from the objects as an operator left them."""

import pytest
from backup_bed import BackupBed, backup_spec

from lucid_storage.kube.client import Json
from testbed.argocd import health

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]


async def shown(bed: BackupBed, kind: str, name: str) -> tuple[str, str]:
    return health(await bed.world.get(kind, name))


async def test_a_backup_progresses_until_it_is_healthy_or_degraded_with_its_reason(bed: BackupBed) -> None:
    await bed.create("good")
    assert await shown(bed, "Backup", "good") == (
        "Progressing",
        "The operator has not looked at the resource yet.",
    )
    bed.world.start_operator()
    await bed.at_work("good")
    assert (await shown(bed, "Backup", "good"))[0] == "Progressing"
    await bed.create("next")
    await bed.phase("next", "Queued")
    queued, why = await shown(bed, "Backup", "next")
    assert queued == "Progressing"
    assert "good" in why
    bed.release("good")
    await bed.phase("good", "Completed")
    assert (await shown(bed, "Backup", "good"))[0] == "Healthy"
    await bed.at_work("next")
    bed.mark("fail-next")
    bed.release("next")
    await bed.phase("next", "Failed")
    assert await shown(bed, "Backup", "next") == (
        "Degraded",
        "The oplog does not reach back; take a full backup.",
    )


async def test_a_cancelled_backup_and_a_restore_of_nothing_are_degraded(bed: BackupBed) -> None:
    bed.world.start_operator()
    await bed.create("stopped")
    await bed.at_work("stopped")
    await bed.world.patch("Backup", "stopped", {"spec": {"cancel": True}})
    await bed.phase("stopped", "Cancelled")
    assert (await shown(bed, "Backup", "stopped"))[0] == "Degraded"
    await bed.world.create("Restore", "back", {"backupName": "none"})
    await bed.world.refused("Restore", "back", "RestoreBlocked")
    status, message = await shown(bed, "Restore", "back")
    assert status == "Degraded"
    assert '"none"' in message


async def test_a_schedule_that_waits_for_its_next_run_is_healthy(bed: BackupBed) -> None:
    bed.world.start_operator()
    spec: Json = {"schedule": "0 0 1 1 *", "template": {"type": "full", **backup_spec()}}
    await bed.world.create("BackupSchedule", "nightly", spec)
    await bed.world.ready("BackupSchedule", "nightly")
    status, message = await shown(bed, "BackupSchedule", "nightly")
    assert status == "Healthy"
    assert message.startswith("The next run is due at")
