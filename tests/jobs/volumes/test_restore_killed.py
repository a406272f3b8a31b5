"""A worker that is killed in the last steps of a restore is followed by one that completes what it left."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from volume_restore_bed import NOBODY, made_of, run_of, unprivileged, whole

from lucid_storage.archive.volume_tar import EntryType, TarEntry
from lucid_storage.jobs import volume_done, volume_restore
from lucid_storage.jobs.volume_restore import VolumeRestoreRun, restore, settle

FILE = TarEntry(b"file", EntryType.FILE, 0o644, 0, 0, 0)
LOCKED_TOP = made_of(TarEntry(b"", EntryType.DIRECTORY, 0o550, 0, 0, 0), FILE)
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")


def mode(path: Path) -> str:
    return oct(path.stat().st_mode & 0o7777)


@pytest.fixture
def two(target: Path, tmp_path: Path) -> list[VolumeRestoreRun]:
    """One restore of two volumes, both in their places."""
    second = tmp_path / "second"
    second.mkdir()
    run = run_of(LOCKED_TOP, target)
    other = run.record.model_copy(update={"name": "logs"})
    stored = run.manifest.objects[0].model_copy(update={"part": "logs"})
    runs = [
        run,
        replace(
            run, root=second, record=other, manifest=run.manifest.model_copy(update={"objects": (stored,)})
        ),
    ]
    for one in runs:
        restore(one)
    return runs


@pytest.mark.parametrize("step", ["dress_top", "remove"])
@pytest.mark.parametrize("at", [0, 1])
def test_a_worker_killed_in_its_last_act_leaves_no_top_without_its_mode(
    two: list[VolumeRestoreRun], monkeypatch: pytest.MonkeyPatch, step: str, at: int
) -> None:
    calls: list[Path] = []
    real = getattr(volume_done, step)

    def dies(root: Path, *more: volume_done.Done) -> None:
        calls.append(root)
        if len(calls) > at:
            raise KeyboardInterrupt
        real(root, *more)

    with monkeypatch.context() as patched:
        patched.setattr(volume_done, step, dies)
        with pytest.raises(KeyboardInterrupt):
            settle(two, whole=True)
    for run in two[at if step == "remove" else 0 :]:
        assert restore(replace(run, run="ba9876543210")).before is not None
    settle(two, whole=True)
    assert [mode(run.root) for run in two] == ["0o550"] * 2
    assert [[path.name for path in run.root.iterdir()] for run in two] == [["file"]] * 2


@needs_root
def test_a_worker_without_privileges_removes_its_record_from_a_top_that_it_may_not_write_into(
    theirs: Path,
) -> None:
    archive = made_of(
        TarEntry(b"", EntryType.DIRECTORY, 0o550, NOBODY, NOBODY, 0), replace(FILE, uid=NOBODY, gid=NOBODY)
    )
    assert unprivileged(lambda: whole(run_of(archive, theirs)).kept.describe()) == ""
    assert mode(theirs) == "0o550"
    assert [path.name for path in theirs.iterdir()] == ["file"]


# Folders that their owner may not write into


LOCKED = made_of(
    TarEntry(b"", EntryType.DIRECTORY, 0o755, 0, 0, 0),
    TarEntry(b"a-locked", EntryType.DIRECTORY, 0o555, 0, 0, 0),
    TarEntry(b"locked", EntryType.DIRECTORY, 0o555, 0, 0, 0),
)


@pytest.mark.parametrize("instead", ["nothing", "link", "link of none", "file", "fifo"])
def test_a_locked_folder_that_went_while_no_worker_was_there_is_nobodys_business(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instead: str
) -> None:
    def dies(path: bytes) -> None:
        if list(target.glob(".lucid-ready-*")):
            raise KeyboardInterrupt
        write_out(path)

    write_out = volume_restore.write_out
    with monkeypatch.context() as patched:
        patched.setattr(volume_restore, "write_out", dies)
        with pytest.raises(KeyboardInterrupt):
            restore(run_of(LOCKED, target))
    folder, other = target / "a-locked", tmp_path / "other"
    folder.rmdir()
    other.mkdir(mode=0o700)
    match instead:
        case "link":
            folder.symlink_to(other)
        case "link of none":
            folder.symlink_to("nothing")
        case "file":
            folder.touch(mode=0o600)
        case "fifo":
            os.mkfifo(folder, 0o600)
    whole(run_of(LOCKED, target, "ba9876543210"))
    assert mode(target / "locked") == "0o555"
    assert mode(other) == "0o700", "what is there now is no folder of the restore"
    if instead in ("file", "fifo"):
        assert mode(folder) == "0o600"
    assert [path.name for path in target.iterdir() if path.name.startswith(".lucid")] == []
