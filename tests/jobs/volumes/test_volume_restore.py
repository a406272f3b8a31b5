"""Volumes come back: proved before anybody sees them, never over what is there, and a killed worker is followed up."""

import errno
import io
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from volume_restore_bed import NOW, OWNER, Archive, run_of, whole
from volume_trees import OLD_NS, described
from workshop import Workshop

from lucid_storage.archive.manifest import (
    EngineRecord,
    Manifest,
    VolumeRecord,
    VolumeSnapshotRecord,
)
from lucid_storage.archive.recorded import Recorded
from lucid_storage.errors import ArchiveDamagedError, LucidError, Reason, RefusedError
from lucid_storage.jobs import volume_done, volume_restore
from lucid_storage.jobs.volume_restore import VolumeRestored, VolumeRestoreRun, blocked, restore
from lucid_storage.jobs.volume_restoring import VolumesOfRestore, _proofs
from lucid_storage.jobs.volume_tree import Tree, digest_of
from lucid_storage.models.orders import RestoreOrder, RestoreResult


@pytest.fixture
def shop(workshop: Callable[..., Workshop], tmp_path: Path, volume: Path) -> Workshop:
    """With one backup of the volume, made by the worker."""
    made = workshop(LUCID_VOLUMES=str(tmp_path))
    source = {"name": "data", "claim": "data", "folder": "volume", "requestedBytes": 1 << 30}
    told = made.back_up("v", ["volumes"], volumes=[source])
    assert told.ok, told.message
    return made


def record_of(shop: Workshop) -> Recorded:
    (record,) = shop.records()
    return record


def order_of(shop: Workshop, target: Path | None, **more: Any) -> dict[str, Any]:
    volumes = [{"name": "data", "target": "data", "path": str(target) if target else None}]
    order = shop.order("r", ["volumes"])
    return {**order, "backupId": record_of(shop).id, "volumes": volumes, **more}


def told(shop: Workshop, order: dict[str, Any]) -> RestoreResult:
    process = shop.start("restore", order)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return RestoreResult.model_validate_json(shop.termination(order).read_text())


def test_a_worker_plans_and_restores(shop: Workshop, volume: Path, target: Path) -> None:
    planned = told(shop, order_of(shop, None, planOnly=True))
    assert planned.plan is not None
    (wanted,) = planned.plan.volumes
    assert (wanted.name, wanted.target, wanted.requested_bytes) == ("data", "data", 1 << 30)
    result = told(shop, order_of(shop, target))
    assert result.ok, result.message
    assert described(target) == described(volume)
    assert target.stat().st_mode == volume.stat().st_mode
    (outcome,) = result.engines
    assert (outcome.engine, outcome.ok) == ("volumes", True)


def test_what_is_there_is_never_replaced(shop: Workshop, target: Path) -> None:
    (target / "mine").write_text("precious")
    result = told(shop, order_of(shop, target, dropExisting=True))
    assert (result.ok, result.reason) == (False, Reason.TARGET_NOT_EMPTY)
    assert [p.name for p in target.iterdir()] == ["mine"]


def test_ext4s_own_folder_is_no_content(archived: Archive, volume: Path, target: Path) -> None:
    (target / "lost+found").mkdir()
    whole(run_of(archived, target))
    (target / "lost+found").rmdir()
    assert described(target) == described(volume)


def test_a_volume_that_the_backup_does_not_hold_is_said(shop: Workshop, target: Path) -> None:
    volumes = [{"name": "other", "target": "other", "path": str(target)}]
    result = told(shop, order_of(shop, target, volumes=volumes))
    assert (result.ok, result.reason) == (False, Reason.RESTORE_BLOCKED)
    assert "it holds data" in result.message


def test_a_damaged_archive_leaves_the_volume_empty(archived: Archive, target: Path) -> None:
    cut = replace(archived, plain=archived.plain[:-2048])
    with pytest.raises(ArchiveDamagedError):
        restore(run_of(cut, target))
    assert list(target.iterdir()) == []


def test_a_disk_that_lies_is_found_out(
    archived: Archive, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked = volume_restore._unpacked

    def and_damaged(run: VolumeRestoreRun, staging: Path) -> volume_restore.Kept:
        kept = unpacked(run, staging)
        with (staging / "data" / "deep" / "journal").open("r+b") as file:
            file.write(b"rot")
        return kept

    monkeypatch.setattr(volume_restore, "_unpacked", and_damaged)
    with pytest.raises(LucidError) as caught:
        restore(run_of(archived, target))
    assert caught.value.reason is Reason.COUNT_MISMATCH
    assert list(target.iterdir()) == []


def test_what_the_disk_did_not_take_is_no_restore(
    archived: Archive, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: bytes) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(volume_restore, "write_out", refused)
    with pytest.raises(LucidError, match="cannot be written"):
        restore(run_of(archived, target))
    assert list(target.iterdir()) == []


def test_what_was_written_is_compared_from_the_disk_and_not_from_memory(
    archived: Archive, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    dropped: set[int] = set()
    fadvise, pread, write_out = os.posix_fadvise, os.pread, volume_restore.write_out

    def drops(descriptor: int, offset: int, length: int, advice: int) -> None:
        assert (offset, length, advice) == (0, 0, os.POSIX_FADV_DONTNEED)
        steps.append("dropped")
        dropped.add(os.fstat(descriptor).st_ino)
        fadvise(descriptor, offset, length, advice)

    def reads(descriptor: int, size: int, offset: int) -> bytes:
        assert os.fstat(descriptor).st_ino in dropped
        return pread(descriptor, size, offset)

    def writes_out(path: bytes) -> None:
        steps.append("written out")
        write_out(path)

    monkeypatch.setattr(os, "posix_fadvise", drops)
    monkeypatch.setattr(os, "pread", reads)
    monkeypatch.setattr(volume_restore, "write_out", writes_out)
    restore(run_of(archived, target))
    assert steps == ["written out", *["dropped"] * len(dropped), "written out"]
    assert len(dropped) == 10


@pytest.mark.parametrize("moves", range(12))
def test_a_worker_that_dies_while_it_moves_entries_up_is_followed_up(
    archived: Archive, volume: Path, target: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    left = iter(range(moves))
    rename, rename_new = Path.rename, volume_restore.rename_new

    def one_more() -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    def dies(self: Path, to: Path) -> Path:
        one_more()
        return rename(self, to)

    def dies_moving(source: bytes, to: bytes) -> None:
        one_more()
        rename_new(source, to)

    monkeypatch.setattr(Path, "rename", dies)
    monkeypatch.setattr(volume_restore, "rename_new", dies_moving)
    died = False
    try:
        restore(run_of(archived, target))
    except KeyboardInterrupt:
        died = True
    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr(volume_restore, "rename_new", rename_new)
    assert died
    seen = {p.name for p in target.iterdir() if not p.name.startswith(".lucid-")}
    assert len(seen) == max(0, moves - 1)
    again = run_of(archived, target, "ba9876543210")
    assert blocked(again) is None
    whole(again)
    assert described(target) == described(volume)


def test_what_a_killed_worker_had_unpacked_goes(archived: Archive, volume: Path, target: Path) -> None:
    half = target / ".lucid-restore-00000000dead" / "half"
    half.mkdir(parents=True)
    (half / "file").write_text("x")
    half.chmod(0)
    run = run_of(archived, target)
    assert blocked(run) is None
    whole(run)
    assert described(target) == described(volume)


@pytest.mark.parametrize("name", [".lucid-restore-00000000dead", ".lucid-ready-{id}-data"])
def test_a_link_in_the_place_of_our_own_folder_leads_nowhere(
    archived: Archive, volume: Path, target: Path, tmp_path: Path, name: str
) -> None:
    run = run_of(archived, target)
    other = tmp_path / "other"
    (other / "sub").mkdir(parents=True)
    (other / "sub" / "file").write_text("of somebody else")
    for folder in (other, other / "sub"):
        folder.chmod(0o2755)
    (target / name.format(id=run.manifest.id)).symlink_to(other)
    whole(run)
    assert described(target) == described(volume)
    assert [oct(path.stat().st_mode & 0o7777) for path in (other, other / "sub")] == ["0o2755"] * 2
    assert (other / "sub" / "file").read_text() == "of somebody else"


def test_what_a_restore_left_at_the_top_is_not_backed_up(volume: Path) -> None:
    before = digest_of(Tree(volume), lambda: None).hexdigest()
    (volume / ".lucid-restore-00000000dead").mkdir()
    assert digest_of(Tree(volume), lambda: None).hexdigest() == before


@pytest.mark.parametrize(
    "name", [".lucid-restore-notes", ".lucid-readyness", ".lucid-checksums.txt", ".lucid"]
)
def test_users_names_that_begin_like_ours_are_backed_up_and_in_nobodys_way(
    archived: Archive, target: Path, name: str
) -> None:
    before = digest_of(Tree(target), lambda: None).entries
    (target / name).write_text("precious")
    assert digest_of(Tree(target), lambda: None).entries == before + 1
    with pytest.raises(RefusedError, match="not empty"):
        restore(run_of(archived, target))
    assert (target / name).read_text() == "precious"


def test_a_volume_of_a_snapshot_is_not_called_compared(archived: Archive, volume: Path) -> None:
    run = run_of(archived, volume)
    snapshot = VolumeSnapshotRecord(name="s", uid="1", class_name="c", driver="d")
    run = replace(run, record=run.record.model_copy(update={"snapshot": snapshot}))
    from_archive = VolumeRestored(3, 5, volume_restore.Kept())
    first, second = _proofs([from_archive, restore(run)])
    assert first == "1 volumes, 3 files and folders, compared after writing."
    assert (
        second == f"1 volumes, {archived.entries} files and folders, made from a snapshot and read through."
    )


@pytest.mark.parametrize("name", ["first", "of-an-application"])
def test_somebody_elses_file_stops_the_move_and_stays(
    archived: Archive, target: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    compare = volume_restore._compare

    def and_written(run: VolumeRestoreRun, staging: Path, kept: volume_restore.Kept) -> None:
        compare(run, staging, kept)
        (target / name).write_text("an application was faster")

    monkeypatch.setattr(volume_restore, "_compare", and_written)
    with pytest.raises(RefusedError, match="left alone"):
        restore(run_of(archived, target))
    assert (target / name).read_text() == "an application was faster"
    assert [path.name for path in target.iterdir()] == [name], "nothing is merged with it"


def test_a_file_that_comes_after_the_last_look_is_not_replaced(
    archived: Archive, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lexists = os.path.lexists

    def comes_after(path: Path | bytes) -> bool:
        found = lexists(path)
        if os.fsencode(path) == os.fsencode(target / "first"):
            (target / "first").write_text("an application was faster")
        return found

    monkeypatch.setattr(os.path, "lexists", comes_after)
    with pytest.raises(RefusedError, match="left alone"):
        restore(run_of(archived, target))
    assert (target / "first").read_text() == "an application was faster"


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to mount")
def test_a_volume_that_is_too_small_is_said_and_stays_empty(archived: Archive, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = os.spawnlp(os.P_WAIT, "mount", "mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small))
    if mounted != 0:
        pytest.skip("this machine mounts no tmpfs")
    try:
        with pytest.raises(LucidError) as caught:
            restore(run_of(archived, small))
        assert caught.value.reason is Reason.NOT_ENOUGH_SPACE
        assert list(small.iterdir()) == []
    finally:
        os.spawnlp(os.P_WAIT, "umount", "umount", str(small))


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")
def test_without_privileges_contents_come_back_and_owners_are_told(archived: Archive, volume: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.chown(root, 65532, 65532)
        run = run_of(archived, root)
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setgid(65532)
            os.setuid(65532)
            with suppress(BaseException):
                kept = whole(run).kept
                os._exit(7 if kept.owners and kept.bits == 1 else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        # A setuid bit would let anybody act as the worker's user, and not as the one it was meant for.
        (volume / "data" / "secret").chmod(0o711)
        os.utime(volume / "data" / "secret", ns=(OLD_NS, OLD_NS))
        assert described(root, owners=False) == described(volume, owners=False)


# Several volumes


@pytest.fixture
def pair(shop: Workshop, tmp_path: Path, volume: Path) -> Workshop:
    """With one backup of two volumes."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "file").write_text("of the second volume")
    sources = [
        {"name": name, "claim": name, "folder": folder, "requestedBytes": 1 << 30}
        for name, folder in (("data", "volume"), ("logs", "more"))
    ]
    told = shop.back_up("w", ["volumes"], volumes=sources)
    assert told.ok, told.message
    return shop


def of_two(shop: Workshop) -> Recorded:
    return next(r for r in shop.records() if len(r.manifest.engines[0].volumes) == 2)


def both(shop: Workshop, targets: dict[str, Path], **more: Any) -> dict[str, Any]:
    backup = of_two(shop)
    volumes = [{"name": n, "target": n, "path": str(path)} for n, path in targets.items()]
    return {**shop.order("r", ["volumes"]), "backupId": backup.id, "volumes": volumes, **more}


def test_a_restore_of_several_volumes_goes_on_with_the_one_that_failed(
    pair: Workshop, volume: Path, target: Path, tmp_path: Path
) -> None:
    second = tmp_path / "second"
    second.mkdir()
    targets = {"data": target, "logs": second}
    archive = pair.destination / next(o.path for o in of_two(pair).manifest.objects if o.part == "logs")
    stored = archive.read_bytes()
    archive.write_bytes(stored[:-40] + bytes(40))
    failed = told(pair, both(pair, targets))
    assert (failed.ok, failed.reason) == (False, Reason.ARCHIVE_DAMAGED)
    assert (target / volume_done.NAME).exists(), "the first volume is complete"
    archive.write_bytes(stored)
    (target / "first").write_text("an application was there meanwhile")
    again = told(pair, both(pair, targets))
    assert again.ok, again.message
    assert (second / "file").read_text() == "of the second volume"
    assert (target / "first").read_text() == "an application was there meanwhile"
    assert "completed by an earlier run" in (again.engines[0].message or "")
    assert not [p for folder in targets.values() for p in folder.iterdir() if p.name.startswith(".lucid")]
    (target / "first").write_text("first")
    assert target.stat().st_mode == volume.stat().st_mode


def test_another_restore_does_not_take_the_record_for_its_own(archived: Archive, target: Path) -> None:
    restore(run_of(archived, target))
    other = replace(run_of(archived, target), owner=OWNER.model_copy(update={"name": "other"}))
    with pytest.raises(RefusedError, match="by the Restore n/again at"):
        restore(other)
    assert restore(run_of(archived, target, "ba9876543210")).before is not None


def test_a_volume_that_was_emptied_since_is_restored_again(
    archived: Archive, volume: Path, target: Path
) -> None:
    restore(run_of(archived, target))
    for path in target.iterdir():
        if not path.name.startswith("."):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for path in target.glob(".[!l]*"):
        path.unlink()
    assert [p.name for p in target.iterdir()] == [volume_done.NAME]
    assert whole(run_of(archived, target)).before is None
    assert described(target) == described(volume)


@pytest.mark.parametrize("what", ["fifo", "link", "folder", "rubbish", "long"])
def test_what_somebody_put_in_the_records_place_is_not_believed(
    archived: Archive, target: Path, tmp_path: Path, what: str
) -> None:
    aside = tmp_path / "aside"
    aside.mkdir()
    restore(run_of(archived, aside))
    place = target / volume_done.NAME
    match what:
        case "fifo":
            os.mkfifo(place)
        case "link":
            place.symlink_to(aside / volume_done.NAME)
        case "folder":
            place.mkdir()
        case "rubbish":
            place.write_text("{}")
        case "long":
            place.write_bytes(b" " * volume_done.LARGEST + (aside / volume_done.NAME).read_bytes())
    (target / "mine").write_text("precious")
    with pytest.raises(RefusedError, match="not empty"):
        restore(run_of(archived, target))
    assert (target / "mine").read_text() == "precious"


def test_a_worker_that_dies_before_the_record_is_written_is_followed_up(
    archived: Archive, volume: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(root: Path, done: volume_done.Done) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(volume_done, "write", dies)
        with pytest.raises(KeyboardInterrupt):
            restore(run_of(archived, target))
    assert whole(run_of(archived, target, "ba9876543210")).before is None
    assert described(target) == described(volume)


def test_the_record_is_no_part_of_a_backup(archived: Archive, target: Path) -> None:
    restore(run_of(archived, target))
    tree = Tree(target)
    assert digest_of(tree, lambda: None).hexdigest() == archived.content_hash
    assert tree.leftovers == 0


def test_a_claim_with_a_long_name_is_restored(archived: Archive, volume: Path, target: Path) -> None:
    run = run_of(archived, target)
    record = run.record.model_copy(update={"name": "v" * 253})
    stored = run.manifest.objects[0].model_copy(update={"part": record.name})
    whole(replace(run, record=record, manifest=run.manifest.model_copy(update={"objects": (stored,)})))
    assert described(target) == described(volume)


@pytest.mark.parametrize("name", ["../up", "a/b", "Data", "", "."])
def test_a_volume_whose_name_no_claim_can_have_is_refused(name: str) -> None:
    record = VolumeRecord(name=name, claim="data", taken_at=NOW)
    of = VolumesOfRestore(
        order=cast(RestoreOrder, None),  # not looked at before the names
        manifest=cast(Manifest, None),
        record=EngineRecord(engine="volumes", taken_at=NOW, volumes=(record,)),
        open_source=lambda of, stored: io.BytesIO(),
        report=lambda size, files: None,
        cancelled=threading.Event(),
    )
    with pytest.raises(RefusedError, match="no claim can be called"):
        of.chosen()
