"""Manifests and proofs: what can be believed is told apart from what cannot, and nothing ends a listing."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from archive_bed import KEY, OTHER_KEY

from lucid_storage.archive.folder import FolderStore
from lucid_storage.archive.keys import Key, Keyring
from lucid_storage.archive.layout import ChainFolder
from lucid_storage.archive.manifest import (
    FORMAT,
    BackupKind,
    Manifest,
    ObjectKind,
    OplogPoint,
    Optime,
    Origin,
    Packing,
    Proof,
    ProofLevel,
    Selection,
    StoredObject,
)
from lucid_storage.archive.recorded import Trust
from lucid_storage.archive.records import (
    Listing,
    list_backups,
    list_slices,
    newest_slice,
    read_manifest,
    write_manifest,
    write_proof,
)
from lucid_storage.errors import ArchiveDamagedError, DestinationError

NOW = datetime(2026, 3, 1, 2, tzinfo=UTC)
FOLDER = ChainFolder("root", "cluster-uid", "shop", "main")


@dataclass
class Bed:
    store: FolderStore
    folder: Path
    keys: Path

    @property
    def keyring(self) -> Keyring:
        return Keyring(self.keys)

    def file(self, path: str) -> Path:
        return self.folder / path

    def change(self, path: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Somebody edits an envelope."""
        envelope = json.loads(self.file(path).read_bytes())
        change(envelope)
        self.file(path).write_text(json.dumps(envelope))

    def backups(self) -> Listing:
        return list_backups(self.store, FOLDER, self.keyring)


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    folder, keys = tmp_path / "destination", tmp_path / "keys"
    folder.mkdir()
    keys.mkdir()
    (keys / KEY.id).write_bytes(KEY.secret)
    return Bed(FolderStore(folder), folder, keys)


def manifest(
    backup_id: str = "b1",
    key: Key | None = KEY,
    *,
    kind: BackupKind = BackupKind.FULL,
    timeline: str = "t1",
    prev: int | None = None,
    origin: Origin | None = None,
    path: str | None = None,
    format_number: int = FORMAT,
) -> Manifest:
    stored = StoredObject(
        kind=ObjectKind.MONGODB_ARCHIVE,
        path=path or FOLDER.object(backup_id, ObjectKind.MONGODB_ARCHIVE),
        stored_bytes=10,
        sha256="0" * 64,
        plain_bytes=20,
    )
    return Manifest(
        format=format_number,
        id=backup_id,
        kind=kind,
        timeline=timeline,
        origin=origin or Origin(cluster="cluster-uid", namespace="shop", name="nightly", chain="main"),
        selection=Selection(engines=("mongodb",)),
        packing=Packing(
            compression="zstd",
            encrypted=key is not None,
            key_id=key.id if key else None,
            key_fingerprint=key.fingerprint if key else None,
        ),
        prev=OplogPoint(optime=Optime(seconds=prev, counter=1, term=1), sha256="1" * 64)
        if prev is not None
        else None,
        objects=(stored,),
        started_at=NOW,
        completed_at=NOW + timedelta(seconds=5),
        operator_version="0.1.0",
    )


def proof(backup_id: str = "b1", *, passed: bool = True) -> Proof:
    return Proof(id=backup_id, level=ProofLevel.CHECKSUM, at=NOW, seconds=3, passed=passed)


def test_a_written_manifest_is_read_back_authenticated(bed: Bed) -> None:
    digest = write_manifest(bed.store, FOLDER, manifest(), KEY)
    found = read_manifest(bed.store, FOLDER, "b1", bed.keyring)

    assert found is not None and found.manifest == manifest() and found.trust is Trust.AUTHENTICATED
    assert found.proof is None and not found.good
    envelope = json.loads(bed.file(FOLDER.manifest("b1")).read_bytes())
    assert digest == envelope["sha256"] == hashlib.sha256(envelope["record"].encode()).hexdigest()


def test_a_proof_makes_a_backup_good_and_can_be_renewed(bed: Bed) -> None:
    write_manifest(bed.store, FOLDER, manifest(), KEY)
    write_proof(bed.store, FOLDER, proof(), KEY)
    found = read_manifest(bed.store, FOLDER, "b1", bed.keyring)
    assert found is not None and found.good and found.proof == proof()

    write_proof(bed.store, FOLDER, proof(passed=False), KEY)
    (found,) = bed.backups().records
    assert not found.good


def test_without_encryption_a_manifest_is_unauthenticated(bed: Bed) -> None:
    write_manifest(bed.store, FOLDER, manifest(key=None), None)
    write_proof(bed.store, FOLDER, proof(), None)

    (found,) = bed.backups().records
    assert found.trust is Trust.UNENCRYPTED and found.good


def test_a_missing_manifest_is_none(bed: Bed) -> None:
    assert read_manifest(bed.store, FOLDER, "b1", bed.keyring) is None
    assert bed.backups() == Listing(())


def test_a_manifest_is_never_written_over_another(bed: Bed) -> None:
    write_manifest(bed.store, FOLDER, manifest(), KEY)
    write_manifest(bed.store, FOLDER, manifest(), KEY)  # its own, again

    with pytest.raises(DestinationError, match="Another manifest"):
        write_manifest(bed.store, FOLDER, manifest(timeline="t2"), KEY)
    (found,) = bed.backups().records
    assert found.manifest == manifest()


def test_two_slices_from_one_place_cannot_both_be_written(bed: Bed) -> None:
    """rule 1.5."""
    first = manifest("s1", kind=BackupKind.SLICE, prev=100)
    write_manifest(bed.store, FOLDER, first, KEY)

    with pytest.raises(DestinationError):
        write_manifest(bed.store, FOLDER, manifest("s2", kind=BackupKind.SLICE, prev=100), KEY)

    (found,) = list_slices(bed.store, FOLDER, bed.keyring).records
    assert found.manifest == first


def test_a_missing_or_other_key_is_told_apart_from_damage(bed: Bed) -> None:
    write_manifest(bed.store, FOLDER, manifest(), KEY)
    write_proof(bed.store, FOLDER, proof(), KEY)

    (bed.keys / KEY.id).unlink()
    (found,) = bed.backups().records
    assert found.trust is Trust.KEY_MISSING and not found.good and found.proof is None

    (bed.keys / OTHER_KEY.id).write_bytes(OTHER_KEY.secret)
    (found,) = bed.backups().records
    assert found.trust is Trust.KEY_MISSING


def edited(envelope: dict[str, Any]) -> None:
    envelope["record"] = envelope["record"].replace("nightly", "evening")


def edited_with_its_checksum(envelope: dict[str, Any]) -> None:
    edited(envelope)
    envelope["sha256"] = hashlib.sha256(envelope["record"].encode()).hexdigest()


def stripped_of_its_mac(envelope: dict[str, Any]) -> None:
    edited_with_its_checksum(envelope)
    del envelope["mac"]


def signed_by_nobody(envelope: dict[str, Any]) -> None:
    edited_with_its_checksum(envelope)
    envelope["mac"]["hmacSha256"] = "0" * 64


@pytest.mark.parametrize("edit", [edited, edited_with_its_checksum, stripped_of_its_mac, signed_by_nobody])
def test_a_changed_manifest_is_broken(bed: Bed, edit: Callable[[dict[str, Any]], None]) -> None:
    """rule 1.8."""
    write_manifest(bed.store, FOLDER, manifest(), KEY)
    write_proof(bed.store, FOLDER, proof(), KEY)

    bed.change(FOLDER.manifest("b1"), edit)

    (found,) = bed.backups().records
    assert found.trust is Trust.BROKEN and not found.readable and not found.good


def test_a_changed_manifest_without_encryption_is_broken_too(bed: Bed) -> None:
    write_manifest(bed.store, FOLDER, manifest(key=None), None)

    bed.change(FOLDER.manifest("b1"), edited)

    (found,) = bed.backups().records
    assert found.trust is Trust.BROKEN


@pytest.mark.parametrize("edit", [edited_with_its_checksum, stripped_of_its_mac, signed_by_nobody])
def test_a_changed_proof_proves_nothing(bed: Bed, edit: Callable[[dict[str, Any]], None]) -> None:
    write_manifest(bed.store, FOLDER, manifest(), KEY)
    write_proof(bed.store, FOLDER, proof(passed=False), KEY)

    def passed(envelope: dict[str, Any]) -> None:
        envelope["record"] = envelope["record"].replace("false", "true")
        edit(envelope)

    bed.change(FOLDER.proof("b1"), passed)

    (found,) = bed.backups().records
    assert found.proof is None and not found.good


def test_the_proof_of_another_backup_proves_nothing(bed: Bed) -> None:
    for name in ("b1", "b2"):
        write_manifest(bed.store, FOLDER, manifest(name), KEY)
    write_proof(bed.store, FOLDER, proof("b1"), KEY)

    bed.file(FOLDER.proof("b2")).write_bytes(bed.file(FOLDER.proof("b1")).read_bytes())

    assert [found.good for found in bed.backups().records] == [True, False]


def test_a_manifest_does_not_pass_for_a_proof(bed: Bed) -> None:
    """The MAC covers what the record is."""
    write_manifest(bed.store, FOLDER, manifest(), KEY)
    write_proof(bed.store, FOLDER, proof(), KEY)
    text = proof().model_dump_json(by_alias=True)

    def forged(envelope: dict[str, Any]) -> None:
        envelope["record"] = text
        envelope["sha256"] = hashlib.sha256(text.encode()).hexdigest()
        envelope["mac"]["hmacSha256"] = KEY.record_mac(b"manifest\n" + text.encode())

    bed.change(FOLDER.proof("b1"), forged)

    (found,) = bed.backups().records
    assert found.proof is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"record": "{}", "sha256": ""}', b"\xff\xfe\x00"])
def test_what_is_no_manifest_is_reported_and_ends_nothing(bed: Bed, content: bytes) -> None:
    write_manifest(bed.store, FOLDER, manifest("b2"), KEY)
    bed.store.put(FOLDER.manifest("b1"), content)

    listing = bed.backups()

    assert [found.id for found in listing.records] == ["b2"]
    (broken,) = listing.unreadable
    assert broken.path == FOLDER.manifest("b1") and "is no manifest" in broken.message
    with pytest.raises(ArchiveDamagedError, match="is no manifest"):
        read_manifest(bed.store, FOLDER, "b1", bed.keyring)


def test_a_manifest_of_a_newer_operator_is_reported(bed: Bed) -> None:
    write_manifest(bed.store, FOLDER, manifest(format_number=FORMAT + 1), KEY)

    (newer,) = bed.backups().unreadable
    assert "newer operator" in newer.message


def test_a_manifest_that_was_copied_elsewhere_is_reported(bed: Bed) -> None:
    write_manifest(bed.store, FOLDER, manifest(), KEY)
    content = bed.file(FOLDER.manifest("b1")).read_bytes()
    other = ChainFolder("root", "cluster-uid", "shop", "other")

    bed.store.put(FOLDER.manifest("b9"), content)
    bed.store.put(other.manifest("b1"), content)

    assert [found.path for found in bed.backups().unreadable] == [FOLDER.manifest("b9")]
    assert [found.path for found in list_backups(bed.store, other, bed.keyring).unreadable] == [
        other.manifest("b1")
    ]


def test_a_manifest_that_names_objects_of_others_is_reported(bed: Bed) -> None:
    """Whoever prunes or restores by it would touch what is not its own."""
    foreign = manifest(path="root/cluster-uid/bank/main/backups/b1/mongodb.archive", key=None)
    with pytest.raises(ValueError, match="does not belong"):
        write_manifest(bed.store, FOLDER, foreign, None)
    write_manifest(bed.store, FOLDER, manifest(key=None), None)

    def pointing_elsewhere(envelope: dict[str, Any]) -> None:
        envelope["record"] = envelope["record"].replace("/shop/main/backups", "/bank/main/backups")
        envelope["sha256"] = hashlib.sha256(envelope["record"].encode()).hexdigest()

    bed.change(FOLDER.manifest("b1"), pointing_elsewhere)

    assert bed.backups().records == () and len(bed.backups().unreadable) == 1


def test_an_upload_without_a_manifest_is_no_backup(bed: Bed) -> None:
    bed.store.put(FOLDER.object("b1", ObjectKind.MONGODB_ARCHIVE), b"data")

    assert bed.backups() == Listing(())


def test_many_slices_are_listed_in_order_of_time(bed: Bed) -> None:
    for second in range(0, 500 * 30, 30):
        name = f"s{second}"
        write_manifest(
            bed.store, FOLDER, manifest(name, kind=BackupKind.SLICE, timeline="t1", prev=second), KEY
        )
    write_manifest(bed.store, FOLDER, manifest("x", kind=BackupKind.SLICE, timeline="t2", prev=5), KEY)

    slices = list_slices(bed.store, FOLDER, bed.keyring, "t1")

    assert [found.id for found in slices.records] == [f"s{second}" for second in range(0, 500 * 30, 30)]
    assert len(list_slices(bed.store, FOLDER, bed.keyring).records) == 501
    newest = newest_slice(bed.store, FOLDER, bed.keyring)
    assert newest is not None
    assert newest.id == "s14970", "the one that begins last, and not the one that is named last"


def test_without_slices_there_is_no_newest_one(bed: Bed) -> None:
    write_manifest(bed.store, FOLDER, manifest(), KEY)
    assert newest_slice(bed.store, FOLDER, bed.keyring) is None


def test_a_destination_that_is_away_is_no_empty_listing(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    store = FolderStore(tmp_path / "gone")
    (tmp_path / "gone").rmdir()

    with pytest.raises(DestinationError):
        list_backups(store, FOLDER, Keyring(None))
