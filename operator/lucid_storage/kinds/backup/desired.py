"""What a Backup asks for, with its defaults resolved. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

from lucid_storage.errors import NotAllowedError, Reason, RefusedError
from lucid_storage.kinds.backup.volumes import NONE, VolumesReading
from lucid_storage.kinds.workers.place import Place, job_namespace, resolve_place
from lucid_storage.kube.resources import Resource
from lucid_storage.models.backup import (
    BackupEngine,
    BackupSpec,
    BackupStatus,
    BackupTemplate,
    BackupType,
    ElasticSelection,
)
from lucid_storage.models.meta import SCHEDULE, SECRET_ALLOWED_LABEL, SLOT
from lucid_storage.models.settings import Settings, StoreSettings
from lucid_storage.models.storage import Compression, CompressionAlgorithm

MANUAL_CHAIN = "manual"
NAME_CHARACTERS = 40
"""Of the resource's name that a Job's name has room for."""
_IDS = UUID("8f1c6f5e-6f0c-4d8e-9f5b-2f0f6f1b7c3a")
"""Namespace of our UUIDs: ids are computed, so that a second attempt finds the first one's work."""


@dataclass(frozen=True, slots=True)
class BackupDesired:
    """A Backup that can be carried out."""

    resource: Resource
    spec: BackupSpec
    chain: str
    engines: tuple[BackupEngine, ...]
    place: Place
    compression: Compression
    retention_days: int | None
    """None for one that a schedule made."""
    schedule: str | None
    slot: datetime | None
    spec_hash: str
    deadline_seconds: int
    database_patterns: tuple[str, ...]
    index_patterns: tuple[str, ...]
    left_out: str = ""
    """What a person may miss, and why it is not in the backup."""
    volumes: VolumesReading = NONE
    """What the cluster says of the volumes; looked up when a worker is to be made."""
    becomes_full: bool = False
    """Its first worker found that nothing else than a full can be made."""
    looks: bool = False
    """Its worker only looks whether it was made before (rule 1.10): that needs neither its volumes nor snapshots."""

    @property
    def dumps(self) -> bool:
        """Whether it needs the deployment for itself."""
        return self.becomes_full or self.spec.type is BackupType.FULL

    @property
    def connection(self) -> str | None:
        return self.spec.connection.secret_name if self.spec.connection else None

    @property
    def keys_secret(self) -> str | None:
        return self.spec.encryption.secret_name if self.spec.encryption else None

    @property
    def key_id(self) -> str | None:
        return self.spec.encryption.key_id if self.spec.encryption else None


def backup_id(uid: str) -> str:
    """UUID of the backup of one resource."""
    return str(uuid5(_IDS, f"backup/{uid}"))


def run_id(uid: str) -> str:
    """Id of its one run."""
    return uuid5(_IDS, f"run/{uid}").hex[:12]


def job_name(resource: Resource, work: str) -> str:
    """Name of the Job that does a piece of work for a resource."""
    return f"{resource.key.name[:NAME_CHARACTERS].rstrip('-.').replace('.', '-')}-{work}-{run_id(resource.uid)[:8]}"


def resolve(resource: Resource, spec: BackupSpec, settings: Settings, stores: StoreSettings) -> BackupDesired:
    """`stores` are the credentials in use. Raises RefusedError and NotAllowedError."""
    namespace, connection = resource.key.namespace, spec.connection.secret_name if spec.connection else None
    schedule = _schedule(resource.annotations.get(SCHEDULE))
    engines, left_out = _engines(spec, settings, namespace, connection, stores)
    served = settings.served(namespace) if connection is None else None
    _check_selection(spec, settings, namespace, connection)
    if BackupEngine.VOLUMES in engines:
        check_beside(settings, namespace, connection)
    return BackupDesired(
        resource=resource,
        spec=spec,
        chain=spec.chain or schedule or MANUAL_CHAIN,
        engines=engines,
        place=resolve_place(spec.storage, settings, namespace, connection),
        compression=spec.compression
        or Compression(algorithm=CompressionAlgorithm(settings.backup_compression)),
        retention_days=None if schedule else spec.retention_days or settings.backup_retention_days,
        schedule=schedule,
        slot=_slot(resource.annotations.get(SLOT)),
        spec_hash=spec_hash(spec),
        deadline_seconds=settings.backup_deadline_seconds,
        database_patterns=served.databases if served is not None else ("*",),
        index_patterns=served.indices if served is not None else ("*",),
        left_out=left_out,
    )


def check_template(spec: BackupTemplate, settings: Settings, namespace: str) -> None:
    """What can be known of a Backup without any of its Secrets. Raises RefusedError and NotAllowedError."""
    connection = spec.connection.secret_name if spec.connection else None
    wanted = tuple(spec.engines) if spec.engines is not None else (BackupEngine.MONGODB,)
    _check_engines(spec, wanted, tuple(BackupEngine))
    _check_selection(spec, settings, namespace, connection)
    if not _whole_redis(settings, namespace, connection):
        _refuse_redis(wanted, namespace)
    if spec.volumes or BackupEngine.VOLUMES in wanted:
        check_beside(settings, namespace, connection)
    resolve_place(spec.storage, settings, namespace, connection)


def becomes_full(desired: BackupDesired, status: BackupStatus) -> bool:
    """Status knows it from the moment when the first worker said so."""
    return desired.spec.type is not BackupType.FULL and status.type is BackupType.FULL


def look_name(resource: Resource) -> str:
    """Name of the Job that only looks."""
    return job_name(resource, "look")


def spec_hash(spec: BackupSpec) -> str:
    """Of what cannot be changed. Defaults are left out, so that a new field of a later version changes nothing."""
    document = spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    for changeable in ("cancel", "deletionPolicy", "retentionDays"):
        document.pop(changeable, None)
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _engines(
    spec: BackupSpec, settings: Settings, namespace: str, connection: str | None, stores: StoreSettings
) -> tuple[tuple[BackupEngine, ...], str]:
    configured = tuple(_configured(stores))
    whole_redis = _whole_redis(settings, namespace, connection)
    if spec.engines is None:
        wanted = configured if spec.type is BackupType.FULL else (BackupEngine.MONGODB,)
        if spec.volumes:
            wanted = (*wanted, BackupEngine.VOLUMES)
        left_out = ""
        if BackupEngine.REDIS in wanted and not whole_redis:
            wanted = tuple(e for e in wanted if e is not BackupEngine.REDIS)
            left_out = (
                "Redis is not in it: a backup holds all its keys, and this namespace may use only some."
            )
    else:
        wanted, left_out = tuple(spec.engines), ""
        if not whole_redis:
            _refuse_redis(wanted, namespace)
    _check_engines(spec, wanted, configured)
    return wanted, left_out


def _whole_redis(settings: Settings, namespace: str, connection: str | None) -> bool:
    """Whether the namespace may read all keys with the credentials in use."""
    served = settings.served(namespace) if connection is None else None
    return served is None or served.allows_keys("*")


def _refuse_redis(wanted: tuple[BackupEngine, ...], namespace: str) -> None:
    if BackupEngine.REDIS in wanted:
        raise NotAllowedError(
            f'A backup of Redis holds all its keys, and the namespace "{namespace}" may use only some of them;'
            " leave redis out of spec.engines.",
            reason=Reason.KEYS_NOT_ALLOWED,
        )


def _check_engines(
    spec: BackupTemplate, wanted: tuple[BackupEngine, ...], configured: tuple[BackupEngine, ...]
) -> None:
    if spec.type is not BackupType.FULL and BackupEngine.MONGODB not in wanted:
        raise RefusedError(
            f"A backup of type {spec.type} follows MongoDB's oplog: name mongodb in spec.engines, or use type full.",
            reason=Reason.INVALID_SPEC,
        )
    if BackupEngine.VOLUMES in wanted and not spec.volumes:
        raise RefusedError(
            "Name the Volumes in spec.volumes, or leave volumes out of spec.engines.",
            reason=Reason.INVALID_SPEC,
        )
    missing = [e for e in wanted if e is not BackupEngine.VOLUMES and e not in configured]
    if missing or not wanted:
        named = " and ".join(missing) or "any store"
        raise RefusedError(
            f"No connection to {named} is configured: set it beside the credentials, or name other engines.",
            reason=Reason.NOT_CONFIGURED,
        )


def check_beside(settings: Settings, namespace: str, connection: str | None) -> None:
    """A claim can be mounted in its own namespace only, and there the operator's credentials are never taken.

    Raises NotAllowedError.
    """
    if job_namespace(settings, namespace, connection) != namespace:
        raise NotAllowedError(
            "Volumes are mounted by a Job in this namespace, where the operator's own credentials are never taken: name"
            f' a Secret of this namespace with the label {SECRET_ALLOWED_LABEL}: "true" in spec.connection.secretName,'
            " and a destination with keys of its own in spec.storage.",
            reason=Reason.INVALID_SPEC,
        )


def _configured(stores: StoreSettings) -> Iterator[BackupEngine]:
    if stores.mongodb() is not None:
        yield BackupEngine.MONGODB
    if stores.redis() is not None:
        yield BackupEngine.REDIS
    if stores.elasticsearch() is not None:
        yield BackupEngine.ELASTICSEARCH


def _check_selection(
    spec: BackupTemplate, settings: Settings, namespace: str, connection: str | None
) -> None:
    """What the namespace may not read with the operator's credentials is refused here and not dumped there."""
    served = settings.served(namespace)
    if connection is not None or served is None:
        return
    if spec.mongodb is not None:
        databases = [*(spec.mongodb.databases or ())]
        databases += [name.split(".", 1)[0] for name in spec.mongodb.collections or ()]
        refused = next((d for d in databases if not served.allows(d)), None)
        if refused is not None:
            raise _not_allowed(namespace, f'the database "{refused}"', Reason.DATABASE_NOT_ALLOWED)
    elastic = spec.elasticsearch or ElasticSelection()
    refused = next((i for i in elastic.indices or () if not served.allows_index(i)), None)
    if refused is not None:
        raise _not_allowed(namespace, f'the indices "{refused}"', Reason.INDEX_NOT_ALLOWED)


def _not_allowed(namespace: str, what: str, reason: Reason) -> NotAllowedError:
    return NotAllowedError(
        f'The namespace "{namespace}" may not use {what} with the operator\'s credentials; ask for it in'
        " SERVED_NAMESPACES, or use credentials of its own.",
        reason=reason,
    )


def _schedule(text: str | None) -> str | None:
    """A name, since it becomes a part of paths. What is none was written by somebody else."""
    return text if text is not None and re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", text) else None


def _slot(text: str | None) -> datetime | None:
    try:
        slot = datetime.fromisoformat(text) if text else None
    except ValueError:
        slot = None
    return (
        slot if slot is not None and slot.tzinfo is not None else None
    )  # the annotation was written by somebody else; a slot is only told, never acted on
