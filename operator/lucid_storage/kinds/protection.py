"""backupBefore: a verified Backup of what a change could lose, made before the change.

The Backup is an object like any other: it outlives the change, and people see it. Its name stands in status before it
is made, so that whoever is interrupted finds it again; it serves one change and no later one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import ValidationError

from lucid_storage.errors import LucidError, Reason
from lucid_storage.kube.client import Json, KubeApiError
from lucid_storage.kube.objects import Objects
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.backup import BackupEngine, BackupTemplate
from lucid_storage.models.base import Protection
from lucid_storage.models.meta import API_VERSION, PROTECTS

FRESH = timedelta(days=1)
"""A proof that is older protects from nothing: another Backup is made."""
WATCH_SECONDS = 3.0
"""While the Backup is at work."""
FAILED_SECONDS = 30.0
"""How soon it is noticed that somebody removed a Backup that failed."""
REFUSALS = frozenset({403, 404, 422})
"""No right, a quota, an admission rule, a namespace that is going or gone."""
NAME_CHARACTERS = 40
CHAIN_CHARACTERS = 63


@dataclass(frozen=True, slots=True)
class Need:
    """What a change could lose."""

    engine: BackupEngine
    collections: tuple[str, ...] = ()
    """`<database>.<collection>`; none are all."""
    databases: tuple[str, ...] = ()
    indices: tuple[str, ...] = ()


class Standing(StrEnum):
    """How far the Backup is."""

    ABSENT = "Absent"
    UNDER_WAY = "UnderWay"
    DONE = "Done"
    STALE = "Stale"
    """It was done too long ago."""
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class Seen:
    """The Backup as it stands."""

    standing: Standing
    message: str = ""
    """For people, where it is not done."""


def opened(
    known: Protection | None, resource: Resource, engine: BackupEngine | None = None
) -> Protection | None:
    """The record of a change that has not been made yet; of the given engine, if one is given."""
    if known is None or known.used or known.generation != resource.generation:
        return None
    return known if engine is None or known.engine == engine else None


def begun(resource: Resource, engine: BackupEngine, now: datetime) -> Protection:
    """A new record. The Backup's name is computed from it."""
    since = now.replace(microsecond=0)
    text = f"{resource.uid}/{resource.generation}/{engine}/{since.isoformat()}"
    suffix = hashlib.sha256(text.encode()).hexdigest()[:8]
    name = f"{resource.key.name[:NAME_CHARACTERS].rstrip('-.')}-before-{suffix}"
    return Protection(backup=name, engine=str(engine), generation=resource.generation, since=since)


def chain(key: Key) -> str:
    """Backups of one resource build no chain with others: what they hold differs."""
    text = f"before-{key.plural}-{key.name}"
    if len(text) <= CHAIN_CHARACTERS:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{text[: CHAIN_CHARACTERS - 9].rstrip('-.')}-{digest}"


def backup_body(
    resource: Resource, name: str, needs: Iterable[Need], template: BackupTemplate | None
) -> Json:
    """The Backup. Without an owner reference: it outlives whom it protects. `template` says where to."""
    spec: Json = {"type": "full", "verify": "Checksum", "chain": chain(resource.key)}
    wanted = list(needs)
    spec["engines"] = [str(need.engine) for need in wanted]
    for need in wanted:
        if need.engine is BackupEngine.MONGODB and (need.collections or need.databases):
            chosen = {"collections": list(need.collections), "databases": list(need.databases)}
            spec["mongodb"] = {field: names for field, names in chosen.items() if names}
        if need.engine is BackupEngine.ELASTICSEARCH and need.indices:
            spec["elasticsearch"] = {"indices": list(need.indices)}
    if template is not None:
        given = template.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True)
        spec |= {field: given[field] for field in ("storage", "encryption", "compression") if field in given}
    if resource.secret is not None:
        spec["connection"] = {"secretName": resource.secret}
    return {
        "apiVersion": API_VERSION,
        "kind": "Backup",
        "metadata": {
            "name": name,
            "namespace": resource.key.namespace,
            "annotations": {PROTECTS: resource.uid},
        },
        "spec": spec,
    }


def judge(backup: Json | None, owner_uid: str, now: datetime) -> Seen:
    """What a Backup is worth. Pure."""
    if backup is None:
        return Seen(Standing.ABSENT)
    meta, status = backup["metadata"], backup.get("status") or {}
    name, phase = meta["name"], status.get("phase")
    if (meta.get("annotations") or {}).get(PROTECTS) != owner_uid:
        return Seen(
            Standing.FAILED, f"A Backup named {name} that was made by somebody else stands in the way."
        )
    if meta.get("deletionTimestamp") is not None:
        return Seen(Standing.UNDER_WAY, f"The Backup {name} is being deleted; then another one is made.")
    said = {c["type"]: c for c in status.get("conditions") or []}
    ready = str((said.get("Ready") or {}).get("message") or "")
    if phase == "Completed":
        if (said.get("Verified") or {}).get("status") != "True":
            return Seen(Standing.FAILED, f"The Backup {name} is complete and was not verified.")
        at = datetime.fromisoformat(str(status.get("completedAt")))
        return Seen(Standing.DONE if now - at <= FRESH else Standing.STALE)
    if phase in {"PartiallyFailed", "Failed", "Cancelled", "Expired"}:
        return Seen(Standing.FAILED, f"The Backup {name} is {phase}: {ready}".rstrip(": "))
    waits = f"Waits for the Backup {name}, which backupBefore asks for"
    return Seen(Standing.UNDER_WAY, f"{waits}: {ready}" if ready else f"{waits}.")


class Protector:
    """Makes and reads the Backups. Every call may raise KubeApiError.

    `schedules` are the BackupSchedules that are known: with credentials of the namespace's own, a Backup goes where the
    Backups of such a schedule go.
    """

    def __init__(self, objects: Objects, schedules: Callable[[], Iterable[Resource]]) -> None:
        self._objects = objects
        self._schedules = schedules

    async def seen(self, resource: Resource, name: str, now: datetime) -> Seen:
        """How far the Backup of this name is. Read from the API server: what is remembered may be older."""
        return judge(await self._objects.get(_key(resource, name)), resource.uid, now)

    async def make(
        self,
        resource: Resource,
        name: str,
        needs: Iterable[Need],
        *,
        template: BackupTemplate | None = None,
    ) -> None:
        """Make the Backup, once. Raises LucidError(BackupUnavailable) where that cannot be."""
        template = template or place_of(resource, self._schedules())
        if template is None and resource.secret is not None:
            raise LucidError(
                "backupBefore does not know where to put a backup with credentials of this namespace: make a"
                " BackupSchedule that uses them (its storage and keys are used here too), or make a Backup by hand and"
                " set backupBefore: false.",
                reason=Reason.BACKUP_UNAVAILABLE,
            )
        try:
            await self._objects.create("backups", backup_body(resource, name, needs, template))
        except KubeApiError as error:
            if error.status not in REFUSALS:
                raise
            raise LucidError(
                f'The Backup "{name}" that backupBefore asks for cannot be made: {error.message}',
                reason=Reason.BACKUP_UNAVAILABLE,
            ) from None


def place_of(resource: Resource, schedules: Iterable[Resource]) -> BackupTemplate | None:
    """Of the oldest schedule of the namespace with the same credentials; None where there is none. Pure."""
    for schedule in sorted(schedules, key=lambda s: s.seniority):
        template = schedule.spec.get("template")
        if schedule.key.namespace != resource.key.namespace or schedule.deleted is not None:
            continue
        try:
            found = BackupTemplate.model_validate(template)
        except ValidationError:
            continue
        if (found.connection.secret_name if found.connection else None) == resource.secret:
            return found
    return None


def failed_said(message: str) -> str:
    """What to do about it."""
    return f"{message.rstrip('.')}. Remove it to have another one made, or set backupBefore: false."


def _key(resource: Resource, name: str) -> Key:
    return Key("backups", resource.key.namespace, name)
