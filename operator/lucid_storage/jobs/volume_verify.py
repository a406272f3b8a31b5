"""The integrity check of a volume: what is there now against the last list of checksums.

Files change, and their time changes with them. One whose contents changed while size, time of modification and time of
change stayed was written by nobody: the disk lost it. Such a file, and one that the disk does not give, is never
accepted into the new list: the check fails until somebody puts the file back or accepts it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from lucid_storage.archive.keys import Key
from lucid_storage.archive.own_file import open_own
from lucid_storage.archive.volume_digest import ContentHash
from lucid_storage.archive.volume_list import KnownList, Listed, ListWriter, draft_of, open_list
from lucid_storage.archive.volume_tar import EntryType
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs.contract import CancelledError
from lucid_storage.jobs.reporting import Reporter
from lucid_storage.jobs.volume_tree import Opened, Tree, contents
from lucid_storage.jobs.volume_usage import mounted
from lucid_storage.jobs.worker import Stop, run_worker
from lucid_storage.models.volume_work import VolumeVerifyOrder, VolumeVerifyResult

LIST_NAME: Final = ".lucid-checksums"
"""At the top of the volume, where no backup and no check looks at it."""
UNREADABLE: Final = "unreadable"


@dataclass(slots=True)
class Findings:
    """What became of the volume since the last list."""

    since: datetime | None = None
    """Moment of the last list; None for the first one."""
    files: int = 0
    bytes: int = 0
    added: int = 0
    removed: int = 0
    changed: int = 0
    backdated: int = 0
    """Of those that changed: their time of modification says that they did not; somebody set it back."""
    corrupted: int = 0
    unreadable: int = 0
    last_change: datetime | None = None
    """The newest time of modification among the changed and the added."""
    told: Callable[[str, Listed], None] = field(default=lambda what, entry: None)
    """Hears of each entry: added, removed, changed, backdated, corrupted, unreadable."""

    @property
    def intact(self) -> bool:
        """Whether all changes are somebody's."""
        return not self.corrupted and not self.unreadable

    def sentence(self) -> str:
        """For people."""
        if self.since is None and self.intact:
            return f"First list: {self.files} files, {self.bytes} bytes. The next check compares with it."
        since = f"Since {self.since:%Y-%m-%d %H:%M:%SZ}" if self.since is not None else "First list"
        said = f"{since}: {self.added} added, {self.removed} removed, {self.changed} changed of {self.files} files."
        if self.last_change is not None and self.since is not None:
            said += f" The newest of it is from {self.last_change:%Y-%m-%d %H:%M:%SZ}."
        if self.backdated:
            said += f" {self.backdated} of them were changed and got their old time back."
        if not self.intact:
            said += (
                f" {self.corrupted} changed although nobody wrote them, and {self.unreadable} cannot be read: the disk"
                " is at fault. Check it, and put these files back from a backup."
            )
        return said


def verify_volume(
    root: Path,
    listed: Path,
    key: Key | None,
    findings: Findings,
    check: Callable[[], None],
    *,
    accept: bool = False,
    report: Callable[[int, int], None] = lambda size, files: None,
) -> Findings:
    """Reads every file, compares, and writes the new list. `accept` takes everything as it is now.

    Raises ArchiveDamagedError for a list that cannot be believed, LucidError when folders or the list cannot be read
    or the list is no regular file.
    """
    begun = datetime.now(UTC)
    draft = open_own(draft_of(listed))  # what is no file of ours there is said, and not removed
    if draft is not None:
        draft.close()
    known = open_list(listed, key)
    findings.since = known.at if known is not None else None
    try:
        _compare(root, known, _writer(listed, begun, key), findings, check, accept=accept, report=report)
    finally:
        if known is not None:
            known.close()
    return findings


def _writer(listed: Path, begun: datetime, key: Key | None) -> ListWriter:
    try:
        return ListWriter(listed, begun, key)
    except OSError as error:
        raise LucidError(
            f"The list of checksums cannot be written ({error.strerror}); name a file that can be, with"
            " --state, or set spec.copy.runAsUser of the Volume to whom its top folder belongs.",
            reason=Reason.ACCESS_DENIED,
        ) from error


def _compare(
    root: Path,
    known: KnownList | None,
    writer: ListWriter,
    findings: Findings,
    check: Callable[[], None],
    *,
    accept: bool,
    report: Callable[[int, int], None],
) -> None:
    try:
        for before, now in _paired(known, _entries(root, check, report)):
            kept = _compared(before, now, findings, first=known is None)
            entry = now if accept and now is not None and now.content != UNREADABLE else kept
            if entry is not None:
                writer.add(entry)
        writer.finish()
    finally:
        writer.abort()


def _entries(root: Path, check: Callable[[], None], report: Callable[[int, int], None]) -> Iterator[Listed]:
    tree = Tree(root)
    for opened in tree.entries():
        check()
        if opened.entry.path:
            yield _listed(opened, check, report)


def _listed(opened: Opened, check: Callable[[], None], report: Callable[[int, int], None]) -> Listed:
    entry, content, ctime_ns = opened.entry, os.fsdecode(opened.entry.link), 0
    if opened.descriptor is not None:
        ctime_ns = os.fstat(opened.descriptor).st_ctime_ns
        hashed = ContentHash()
        try:
            for offset, data in contents(opened):
                check()
                hashed.update(offset, data)
                report(len(data), 0)
            content = hashed.hexdigest(entry.size)
        except CancelledError:
            raise
        except LucidError:
            content = UNREADABLE
        after = os.fstat(opened.descriptor)
        if (after.st_mtime_ns, after.st_size) != (entry.mtime_ns, entry.size):
            ctime_ns = after.st_ctime_ns  # written meanwhile: the next check sees a change
        report(0, 1)
    return Listed(
        path=entry.path,
        type=entry.type.name.lower(),
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        mtime_ns=entry.mtime_ns,
        ctime_ns=ctime_ns,
        size=entry.size,
        content=content,
    )


def _paired(known: KnownList | None, now: Iterator[Listed]) -> Iterator[tuple[Listed | None, Listed | None]]:
    """Both in the order of a walk, so that neither must be held in memory."""
    old = known.entries() if known is not None else iter(())
    before, after = next(old, None), next(now, None)
    while before is not None or after is not None:
        if after is None or (before is not None and before.place < after.place):
            yield before, None
            before = next(old, None)
        elif before is None or after.place < before.place:
            yield None, after
            after = next(now, None)
        else:
            yield before, after
            before, after = next(old, None), next(now, None)


def _compared(before: Listed | None, now: Listed | None, findings: Findings, *, first: bool) -> Listed | None:
    """Counts one entry; returns what the new list says of it."""
    if now is None:
        assert before is not None
        findings.removed += 1
        findings.told("removed", before)
        return None
    if now.type == EntryType.FILE.name.lower():
        findings.files += 1
        findings.bytes += now.size
    if now.content == UNREADABLE:
        findings.unreadable += 1
        findings.told("unreadable", now)
        return before
    if before is None:
        if not first:
            findings.added += 1
            findings.told("added", now)
            _note_time(now, findings)
        return now
    if before == now or replace(before, ctime_ns=now.ctime_ns) == now:
        return now
    return _changed(before, now, findings)


def _changed(before: Listed, now: Listed, findings: Findings) -> Listed:
    same_times = (before.mtime_ns, before.size, before.type) == (now.mtime_ns, now.size, now.type)
    if same_times and before.content != now.content:
        if before.ctime_ns == now.ctime_ns:
            findings.corrupted += 1
            findings.told("corrupted", now)
            return before  # what it should be
        findings.backdated += 1
        findings.told("backdated", now)
    findings.changed += 1
    findings.told("changed", now)
    _note_time(now, findings)
    return now


def _note_time(entry: Listed, findings: Findings) -> None:
    try:
        at = datetime.fromtimestamp(entry.mtime_ns // 1_000_000_000, UTC)
    except (ValueError, OverflowError, OSError):
        return  # users may set any time, also one that no calendar has
    if findings.last_change is None or at > findings.last_change:
        findings.last_change = at


# As a Job


def failed(order: VolumeVerifyOrder, reason: Reason, message: str) -> VolumeVerifyResult:
    """A result that says why nothing was found out."""
    return VolumeVerifyResult(run=order.run, ok=False, reason=reason, message=message)


def verify(
    order: VolumeVerifyOrder, environ: Mapping[str, str], reporter: Reporter, stop: Stop
) -> VolumeVerifyResult:
    """The list lies on the volume. Names of files are users' data: only counts are told."""

    def check() -> None:
        if stop.event.is_set():
            raise CancelledError("The check was stopped.")

    root = mounted(environ, order.folder)
    reporter.phase("Verifying")
    found = verify_volume(
        root, root / LIST_NAME, None, Findings(), check, accept=order.accept, report=reporter.add
    )
    return VolumeVerifyResult(
        run=order.run,
        ok=True,
        intact=found.intact,
        message=found.sentence(),
        files=found.files,
        bytes=found.bytes,
        added=found.added,
        removed=found.removed,
        changed=found.changed,
        corrupted=found.corrupted,
        unreadable=found.unreadable,
        since=found.since,
        last_change=found.last_change,
        checked_at=datetime.now(UTC),
    )


def run() -> int:
    """The command `lucid-storage volume-verify`; returns its exit status."""
    return run_worker(VolumeVerifyOrder, verify, failed)
