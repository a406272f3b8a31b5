"""The reader of a claim's use, where no kubelet tells it: the file system's own figures, or its files added up."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs.contract import CancelledError
from lucid_storage.jobs.reporting import Reporter
from lucid_storage.jobs.worker import Stop, run_worker
from lucid_storage.models.orders import VOLUMES_FOLDER_VARIABLE
from lucid_storage.models.volume_work import VolumeUsageOrder, VolumeUsageResult
from lucid_storage.stores.filesystem.tree import EntryKind, walk

BLOCK_BYTES = 512
"""Unit of st_blocks, whatever the file system's own blocks are (stat(2))."""


@dataclass(frozen=True, slots=True)
class Sum:
    """Disk space and inodes below a folder."""

    bytes: int
    inodes: int
    complete: bool


def failed(order: VolumeUsageOrder, reason: Reason, message: str) -> VolumeUsageResult:
    """A result that says why there are no figures."""
    return VolumeUsageResult(run=order.run, ok=False, reason=reason, message=message)


def mounted(environ: Mapping[str, str], folder: str) -> Path:
    """Where a claim is mounted. Raises LucidError when it is not."""
    root = environ.get(VOLUMES_FOLDER_VARIABLE)
    path = Path(root, folder) if root else None
    if path is None or not path.is_dir():
        raise LucidError(
            f'The claim is not mounted: {VOLUMES_FOLDER_VARIABLE} has no folder "{folder}".',
            reason=Reason.INTERNAL_ERROR,
        )
    return path


def read_usage(
    order: VolumeUsageOrder, environ: Mapping[str, str], reporter: Reporter, stop: Stop
) -> VolumeUsageResult:
    """Raises LucidError when folders may not be listed, or the disk does not give them."""
    root = mounted(environ, order.folder)
    if order.own_file_system:
        return _of_file_system(order, root)
    found = added_up(root, order.walk_seconds, stopped=stop.event.is_set)
    return VolumeUsageResult(
        run=order.run,
        ok=True,
        message=""
        if found.complete
        else f"There are more files than were added up in {order.walk_seconds} s.",
        used_bytes=found.bytes,
        inodes_used=found.inodes,
        complete=found.complete,
        taken_at=datetime.now(UTC),
    )


def _of_file_system(order: VolumeUsageOrder, root: Path) -> VolumeUsageResult:
    """As the kubelet computes its own figures (k8s.io/kubernetes/pkg/volume/util/fs), so that both can be compared."""
    figures = os.statvfs(root)
    return VolumeUsageResult(
        run=order.run,
        ok=True,
        used_bytes=(figures.f_blocks - figures.f_bfree) * figures.f_frsize,
        capacity_bytes=figures.f_blocks * figures.f_frsize,
        available_bytes=figures.f_bavail * figures.f_frsize,
        inodes_used=figures.f_files - figures.f_ffree,
        inodes=figures.f_files or None,
        taken_at=datetime.now(UTC),
    )


def added_up(
    root: Path,
    seconds: float,
    *,
    stopped: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = monotonic,
) -> Sum:
    """Disk space of all entries, a file with several names once. Ends after `seconds` with what it has."""
    until = clock() + seconds
    size, linked, inodes = 0, set[int](), 0
    for node in walk(str(root)):
        if stopped():
            raise CancelledError("The run was stopped.")
        seen = node.stat
        if seen.st_nlink > 1 and node.kind is not EntryKind.DIRECTORY:
            if seen.st_ino in linked:
                continue
            linked.add(seen.st_ino)
        size += seen.st_blocks * BLOCK_BYTES
        inodes += 1
        if clock() > until:
            return Sum(size, inodes, complete=False)
    return Sum(size, inodes, complete=True)


def run() -> int:
    """The command `lucid-storage volume-usage`; returns its exit status."""
    return run_worker(VolumeUsageOrder, read_usage, failed)
