"""What a BackupSchedule asks for, with its defaults resolved. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid5

from lucid_storage.errors import LucidError
from lucid_storage.kinds import specs
from lucid_storage.kinds.backup.requests import abandoned_seconds
from lucid_storage.kinds.backupschedule.cron import Cron
from lucid_storage.kinds.workers.job import OwnerRef
from lucid_storage.kinds.workers.launch import WorkerRequest
from lucid_storage.kinds.workers.place import Place, resolve_place
from lucid_storage.kube.client import Json
from lucid_storage.kube.resources import Resource
from lucid_storage.models.backup import BackupType, Verify
from lucid_storage.models.backupschedule import BackupScheduleSpec
from lucid_storage.models.meta import API_VERSION, RETENTION, SCHEDULE, SLICING, SLOT
from lucid_storage.models.orders import Owner
from lucid_storage.models.pruning import PruneOrder
from lucid_storage.models.settings import Settings
from lucid_storage.models.storage import Compression, CompressionAlgorithm

FULL_EVERY = 7
"""Where the template is not full and nothing is given."""
PRUNE_SECONDS = 3600
NAME_CHARACTERS = 40
"""Of the schedule's name that a Job's name has room for."""
_RUNS = UUID("0d9d3f6e-4b0e-4a54-9a55-0a4a3a1f4d11")
"""Namespace of our UUIDs: ids are computed, so that a second attempt finds the first one's work."""


@dataclass(frozen=True, slots=True)
class ScheduleDesired:
    """A schedule that can be followed."""

    resource: Resource
    spec: BackupScheduleSpec
    cron: Cron
    chain: str
    rules: dict[str, int]
    """Its retention, as the annotation and the orders have it."""
    compression: Compression

    @property
    def name(self) -> str:
        return self.resource.key.name

    @property
    def scheduled_as(self) -> str:
        """What a last slot is about."""
        text = f"{self.spec.schedule} {self.cron.zone_name}"
        return text if len(text) <= 256 else hashlib.sha256(text.encode()).hexdigest()

    @property
    def full_every(self) -> int:
        if self.spec.template.type is BackupType.FULL:
            return 1
        return self.spec.full_every or FULL_EVERY

    @property
    def proof_every(self) -> int | None:
        """Every how many runs a restore proves it; None never does."""
        if self.spec.verify_restore_every is not None:
            return self.spec.verify_restore_every
        return 1 if self.spec.template.verify is Verify.RESTORE else None

    @property
    def starting_deadline(self) -> timedelta | None:
        seconds = self.spec.starting_deadline_seconds
        return timedelta(seconds=seconds) if seconds is not None else None

    @property
    def connection(self) -> str | None:
        template = self.spec.template
        return template.connection.secret_name if template.connection is not None else None

    @property
    def keys_secret(self) -> str | None:
        encryption = self.spec.template.encryption
        return encryption.secret_name if encryption is not None else None

    @property
    def key_id(self) -> str | None:
        encryption = self.spec.template.encryption
        return encryption.key_id if encryption is not None else None


def resolve(resource: Resource, settings: Settings) -> ScheduleDesired:
    """Raises RefusedError with what to change."""
    spec = specs.parse(BackupScheduleSpec, resource)
    return ScheduleDesired(
        resource,
        spec,
        Cron(spec.schedule, spec.time_zone),
        spec.template.chain or resource.key.name,
        _rules(spec, settings),
        spec.template.compression or Compression(algorithm=CompressionAlgorithm(settings.backup_compression)),
    )


def _rules(spec: BackupScheduleSpec, settings: Settings) -> dict[str, int]:
    if spec.retention is None:
        return {"days": settings.backup_retention_days}
    rules: dict[str, int] = spec.retention.model_dump(by_alias=True, exclude_none=True)
    return rules


def rules_of_chain(
    chain: str, schedules: Iterable[Resource], settings: Settings
) -> dict[str, dict[str, int]]:
    """The rules of all schedules that write one chain. One that cannot be read speaks by its manifests."""
    found: dict[str, dict[str, int]] = {}
    for resource in schedules:
        if resource.deleted is not None:
            continue
        try:
            desired = resolve(resource, settings)
        except LucidError:
            continue
        if desired.chain == chain:
            found[desired.name] = desired.rules
    return found


def place_of(desired: ScheduleDesired, settings: Settings) -> Place:
    """Where its backups lie. Raises RefusedError and NotAllowedError."""
    return resolve_place(
        desired.spec.template.storage, settings, desired.resource.key.namespace, desired.connection
    )


def backup_body(
    desired: ScheduleDesired, name: str, slot: datetime, kind: BackupType, verify: Verify
) -> Json:
    """The Backup of a slot. Without an owner reference: it outlives its schedule."""
    spec = desired.spec.template.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True)
    spec |= {"type": str(kind), "verify": str(verify), "chain": desired.chain}
    slicing = desired.spec.point_in_time
    return {
        "apiVersion": API_VERSION,
        "kind": "Backup",
        "metadata": {
            "name": name,
            "namespace": desired.resource.key.namespace,
            "annotations": {
                SCHEDULE: desired.name,
                SLOT: slot.isoformat(),
                RETENTION: json.dumps(desired.rules, sort_keys=True),
                SLICING: "true" if slicing is not None and slicing.enabled else "false",
            },
        },
        "spec": spec,
    }


def prune_request(
    desired: ScheduleDesired,
    trigger: str,
    *,
    cluster: str,
    place: Place,
    rules: dict[str, dict[str, int]],
    known: tuple[str, ...],
    unrestorable: tuple[str, ...],
    silent: tuple[str, ...],
    by_hand: tuple[str, ...],
    settings: Settings,
) -> WorkerRequest:
    """The worker that applies retention. `trigger` says what it is made for: once for each."""
    resource, key = desired.resource, desired.resource.key
    run = prune_run(resource.uid, trigger)
    order = PruneOrder(
        run=run,
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
        deadline_seconds=PRUNE_SECONDS,
        sweep=True,
        rules=rules,
        default_days=settings.backup_retention_days,
        abandoned_seconds=abandoned_seconds(settings.backup_deadline_seconds),
        time_zone=desired.cron.zone_name,
        known=known,
        unrestorable=unrestorable,
        silent=silent,
        by_hand=by_hand,
    )
    return WorkerRequest(
        command="prune",
        name=prune_job(resource, trigger),
        owner=OwnerRef("BackupSchedule", API_VERSION, key.namespace, key.name, resource.uid),
        order=order,
        connection=desired.connection,
        place=place,
        keys_secret=desired.keys_secret,
    )


def prune_run(uid: str, trigger: str) -> str:
    """Id of the run for a trigger."""
    return uuid5(_RUNS, f"{uid}/{trigger}").hex[:12]


def prune_job(resource: Resource, trigger: str) -> str:
    """Name of the Job for a trigger."""
    stem = resource.key.name[:NAME_CHARACTERS].rstrip("-.").replace(".", "-")
    return f"{stem}-keep-{prune_run(resource.uid, trigger)[:8]}"
