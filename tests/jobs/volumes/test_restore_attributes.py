"""A good backup is restored where its users' attributes are refused; what the disk changed of them is found."""

import errno
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from volume_restore_bed import Archive, archive_of, made_of, run_of, whole
from volume_trees import described

from lucid_storage.archive.volume_tar import EntryType, TarEntry
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs import volume_restore
from lucid_storage.jobs.volume_extract import Kept
from lucid_storage.jobs.volume_restore import VolumeRestoreRun, restore

TOP = TarEntry(b"", EntryType.DIRECTORY, 0o755, 0, 0, 0)
TOO_MUCH = bytes(5000)
"""More than ext4 gives to one inode."""


def takes(folder: Path, value: bytes) -> bool:
    """Whether one entry can have an attribute of this value."""
    probe = folder / "probe"
    probe.touch()
    try:
        os.setxattr(probe, "user.probe", value)
    except OSError as error:
        assert error.errno in (errno.ENOSPC, errno.E2BIG, errno.ENOTSUP, errno.EPERM), error
        return False
    finally:
        probe.unlink()
    return True


def with_note(*more: tuple[bytes, bytes], value: bytes = b"1") -> Archive:
    """Folders and files; all have one small attribute, and some have `more`."""
    note, large = ((b"user.note", value),), tuple(sorted((*more, (b"user.note", value))))
    return made_of(
        TOP,
        TarEntry(b"a", EntryType.DIRECTORY, 0o755, 0, 0, 0, xattrs=large),
        TarEntry(b"a/b", EntryType.DIRECTORY, 0o555, 0, 0, 0, xattrs=note),
        TarEntry(b"a/b/c", EntryType.FILE, 0o444, 0, 0, 0, xattrs=large),
        TarEntry(b"a-file", EntryType.FILE, 0o644, 0, 0, 0, xattrs=note),
    )


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to mount")
def test_a_file_system_that_keeps_no_attributes_is_restored_into(volume: Path, plain_disk: Path) -> None:
    os.setxattr(volume, "user.note", b"of the top")
    restored = whole(run_of(archive_of(volume), plain_disk))
    assert restored.kept.attributes == 5
    assert restored.kept.describe().endswith(": 5 extended attributes.")
    assert "file system" in restored.kept.describe()
    for path in (volume, *volume.rglob("*")):
        for name in os.listxattr(path, follow_symlinks=False):
            os.removexattr(path, name, follow_symlinks=False)
    assert described(plain_disk) == described(volume)


def test_attributes_that_one_entry_has_no_space_for_are_left_off_and_counted(target: Path) -> None:
    if not takes(target, b"1") or takes(target, TOO_MUCH):
        pytest.skip("this file system keeps no attributes of users, or gives an inode more space")
    restored = whole(run_of(with_note((b"user.big", TOO_MUCH)), target))
    assert restored.kept.attributes == 2
    assert [os.listxattr(target / name) for name in ("a", "a/b", "a/b/c", "a-file")] == [["user.note"]] * 4
    assert [path.name for path in sorted(target.iterdir())] == ["a", "a-file"]


@pytest.mark.parametrize("name", ["a", "a/b", "a/b/c", "a-file"])
@pytest.mark.parametrize("value", [None, b"2"])
def test_what_the_disk_changed_is_found_beside_what_was_left_off(
    target: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: bytes | None
) -> None:
    if not takes(target, b"1"):
        pytest.skip("this file system keeps no attributes of users")
    unpacked = volume_restore._unpacked

    def and_changed(run: VolumeRestoreRun, staging: Path) -> Kept:
        kept = unpacked(run, staging)
        if value is None:
            os.removexattr(staging / name, "user.note")
        else:
            os.setxattr(staging / name, "user.note", value)
        return kept

    monkeypatch.setattr(volume_restore, "_unpacked", and_changed)
    with pytest.raises(LucidError) as caught:
        restore(run_of(with_note((b"user.big", TOO_MUCH)), target))
    assert caught.value.reason is Reason.COUNT_MISMATCH
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("rubbish", [b"", b"x", b"[]\n", b'["61", [["zz", ""]]]\n'])
def test_what_the_disk_lost_of_what_was_left_off_is_found(
    target: Path, monkeypatch: pytest.MonkeyPatch, rubbish: bytes
) -> None:
    if not takes(target, b"1") or takes(target, TOO_MUCH):
        pytest.skip("this file system keeps no attributes of users, or gives an inode more space")
    unpacked = volume_restore._unpacked

    def and_lost(run: VolumeRestoreRun, staging: Path) -> Kept:
        kept = unpacked(run, staging)
        (staging / ".lucid-attributes").write_bytes(rubbish)
        return kept

    monkeypatch.setattr(volume_restore, "_unpacked", and_lost)
    with pytest.raises(LucidError) as caught:
        restore(run_of(with_note((b"user.big", TOO_MUCH)), target))
    assert caught.value.reason is Reason.COUNT_MISMATCH


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to mount")
def test_a_full_volume_is_too_small_and_loses_no_attribute(target: Path) -> None:
    small = ["mount", "-t", "tmpfs", "-o", "size=16k,nr_inodes=16", "tmpfs", str(target)]
    if subprocess.run(small, check=False, capture_output=True).returncode != 0:
        pytest.skip("this machine mounts no tmpfs")
    try:
        (target / "lost+found").write_bytes(bytes(16 * 1024))
        with pytest.raises(LucidError) as caught:
            restore(run_of(with_note(value=bytes(60_000)), target))
        assert caught.value.reason is Reason.NOT_ENOUGH_SPACE
    finally:
        subprocess.run(["umount", str(target)], check=True)


def test_an_access_list_of_a_user_that_the_worker_cannot_name_is_left_off(target: Path) -> None:
    """In a user namespace of its own, which maps few users, the kernel answers EINVAL, as for this one."""
    entries = ((0x01, 6, -1), (0x02, 7, -1), (0x04, 4, -1), (0x10, 7, -1), (0x20, 0, -1))
    listed = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    with_list = ((b"system.posix_acl_access", listed),)
    archive = made_of(TOP, TarEntry(b"file", EntryType.FILE, 0o670, 0, 0, 0, xattrs=with_list))
    assert whole(run_of(archive, target)).kept.attributes == 1
    assert oct((target / "file").stat().st_mode & 0o7777) == "0o640"


# Times


@pytest.fixture
def early_end(tmp_path: Path) -> Iterator[Path]:
    """A file system that knows no time after January 2038."""
    image, place = tmp_path / "image", tmp_path / "mounted"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(20 * 1024 * 1024)
    steps = (["mkfs.ext4", "-q", "-I", "128", str(image)], ["mount", "-o", "loop", str(image), str(place)])
    if shutil.which("mkfs.ext4") is None or any(
        subprocess.run(step, check=False, capture_output=True).returncode != 0 for step in steps
    ):
        pytest.skip("this machine makes or mounts no ext4")
    yield place
    subprocess.run(["umount", str(place)], check=True)


LATE = 4_102_444_800 * 10**9
DATED = made_of(
    replace(TOP, mtime_ns=LATE),
    TarEntry(b"folder", EntryType.DIRECTORY, 0o755, 0, 0, LATE),
    TarEntry(b"folder/file", EntryType.FILE, 0o644, 0, 0, LATE),
    TarEntry(b"folder/link", EntryType.SYMLINK, 0o777, 0, 0, LATE, link=b"file"),
    TarEntry(b"now", EntryType.FILE, 0o644, 0, 0, 10**18),
)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to mount")
def test_times_that_the_file_system_does_not_know_are_counted(early_end: Path) -> None:
    assert whole(run_of(DATED, early_end)).kept.describe().endswith(": 3 times.")
    assert (early_end / "folder" / "file").stat().st_mtime_ns == (2**31 - 1) * 10**9
    assert (early_end / "now").stat().st_mtime_ns == 10**18


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to mount")
@pytest.mark.parametrize("name", ["folder/file", "now"])
def test_a_time_that_the_disk_changed_is_found_beside_those(
    early_end: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    unpacked = volume_restore._unpacked

    def and_changed(run: VolumeRestoreRun, staging: Path) -> Kept:
        kept = unpacked(run, staging)
        os.utime(staging / name, (1, 1))
        return kept

    monkeypatch.setattr(volume_restore, "_unpacked", and_changed)
    with pytest.raises(LucidError) as caught:
        restore(run_of(DATED, early_end))
    assert caught.value.reason is Reason.COUNT_MISMATCH
