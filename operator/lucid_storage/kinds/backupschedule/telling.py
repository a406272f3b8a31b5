"""The columns and figures of a BackupSchedule's status. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo

from lucid_storage.kinds import figures
from lucid_storage.kinds.backupschedule import children as of
from lucid_storage.kinds.backupschedule.children import Child
from lucid_storage.kinds.backupschedule.desired import ScheduleDesired
from lucid_storage.models.backup import Verify
from lucid_storage.models.backupschedule import BackupScheduleStatus, RecoverableWindow
from lucid_storage.models.pruning import ChainReport


def columns(
    desired: ScheduleDesired,
    children: Sequence[Child],
    status: BackupScheduleStatus,
    report: ChainReport | None,
    now: datetime,
) -> None:
    """Fill in what people see. What was said of a Backup stays when its object is gone."""
    zone = desired.cron.zone
    running = of.active(children)
    status.active = running[0].key.name if running else None
    status.waiting = running[1].key.name if len(running) > 1 else None
    if children:
        last = children[-1]
        status.last = f"{_clock(last.slot, zone)} {last.status.phase or 'Pending'}"
    past = [child for child in children if not child.early and not child.ends_ahead(now)]
    good = of.newest_good(past)
    if good is not None and _later(good.status.completed_at, status.last_successful_at):
        status.last_successful_backup, status.last_successful_at = good.key.name, good.status.completed_at
        status.timeline = good.status.timeline or status.timeline
        if good.status.to is not None and good.proved and _later(good.status.to, status.verified_to):
            status.verified_to = good.status.to
    _verified(past, status, zone)
    if status.next_at is not None:
        status.next = _clock(status.next_at, zone)
        if desired.spec.suspend:
            status.next = "suspended"
    if report is not None:
        _chain(status, report)
    _rpo(status, now)


def put_back(status: BackupScheduleStatus, now: datetime) -> None:
    """The clock was ahead: what was good by then was so now at the latest, and alerts count on from here."""
    for name in ("last_successful_at", "last_verified_at", "last_restore_proof_at"):
        known = getattr(status, name)
        if known is not None and known > now:
            setattr(status, name, now.replace(microsecond=0))


def _verified(children: Sequence[Child], status: BackupScheduleStatus, zone: tzinfo) -> None:
    found = of.newest_verified(children)
    if found is not None and found.status.verification is not None:
        check = found.status.verification
        if _later(check.at, status.last_verified_at):
            status.last_verified_backup, status.last_verified_at = found.key.name, check.at
            status.last_verified_level = check.level
            status.last_verified = f"{_clock(check.at, zone)} {check.level}"
    for child in children:
        proof = child.status.verification
        known = status.last_restore_proof_at
        if proof is not None and proof.level is Verify.RESTORE and _later(proof.at, known):
            status.last_restore_proof_at = proof.at


def _chain(status: BackupScheduleStatus, report: ChainReport) -> None:
    status.timeline = report.timeline or status.timeline
    status.recoverable = [
        RecoverableWindow(from_time=span.first, to=span.last) for span in report.recoverable[-50:]
    ]
    status.looked_to, status.verified_to = report.last_slice_to, report.verified_to
    status.backups, status.stored_bytes = report.backups, report.stored_bytes
    if status.slicer is not None:
        status.slicer.slices, status.slicer.stored_bytes = report.slices, report.slice_bytes


def _rpo(status: BackupScheduleStatus, now: datetime) -> None:
    """Moves rarely in status: the live figure is a metric."""
    if status.verified_to is None:
        status.rpo_seconds = None
        return
    seconds = max(0, int((now - status.verified_to).total_seconds()))
    known = status.rpo_seconds
    if known is None or seconds < known or (seconds - known >= 900 and figures.moved(known, seconds)):
        status.rpo_seconds = seconds


def _later(moment: datetime | None, than: datetime | None) -> bool:
    return moment is not None and (than is None or moment > than)


def _clock(moment: datetime, zone: tzinfo) -> str:
    """In the schedule's own zone, which stands beside it."""
    return moment.astimezone(zone).strftime("%Y-%m-%d %H:%M %Z")
