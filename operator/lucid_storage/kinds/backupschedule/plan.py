"""What a BackupSchedule does next. Pure.

A Backup's name comes from its slot and is created before the slot is written down as handled, so whoever is interrupted
between the two does the same again and finds it done: one backup a slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from lucid_storage.errors import Reason
from lucid_storage.kinds.backupschedule import children as of
from lucid_storage.kinds.backupschedule import slicing, slots
from lucid_storage.kinds.backupschedule.actions import CreateBackup
from lucid_storage.kinds.backupschedule.children import Child
from lucid_storage.kinds.backupschedule.desired import ScheduleDesired, backup_body
from lucid_storage.kinds.backupschedule.observed import ScheduleObserved
from lucid_storage.kinds.backupschedule.out_of_turn import out_of_turn, too_many, unbased
from lucid_storage.kinds.backupschedule.retaining import retain
from lucid_storage.kinds.backupschedule.telling import columns, put_back
from lucid_storage.kinds.contract import Action, Notice, Verdict
from lucid_storage.models.backup import BackupPhase, BackupType, Verify
from lucid_storage.models.backupschedule import BackupScheduleStatus, ConcurrencyPolicy

PROOF_PAUSE = timedelta(days=1)
"""A proof by restore replays everything since the base: at most once a day (rule 1.11)."""
WATCH_SECONDS = 3.0
"""While a Backup or a prune worker is at work. The Backups are read from memory."""
SLICES_SECONDS = 30.0
"""How often a slicing worker is listened to."""
LONGEST_SECONDS = 600.0
"""A clock that jumps is noticed by then."""


@dataclass(frozen=True, slots=True)
class SchedulePlan:
    """What to do, and what to say."""

    status: BackupScheduleStatus
    actions: tuple[Action, ...] = ()
    verdict: Verdict | None = None
    ready_reason: Reason = Reason.SCHEDULED
    message: str = ""
    notices: tuple[Notice, ...] = ()
    recheck_seconds: float = LONGEST_SECONDS


def plan(
    desired: ScheduleDesired, seen: ScheduleObserved, before: BackupScheduleStatus, now: datetime
) -> SchedulePlan:
    """The slots up to now, then retention, then the columns."""
    status = before.model_copy(deep=True)
    decision = _slot(desired, seen, status, now)
    status.last_slot, status.next_at = decision.handled, decision.next_at
    if decision.early_until is not None:
        # Put back twice: what the first time had made too early still has the plain names.
        over = status.early_until is None or status.early_until <= now
        status.early_from = now if over else min(now, status.early_from or now)
        status.early_until = max(filter(None, (status.early_until, decision.early_until)))
        status.put_back = (status.put_back or 0) + 1
        put_back(status, now)
    status.scheduled_as = desired.scheduled_as
    status.chain, status.time_zone = desired.chain, desired.cron.zone_name
    status.missed = (status.missed or 0) + decision.missed
    notices: list[Notice] = []
    actions: list[Action] = []
    if decision.missed:
        notices.append(_missed(decision))
    if decision.run is not None:
        name = slots.child_name(desired.name, decision.run, of.made_again(status, decision.run))
        actions += _run(desired, seen, status, name, decision.run, notices, now)
    elif not desired.spec.suspend and not seen.paused:
        actions += _at_once(desired, seen, status, now, notices)
    kept = retain(desired, seen, status, now)
    actions += kept.actions
    notices += kept.notices
    slices = _slices(desired, seen, status, now)
    columns(desired, seen.children, status, kept.report, now)
    return SchedulePlan(
        status,
        tuple(actions),
        *_verdict(desired, seen, status, slices),
        notices=tuple(notices),
        recheck_seconds=_recheck(seen, status, actions, now),
    )


def _slot(
    desired: ScheduleDesired, seen: ScheduleObserved, status: BackupScheduleStatus, now: datetime
) -> slots.SlotDecision:
    spec = desired.spec
    changed = status.scheduled_as is not None and status.scheduled_as != desired.scheduled_as
    return slots.decide(
        desired.cron,
        now=now,
        created_at=seen.created_at,
        last_slot=max(now, status.last_slot) if changed and status.last_slot else status.last_slot,
        missed_runs=spec.missed_runs,
        starting_deadline=desired.starting_deadline,
        suspend=spec.suspend or seen.paused,
        immediate=spec.immediate,
    )


def _missed(decision: slots.SlotDecision) -> Notice:
    count = f"{decision.missed} or more" if decision.missed >= slots.COUNTED else str(decision.missed)
    made_up = "one backup makes up for them" if decision.run is not None else "the next slot is waited for"
    return Notice("MissedRuns", f"Runs that did not take place: {count}; {made_up}.", warning=True)


# A run


def _run(
    desired: ScheduleDesired,
    seen: ScheduleObserved,
    status: BackupScheduleStatus,
    name: str,
    slot: datetime,
    notices: list[Notice],
    now: datetime,
) -> list[Action]:
    made = next((c for c in seen.children if c.key.name == name), None)
    if made is not None:  # by the look that was interrupted
        _count(status, name, made.asked, made.asked_verify)
        return []
    running = of.active(seen.children)
    allowed = 1 if desired.spec.concurrency_policy is ConcurrencyPolicy.QUEUE else 0
    if len(running) > allowed:
        status.missed = (status.missed or 0) + 1
        still = (
            f"The run of {slot:%Y-%m-%d %H:%M}Z is left out: the Backup {running[0].key.name} has not ended."
        )
        notices.append(Notice("RunLeftOut", still, warning=True))
        return []
    kind = _type(desired, seen, status, now)
    verify = _verify(desired, seen.children, status, slot)
    _count(status, name, kind, verify)
    return [CreateBackup(name, backup_body(desired, name, slot, kind, verify))]


def _count(status: BackupScheduleStatus, name: str, kind: BackupType, verify: Verify) -> None:
    status.runs_since_full = 0 if kind is BackupType.FULL else (status.runs_since_full or 0) + 1
    status.runs_since_proof = 0 if verify is Verify.RESTORE else (status.runs_since_proof or 0) + 1
    status.last_backup = name


def _type(
    desired: ScheduleDesired, seen: ScheduleObserved, status: BackupScheduleStatus, now: datetime
) -> BackupType:
    wanted, children = desired.spec.template.type, seen.children
    since = status.runs_since_full
    if since is None or since + 1 >= desired.full_every or of.must_begin_anew(children) or unbased(seen, now):
        return BackupType.FULL
    return wanted


def _verify(
    desired: ScheduleDesired, children: Sequence[Child], status: BackupScheduleStatus, slot: datetime
) -> Verify:
    every, usual = desired.proof_every, desired.spec.template.verify
    otherwise = Verify.CHECKSUM if usual is Verify.RESTORE else usual
    if every is None:
        return otherwise
    since = status.runs_since_proof
    due = since is None or since + 1 >= every
    # By slots where the Backup is still there: proofs end at various times after them.
    asked = of.last_proof_asked(children, slot) or status.last_restore_proof_at
    # A date further ahead comes from a clock that was.
    lately = asked is not None and abs(slot - asked) < PROOF_PAUSE
    return Verify.RESTORE if due and not lately else otherwise


def _at_once(
    desired: ScheduleDesired,
    seen: ScheduleObserved,
    status: BackupScheduleStatus,
    now: datetime,
    notices: list[Notice],
) -> list[Action]:
    """A full out of turn, once for each timeline that ended or began without one."""
    needed = out_of_turn(seen, now)
    if needed is None or of.active(seen.children):
        return []
    again = of.made_again(status, now)
    name = slots.named(desired.name, needed.suffix + (f"-{again}" if again else ""))
    if any(c.key.name == name for c in seen.children) or too_many(desired, seen, now):
        return []
    status.runs_since_full = None
    made = _run(desired, seen, status, name, now.replace(microsecond=0), notices, now)
    if made:
        notices.append(Notice("FullAtOnce", f"{needed.because}, so a full backup is made at once."))
    return made


# What is said


def _slices(
    desired: ScheduleDesired, seen: ScheduleObserved, status: BackupScheduleStatus, now: datetime
) -> str:
    """What a person should know of the slices."""
    if not slicing.wanted(desired):
        status.slicer = None
        return ""
    bases = (*seen.children, *seen.by_hand)
    slicing.told(desired, status, seen.slicing, bases, seen.slicer_namespace, now)
    if too_many(desired, seen, now):
        return (
            "The timeline of this chain began anew again and again, so the next full waits for its slot: see whether"
            " another cluster writes into the same prefix and chain, and give each a prefix of its own."
        )
    return slicing.trouble(desired, status, seen.slicing, seen.slicing_trouble, now)


def _verdict(
    desired: ScheduleDesired, seen: ScheduleObserved, status: BackupScheduleStatus, slices: str
) -> tuple[Verdict | None, Reason, str]:
    """(verdict, reason when Ready, message when Ready)."""
    if seen.paused:
        return None, Reason.PAUSED, "The annotation stops all runs; remove it to go on."
    if desired.spec.suspend:
        return None, Reason.SUSPENDED, "No new backups are made while spec.suspend is true."
    if seen.unfit is not None:
        said = f"No backup can be made of spec.template: {seen.unfit.message}"
        return Verdict(seen.unfit.reason, said, stalled=True), seen.unfit.reason, ""
    ended = [c for c in seen.children if c.ended and c.status.phase is not BackupPhase.EXPIRED]
    last = ended[-1] if ended else None
    if last is not None and not last.good and last.status.phase is not BackupPhase.CANCELLED:
        reason = next((r for r in Reason if r == last.reason), Reason.INTERNAL_ERROR)
        said = f"The last backup, {last.key.name}, did not complete: {last.message}"
        return Verdict(reason, f"{said} The next run is due at {status.next}.", stalled=True), reason, ""
    if slices:
        return Verdict(Reason.UNHEALTHY, slices), Reason.UNHEALTHY, ""
    if seen.retention_trouble:
        said = f"Backups are made, and retention cannot be applied: {seen.retention_trouble}"
        return None, Reason.SCHEDULED, said
    return None, Reason.SCHEDULED, f"The next run is due at {status.next}."


def _recheck(
    seen: ScheduleObserved, status: BackupScheduleStatus, actions: Sequence[Action], now: datetime
) -> float:
    if actions or seen.prune.alive or of.active(seen.children):
        return WATCH_SECONDS
    assert status.next_at is not None
    longest = SLICES_SECONDS if status.slicer is not None else LONGEST_SECONDS
    return min(longest, max(0.2, (status.next_at - now).total_seconds()))
