"""Volumes come back into empty claims: staged in a hidden folder, compared with the manifest, then moved up by rename.

Whoever looks at the volume sees nothing or everything that was proved, except while the entries at its top are moved.
A worker that dies then is followed by one that goes on: the folder's name says that it is complete. Of a volume that is
complete a record stays until the whole restore is done (volume_done), so that it can go on with the next one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from lucid_storage.archive.manifest import Manifest, ObjectKind, StoredObject, VolumeRecord
from lucid_storage.archive.volume_untar import TarReader
from lucid_storage.errors import LucidError, Reason, RefusedError
from lucid_storage.jobs import volume_done, volume_left, volume_locked
from lucid_storage.jobs.contract import Source
from lucid_storage.jobs.volume_copy import write_out
from lucid_storage.jobs.volume_done import Done
from lucid_storage.jobs.volume_extract import Extraction, Kept, disk_refusal
from lucid_storage.jobs.volume_tree import Tree, digest_of, is_ours
from lucid_storage.models.orders import Owner
from lucid_storage.stores.filesystem import keeping
from lucid_storage.stores.filesystem.attributes import ACCESS_LIST, remove_lists, set_extended
from lucid_storage.stores.filesystem.removing import remove
from lucid_storage.stores.filesystem.renaming import rename_new
from lucid_storage.stores.filesystem.tree import OWN_OF_EXT4, UnreadableError

STAGED: Final = ".lucid-restore-"
"""With the run's id: an archive that is being unpacked."""
READY: Final = ".lucid-ready-"
"""With the backup's id and the volume's name: unpacked and proved; only moving it up is left."""

LONGEST_NAME: Final = 150


@dataclass(frozen=True, slots=True)
class VolumeRestoreRun:
    """One volume of one restore."""

    run: str
    owner: Owner
    record: VolumeRecord
    manifest: Manifest
    root: Path
    open_source: Callable[[Manifest, StoredObject], Source]
    check: Callable[[], None]
    report: Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class VolumeRestored:
    """What was restored."""

    entries: int
    bytes: int
    kept: Kept
    of_snapshot: bool = False
    """The storage filled the claim: it was read through, and compared with nothing."""
    unread: bool = False
    """It was not, since the worker may not read all of it; nothing was counted."""
    before: datetime | None = None
    """When an earlier run of this restore completed it; it was left as it is."""


def blocked(run: VolumeRestoreRun) -> RefusedError | None:
    """Why the claim cannot be restored into: something is there. Reads only. Of a snapshot the claim is made full."""
    if run.record.snapshot is not None:
        return None
    if next(_occupants(run), None) is None or _done_before(run) is not None:
        return None
    there = volume_done.read(run.root)
    known = ""
    if there is not None and (there.backup, there.volume) == (run.manifest.id, run.record.name):
        known = (
            f" It was restored from this backup by the Restore {there.namespace}/{there.restore} at"
            f" {there.at:%Y-%m-%dT%H:%M:%SZ}: if that is what you want, leave it out of spec.volumes."
        )
    return RefusedError(
        f'The volume that "{run.record.name}" would be restored into is not empty, and files of a volume are never'
        f" replaced: name another one with `target`, and let the pods use that; or empty it.{known}",
        reason=Reason.TARGET_NOT_EMPTY,
    )


def restore(run: VolumeRestoreRun) -> VolumeRestored:
    """Blocks until the volume is complete. Raises LucidError; then it is as empty as before, or the next goes on."""
    with suppress(OSError):
        _ready(run).rmdir()  # an empty one: all of it was moved up and is on record
    refusal = blocked(run)
    if refusal is not None:
        raise refusal
    if run.record.snapshot is not None:
        return _looked_through(run)
    before = _done_before(run)
    if before is not None:
        return VolumeRestored(run.record.entries, run.record.bytes, Kept(), before=before.at)
    ready, kept = _ready(run), Kept()
    try:
        if not _is_folder(ready):
            kept = _staged(run, ready)
        _moved_up(run, ready, kept)
    except OSError as error:
        raise disk_refusal(error) from error
    return VolumeRestored(run.record.entries, run.record.bytes, kept)


def settle(runs: Sequence[VolumeRestoreRun], *, whole: bool) -> None:
    """The last act at the volumes of a restore, when all else is complete: their tops get owner and mode back, as this
    restore wrote them down.

    `whole` says that nothing of the restore can fail any more, so the records go, when no top needs them: whoever is
    killed before that is followed by one that finds them. Raises nothing: the data are there.
    """
    found = [(run, volume_done.read(run.root)) for run in runs]
    ours = [(run.root, done) for run, done in found if done is not None and done.same_restore(_done(run))]
    for root, done in ours:
        volume_done.dress_top(root, done)
    if whole:
        for root, _ in ours:
            volume_done.remove(root)


def _done_before(run: VolumeRestoreRun) -> Done | None:
    """What an earlier run of this restore wrote when the volume was complete. An emptied one is restored again."""
    done = volume_done.read(run.root)
    if done is None or _is_folder(_ready(run)) or next(_occupants(run), None) is None:
        return None
    return done if done.same_restore(_done(run)) else None


def _done(run: VolumeRestoreRun, top: volume_locked.Top = (0o755, 0, 0), access_list: bytes = b"") -> Done:
    return Done.of(run.owner, run.manifest.id, run.record.name, run.run, top, access_list)


def _occupants(run: VolumeRestoreRun) -> Iterator[str]:
    """What is at the top of the volume, without what we left there."""
    try:
        names = sorted(path.name for path in run.root.iterdir())
    except OSError as error:
        raise disk_refusal(error) from error
    if _is_folder(_ready(run)):
        return  # a worker before this one was moving entries up: what is there is what was restored
    yield from (name for name in names if name != os.fsdecode(OWN_OF_EXT4) and not is_ours(os.fsencode(name)))


def _ready(run: VolumeRestoreRun) -> Path:
    name = run.record.name
    if (
        len(name) > LONGEST_NAME
    ):  # a claim's name has up to 253 characters, and a file's 255 with what is before it
        name = f"{name[:LONGEST_NAME]}-{sha256(name.encode()).hexdigest()[:16]}"
    return run.root / f"{READY}{run.manifest.id}-{name}"


def _is_folder(path: Path) -> bool:
    """One that stands there itself: a link that somebody put there would lead out of the volume.

    Raises LucidError, also where the volume's top may be listed and not entered.
    """
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise disk_refusal(error) from error


def _staged(run: VolumeRestoreRun, ready: Path) -> Kept:
    """Raises RefusedError when something came into the volume meanwhile."""
    for old in (ready, *run.root.glob(f"{STAGED}*")):
        if is_ours(os.fsencode(old.name)):
            remove(old)
    staging = run.root / f"{STAGED}{run.run}"
    staging.mkdir(mode=0o700)
    remove_lists(staging)
    mode = stat.S_IMODE(staging.stat().st_mode)
    if mode & stat.S_IRWXU != stat.S_IRWXU:  # from such a list too; to set it may take the setgid bit off
        staging.chmod(mode | stat.S_IRWXU)
    try:
        kept = _unpacked(run, staging)
        volume_locked.note(staging, kept.top)
        write_out(os.fsencode(staging))
        _compare(run, staging, kept)
        _refuse_others(run)
    except BaseException:
        remove(staging)
        raise
    staging.rename(ready)
    return kept


def _unpacked(run: VolumeRestoreRun, staging: Path) -> Kept:
    stored = next(
        (
            o
            for o in run.manifest.objects
            if o.kind is ObjectKind.VOLUME_ARCHIVE and o.part == run.record.name
        ),
        None,
    )
    if stored is None:
        raise LucidError(
            f'The backup names the volume "{run.record.name}" and holds no archive of it; choose another backup.',
            reason=Reason.ARCHIVE_DAMAGED,
        )
    source = run.open_source(run.manifest, stored)
    try:
        return Extraction(staging, run.check, run.report).run(TarReader(source.read))
    finally:
        source.close()


def _compare(run: VolumeRestoreRun, staging: Path, kept: Kept) -> None:
    """What lies on the disk now, read back from there and not from memory."""
    tree = Tree(staging, uncached=True)
    left = volume_left.read(staging)
    found = digest_of(tree, run.check, taken=kept.taken, dated=kept.dated, links=kept.device_links, left=left)
    if (found.entries, found.hexdigest()) != (run.record.entries, run.record.content_hash):
        raise LucidError(
            f'What was unpacked of the volume "{run.record.name}" is not what its manifest holds ({found.entries} of'
            f" {run.record.entries} entries); the volume is as empty as before. Check its disk, and try again.",
            reason=Reason.COUNT_MISMATCH,
        )


def _moved_up(run: VolumeRestoreRun, ready: Path, kept: Kept) -> None:
    volume_left.remove(ready)
    noted, (top, locked) = ready / volume_locked.NAME, volume_locked.read(ready)
    for path in sorted(path for path in ready.iterdir() if path != noted):
        target = run.root / path.name
        if os.path.lexists(target):
            raise _came_in(run)
        mode = locked.get(path.name)
        if mode is not None:
            volume_locked.set_mode(path, mode | stat.S_IWUSR)
        try:
            rename_new(os.fsencode(path), os.fsencode(target))
        except FileExistsError as error:
            raise _came_in(run) from error
    for name, mode in locked.items():
        volume_locked.set_mode(run.root / name, mode)
    write_out(os.fsencode(ready))  # while a worker that comes after this one would still go on
    attributes = keeping.xattrs(os.fsencode(ready))
    done = _done(run, top, attributes.pop(ACCESS_LIST, b""))
    kept.attributes += len(set_extended(os.fsencode(run.root), tuple(attributes.items()), run.root))
    kept.attributes += not volume_done.may_list(run.root, done)
    kept.owners += not volume_done.may_dress(run.root, ready, done)
    volume_done.write(run.root, done)
    noted.unlink()
    ready.rmdir()


def _refuse_others(run: VolumeRestoreRun) -> None:
    """Also what has another name than all that is restored: nobody asked for a mixture."""
    if next(_occupants(run), None) is not None:
        raise _came_in(run)


def _came_in(run: VolumeRestoreRun) -> RefusedError:
    return RefusedError(
        f'Something came into the volume of "{run.record.name}" while it was restored; it was left alone. Stop'
        " whatever writes there, move it away, and run the restore again.",
        reason=Reason.TARGET_NOT_EMPTY,
    )


def _looked_through(run: VolumeRestoreRun) -> VolumeRestored:
    """A claim made of a snapshot: every byte is read once. Nothing is compared, so the storage's work is done all the
    same where the worker may not read.
    """
    try:
        found = digest_of(Tree(run.root), run.check, run.report)
    except UnreadableError:
        return VolumeRestored(0, 0, Kept(), of_snapshot=True, unread=True)
    return VolumeRestored(found.entries, found.bytes, Kept(), of_snapshot=True)
