"""Volumes in the backup worker, as a Job runs it: proved, encrypted, compressed, and nothing left of what failed."""

import io
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from volume_trees import described
from workshop import Workshop

from lucid_storage.archive.catalog import read_catalog
from lucid_storage.archive.folder import FolderStore
from lucid_storage.archive.keys import Keyring
from lucid_storage.archive.manifest import ObjectKind, StoredObject, VolumeRecord
from lucid_storage.archive.recorded import Recorded
from lucid_storage.archive.streams import Identity, key_for, open_source
from lucid_storage.archive.volume_tar import END
from lucid_storage.errors import Reason
from lucid_storage.jobs.contract import BackupRun, Sink
from lucid_storage.jobs.volume_backup import take
from lucid_storage.models.backup import Verify
from lucid_storage.models.orders import BackupOrder, BackupResult, VolumeSource

SNAPSHOT = {
    "name": "s",
    "uid": "1",
    "className": "c",
    "driver": "d",
    "takenAt": "2026-11-20T00:00:00Z",
    "sizeBytes": 5,
}


@pytest.fixture
def shop(workshop: Callable[..., Workshop], tmp_path: Path) -> Workshop:
    return workshop(LUCID_VOLUMES=str(tmp_path))


def source(name: str = "data", folder: str = "volume", **more: Any) -> dict[str, Any]:
    return {"name": name, "claim": name, "folder": folder, "requestedBytes": 1 << 30, **more}


def taken(shop: Workshop, *sources: dict[str, Any], **more: Any) -> BackupResult:
    return shop.back_up("v", ["volumes"], volumes=list(sources), **more)


def only(records: list[Recorded]) -> Recorded:
    (record,) = records
    return record


def recorded(shop: Workshop) -> VolumeRecord:
    (engine,) = only(shop.records()).manifest.engines
    return engine.volumes[0]


def plain(shop: Workshop) -> bytes:
    """The archive as a person opens it."""
    manifest = only(shop.records()).manifest
    (stored,) = manifest.objects
    key = key_for(manifest.packing, Keyring(shop.keys))
    opened = open_source(
        FolderStore(shop.destination),
        stored.path,
        Identity.of(manifest.id, stored),
        manifest.packing,
        key,
        stored,
    )
    try:
        return opened.read()
    finally:
        opened.close()


def test_a_volume_is_archived_proved_and_readable_by_stock_tar(
    shop: Workshop, volume: Path, tmp_path: Path
) -> None:
    told = taken(shop, source())
    assert (told.ok, told.verified, told.verify_note) == (True, Verify.CHECKSUM, None), told.message
    record = recorded(shop)
    assert (record.point_in_time, record.changed, record.requested_bytes) == (True, 0, 1 << 30)
    assert record.files == 10
    (outcome,) = told.engines
    assert (outcome.documents, outcome.message, outcome.in_cluster) == (10, None, None)
    (archive,) = shop.destination.rglob("volume.archive.data")
    assert b"in the middle" not in archive.read_bytes()
    (tmp_path / "out").mkdir()
    subprocess.run(
        ["tar", "-x", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-p", "-C", str(tmp_path / "out")],
        input=plain(shop),
        check=True,
    )
    assert described(tmp_path / "out") == described(volume)


def test_a_volume_in_use_is_not_called_the_state_of_one_moment(shop: Workshop, volume: Path) -> None:
    told = taken(shop, source(inUse=True))
    assert told.ok
    assert recorded(shop).point_in_time is False
    (outcome,) = told.engines
    assert outcome.message is not None
    assert "not the state of one moment" in outcome.message


@pytest.mark.parametrize("meanwhile", ["nothing", "written", "removed", "renamed", "mode"])
def test_what_changes_behind_the_reader_is_not_the_state_of_one_moment(
    volume: Path, tmp_path: Path, meanwhile: str
) -> None:
    class Changing(io.BytesIO):
        """Somebody is there when the last entry was read."""

        def write(self, data: Any) -> int:
            if data == END:
                match meanwhile:
                    case "written":
                        (volume / "data" / "caf\u00e9").write_text("another")
                    case "removed":
                        (volume / "nothing").unlink()
                    case "renamed":
                        (volume / "empty").rename(volume / "void")
                    case "mode":
                        (volume / "nothing").chmod(0o600)
            return super().write(data)

        def finish(self) -> StoredObject:
            return StoredObject(
                kind=ObjectKind.VOLUME_ARCHIVE,
                part="data",
                path="p",
                stored_bytes=1,
                sha256="",
                plain_bytes=1,
            )

    order = SimpleNamespace(volumes=(VolumeSource(name="data", claim="data", folder="volume"),))
    run = BackupRun(
        order=cast(BackupOrder, order),
        open_object=lambda kind, part: cast(Sink, Changing()),
        report=lambda size, files: None,
        expect=lambda size: None,
    )
    (record,) = take(run, {"LUCID_VOLUMES": str(tmp_path)}).record.volumes
    assert (record.point_in_time, record.changed) == (meanwhile == "nothing", 0)


def test_what_a_broken_restore_left_is_left_out_and_told(shop: Workshop, volume: Path) -> None:
    (volume / ".lucid-restore-0123456789ab").mkdir()
    (volume / ".lucid-checksums").write_text("a list")
    told = taken(shop, source())
    assert told.ok
    (outcome,) = told.engines
    assert outcome.message is not None
    assert outcome.message.startswith("1 entries that a restore")
    assert recorded(shop).leftovers == 1


def test_a_snapshot_is_recorded_and_no_proof_against_the_loss_of_the_cluster(shop: Workshop) -> None:
    told = taken(shop, source(folder=None, snapshot=SNAPSHOT))
    assert (told.ok, told.verify_note) == (True, Reason.SNAPSHOT_ONLY)
    (outcome,) = told.engines
    assert (outcome.in_cluster, outcome.stored_bytes) == (True, 0)
    record = recorded(shop)
    assert record.snapshot is not None
    assert (record.snapshot.name, record.point_in_time) == ("s", True)
    assert [Path(f).name for f in shop.files()] == ["manifest.json", "proof.json"]


@pytest.mark.parametrize("verify", ["Checksum", "Restore"])
def test_of_a_snapshot_only_its_loss_is_told_also_when_it_is_found_again(shop: Workshop, verify: str) -> None:
    """rpoSeconds asks for this reason, so no other takes its place."""
    first, again = (taken(shop, source(folder=None, snapshot=SNAPSHOT), verify=verify) for _ in range(2))
    assert first.id == again.id
    for told in (first, again):
        assert (told.ok, told.verified, told.verify_note) == (True, Verify.CHECKSUM, Reason.SNAPSHOT_ONLY)
        assert "inside the cluster alone" in told.verify_message
        assert ("not restored" in told.verify_message) is (verify == "Restore")


def test_one_that_was_not_restored_for_its_proof_is_not_when_it_is_found_again(
    shop: Workshop, volume: Path
) -> None:
    first, again = (taken(shop, source(), verify="Restore") for _ in range(2))
    assert (again.id, again.verified_at) == (first.id, first.verified_at), "nothing is read again"
    assert (again.ok, again.verified, again.verify_note) == (True, Verify.CHECKSUM, Reason.NO_VERIFY_SERVER)
    assert "not restored" in again.verify_message


def test_a_volume_that_is_not_mounted_leaves_nothing_of_the_others(shop: Workshop, volume: Path) -> None:
    told = taken(shop, source(), source("gone", folder="gone"))
    assert not told.ok
    assert "gone" in told.message
    assert shop.files() == []


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to own the files of others")
def test_a_damaged_archive_is_found_by_the_check(shop: Workshop, volume: Path) -> None:
    told = taken(shop, source(), verify="Upload")
    assert told.verified is Verify.UPLOAD
    (archive,) = shop.destination.rglob("volume.archive.data")
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    order = {
        **shop.order("v", ["volumes"]),
        "backupId": told.id,
        "verify": "Checksum",
    }
    again = shop.result(shop.start("verify", order), order)
    assert (again.ok, again.reason) == (False, Reason.VERIFY_FAILED)


def test_gzip_and_no_encryption_are_read_by_tar_itself(
    workshop: Callable[..., Workshop], volume: Path, tmp_path: Path
) -> None:
    shop = workshop(LUCID_VOLUMES=str(tmp_path))
    shop.encrypted = False
    told = taken(shop, source(), compression={"algorithm": "gzip"})
    assert told.ok, told.message
    (archive,) = shop.destination.rglob("volume.archive.data")
    listed = subprocess.run(["tar", "-tzf", str(archive)], capture_output=True, check=True)
    assert b"data/deep/journal\n" in listed.stdout
    assert io.BytesIO(listed.stdout).readline() == b"./\n"


@pytest.mark.parametrize(("snapshot", "restorable"), [(None, True), (SNAPSHOT, False)])
def test_the_catalog_lists_what_a_cold_cluster_can_have_back(
    shop: Workshop, volume: Path, snapshot: dict[str, Any] | None, restorable: bool
) -> None:
    told = taken(shop, source(snapshot=snapshot))
    assert told.ok
    (chain,) = read_catalog(FolderStore(shop.destination), "", Keyring(shop.keys)).chains
    (listed,) = chain.backups
    assert (listed.engines, listed.restorable) == (("volumes",), restorable)


def test_what_is_pruned_takes_its_archives_along(shop: Workshop, volume: Path) -> None:
    first = taken(shop, source())
    second = shop.back_up("w", ["volumes"], volumes=[source()])
    order = {**shop.order("v", ["volumes"]), "remove": [first.id]}
    process = shop.start("prune", order)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert {Path(name).parent.name for name in shop.files()} == {second.id}
    assert len(shop.files()) == 3


def test_who_only_looks_finds_what_lies_there_and_takes_nothing(shop: Workshop, volume: Path) -> None:
    looked = shop.back_up("v", ["volumes"], lookOnly=True)
    assert (looked.ok, looked.reason, shop.files()) == (False, Reason.QUEUED, [])
    made = taken(shop, source())
    assert made.ok
    found = shop.back_up("v", ["volumes"], lookOnly=True)
    assert (found.ok, found.id, found.message) == (True, made.id, made.message)
