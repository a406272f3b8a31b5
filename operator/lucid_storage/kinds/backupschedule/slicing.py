"""The slicing worker of a schedule with pointInTime: what it is told, and what it tells. Pure.

It goes on while the schedule is suspended, since slices are what makes the time after the last backup restorable.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from pydantic import ValidationError

from lucid_storage.errors import LucidError, Reason, RefusedError
from lucid_storage.kinds.backupschedule.children import Child
from lucid_storage.kinds.backupschedule.desired import (
    NAME_CHARACTERS,
    ScheduleDesired,
    place_of,
    resolve,
)
from lucid_storage.kinds.workers.job import OwnerRef
from lucid_storage.kinds.workers.launch import WorkerRequest
from lucid_storage.kinds.workers.place import Place, job_namespace
from lucid_storage.kube.resources import Resource
from lucid_storage.models.backup import BackupEngine, BackupType
from lucid_storage.models.backupschedule import BackupScheduleStatus, RecoverableWindow, SlicerStatus
from lucid_storage.models.meta import API_VERSION
from lucid_storage.models.orders import Owner
from lucid_storage.models.settings import Settings
from lucid_storage.models.slicing import SliceOrder, SliceReport

MOVES = timedelta(minutes=15)
"""Figures in status move no oftener; metrics tell them live."""
SLICE_SECONDS = 3600
"""One slice that takes longer is given up and begun anew."""
WINDOWS = 50
"""Of the newest ones that status has room for."""
LAG = 3
"""So many intervals without a slice are told."""


def wanted(desired: ScheduleDesired) -> bool:
    """Whether a slicing worker is to run. Raises RefusedError where it cannot."""
    spec = desired.spec
    if spec.point_in_time is None or not spec.point_in_time.enabled:
        return False
    engines = spec.template.engines
    if engines is not None and BackupEngine.MONGODB not in engines:
        raise RefusedError(
            "pointInTime is about MongoDB, which spec.template.engines leaves out; add mongodb there, or remove"
            " pointInTime.",
            reason=Reason.INVALID_SPEC,
        )
    return True


def home(resource: Resource, settings: Settings) -> str | None:
    """The namespace where the worker of a schedule belongs now; None when it may have none. Pure.

    From the raw resource, so that a worker never outlives the right to its logins because of another mistake in it.
    """
    sliced = resource.spec.get("pointInTime")
    template = resource.spec.get("template")
    if resource.deleted is not None or not isinstance(sliced, dict) or not isinstance(template, dict):
        return None
    engines = template.get("engines")
    if not sliced.get("enabled") or (isinstance(engines, list) and BackupEngine.MONGODB not in engines):
        return None
    connection = template.get("connection")
    secret = connection.get("secretName") if isinstance(connection, dict) else None
    if secret is None and settings.served(resource.key.namespace) is None:
        return None
    return job_namespace(settings, resource.key.namespace, secret)


def following(
    schedules: Iterable[Resource], namespace: str, connection: str | None, place: Place, settings: Settings
) -> tuple[str, ...]:
    """Chains whose slices follow the server of these credentials into this place. Pure."""
    found = set()
    for schedule in schedules:
        if schedule.key.namespace != namespace or home(schedule, settings) is None:
            continue
        try:
            desired = resolve(schedule, settings)
            theirs = place_of(desired, settings)
        except LucidError:
            continue  # it cannot be followed, so nothing of it can be waited for
        same_place = (theirs.destination, theirs.claim) == (place.destination, place.claim)
        if desired.connection == connection and same_place:
            found.add(desired.chain)
    return tuple(sorted(found))


def name(desired: ScheduleDesired) -> str:
    """Of the Deployment."""
    resource = desired.resource
    stem = resource.key.name[:NAME_CHARACTERS].rstrip("-.").replace(".", "-")
    return f"{stem}-slices-{resource.uid.replace('-', '')[:8]}"


def request(
    desired: ScheduleDesired, *, cluster: str, place: Place, database_patterns: tuple[str, ...]
) -> WorkerRequest:
    """The worker as it is asked for: equal as long as nothing that matters to it changes."""
    resource, key, template = desired.resource, desired.resource.key, desired.spec.template
    assert desired.spec.point_in_time is not None
    order = SliceOrder(
        run=resource.uid.replace("-", "")[:12],
        owner=Owner(
            cluster=cluster,
            namespace=key.namespace,
            name=key.name,
            uid=resource.uid,
            spec_hash="",
            schedule=key.name,
        ),
        destination=place.destination,
        chain=desired.chain,
        key_id=desired.key_id,
        compression=desired.compression,
        deadline_seconds=SLICE_SECONDS,
        interval_seconds=desired.spec.point_in_time.interval_seconds,
        database_patterns=database_patterns,
        mongodb=template.mongodb,
    )
    return WorkerRequest(
        command="slice",
        name=name(desired),
        owner=OwnerRef("BackupSchedule", API_VERSION, key.namespace, key.name, resource.uid),
        order=order,
        connection=desired.connection,
        place=place,
        keys_secret=desired.keys_secret,
    )


def report_in(log: str) -> SliceReport | None:
    """The last report that a log tells."""
    for line in reversed(log.splitlines()):
        if not line.startswith('{"slicing"'):
            continue
        try:
            return SliceReport.model_validate(json.loads(line)["slicing"])
        except (ValueError, KeyError, TypeError, ValidationError):
            continue  # cut at the edge of what was read
    return None


def told(
    desired: ScheduleDesired,
    status: BackupScheduleStatus,
    report: SliceReport | None,
    children: Sequence[Child],
    namespace: str,
    now: datetime,
) -> None:
    """Takes a report over into status, as often as figures may move there. `namespace` is where the worker is."""
    state = status.slicer or SlicerStatus(begun_at=now.replace(microsecond=0))
    state.deployment, state.namespace = name(desired), namespace
    status.slicer = state
    if report is None or not report.ok:
        return
    window, known = report.oplog_window_seconds, status.oplog_window_seconds
    if window is not None and (known is None or abs(window - known) * 10 >= max(known, 1)):
        status.oplog_window_seconds = window
    if report.timeline is None or report.to is None:
        return
    before, written = state.last_slice_at, report.written_at or report.to
    lately = before is not None and written - before < MOVES
    news = _uncovered(status, base_of(children, report)) and reached(status, children, report) is not None
    if status.timeline == report.timeline and lately and not news:
        return
    state.last_slice_at = written.replace(microsecond=0)
    status.timeline = report.timeline
    _extend(status, children, report)


def base_of(children: Sequence[Child], report: SliceReport) -> Child | None:
    """The newest good full that the slices up to the report can be replayed onto."""
    fulls = [
        c
        for c in children
        if c.good
        and c.status.type is BackupType.FULL
        and c.status.timeline == report.timeline
        and c.status.to
    ]
    base = max(fulls, key=lambda c: c.status.to or c.slot, default=None)
    if base is None or report.to is None or base.status.to is None or base.status.to > last_second(report):
        return None
    return base


def _uncovered(status: BackupScheduleStatus, base: Child | None) -> bool:
    """Whether a full can be restored from to the second since just now: that is news, and no figure."""
    at = base.status.to if base is not None else None
    return at is not None and not any(w.from_time <= at <= w.to for w in status.recoverable or ())


def _extend(status: BackupScheduleStatus, children: Sequence[Child], report: SliceReport) -> None:
    window = reached(status, children, report)
    if window is None:
        return
    known = [w for w in status.recoverable or () if w.from_time < window.from_time]
    status.recoverable = [*known, window][-WINDOWS:]
    status.verified_to = max(status.verified_to or window.to, window.to)


def reached(
    status: BackupScheduleStatus, children: Sequence[Child], report: SliceReport
) -> RecoverableWindow | None:
    """From the newest full of the timeline to the last slice, where the slices have no hole in between; else None.

    A slice that a check found damaged is a hole, and the last look into the destination cut the window there: it had
    reached the last slice of then otherwise. What is newer than that look goes on from there without a hole.
    """
    base = base_of(children, report)
    if base is None or base.status.to is None:
        return None
    start, end, looked = base.status.to, last_second(report), status.looked_to
    newest = status.recoverable[-1] if status.recoverable else None
    if newest is not None and newest.from_time <= start <= newest.to:
        whole = looked is None or newest.to >= looked - timedelta(seconds=1)
        return RecoverableWindow(from_time=newest.from_time, to=max(newest.to, end)) if whole else None
    unseen = looked is None or start >= looked
    if unseen and (newest is None or newest.to < start):
        return RecoverableWindow(from_time=start, to=end)
    return None


def last_second(report: SliceReport) -> datetime:
    """The last second that can be restored: the one of the last entry may have gone on (rule 1.4)."""
    assert report.to is not None
    return report.to - timedelta(seconds=1)


def trouble(
    desired: ScheduleDesired,
    status: BackupScheduleStatus,
    report: SliceReport | None,
    message: str,
    now: datetime,
) -> str:
    """What a person should know of the slices; empty when all is well."""
    assert desired.spec.point_in_time is not None
    interval = desired.spec.point_in_time.interval_seconds
    if message:
        return f"No slices are written: {message}."
    if report is not None and not report.ok:
        return f"The last slice was not written: {report.message}"
    silent = _silent(status, report, interval, now)
    if silent:
        return silent
    window = report.oplog_window_seconds if report is not None else status.oplog_window_seconds
    if window is not None and window < 2 * interval:
        return (
            f"The oplog holds {window} s, less than two intervals of {interval} s: enlarge it, or shorten"
            " pointInTime.intervalSeconds, before a slice comes too late."
        )
    return ""


def _silent(status: BackupScheduleStatus, report: SliceReport | None, interval: int, now: datetime) -> str:
    """Whether slices do not come although the worker says that all is well."""
    if report is None:
        return ""
    due = f"one should come every {interval} s"
    if report.written_at is not None:
        since = (now - report.written_at).total_seconds()
        return f"The last slice is {int(since)} s old, and {due}." if since > LAG * interval else ""
    state = status.slicer or SlicerStatus()
    last = state.last_slice_at or state.begun_at
    # What status says of the last slice is that much older than the slice may be.
    if last is None or now - last <= LAG * timedelta(seconds=interval) + MOVES:
        return ""
    return (
        f"No slice was written since {last:%Y-%m-%d %H:%M:%SZ}, and {due}: the worker runs and finds nothing new in the"
        " oplog. See whether it reads the MongoDB that is written to, and the log of its pod."
    )
