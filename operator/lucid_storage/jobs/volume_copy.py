"""The worker that copies a claim's files to another claim and proves that the copy is the same (migration of a Volume).

Survey, copy, write out to the disk, compare everything. What differs is copied again; a source that changed meanwhile
is told apart from a copy that is wrong by its stamp, since every change of a file changes its ctime. The source is
mounted read-only. Names and contents of files are in no message and no log.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs.contract import CancelledError
from lucid_storage.jobs.reporting import Reporter
from lucid_storage.jobs.volume_copy_compare import Compared, Comparison
from lucid_storage.jobs.volume_copy_mirror import NOT_COPIED, Copied, Mirror
from lucid_storage.jobs.volume_usage import mounted
from lucid_storage.jobs.worker import Stop, run_worker
from lucid_storage.models.volume_work import VolumeCopyOrder, VolumeCopyResult
from lucid_storage.stores.filesystem import keeping
from lucid_storage.stores.filesystem.content import digest_text
from lucid_storage.stores.filesystem.tree import EntryKind, unreadable, walk

ROUNDS = 3
"""Copies before a difference counts as a fault, or a changing source as one that is in use."""
LOCK_SECONDS = 0.2
"""Between two attempts to be the only worker."""
UNKNOWN_LOCKS = frozenset({errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
"""What file systems answer that cannot lock a folder; NFS locks only what is open for writing (flock(2))."""
HEADROOM = 1.02
"""Of the space that the copy needs: the new file system's own tables."""


@dataclass(slots=True)
class Survey:
    """What lies in the source before it is copied."""

    files: int = 0
    bytes: int = 0
    allocated: int = 0
    inodes: int = 0
    stamp: int = 0


def failed(order: VolumeCopyOrder, reason: Reason, message: str) -> VolumeCopyResult:
    """A result that says why there is no copy."""
    return VolumeCopyResult(run=order.run, ok=False, reason=reason, message=message)


def copy_volume(
    order: VolumeCopyOrder, environ: Mapping[str, str], reporter: Reporter, stop: Stop
) -> VolumeCopyResult:
    """Raises LucidError for whatever stands in the way; the source is as it was then."""
    source, target = mounted(environ, order.source), mounted(environ, order.target)
    work = _Work(os.fsencode(source), os.fsencode(target), reporter, stop)
    try:
        with alone(os.fsencode(target), stop):
            return work.run(order)
    except OSError as error:
        raise _said(error, target) from error


class _Work:
    def __init__(self, source: bytes, target: bytes, reporter: Reporter, stop: Stop) -> None:
        self._source, self._target = source, target
        self._reporter, self._stop = reporter, stop

    def run(self, order: VolumeCopyOrder) -> VolumeCopyResult:
        survey = self._survey()
        if order.known_stamp is not None and digest_text(survey.stamp) == order.known_stamp:
            return VolumeCopyResult(run=order.run, ok=True, unchanged=True, stamp=order.known_stamp)
        self._check_room(survey)
        copied_bytes, again = 0, frozenset[bytes]()
        for _ in range(ROUNDS):
            copied = self._copy(survey, again)
            copied_bytes += copied.bytes
            compared = self._compare(survey)
            if compared.unreadable or copied.unreadable:
                raise LucidError(
                    unreadable(max(compared.unreadable, copied.unreadable)), reason=Reason.ACCESS_DENIED
                )
            if not compared.differences and compared.stamp == survey.stamp:
                return _result(order, compared, copied_bytes)
            again = frozenset(compared.again)
            changed = compared.stamp != survey.stamp
            survey = self._survey()
        raise _not_the_same(compared, changed=changed)

    def _told(self, size: int) -> None:
        if self._stop.event.is_set():
            raise CancelledError("The copy was stopped.")
        if size:
            self._reporter.add(size)

    def _survey(self) -> Survey:
        found, seen = Survey(), set[int]()
        for node in walk(self._source):
            self._told(0)
            found.stamp += keeping.stamp(node)
            if node.kind in NOT_COPIED:
                continue
            found.inodes += 1
            if node.kind is EntryKind.FILE and node.stat.st_nlink > 1:
                if node.stat.st_ino in seen:
                    continue
                seen.add(node.stat.st_ino)
            found.allocated += node.stat.st_blocks * 512
            if node.kind is EntryKind.FILE:
                found.files += 1
                found.bytes += node.stat.st_size
        return found

    def _check_room(self, survey: Survey) -> None:
        """Raises LucidError(NotEnoughSpace) where the new volume is too small for certain, whatever it holds now."""
        there = os.statvfs(self._target)
        room = there.f_blocks * there.f_frsize
        if survey.allocated * HEADROOM > room or (there.f_files and survey.inodes > there.f_files):
            raise _full(f"it holds {room} bytes and the data need {survey.allocated}")

    def _copy(self, survey: Survey, again: frozenset[bytes]) -> Copied:
        self._reporter.phase("Copying", survey.bytes)
        copied = Mirror(self._source, self._target, self._told, again).run()
        write_out(self._target)
        return copied

    def _compare(self, survey: Survey) -> Compared:
        self._reporter.phase("Verifying", survey.bytes)
        return Comparison(self._source, self._target, self._told).run()


def _result(order: VolumeCopyOrder, compared: Compared, copied_bytes: int) -> VolumeCopyResult:
    return VolumeCopyResult(
        run=order.run,
        ok=True,
        files=compared.files,
        entries=compared.entries,
        bytes=compared.size,
        copied_bytes=copied_bytes,
        owners_not_kept=compared.owners_not_kept,
        attributes_not_kept=compared.xattrs_not_kept,
        top_mode_kept=compared.top_mode_kept,
        skipped=compared.skipped,
        stamp=digest_text(compared.stamp),
        digest=digest_text(compared.digest),
    )


def _not_the_same(compared: Compared, *, changed: bool) -> LucidError:
    if changed:
        return LucidError(
            "Files of the volume changed while they were copied. Stop what writes to it; the copy begins again by"
            " itself and takes only what changed.",
            reason=Reason.CONTENT_CHANGED,
        )
    return LucidError(
        f"{compared.differences} entries of the copy differ from the volume after {ROUNDS} attempts, although nothing"
        " changed meanwhile. Check the disks of both classes; nothing was switched.",
        reason=Reason.VERIFY_FAILED,
    )


@contextmanager
def alone(folder: bytes, stop: Stop) -> Iterator[None]:
    """Wait until no other worker of this node writes to the volume: one whose pod was removed by force may still run,
    and could spoil what this one has compared. Raises CancelledError when it is stopped meanwhile.

    The kernel gives the lock back with the process. Some network file systems know none; there is no waiting then.
    """
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while not _locked(held):
            if stop.event.wait(LOCK_SECONDS):
                raise CancelledError("The copy was stopped.")
        yield
    finally:
        os.close(held)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in UNKNOWN_LOCKS:
            raise
    return True


def write_out(path: bytes) -> None:
    """Have the kernel write this file system to its disk, as syncfs(2): the os module has no such call."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(folder) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        os.close(folder)


def _full(why: str) -> LucidError:
    return LucidError(
        f"The new volume is too small ({why}); set a larger spec.size.", reason=Reason.NOT_ENOUGH_SPACE
    )


def _said(error: OSError, target: Path) -> LucidError:
    """The file system's words without any name."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _full("it is full")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and not os.access(target, os.W_OK | os.X_OK):
        return LucidError(
            f"The user {os.geteuid()} of this worker may not write to the new volume; set spec.copy.fsGroup (or"
            " runAsUser) of the Volume.",
            reason=Reason.ACCESS_DENIED,
        )
    return LucidError(
        f"The file system refused the copy: {error.strerror or 'unknown error'} (errno {error.errno}).",
        reason=Reason.COPY_FAILED,
    )


def run() -> int:
    """The command `lucid-storage volume-copy`; returns its exit status."""
    return run_worker(VolumeCopyOrder, copy_volume, failed)
