"""BackupSchedule: when backups are made, how long they are kept, and slices of the time between."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from lucid_storage.models.backup import BackupTemplate, Verify
from lucid_storage.models.base import Count, KindStatus, ShortText, SpecModel, StatusModel
from lucid_storage.models.cel import Rule, Rules

CronExpression = Annotated[
    str,
    StringConstraints(min_length=1, max_length=256),
    Rules(
        Rule(
            "self.matches('^(@(yearly|annually|monthly|weekly|daily|midnight|hourly)"
            "|[0-9A-Za-z*,/-]+( +[0-9A-Za-z*,/-]+){4})$')",
            "Write the schedule as five fields such as 0 2 * * *, or as @hourly, @daily, @weekly, @monthly "
            "or @yearly; the time zone goes into timeZone.",
        )
    ),
]

TimeZone = Annotated[
    str,
    StringConstraints(min_length=1, max_length=64),
    Rules(
        Rule(
            "self.matches('^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$') && self != 'Local'",
            "Name a time zone such as Etc/UTC or Europe/Berlin.",
        )
    ),
]


class ConcurrencyPolicy(StrEnum):
    """What happens when the last backup is still running."""

    FORBID = "Forbid"
    QUEUE = "Queue"


class MissedRuns(StrEnum):
    """What happens after a time in which nothing could run."""

    RUN_ONCE = "RunOnce"
    SKIP = "Skip"


Keep = Annotated[int, Field(ge=1, le=1000)]


class Retention(SpecModel):
    """A backup is kept if any rule keeps it. The last good one and what a kept one needs always stay."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.days) || has(self.keepLast) || has(self.keepDaily) || has(self.keepWeekly) "
            "|| has(self.keepMonthly)",
            "Give at least one rule: days, keepLast, keepDaily, keepWeekly or keepMonthly.",
        ),
    )

    days: Annotated[int, Field(ge=1, le=3650)] | None = None
    """Keep what is younger, and the slices in between."""
    keep_last: Keep | None = None
    """Keep so many of the newest."""
    keep_daily: Keep | None = None
    """Keep the newest full of so many days."""
    keep_weekly: Keep | None = None
    """Keep the newest full of so many weeks."""
    keep_monthly: Keep | None = None
    """Keep the newest full of so many months."""


class PointInTime(SpecModel):
    """Slices of the oplog between backups, so that a restore can go to any second."""

    enabled: bool
    """Run the slicing worker."""
    interval_seconds: Annotated[int, Field(ge=60, le=86_400)] = 600
    """How often a slice is written, in seconds; the most that a disaster can cost."""


class BackupScheduleSpec(SpecModel):
    """When backups are made, which ones, and how long they are kept."""

    schedule: CronExpression
    """Five fields (minute, hour, day of month, month, day of week), or @daily and its like."""
    time_zone: TimeZone | None = None
    """Time zone of the schedule by name; without it, Etc/UTC."""
    suspend: bool = False
    """Make no new backups. Slices and retention go on."""
    starting_deadline_seconds: Annotated[int, Field(ge=10, le=2_592_000)] | None = None
    """How late a run may start, in seconds; later counts as missed."""
    concurrency_policy: ConcurrencyPolicy = ConcurrencyPolicy.FORBID
    """Forbid skips a run while one is going on; Queue lets one wait."""
    missed_runs: MissedRuns = MissedRuns.RUN_ONCE
    """RunOnce makes up for all missed runs with one; Skip waits for the next."""
    immediate: bool = False
    """Make the first backup at once."""
    template: BackupTemplate
    """A Backup's spec without retention."""
    full_every: Annotated[int, Field(ge=1, le=100)] | None = None
    """Every n-th run is a full; 7 where nothing is given and the template is not full."""
    verify_restore_every: Annotated[int, Field(ge=1, le=100)] | None = None
    """Every n-th run is proved by a restore into a scratch database, at most once a day."""
    retention: Retention | None = None
    """What is kept; without it, the last BACKUP_RETENTION_DAYS days."""
    point_in_time: PointInTime | None = None
    """Restores to any second. Needs MongoDB as a replica set."""


class RecoverableWindow(StatusModel):
    """A span of time, any second of which can be restored."""

    from_time: datetime = Field(alias="from")
    """First second."""
    to: datetime
    """Last second."""


class SlicerStatus(StatusModel):
    """The worker that writes slices of the oplog."""

    deployment: ShortText | None = None
    """Its Deployment."""
    namespace: ShortText | None = None
    """The namespace of its Deployment: where the logins that it uses are."""
    last_slice_at: datetime | None = None
    """When the last slice was confirmed."""
    slices: Count | None = None
    """Slices of the current timeline, when retention last looked."""
    stored_bytes: Count | None = None
    """Their bytes in the destination."""
    begun_at: datetime | None = None
    """When it was first asked for."""


class RetentionStatus(StatusModel):
    """The worker that removes what retention lets go."""

    job: ShortText | None = None
    """Its Job, while it is at work."""
    done: ShortText | None = None
    """What the last one was made for: the newest backup and the day. Absent when it has to be tried again."""
    last_at: datetime | None = None
    """When the last one ended."""
    removed: Count | None = None
    """Backups that the last one removed."""
    message: Annotated[str, StringConstraints(max_length=512)] | None = None
    """Why the last one could not do its work."""


class BackupScheduleStatus(KindStatus):
    """What the schedule did and will do."""

    chain: ShortText | None = None
    """The chain that it writes."""
    timeline: ShortText | None = None
    """UUID of the current timeline."""
    time_zone: ShortText | None = None
    """The TIMEZONE column: the zone that the schedule is read in."""
    last_slot: datetime | None = None
    """The scheduled time that was handled last; no slot before it is run again."""
    early_from: datetime | None = None
    """When the clock was put back."""
    early_until: datetime | None = None
    """A clock that was ahead had the runs from there up to here made too early; they are made again in their time."""
    put_back: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """How often the clock was put back; part of the names of what is made again."""
    scheduled_as: ShortText | None = None
    """The schedule and zone that lastSlot is about; when they change, nothing before the change is made up for."""
    last_backup: ShortText | None = None
    """The Backup made last."""
    last_successful_backup: ShortText | None = None
    """The last good Backup."""
    last_successful_at: datetime | None = None
    """When that one ended."""
    last: ShortText | None = None
    """The LAST column: time and result of the last run."""
    next_at: datetime | None = None
    """When the next run is due."""
    next: ShortText | None = None
    """The NEXT column."""
    last_verified_backup: ShortText | None = None
    """The Backup that was verified last."""
    last_verified_level: Verify | None = None
    """How it was verified."""
    last_verified_at: datetime | None = None
    """When it was verified."""
    last_verified: ShortText | None = None
    """The LAST-VERIFIED column: time and level."""
    last_restore_proof_at: datetime | None = None
    """When a backup was last proved by a restore."""
    active: ShortText | None = None
    """The Backup that is running."""
    waiting: ShortText | None = None
    """The Backup that waits for it."""
    runs_since_full: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """Runs since the last full."""
    runs_since_proof: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """Runs since the last that asked for a proof by restore."""
    missed: Count | None = None
    """Runs that were missed."""
    backups: Count | None = None
    """Backups that are kept."""
    stored_bytes: Count | None = None
    """Their bytes in the destination, slices included."""
    recoverable: Annotated[list[RecoverableWindow], Field(max_length=50)] | None = None
    """What can be restored to the second; the newest 50 spans."""
    looked_to: datetime | None = None
    """Where the slices of the current timeline ended when retention last looked. `recoverable` grows with newer slices
    where it reached up to there: else there is a hole."""
    rpo_seconds: Count | None = None
    """Seconds since the last verified point: what a disaster now would cost."""
    oplog_window_seconds: Count | None = None
    """Seconds of history that the server's oplog holds."""
    verified_to: datetime | None = None
    """The newest second that good backups hold."""
    retention: RetentionStatus | None = None
    """The removal of what is not kept any more."""
    slicer: SlicerStatus | None = None
    """The worker that writes slices."""
