"""Retention of a schedule's chain: when a prune worker is due, and what its answer means for the Backups. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pydantic import ValidationError

from lucid_storage.errors import RefusedError
from lucid_storage.kinds.backup.results import may_have_snapshots
from lucid_storage.kinds.backupschedule import children as of
from lucid_storage.kinds.backupschedule import revoking
from lucid_storage.kinds.backupschedule.actions import (
    DeleteBackup,
    DropSnapshots,
    ExplainBackup,
    RemovePrune,
    StartPrune,
)
from lucid_storage.kinds.backupschedule.children import Child
from lucid_storage.kinds.backupschedule.desired import ScheduleDesired, prune_job, prune_request, prune_run
from lucid_storage.kinds.contract import Action, Notice
from lucid_storage.kinds.workers.place import Place
from lucid_storage.kinds.workers.state import WorkerPhase
from lucid_storage.kube.client import Json
from lucid_storage.models.backup import BackupPhase
from lucid_storage.models.backupschedule import BackupScheduleStatus, RetentionStatus
from lucid_storage.models.order_text import order_variables
from lucid_storage.models.pruning import ChainReport, PruneResult
from lucid_storage.models.settings import Settings

if TYPE_CHECKING:
    from lucid_storage.kinds.backupschedule.observed import ScheduleObserved

FAILURES = 10
"""Objects of backups that came to nothing: so many of the newest are kept to be read."""
AGAIN = timedelta(hours=1)
"""After a prune worker that failed."""


@dataclass(frozen=True, slots=True)
class Retaining:
    """What a prune worker needs."""

    cluster: str
    place: Place
    rules: dict[str, dict[str, int]]
    settings: Settings
    by_hand: tuple[str, ...] = ()
    """Ids of the chain's Backups that say themselves how long they are kept."""


@dataclass(frozen=True, slots=True)
class Retained:
    """What follows for this look."""

    actions: tuple[Action, ...] = ()
    notices: tuple[Notice, ...] = ()
    report: ChainReport | None = None


def trigger(children: Sequence[Child], by_hand: Sequence[Child], now: datetime) -> str | None:
    """What retention is applied for: each backup that ended well, each day, and what else changes what can be restored.
    None before the first good one.
    """
    good = of.newest_good(children)
    if good is None:
        return None
    newest = of.news_since(good, children, by_hand) or good
    return f"{newest.key.name}/{now:%Y-%m-%d}"


def due(
    status: BackupScheduleStatus, children: Sequence[Child], by_hand: Sequence[Child], now: datetime
) -> bool:
    """Whether a prune worker is to be started now."""
    state = status.retention or RetentionStatus()
    wanted = trigger(children, by_hand, now)
    # A time further ahead comes from a clock that was.
    resting = state.message is not None and state.last_at is not None and abs(now - state.last_at) < AGAIN
    return state.job is None and wanted is not None and wanted != state.done and not resting


def retain(
    desired: ScheduleDesired, seen: ScheduleObserved, status: BackupScheduleStatus, now: datetime
) -> Retained:
    """Start a worker, wait for it, or carry out what it says. Writes into `status.retention`. What is paused hears the
    worker that was started before, and removes nothing else.
    """
    state = status.retention or RetentionStatus()
    status.retention = state
    failures = tuple(_old_failures(seen.children)) if not seen.paused else ()
    if state.job is not None:
        return _waited(desired, seen, state, now, failures)
    wanted = trigger(seen.children, seen.by_hand, now)
    asked = due(status, seen.children, seen.by_hand, now)
    if wanted is None or seen.busy or seen.paused or seen.retaining is None or not asked:
        return Retained(failures)
    once_more = state.last_at is not None and state.done is None
    attempt = f"{wanted}/{now:%H:%M}" if once_more else wanted
    known = tuple(c.status.id for c in _here(seen) if c.holds_data and c.ended and c.status.id)
    by_hand, all_here = seen.retaining.by_hand, (*_here(seen), *seen.by_hand)
    request = prune_request(
        desired,
        attempt,
        cluster=seen.retaining.cluster,
        place=seen.retaining.place,
        rules=seen.retaining.rules,
        known=known,
        unrestorable=revoking.told(all_here),
        silent=revoking.silent(all_here, (*known, *by_hand)),
        by_hand=by_hand,
        settings=seen.retaining.settings,
    )
    try:
        order_variables(request.order.text())
    except RefusedError as error:
        state.message, state.last_at = error.message, now.replace(microsecond=0)
        return Retained(failures, (Notice("RetentionFailed", error.message, warning=True),))
    state.job, state.done = request.name, attempt
    return Retained((*failures, StartPrune(request)))


def _waited(
    desired: ScheduleDesired,
    seen: ScheduleObserved,
    state: RetentionStatus,
    now: datetime,
    failures: tuple[Action, ...],
) -> Retained:
    assert state.job is not None
    if seen.prune.alive:
        return Retained(failures)
    result = _parsed(seen.prune.result, prune_run(desired.resource.uid, state.done or ""))
    over = RemovePrune(state.job)
    matches = prune_job(desired.resource, state.done or "") == state.job
    state.job, state.last_at = None, now.replace(microsecond=0)
    state.done = "/".join((state.done or "").split("/")[:2])
    if result is None or not result.ok or not matches:
        state.done = None
        why = seen.prune.message or "its Job is gone"
        state.message = (result.message if result is not None else f"The worker gave no result: {why}.")[:512]
        gone = () if seen.prune.phase is WorkerPhase.ABSENT else (over,)
        return Retained((*failures, *gone), (Notice("RetentionFailed", state.message, warning=True),))
    state.message, state.removed = None, len(result.removed)
    if result.more:
        state.done = None
    actions = [*_removed(_here(seen), result), *_explained(desired, _here(seen), result, now)]
    revoked = revoking.said((*_here(seen), *seen.by_hand), result, now)
    return Retained((*failures, *actions, *revoked.actions, over), revoked.notices, report=result.chain)


def _here(seen: ScheduleObserved) -> list[Child]:
    """Those whose data a prune worker of the schedule finds."""
    return [child for child in seen.children if child.key not in seen.elsewhere]


def _parsed(text: str | None, run: str) -> PruneResult | None:
    try:
        result = PruneResult.model_validate_json(text or "")
    except ValidationError:
        return None
    return result if result.run == run else None


def _removed(children: Sequence[Child], result: PruneResult) -> list[Action]:
    """The objects go whose data are gone: a schedule made them, so nobody misses them. A worker names those without an
    object only where snapshots are left of them.
    """
    gone = dict.fromkeys(result.removed)
    over = [c for c in children if c.status.id in gone and c.ended]
    objects = {c.status.id for c in children}
    return [
        *(DropSnapshots(key) for key in gone if key not in objects),
        *(
            DeleteBackup(c.key, c.uid, "retention has passed and its data were removed", _snapshots(c))
            for c in over
        ),
    ]


def _snapshots(child: Child) -> str | None:
    return child.status.id if may_have_snapshots(child.status) else None


def _explained(
    desired: ScheduleDesired, children: Sequence[Child], result: PruneResult, now: datetime
) -> list[Action]:
    """When a backup expires, and why it stays if it is over."""
    because = {r.id: r.because for r in result.retained}
    gone = set(result.removed)
    explained: list[Action] = []
    for child in children:
        status = child.status
        if not child.holds_data or not child.ended or status.id in gone or status.completed_at is None:
            continue
        reason = because.get(status.id or "")
        at = _expires_at(desired, child)
        if at is not None and at <= now and not result.more:
            at = None  # its days are over, and it is there still: another rule keeps it
        patch = _patch(child, at, reason)
        if patch:
            explained.append(ExplainBackup(child.key, child.uid, patch))
    return explained


def _expires_at(desired: ScheduleDesired, child: Child) -> datetime | None:
    """None where newer backups decide and not the time."""
    days = desired.rules.get("days")
    if days is None or child.status.completed_at is None:
        return None
    return child.status.completed_at + timedelta(days=days)


def _patch(child: Child, at: datetime | None, reason: str | None) -> Json:
    status = child.status
    if reason is not None:
        expires = "kept"
    elif at is not None:
        expires = at.strftime("%Y-%m-%d %H:%MZ")
    else:
        expires = "by newer ones"
    wanted: Json = {
        "expiresAt": at.isoformat().replace("+00:00", "Z") if at is not None else None,
        "expires": expires,
        "retainedBecause": reason[:512] if reason is not None else None,
    }
    known: Json = {
        "expiresAt": status.expires_at.isoformat().replace("+00:00", "Z") if status.expires_at else None,
        "expires": status.expires,
        "retainedBecause": status.retained_because,
    }
    return {key: value for key, value in wanted.items() if value != known[key]}


def _old_failures(children: Sequence[Child]) -> list[Action]:
    failed = [c for c in children if c.status.phase in (BackupPhase.FAILED, BackupPhase.CANCELLED)]
    expired = [c for c in children if c.status.phase is BackupPhase.EXPIRED]
    return [
        *(DeleteBackup(c.key, c.uid, "it came to nothing, long ago") for c in failed[:-FAILURES]),
        *(
            DeleteBackup(c.key, c.uid, "it expired, and its data were removed", _snapshots(c))
            for c in expired
        ),
    ]
