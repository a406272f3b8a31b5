"""backupBefore: a verified Backup of what a change could lose, made before the change.

The Backup is an object like any other: it outlives the change, and people see it. Its name stands in status before it
is made, so that whoever is interrupted finds it again; it serves one change and no later one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import ValidationError

from lucid_storage.errors import LucidError, Reason
from lucid_storage.kinds.backup.desired import backup_id
from lucid_storage.kinds.identity import same_server
from lucid_storage.kube.client import Json, KubeApiError
from lucid_storage.kube.objects import Objects
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.backup import (
    BackupEngine,
    BackupPhase,
    BackupSpec,
    BackupStatus,
    BackupTemplate,
    BackupType,
    Verify,
)
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
CLOCKS = timedelta(minutes=1)
"""That the clocks of the operator and of the API server may differ."""
ENDED_BADLY = frozenset(
    {BackupPhase.PARTIALLY_FAILED, BackupPhase.FAILED, BackupPhase.CANCELLED, BackupPhase.EXPIRED}
)
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


@dataclass(frozen=True, slots=True)
class Demand:
    """What a Backup must be to protect from one change."""

    owner: str
    """UID of whom it protects."""
    chain: str
    connection: str | None
    """Secret with the logins that the change is made with."""
    since: datetime
    """When the change was asked for: what was made before protects another one."""
    needs: tuple[Need, ...] = ()
    servers: Mapping[BackupEngine, str] = field(default_factory=dict)
    """Identities of the servers that are about to be changed. Redis has none that is kept."""
    uid: str | None = None
    """Of the Backup, once it was seen: another one of its name is another one."""


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
    uid: str | None = None
    """Of the Backup, where it is ours."""


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


def demand(
    resource: Resource, since: datetime, needs: Iterable[Need], servers: Mapping[BackupEngine, str]
) -> Demand:
    """What the Backup before a change of a resource must be."""
    return Demand(resource.uid, chain(resource.key), resource.secret, since, tuple(needs), servers)


def judge(backup: Json | None, wanted: Demand, now: datetime) -> Seen:
    """What a Backup is worth to whom it is to protect. Pure."""
    if backup is None:
        return Seen(Standing.ABSENT)
    meta = backup["metadata"]
    name, uid = meta["name"], str(meta["uid"])
    if meta.get("deletionTimestamp") is not None:
        return Seen(Standing.UNDER_WAY, f"The Backup {name} is being deleted; then another one is made.")
    try:
        spec = BackupSpec.model_validate(backup.get("spec") or {})
        status = BackupStatus.model_validate(backup.get("status") or {})
    except ValidationError:
        return Seen(Standing.FAILED, f"The Backup {name} cannot be read.")
    foreign = _foreign(meta, spec, wanted)
    if foreign is not None:
        return Seen(
            Standing.FAILED, f"The Backup {name} stands in the way and protects from nothing: {foreign}."
        )
    said = {c.type: c for c in status.conditions or ()}
    ready = said["Ready"].message if "Ready" in said else ""
    if status.phase is BackupPhase.COMPLETED:
        verified = "Verified" in said and said["Verified"].status == "True"
        lacks = _lacks(uid, status, wanted) if verified else "it was not verified"
        if lacks is not None:
            return Seen(
                Standing.FAILED, f"The Backup {name} is complete and protects from nothing: {lacks}.", uid
            )
        moments = [moment for moment in (status.started_at, status.completed_at) if moment is not None]
        return Seen(Standing.DONE if moments and now - max(moments) <= FRESH else Standing.STALE, "", uid)
    if status.phase in ENDED_BADLY:
        return Seen(Standing.FAILED, f"The Backup {name} is {status.phase}: {ready}".rstrip(": "), uid)
    waits = f"Waits for the Backup {name}, which backupBefore asks for"
    return Seen(Standing.UNDER_WAY, f"{waits}: {ready}" if ready else f"{waits}.", uid)


def _foreign(meta: Json, spec: BackupSpec, wanted: Demand) -> str | None:
    """Why a Backup is another one than the one that was asked for, whatever became of it."""
    created = datetime.fromisoformat(str(meta["creationTimestamp"]))
    others = (meta.get("annotations") or {}).get(PROTECTS) != wanted.owner
    if others or (wanted.uid is not None and meta["uid"] != wanted.uid):
        return "somebody else made it"
    if created < wanted.since - CLOCKS:
        return "it is older than what it is to protect from"
    if spec.type is not BackupType.FULL or spec.verify is Verify.UPLOAD:
        return f"it is of the type {spec.type} with the check {spec.verify}, and a full one that is read back is needed"
    if spec.chain != wanted.chain:
        return f"it belongs to the chain {spec.chain}, and not to {wanted.chain}"
    if (spec.connection.secret_name if spec.connection else None) != wanted.connection:
        return "it was made with other credentials"
    return next((why for need in wanted.needs if (why := _left_out(spec, need)) is not None), None)


def _left_out(spec: BackupSpec, need: Need) -> str | None:
    """What of a need a Backup does not ask for."""
    if spec.engines is not None and need.engine not in spec.engines:
        return f"it leaves {need.engine} out"
    if need.engine is BackupEngine.MONGODB and spec.mongodb is not None:
        databases, collections = spec.mongodb.databases, spec.mongodb.collections
        everything = not need.collections and not need.databases
        if (everything and (databases or collections)) or (need.databases and collections):
            return "it holds only some databases or collections"
        for name in (*need.collections, *need.databases):
            chosen = collections is None or name in collections
            if not chosen or (databases is not None and name.split(".", 1)[0] not in databases):
                return f"it leaves {name} out"
    if need.engine is BackupEngine.ELASTICSEARCH and spec.elasticsearch is not None:
        indices = spec.elasticsearch.indices
        if indices is not None and (not need.indices or not set(need.indices) <= set(indices)):
            return "it holds only some indices"
    return None


def _lacks(uid: str, status: BackupStatus, wanted: Demand) -> str | None:
    """What the data of a Backup that is complete lack."""
    if status.id != backup_id(uid):
        return "it shows the data of an earlier Backup of that name"
    taken = {e.engine: e for e in status.engines or () if e.phase is BackupPhase.COMPLETED}
    for need in wanted.needs:
        if need.engine not in taken:
            return f"it holds no {need.engine}"
        server = wanted.servers.get(need.engine)
        read = taken[need.engine].server_identity
        if server is not None and (read is None or not same_server(read, server)):
            return (
                f"it was made of another server ({read or 'unknown'}) than the one that is changed ({server})"
            )
    return None


class Protector:
    """Makes and reads the Backups. Every call may raise KubeApiError.

    `schedules` are the BackupSchedules that are known: with credentials of the namespace's own, a Backup goes where the
    Backups of such a schedule go.
    """

    def __init__(self, objects: Objects, schedules: Callable[[], Iterable[Resource]]) -> None:
        self._objects = objects
        self._schedules = schedules

    async def seen(self, resource: Resource, name: str, wanted: Demand, now: datetime) -> Seen:
        """How far the Backup of this name is. Read from the API server: what is remembered may be older."""
        return judge(await self._objects.get(_key(resource, name)), wanted, now)

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
