"""Backups made by the real worker, from a real MongoDB into a real bucket, as the operator orders them."""

import base64
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from backup_bed import IMAGE, BackupBed, conditions, reason
from pymongo.database import Database

from testbed.job_runner import JobRunner, worker_command
from testbed.paths import Instance
from testbed.pytest_operator import World
from testbed.stores.s3 import S3

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]

BUCKET = "vault"
DEADLINE = 90


@pytest.fixture
def s3(world: World) -> Iterator[S3]:
    server = S3(Instance(f"{world.namespace}-s3", world.instance.root / "s3"))
    (server.folder / "buckets" / BUCKET).mkdir(parents=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def real(mongo_world: World, s3: S3, tmp_path: Path) -> AsyncIterator[BackupBed]:
    mongo_world.environment.update(
        {
            **IMAGE,
            "BACKUP_STORAGE_TYPE": "s3",
            "BACKUP_S3_BUCKET": BUCKET,
            "BACKUP_S3_ENDPOINT": s3.url,
            "BACKUP_S3_REGION": s3.region,
            "AWS_ACCESS_KEY_ID": s3.access_key,
            "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        }
    )
    runner = JobRunner(mongo_world.kube, [mongo_world.namespace], tmp_path / "node", worker_command)
    async with runner.running():
        yield BackupBed(mongo_world, runner, tmp_path)
        for operator in mongo_world.operators:
            operator.stop()


def objects(s3: S3) -> dict[str, int]:
    """Name and size of what lies in the bucket."""
    root = s3.folder / "buckets" / BUCKET
    return {p.name: p.stat().st_size for p in root.rglob("*") if p.is_file()}


async def create(bed: BackupBed, name: str, **spec: Any) -> None:
    database = bed.world.environment["MONGODB_DATABASE"]
    chosen = {"engines": ["mongodb"], "mongodb": {"databases": [database]}, **spec}
    await bed.world.create("Backup", name, chosen)


async def finished(bed: BackupBed, name: str) -> dict[str, Any]:
    ends = ("Completed", "PartiallyFailed", "Failed", "Cancelled")
    return await bed.phase(name, *ends, deadline=DEADLINE)


async def test_a_full_and_an_incremental_one_are_made_proved_and_shown(
    real: BackupBed, s3: S3, db: Database[Any]
) -> None:
    key = secrets.token_bytes(32)
    await real.world.secret("keys", {"k1": base64.b64encode(key).decode()})
    db.users.insert_many([{"n": n, "text": "x" * 50} for n in range(500)])
    real.world.start_operator()
    encryption = {"secretName": "keys", "keyId": "k1"}
    await create(real, "full", encryption=encryption)
    full = await finished(real, "full")
    assert (full["phase"], full["verified"]) == ("Completed", "Checksum"), full
    assert conditions(full)["Verified"] == "True"
    assert full["encrypted"] is True
    assert {"manifest.json", "proof.json", "mongodb.archive"} <= objects(s3).keys()
    db.users.insert_many([{"n": n} for n in range(500, 600)])
    await create(real, "more", type="incremental", encryption=encryption)
    more = await finished(real, "more")
    assert more["phase"] == "Completed", more
    assert (more["base"], more["timeline"]) == (full["id"], full["timeline"])
    assert more["to"] >= full["to"]


async def test_an_incremental_without_a_full_is_failed_with_no_base(
    real: BackupBed, db: Database[Any]
) -> None:
    db.users.insert_one({"n": 1})
    real.world.start_operator()
    await create(real, "alone", type="incremental")
    status = await finished(real, "alone")
    assert (status["phase"], reason(status)) == ("Failed", "NoBase")


async def test_a_backup_made_again_from_git_takes_its_status_from_the_manifest(
    real: BackupBed, s3: S3, db: Database[Any]
) -> None:
    db.users.insert_one({"n": 1})
    real.world.start_operator()
    await create(real, "same")
    before = await finished(real, "same")
    assert before["phase"] == "Completed", before
    stored = objects(s3)
    await real.world.delete("Backup", "same")
    await create(real, "same")
    after = await finished(real, "same")
    assert (after["phase"], after["id"], after["to"]) == ("Completed", before["id"], before["to"])
    assert objects(s3) == stored


async def test_deletion_policy_delete_empties_the_bucket_once_a_newer_one_is_there(
    real: BackupBed, s3: S3, db: Database[Any]
) -> None:
    db.users.insert_one({"n": 1})
    real.world.start_operator()
    await create(real, "first", deletionPolicy="Delete")
    await finished(real, "first")
    await create(real, "second", chain="other")
    await finished(real, "second")
    await create(real, "third")
    assert (await finished(real, "third"))["phase"] == "Completed"
    archives = list((s3.folder / "buckets").rglob("mongodb.archive"))
    assert len(archives) == 3
    await real.world.delete("Backup", "first", wait=60)
    assert len(list((s3.folder / "buckets").rglob("mongodb.archive"))) == 2


async def test_a_bucket_that_is_away_fails_the_backup_and_says_so(
    real: BackupBed, s3: S3, db: Database[Any]
) -> None:
    db.users.insert_one({"n": 1})
    real.world.start_operator()
    s3.stop()
    await create(real, "lost")
    status = await finished(real, "lost")
    assert (status["phase"], reason(status)) == ("Failed", "DestinationUnavailable")
    assert status.get("verified") is None
