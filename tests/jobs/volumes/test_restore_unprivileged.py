"""A worker without privileges restores what it may, and says what it may not."""

import os
import stat
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from volume_restore_bed import NOBODY, Archive, archive_of, made_of, run_of, unprivileged, whole

from lucid_storage.archive.manifest import VolumeSnapshotRecord
from lucid_storage.archive.volume_tar import EntryType, TarEntry
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs.volume_restore import VolumeRestoreRun, restore, settle
from lucid_storage.jobs.volume_restoring import _proofs
from lucid_storage.jobs.volume_tree import Tree

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")

DEFAULT = "system.posix_acl_default"
TOP = TarEntry(b"", EntryType.DIRECTORY, 0o755, 0, 0, 0)
LINKED_DEVICE = (
    TOP,
    TarEntry(b"a", EntryType.DIRECTORY, 0o755, 0, 0, 0),
    TarEntry(b"a/null", EntryType.CHARACTER, 0o644, 0, 0, 0, device=(1, 3)),
    TarEntry(b"a/null-too", EntryType.HARDLINK, 0o644, 0, 0, 0, link=b"a/null"),
    TarEntry(b"a-file", EntryType.FILE, 0o644, 0, 0, 0),
)


def refused(run: VolumeRestoreRun) -> str:
    """The reason and the words that a restore ends with."""
    try:
        restore(run)
    except LucidError as error:
        return f"{error.reason}: {error.message}"
    return "no error"


def of_snapshot(archive: Archive, root: Path) -> VolumeRestoreRun:
    run = run_of(archive, root)
    snapshot = VolumeSnapshotRecord(name="s", uid="1", class_name="c", driver="d")
    return replace(run, record=run.record.model_copy(update={"snapshot": snapshot}))


def test_a_device_with_two_names_is_archived_as_two_devices(theirs: Path, tmp_path: Path) -> None:
    volume = tmp_path / "devices"
    volume.mkdir()
    try:
        os.mknod(volume / "null", stat.S_IFCHR | 0o644, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this machine lets nobody make device files")
    os.link(volume / "null", volume / "null-too")
    kinds = [opened.entry.type for opened in Tree(volume).entries()]
    assert kinds == [EntryType.DIRECTORY, EntryType.CHARACTER, EntryType.CHARACTER]
    archive = archive_of(volume)
    assert unprivileged(lambda: str(whole(run_of(archive, theirs)).kept.devices)) == "2"


def test_a_link_to_a_device_that_the_worker_may_not_make_is_left_out_and_counted(theirs: Path) -> None:
    archive = made_of(*LINKED_DEVICE)
    assert unprivileged(lambda: str(whole(run_of(archive, theirs)).kept.devices)) == "2"
    assert sorted(path.name for path in theirs.rglob("*")) == ["a", "a-file"]


def test_a_link_to_a_device_comes_back_with_privileges(target: Path) -> None:
    assert whole(run_of(made_of(*LINKED_DEVICE), target)).kept.devices == 0
    assert (target / "a" / "null-too").samefile(target / "a" / "null")


def test_setgid_bits_of_a_group_that_the_worker_is_not_in_are_left_off_and_counted(theirs: Path) -> None:
    os.chown(theirs, 0, 3000)
    theirs.chmod(0o2777)
    archive = made_of(
        TarEntry(b"", EntryType.DIRECTORY, 0o2777, 0, 3000, 0),
        TarEntry(b"d", EntryType.DIRECTORY, 0o2775, NOBODY, 3000, 0),
        TarEntry(b"d/f", EntryType.FILE, 0o2755, NOBODY, 3000, 0),
    )
    said = unprivileged(lambda: whole(run_of(archive, theirs)).kept.describe())
    assert said.endswith(" 2 setuid or setgid bits."), said
    assert [oct((theirs / name).stat().st_mode & 0o7777) for name in ("d", "d/f")] == ["0o775", "0o755"]


def test_a_claim_of_a_snapshot_that_the_worker_may_not_read_is_restored_and_not_called_read(
    archived: Archive, theirs: Path
) -> None:
    (theirs / "pgdata").mkdir(mode=0o700)
    os.chown(theirs / "pgdata", 999, 999)
    (said,) = unprivileged(lambda: "\n".join(_proofs([restore(of_snapshot(archived, theirs))]))).splitlines()
    assert said == (
        f"1 volumes, made from a snapshot and not read through: the user {NOBODY} of this worker may not read all of it"
        " (spec.copy.runAsUser of the Volume)."
    )


def test_a_volume_that_may_be_listed_and_not_entered_is_said(archived: Archive, theirs: Path) -> None:
    os.chown(theirs, 0, 0)
    theirs.chmod(0o744)
    said = unprivileged(lambda: refused(run_of(archived, theirs)))
    assert said.startswith(f"{Reason.ACCESS_DENIED}: The user {NOBODY} of this worker")
    assert "spec.copy.runAsUser" in said


# Default access lists that let no owner read what is made below them


@pytest.fixture
def keeps_owners_out() -> bytes:
    """The value of such a list."""
    rights = ((0x01, 0), (0x04, 5), (0x20, 5))  # tag, rights: linux/posix_acl_xattr.h
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry, -1) for entry in rights)


def test_a_default_list_of_the_restored_top_does_not_keep_the_worker_from_its_own_notes(
    theirs: Path, keeps_owners_out: bytes
) -> None:
    needs_lists(theirs, keeps_owners_out)
    archive = made_of(
        TarEntry(
            b"", EntryType.DIRECTORY, 0o755, NOBODY, NOBODY, 0, xattrs=((DEFAULT.encode(), keeps_owners_out),)
        ),
        TarEntry(b"file", EntryType.FILE, 0o644, NOBODY, NOBODY, 0),
    )

    def killed_and_followed() -> str:
        restore(run_of(archive, theirs))
        again = restore(run_of(archive, theirs, "ba9876543210"))
        settle([run_of(archive, theirs)], whole=True)
        return f"{again.before is not None} {again.kept.describe()}"

    assert unprivileged(killed_and_followed) == "True "
    assert [path.name for path in theirs.iterdir()] == ["file"]
    assert os.getxattr(theirs, DEFAULT) == keeps_owners_out


def test_a_default_list_of_the_volume_does_not_keep_the_worker_from_what_it_unpacks(
    theirs: Path, keeps_owners_out: bytes
) -> None:
    needs_lists(theirs, keeps_owners_out)
    os.setxattr(theirs, DEFAULT, keeps_owners_out)
    archive = made_of(
        TarEntry(b"", EntryType.DIRECTORY, 0o755, NOBODY, NOBODY, 0),
        TarEntry(b"folder", EntryType.DIRECTORY, 0o555, NOBODY, NOBODY, 0),
        TarEntry(b"folder/file", EntryType.FILE, 0o644, NOBODY, NOBODY, 0),
    )
    assert unprivileged(lambda: whole(run_of(archive, theirs)).kept.describe()) == ""
    assert sorted(path.name for path in theirs.rglob("*")) == ["file", "folder"]


def needs_lists(folder: Path, value: bytes) -> None:
    try:
        os.setxattr(folder, DEFAULT, value)
    except OSError as error:
        pytest.skip(f"this file system keeps no access lists: {error.strerror}")
    os.removexattr(folder, DEFAULT)
