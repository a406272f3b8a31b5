"""Builds schedules and the Backups that they made."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from lucid_storage.kinds.backupschedule.children import Child, children_of
from lucid_storage.kinds.backupschedule.desired import ScheduleDesired, resolve
from lucid_storage.kinds.backupschedule.observed import ScheduleObserved
from lucid_storage.kinds.backupschedule.plan import SchedulePlan, plan
from lucid_storage.kinds.backupschedule.slots import child_name
from lucid_storage.kube.client import Json
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.backupschedule import BackupScheduleStatus
from lucid_storage.models.meta import SCHEDULE, SLOT
from lucid_storage.models.settings import Settings

SETTINGS = Settings.read(
    {"WORKER_IMAGE": "lucid-storage:test", "BACKUP_STORAGE_TYPE": "s3", "BACKUP_S3_BUCKET": "b"}
)
KEY = Key("backupschedules", "default", "nightly")
CREATED = "2026-05-01T00:00:00Z"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def schedule(**spec: Any) -> ScheduleDesired:
    spec = {"schedule": "0 2 * * *", "template": {"type": "full"}, **spec}
    body = {
        "metadata": {
            "name": "nightly",
            "namespace": "default",
            "uid": "uid-1",
            "generation": 1,
            "creationTimestamp": CREATED,
        },
        "spec": spec,
    }
    return resolve(Resource.from_body("backupschedules", body), SETTINGS)


def backup(
    slot: str | datetime,
    phase: str | None = "Completed",
    *,
    kind: str = "full",
    verify: str = "Checksum",
    reason: str = "",
    name: str | None = None,
    **status: Any,
) -> Resource:
    """A Backup of the schedule, ended a minute after its slot."""
    moment = at(slot) if isinstance(slot, str) else slot
    name = name or child_name("nightly", moment)
    ended = moment.replace(minute=moment.minute + 1).isoformat().replace("+00:00", "Z")
    known: Json = {}
    if phase is not None:
        known = {"phase": phase, "id": f"id-{name}", "startedAt": moment.isoformat()}
    if phase in ("Completed", "PartiallyFailed", "Failed"):
        known["completedAt"] = ended
    if phase == "Completed":
        known |= {"to": ended, "verification": {"level": verify, "at": ended, "seconds": 1}}
    if reason:
        known["conditions"] = [
            {
                "type": "Ready",
                "status": "False",
                "reason": reason,
                "message": f"It is {reason}.",
                "lastTransitionTime": ended,
            }
        ]
    body = {
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"uid-{name}",
            "annotations": {SCHEDULE: "nightly", SLOT: moment.isoformat()},
        },
        "spec": {"type": kind, "verify": verify},
        "status": {**known, **status},
    }
    return Resource.from_body("backups", body)


def children(
    *backups: Resource, now: datetime, status: BackupScheduleStatus | None = None
) -> tuple[Child, ...]:
    return tuple(children_of(KEY, backups, status or BackupScheduleStatus(), now))


def look(
    desired: ScheduleDesired,
    now: str | datetime,
    *backups: Resource,
    status: BackupScheduleStatus | None = None,
    **seen: Any,
) -> SchedulePlan:
    now = at(now) if isinstance(now, str) else now
    made = children(*backups, now=now, status=status)
    observed = ScheduleObserved(created_at=at("2026-05-01T00:00"), children=made, **seen)
    return plan(desired, observed, status or BackupScheduleStatus(), now)
