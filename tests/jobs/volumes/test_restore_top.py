"""The top of a volume gets what it had in the backup, by this restore's own record, and each loss is counted once."""

import errno
import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from volume_restore_bed import NOBODY, OWNER, archive_of, made_of, note_of_killed, run_of, unprivileged, whole

from lucid_storage.archive.volume_tar import EntryType, TarEntry
from lucid_storage.errors import LucidError
from lucid_storage.jobs import volume_done, volume_restore
from lucid_storage.jobs.volume_restore import restore, settle

FILE = TarEntry(b"file", EntryType.FILE, 0o644, 0, 0, 0)
LOCKED_TOP = made_of(TarEntry(b"", EntryType.DIRECTORY, 0o555, 0, 0, 0), FILE)
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")


def mode(path: Path) -> str:
    return oct(path.stat().st_mode & 0o7777)


def test_a_top_that_its_owner_may_not_write_into_comes_back_so(target: Path) -> None:
    whole(run_of(LOCKED_TOP, target))
    assert mode(target) == "0o555"


def test_such_a_top_comes_back_with_its_access_list(volume: Path, target: Path) -> None:
    rights = ((0x01, 5, -1), (0x02, 7, 1234), (0x04, 5, -1), (0x10, 7, -1), (0x20, 0, -1))
    listed = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in rights)
    try:
        os.setxattr(volume, "system.posix_acl_access", listed)
    except OSError as error:
        pytest.skip(f"this file system keeps no access lists: {error.strerror}")
    archive = archive_of(volume)
    whole(run_of(archive, target))
    assert os.getxattr(target, "system.posix_acl_access") == listed
    assert mode(target) == mode(volume) == "0o570"


@pytest.mark.parametrize("before", ["rename_new", "write", "unlink", "rmdir"])
def test_a_worker_that_dies_in_the_last_step_is_followed_by_one_that_knows_the_top(
    target: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    def dies(*at: object, **more: object) -> None:
        raise KeyboardInterrupt

    where = {"rename_new": volume_restore, "write": volume_done}.get(before, Path)
    with monkeypatch.context() as patched:
        if before == "unlink":
            unlink = Path.unlink

            def dies_at_the_note(path: Path, missing_ok: bool = False) -> None:
                if path.name == ".lucid-modes":
                    raise KeyboardInterrupt
                unlink(path, missing_ok)

            patched.setattr(Path, "unlink", dies_at_the_note)
        else:
            patched.setattr(where, before, dies)
        with pytest.raises(KeyboardInterrupt):
            restore(run_of(LOCKED_TOP, target))
    whole(run_of(LOCKED_TOP, target, "ba9876543210"))
    assert mode(target) == "0o555"
    assert [path.name for path in target.iterdir()] == ["file"]


def test_an_empty_folder_in_the_place_of_what_is_ready_is_no_restore(target: Path) -> None:
    run = run_of(LOCKED_TOP, target)
    (target / f".lucid-ready-{run.manifest.id}-data").mkdir()
    assert whole(run).before is None
    assert [path.name for path in target.iterdir()] == ["file"]


def test_a_folder_that_is_ready_and_has_lost_its_note_is_said(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = note_of_killed(run_of(LOCKED_TOP, target), monkeypatch)
    note.unlink()
    with pytest.raises(LucidError, match=r"cannot be read.*[Rr]emove everything in the volume"):
        restore(run_of(LOCKED_TOP, target, "ba9876543210"))


@needs_root
def test_the_record_goes_from_a_top_that_a_worker_without_privileges_may_not_write_into(theirs: Path) -> None:
    """The collections of the same restore were still to be swapped when the top got its mode."""
    archive = made_of(TarEntry(b"", EntryType.DIRECTORY, 0o555, NOBODY, NOBODY, 0), FILE)

    def twice() -> str:
        run = run_of(archive, theirs)
        restore(run)
        settle([run], whole=False)
        seen = mode(theirs)
        settle([run], whole=True)
        return seen

    assert unprivileged(twice) == "0o555"
    assert mode(theirs) == "0o555"
    assert [path.name for path in theirs.iterdir()] == ["file"]


@needs_root
@pytest.mark.parametrize(("owner", "lost"), [(0, 1), (999, 1), (NOBODY, 0)])
def test_the_owner_of_a_top_is_counted_once(theirs: Path, owner: int, lost: int) -> None:
    theirs.chmod(0o700)
    archive = made_of(
        TarEntry(b"", EntryType.DIRECTORY, 0o755, owner, owner, 0),
        replace(FILE, uid=NOBODY, gid=NOBODY),
    )
    assert unprivileged(lambda: str(whole(run_of(archive, theirs)).kept.owners)) == str(lost)
    assert mode(theirs) == "0o755", "what the worker may set is set"


@needs_root
def test_the_owner_of_a_top_that_is_roots_is_counted_once(theirs: Path) -> None:
    os.chown(theirs, 0, NOBODY)
    theirs.chmod(0o2775)
    archive = made_of(
        TarEntry(b"", EntryType.DIRECTORY, 0o755, 999, 999, 0), replace(FILE, uid=NOBODY, gid=NOBODY)
    )
    assert unprivileged(lambda: str(whole(run_of(archive, theirs)).kept.owners)) == "1"


@needs_root
def test_the_owner_of_a_top_that_root_may_not_give_is_counted(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root without the capability, or on another machine's disk (NFS, root_squash)."""

    def refused(*at: object, **more: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "chown", refused)
    monkeypatch.setattr(os, "fchown", refused)
    archive = made_of(TarEntry(b"", EntryType.DIRECTORY, 0o750, 999, 999, 0), FILE)
    assert whole(run_of(archive, target)).kept.owners == 1
    assert mode(target) == "0o750"


@needs_root
def test_a_top_of_the_workers_own_is_given_to_a_group_of_its_own(theirs: Path) -> None:
    os.chown(theirs, NOBODY, 3000)
    archive = made_of(
        TarEntry(b"", EntryType.DIRECTORY, 0o750, NOBODY, NOBODY, 0), replace(FILE, uid=NOBODY, gid=NOBODY)
    )
    assert unprivileged(lambda: whole(run_of(archive, theirs)).kept.describe()) == ""
    assert theirs.stat().st_gid == NOBODY


@needs_root
def test_a_top_that_already_has_its_owner_has_lost_nothing(theirs: Path) -> None:
    os.chown(theirs, 0, 3000)
    theirs.chmod(0o2777)
    archive = made_of(
        TarEntry(b"", EntryType.DIRECTORY, 0o2777, 0, 3000, 0), replace(FILE, uid=NOBODY, gid=NOBODY)
    )
    assert unprivileged(lambda: whole(run_of(archive, theirs)).kept.describe()) == ""


@needs_root
def test_a_setgid_bit_that_a_top_loses_is_counted(theirs: Path) -> None:
    os.chown(theirs, NOBODY, 3000)
    archive = made_of(
        TarEntry(b"", EntryType.DIRECTORY, 0o2755, NOBODY, 3000, 0), replace(FILE, uid=NOBODY, gid=NOBODY)
    )
    assert unprivileged(lambda: whole(run_of(archive, theirs)).kept.describe()).endswith(": 1 owners.")


def test_the_record_of_another_restore_says_nothing_of_the_top(target: Path) -> None:
    run = run_of(made_of(TarEntry(b"", EntryType.DIRECTORY, 0o700, 0, 0, 0), FILE), target)
    restore(run)
    settle([replace(run, owner=OWNER.model_copy(update={"name": "other"}))], whole=True)
    assert mode(target) != "0o700"
    assert (target / volume_done.NAME).exists()
    settle([run], whole=True)
    assert mode(target) == "0o700"
