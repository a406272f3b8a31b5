"""A backup is proved again long after it was made; what rotted meanwhile is good no more (rule 1.11)."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from catalog_bed import command, flip, folder_of
from workshop import CLUSTER, Workshop, only

from lucid_storage.archive import holds
from lucid_storage.archive.folder import FolderStore
from lucid_storage.archive.layout import ChainFolder
from lucid_storage.archive.manifest import Proof, ProofLevel
from lucid_storage.errors import Reason
from lucid_storage.jobs.verify import settle
from lucid_storage.models.backup import Verify
from lucid_storage.models.orders import BackupResult
from testbed.stores.mongodb import MongoDB

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Make = Callable[..., Workshop]


@pytest.fixture
def backup(shop: Workshop, mongodb: MongoDB, database: str) -> Iterator[BackupResult]:
    with mongodb.client() as client:
        client[database]["a"].insert_many([{"_id": n, "text": "x" * 200} for n in range(2000)])
    made = shop.back_up("made", ["mongodb"], **only(database))
    assert made.ok, made.message
    yield made


def order(shop: Workshop, backup: BackupResult, level: str = "Checksum") -> dict[str, Any]:
    made = {**shop.order("again", []), "backupId": backup.id, "verify": level}
    del made["id"], made["type"], made["engines"]
    return made


def prove(shop: Workshop, backup: BackupResult, level: str = "Checksum") -> BackupResult:
    """By a worker."""
    given = order(shop, backup, level)
    return shop.result(shop.start("verify", given), given)


def archive(shop: Workshop) -> Path:
    (found,) = shop.destination.rglob("mongodb.archive")
    return found


def proof(shop: Workshop) -> Proof:
    (record,) = shop.records()
    assert record.proof is not None
    return record.proof


@pytest.mark.mongodb
def test_a_second_proof_is_newer_and_changes_nothing_else(shop: Workshop, backup: BackupResult) -> None:
    before, files = proof(shop), shop.files()
    told = prove(shop, backup)
    assert (told.ok, told.id, told.verified, told.reason) == (True, backup.id, Verify.CHECKSUM, None)
    assert proof(shop).at > before.at
    assert shop.files() == files, "the hold is gone"


@pytest.mark.mongodb
def test_a_flipped_bit_makes_a_failed_proof_and_the_data_stay(
    shop: Workshop, backup: BackupResult, database: str
) -> None:
    flip(archive(shop))
    told = prove(shop, backup)
    assert (told.ok, told.reason, told.verified) == (False, Reason.VERIFY_FAILED, None)
    assert told.message == proof(shop).message != ""
    assert not shop.records()[0].good
    assert archive(shop).exists()
    later = shop.back_up("later", ["mongodb"], type="incremental", **only(database))
    assert later.reason is Reason.NO_BASE


@pytest.mark.mongodb
@pytest.mark.parametrize("level", ["Upload", "Checksum"])
def test_an_object_that_was_cut_or_is_gone_is_found_at_every_level(
    shop: Workshop, backup: BackupResult, level: str
) -> None:
    path = archive(shop)
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    assert prove(shop, backup, level).reason is Reason.VERIFY_FAILED
    path.unlink()
    assert prove(shop, backup, level).reason is Reason.VERIFY_FAILED
    path.write_bytes(data)
    assert prove(shop, backup).ok, "it was put back"
    assert shop.records()[0].good


@pytest.mark.mongodb
def test_a_look_at_sizes_makes_nothing_good_that_a_reading_found_bad(
    shop: Workshop, backup: BackupResult
) -> None:
    flip(archive(shop))
    assert not prove(shop, backup).ok
    told = prove(shop, backup, "Upload")
    assert (told.ok, told.reason) == (False, Reason.VERIFY_FAILED)
    assert proof(shop).level is ProofLevel.CHECKSUM


@pytest.mark.mongodb
def test_it_is_restored_on_the_verify_server_and_nothing_is_left_there(
    shop: Workshop, backup: BackupResult, mongodb_rs3: MongoDB
) -> None:
    shop.environ["BACKUP_VERIFY_URI"] = mongodb_rs3.uri
    del shop.environ["MONGODB_URI"]
    told = prove(shop, backup, "Restore")
    assert (told.ok, told.verified, told.verify_note) == (True, Verify.RESTORE, None), told.message
    assert proof(shop).level is ProofLevel.RESTORE
    with mongodb_rs3.client() as client:
        assert not [name for name in client.list_database_names() if name.startswith("lucid_stg_")]


@pytest.mark.mongodb
def test_a_manifest_that_was_changed_gets_no_proof_of_ours(shop: Workshop, backup: BackupResult) -> None:
    (manifest,) = shop.destination.rglob("manifest.json")
    text = manifest.read_text()
    manifest.write_text(text.replace(r"\"name\":\"made\"", r"\"name\":\"other\""))
    assert manifest.read_text() != text
    before = next(shop.destination.rglob("proof.json")).read_bytes()
    assert prove(shop, backup).reason is Reason.ARCHIVE_DAMAGED
    assert next(shop.destination.rglob("proof.json")).read_bytes() == before


@pytest.mark.mongodb
def test_what_says_nothing_about_the_backup_leaves_its_proof(shop: Workshop, backup: BackupResult) -> None:
    before = proof(shop)
    key = (shop.keys / "k1").read_bytes()
    (shop.keys / "k1").unlink()
    told = prove(shop, backup)
    assert (told.ok, told.reason) == (False, Reason.KEY_MISSING)
    (shop.keys / "k1").write_bytes(key)
    assert proof(shop) == before


@pytest.mark.mongodb
def test_what_retention_is_removing_is_not_read(shop: Workshop, backup: BackupResult) -> None:
    store, chain = FolderStore(shop.destination), ChainFolder("r", CLUSTER, "n", "manual")
    now = datetime.now(UTC)
    assert backup.id is not None
    holds.announce_removal(store, chain, "prune", [backup.id], now + timedelta(minutes=5), now)
    told = prove(shop, backup)
    assert not told.ok
    assert "being removed" in told.message
    assert not holds.held(store, chain, now)


@pytest.mark.mongodb
def test_a_removal_that_died_hinders_the_jobs_of_its_time_and_none_that_was_made_later(
    shop: Workshop, backup: BackupResult
) -> None:
    """A reader's own clock may be ahead: it alone never says that a removal is over."""
    store, chain = FolderStore(shop.destination), ChainFolder("r", CLUSTER, "n", "manual")
    hour, now = timedelta(hours=1), datetime.now(UTC)
    assert backup.id is not None
    holds.announce_removal(store, chain, "prune", [backup.id], now - hour, now - 2 * hour)
    told = []
    for ordered_at in (now - 1.5 * hour, now - 0.5 * hour):
        given = {**order(shop, backup), "orderedAt": ordered_at.isoformat()}
        told.append(shop.result(shop.start("verify", given), given).ok)
    assert told == [False, True]


@pytest.mark.mongodb
def test_from_a_prompt_folder_and_key_are_enough(shop: Workshop, backup: BackupResult) -> None:
    asked = ("verify", "--id", str(backup.id), *folder_of(shop))
    good = command(*asked)
    assert (good.returncode, good.stdout.startswith(f"The backup {backup.id} is proved: Checksum")) == (
        0,
        True,
    ), good.stderr
    flip(archive(shop))
    bad = command(*asked)
    assert bad.returncode == 1
    assert bad.stdout.startswith(f"The backup {backup.id} is not good: ")
    assert not proof(shop).passed
    none = command("verify", "--id", "11111111-1111-4111-8111-111111111111", *folder_of(shop))
    assert none.returncode == 1
    assert "No backup with the id" in none.stderr


def made(level: ProofLevel, *, passed: bool = True) -> Proof:
    return Proof(id="b", level=level, at=NOW, seconds=1, passed=passed)


def test_only_a_check_as_close_as_the_failed_one_makes_a_backup_good_again() -> None:
    upload, checksum, restore = (made(level) for level in ProofLevel)
    failed = made(ProofLevel.RESTORE, passed=False)
    assert settle(failed, checksum) is failed
    assert settle(failed, restore) is restore
    assert settle(checksum, upload) is checksum, "it was read once"
    assert settle(restore, checksum) is checksum, "the newest reading"
    assert settle(restore, failed) is failed
    assert settle(restore, made(ProofLevel.UPLOAD, passed=False)).passed is False
    assert settle(None, upload) is upload
