"""A volume that was archived in memory, and the restore of it that a worker would be asked for."""

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from lucid_storage.archive.manifest import (
    BackupKind,
    EngineRecord,
    Manifest,
    ObjectKind,
    Origin,
    Packing,
    Selection,
    StoredObject,
    VolumeRecord,
)
from lucid_storage.archive.volume_digest import ContentHash, TreeDigest
from lucid_storage.archive.volume_tar import END, EntryType, TarEntry, header
from lucid_storage.jobs import volume_restore
from lucid_storage.jobs.contract import Sink
from lucid_storage.jobs.volume_archive import write_archive
from lucid_storage.jobs.volume_restore import VolumeRestored, VolumeRestoreRun, restore, settle
from lucid_storage.models.orders import Owner

NOW = datetime(2026, 11, 21, tzinfo=UTC)
OWNER = Owner(cluster="c", namespace="n", name="again", uid="u", spec_hash="h")
DEEP = b"deep-in-here/" * 400
NOBODY = 65532
"""The user of a worker without privileges."""


@dataclass(frozen=True)
class Archive:
    """One volume, archived."""

    plain: bytes
    entries: int
    content_hash: str
    changed: int = 0


def archive_of(volume: Path, check: Callable[[], None] = lambda: None) -> Archive:
    """`check` is called between the pieces, as by the worker."""
    sink = io.BytesIO()
    done = write_archive(volume, cast(Sink, sink), check, lambda size, files: None)
    return Archive(sink.getvalue(), done.digest.entries, done.digest.hexdigest(), done.tree.changed)


def made_of(*entries: TarEntry) -> Archive:
    """An archive of files without contents."""
    digest = TreeDigest()
    for entry in entries:
        digest.add(entry, ContentHash().hexdigest(0) if entry.type is EntryType.FILE else "")
    return Archive(b"".join(map(header, entries)) + END, digest.entries, digest.hexdigest())


def run_of(archive: Archive, root: Path, run: str = "0123456789ab") -> VolumeRestoreRun:
    stored = StoredObject(
        kind=ObjectKind.VOLUME_ARCHIVE,
        part="data",
        path="p",
        stored_bytes=1,
        sha256="",
        plain_bytes=len(archive.plain),
    )
    record = VolumeRecord(
        name="data", claim="data", taken_at=NOW, entries=archive.entries, content_hash=archive.content_hash
    )
    return VolumeRestoreRun(
        run=run,
        owner=OWNER,
        record=record,
        manifest=Manifest(
            id="5c6a7a52-3a51-5d0e-9c6e-2f5d4f1f9a10",
            kind=BackupKind.FULL,
            timeline="t",
            origin=Origin(cluster="c", namespace="n", name="b", chain="manual"),
            selection=Selection(engines=("volumes",)),
            packing=Packing(compression="none"),
            engines=(EngineRecord(engine="volumes", taken_at=NOW, volumes=(record,)),),
            objects=(stored,),
            started_at=NOW,
            completed_at=NOW,
            operator_version="0",
        ),
        root=root,
        open_source=lambda of, stored: io.BytesIO(archive.plain),
        check=lambda: None,
        report=lambda size, files: None,
    )


def whole(run: VolumeRestoreRun) -> VolumeRestored:
    """A restore of this volume alone, to its end."""
    done = restore(run)
    settle([run], whole=True)
    return done


def note_of_killed(run: VolumeRestoreRun, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The note of modes that a worker leaves which is killed before it moves the first entry to the top."""

    def dies(source: bytes, to: bytes) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(volume_restore, "rename_new", dies)
        with pytest.raises(KeyboardInterrupt):
            restore(run)
    (note,) = run.root.glob(".lucid-ready-*/.lucid-modes")
    return note


@contextmanager
def deep_folder(top: Path) -> Iterator[int]:
    """A descriptor of a folder whose path, `DEEP` below `top`, is longer than the kernel takes in one."""
    inside = os.open(top, os.O_RDONLY)
    for name in DEEP.split(b"/")[:-1]:
        os.mkdir(name, dir_fd=inside)
        below = os.open(name, os.O_RDONLY, dir_fd=inside)
        os.close(inside)
        inside = below
    try:
        yield inside
    finally:
        os.close(inside)


def unprivileged(act: Callable[[], str]) -> str:
    """What a process without privileges and groups answers, or its error. Needs root."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            said = act()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the parent is told
            said = f"{type(error).__name__}: {error}"
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return said
