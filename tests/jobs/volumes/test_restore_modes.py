"""Access lists, attributes and modes come back as they were, at a volume's top too; who loses one gains no right."""

import json
import os
import struct
from pathlib import Path

import pytest
from volume_restore_bed import (
    NOBODY,
    Archive,
    archive_of,
    made_of,
    note_of_killed,
    run_of,
    unprivileged,
    whole,
)
from volume_trees import described

from lucid_storage.archive.volume_tar import EntryType, TarEntry
from lucid_storage.errors import LucidError
from lucid_storage.jobs import volume_restore
from lucid_storage.jobs.volume_restore import restore

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
LIST = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)  # tag, rights, id: linux/posix_acl_xattr.h
    for entry in (
        (0x01, 7, 0xFFFFFFFF),  # the owner
        (0x02, 7, 1234),  # a user
        (0x04, 5, 0xFFFFFFFF),  # the group: may not write
        (0x10, 7, 0xFFFFFFFF),  # the mask
        (0x20, 0, 0xFFFFFFFF),  # others
    )
)


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A volume whose top, and a file and a folder in it, have attributes and access lists."""
    top = tmp_path / "listed"
    (top / "folder").mkdir(parents=True)
    (top / "file").write_text("x")
    try:
        for path in (top, top / "folder", top / "file"):
            os.setxattr(path, "user.note", b"1")
            os.setxattr(path, ACCESS, LIST)
        for path in (top, top / "folder"):
            os.setxattr(path, DEFAULT, LIST)
    except OSError as error:
        pytest.skip(f"this file system keeps no attributes: {error.strerror}")
    return top


def attributes(path: Path) -> dict[str, bytes]:
    return {name: os.getxattr(path, name) for name in os.listxattr(path)}


def mode(path: Path) -> str:
    return oct(path.stat().st_mode & 0o7777)


def test_the_top_gets_its_attributes_and_its_access_list_when_the_restore_is_done(
    listed: Path, target: Path
) -> None:
    target.chmod(0o775)
    archive = archive_of(listed)
    restored = restore(run_of(archive, target))
    assert mode(target) == "0o775", "what the kubelet looks at stays until then"
    assert whole(run_of(archive, target, "ba9876543210")).before is not None
    assert attributes(target) == attributes(listed)
    assert mode(target) == mode(listed) == "0o770"
    assert described(target) == described(listed)
    assert restored.kept.describe() == ""


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")
def test_attributes_of_the_top_that_the_worker_may_not_set_are_counted(listed: Path, theirs: Path) -> None:
    for path in (listed, listed / "folder", listed / "file"):
        os.chown(path, NOBODY, NOBODY)
    archive = archive_of(listed)
    os.chown(theirs, 0, NOBODY)
    theirs.chmod(0o2775)
    said = unprivileged(lambda: str(whole(run_of(archive, theirs)).kept.attributes))
    assert said == "2", "both lists: as the mode, they are the owner's to set"
    assert mode(theirs) == "0o2775"
    assert attributes(theirs).keys() == {"user.note"}


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to mount")
def test_without_its_access_list_an_entry_gives_its_group_no_more_than_the_list_did(
    listed: Path, plain_disk: Path
) -> None:
    for path in (listed, listed / "folder", listed / "file"):
        os.removexattr(path, "user.note")
    restored = whole(run_of(archive_of(listed), plain_disk))
    assert [mode(plain_disk / name) for name in (".", "folder", "file")] == ["0o750"] * 3
    assert restored.kept.describe().endswith(": 5 extended attributes.")


def test_nothing_is_inherited_from_the_volume_that_is_restored_into(archived: Archive, target: Path) -> None:
    try:
        os.setxattr(target, DEFAULT, LIST)
    except OSError as error:
        pytest.skip(f"this file system keeps no access lists: {error.strerror}")
    whole(run_of(archived, target))
    found = [path for path in target.rglob("*") if not path.is_symlink()]
    assert [path for path in found if {ACCESS, DEFAULT} & attributes(path).keys()] == []


# Folders that their owner may not write into


LOCKED = made_of(
    TarEntry(b"", EntryType.DIRECTORY, 0o755, 0, 0, 0),
    TarEntry(b"locked", EntryType.DIRECTORY, 0o555, 0, 0, 0),
)


def test_the_modes_of_such_folders_are_noted_before_all_is_written_out(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = []
    write_out = volume_restore.write_out

    def looks(path: bytes) -> None:
        noted.extend(json.loads(file.read_text()) for file in target.glob(".lucid-restore-*/.lucid-modes"))
        write_out(path)

    monkeypatch.setattr(volume_restore, "write_out", looks)
    whole(run_of(LOCKED, target))
    assert noted == [[[0o755, 0, 0], {b"locked".hex(): 0o555}]]
    assert mode(target / "locked") == "0o555"


@pytest.mark.parametrize(
    "rubbish",
    [
        "",
        "[]",
        '[[0, 0, 0], {"6c6f636b6564": "x"}]',
        '[[0, 0, 0], {"zz": 1}]',
        '[[0, 0, 0], {"2e2e2f75": 511}]',
    ],
)
def test_a_note_that_the_disk_lost_is_said_with_what_to_do(
    target: Path, monkeypatch: pytest.MonkeyPatch, rubbish: str
) -> None:
    note = note_of_killed(run_of(LOCKED, target), monkeypatch)
    note.write_text(rubbish)
    with pytest.raises(LucidError, match=r"cannot be read.*[Rr]emove everything in the volume"):
        restore(run_of(LOCKED, target, "ba9876543210"))
