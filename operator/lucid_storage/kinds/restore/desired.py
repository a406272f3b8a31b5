"""What a Restore asks for, with its defaults resolved. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid5

from pydantic import ValidationError

from lucid_storage.errors import NotAllowedError, Reason, RefusedError
from lucid_storage.kinds.backup.desired import MANUAL_CHAIN, NAME_CHARACTERS, check_beside
from lucid_storage.kinds.backup.results import FINISHED
from lucid_storage.kinds.protection import Need
from lucid_storage.kinds.restore.volumes import NOTHING, Filling, asked
from lucid_storage.kinds.workers.job import OwnerRef
from lucid_storage.kinds.workers.launch import WorkerRequest
from lucid_storage.kinds.workers.place import Place, resolve_place
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.backup import BackupEngine, BackupPhase, BackupSpec, BackupTemplate
from lucid_storage.models.meta import API_VERSION, RUN_AGAIN, SCHEDULE
from lucid_storage.models.orders import Owner, RestoreOrder
from lucid_storage.models.restore import RestorePlan, RestoreSpec, RestoreStatus, Strategy
from lucid_storage.models.settings import Settings
from lucid_storage.models.storage import Encryption, Storage

ASKED_CHARACTERS = 253
"""Of the annotation's value; status has no room for more."""
_IDS = UUID("5b8e2a54-90d4-4c0e-8a55-6b7b9c8f3c11")
"""Namespace of our UUIDs: ids are computed, so that a second attempt finds the first one's work."""


@dataclass(frozen=True, slots=True)
class RestoreDesired:
    """A Restore that can be carried out."""

    resource: Resource
    spec: RestoreSpec
    backup_id: str
    shown: str
    """The backup as people know it."""
    chain: str
    elsewhere: bool
    place: Place
    keys_secret: str | None
    key_id: str | None
    engines: tuple[BackupEngine, ...]
    database_patterns: tuple[str, ...]
    index_patterns: tuple[str, ...]
    key_patterns: tuple[str, ...]
    deadline_seconds: int
    sliced: tuple[str, ...] = ()
    """Chains whose slices follow the target into the same place."""
    like: BackupTemplate | None = None
    """Place and key of the Backup that backupBefore asks for: those of the backup that is restored."""

    @property
    def mongodb(self) -> bool:
        """Whether MongoDB is restored."""
        return BackupEngine.MONGODB in self.engines

    @property
    def connection(self) -> str | None:
        return self.spec.connection.secret_name if self.spec.connection else None


def again(resource: Resource) -> str:
    """The value of the annotation that asks for another run; empty without it."""
    return resource.annotations.get(RUN_AGAIN, "")[:ASKED_CHARACTERS]


def restore_id(uid: str) -> str:
    """UUID of the restore of one resource."""
    return str(uuid5(_IDS, f"restore/{uid}"))


def run_id(uid: str, asked: str, identity: str | None, asked_at: datetime | None = None) -> str:
    """Id of one run: part of every name that it makes on a server, and another one on another server.

    So whatever a run left on the server that the connection led to before is nobody's on the one of now. `asked_at`
    keeps apart the runs of a value that the annotation has had before: their Jobs and journals may still be there.
    """
    again_at = f"/{asked_at:%Y-%m-%dT%H:%M:%S%z}" if asked_at is not None else ""
    return uuid5(_IDS, f"run/{uid}/{asked}/{identity or ''}{again_at}").hex[:12]


def this_run(resource: Resource, status: RestoreStatus, identity: str | None) -> str:
    """Id of the run that is asked for now, on this server."""
    return run_id(resource.uid, again(resource), identity, status.asked_at)


def next_run(
    resource: Resource, status: RestoreStatus, identity: str | None, now: datetime
) -> tuple[str, datetime | None]:
    """Id of the run that begins, and when it was asked for.

    Computed for the first run, so that it is found again without a status. For all later ones the moment in status
    tells, which is written before anything is made: one that takes the place of another run gets a moment of its own.
    """
    run = this_run(resource, status, identity)
    # The status of an operator that knew no such moment names the Job of the run before and nothing else.
    first = status.run is None and (status.asked_at is not None or status.job_name is None)
    if first or status.run == run:
        return run, status.asked_at
    asked_at = next_moment(status, now)
    return run_id(resource.uid, again(resource), identity, asked_at), asked_at


def next_moment(status: RestoreStatus, now: datetime) -> datetime:
    """When a run is asked for, in whole seconds; later than of the run before, whatever the clock says."""
    moment = now.replace(microsecond=0)
    return moment if status.asked_at is None else max(moment, status.asked_at + timedelta(seconds=1))


def job_name(resource: Resource, work: str, run: str) -> str:
    """Name of the Job of one run."""
    stem = resource.key.name[:NAME_CHARACTERS].rstrip("-.").replace(".", "-")
    return f"{stem}-{work}-{run[:8]}"


def spec_hash(spec: RestoreSpec) -> str:
    """Of what cannot be changed. Defaults are left out, so that a new field of a later version changes nothing."""
    document = spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    document.pop("cancel", None)
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def restored_backup(
    resource: Resource, spec: RestoreSpec, find: Callable[[Key], Resource | None]
) -> tuple[Resource, BackupSpec] | None:
    """The Backup that is named, and its spec; None when there is none that can be read."""
    found = find(Key("backups", resource.key.namespace, spec.backup_name)) if spec.backup_name else None
    if found is None:
        return None
    try:
        return found, BackupSpec.model_validate(found.spec)
    except ValidationError:
        return None


def resolve(
    resource: Resource, spec: RestoreSpec, settings: Settings, backup: tuple[Resource, BackupSpec] | None
) -> RestoreDesired:
    """`backup` is the Backup that backupName names, if it is there. Raises RefusedError and NotAllowedError."""
    namespace = resource.key.namespace
    connection = spec.connection.secret_name if spec.connection else None
    if BackupEngine.VOLUMES in (spec.engines or ()):
        asked(spec.volumes)
        check_beside(settings, namespace, connection)
    if spec.users_and_roles and connection is None and namespace != settings.operator_namespace:
        raise NotAllowedError(
            "usersAndRoles with the operator's own credentials is for Restores in the operator's namespace only, since"
            " users of a backup may have more rights than this namespace: name a Secret of this namespace in"
            " spec.connection.secretName, or leave usersAndRoles out.",
            reason=Reason.INVALID_SPEC,
        )
    served = settings.served(namespace) if connection is None else None
    storage: Storage | None
    if spec.source is not None:
        backup_id, shown, chain = spec.source.id, spec.source.id, MANUAL_CHAIN
        storage, encryption = spec.source.storage, spec.source.encryption
    else:
        if backup is None:
            raise RefusedError(
                f'There is no Backup "{spec.backup_name}" in this namespace; name one that is there, or use'
                " spec.source with the backup's id.",
                reason=Reason.RESTORE_BLOCKED,
            )
        found, backup_spec = backup
        identity = found.status.get("id")
        if not isinstance(identity, str) or found.status.get("manifestSha256") is None:
            phase = found.status.get("phase") or BackupPhase.PENDING
            said = (
                f"has ended without data (its phase is {phase}); name another one in a new Restore."
                if phase in FINISHED
                else f"holds no data yet (its phase is {phase}); wait until it is Completed, or name another one."
            )
            raise RefusedError(f'The Backup "{found.key.name}" {said}', reason=Reason.RESTORE_BLOCKED)
        backup_id, shown = identity, found.key.name
        chain = str(
            found.status.get("chain") or backup_spec.chain or found.annotations.get(SCHEDULE) or MANUAL_CHAIN
        )
        storage, encryption = backup_spec.storage, backup_spec.encryption
    return RestoreDesired(
        resource=resource,
        spec=spec,
        backup_id=backup_id,
        shown=shown,
        chain=chain,
        elsewhere=spec.source is not None,
        place=resolve_place(storage, settings, namespace, connection),
        keys_secret=encryption.secret_name if encryption else None,
        key_id=encryption.key_id if encryption else None,
        engines=tuple(spec.engines) if spec.engines else (BackupEngine.MONGODB,),
        database_patterns=served.databases if served is not None else ("*",),
        index_patterns=served.indices if served is not None else ("*",),
        key_patterns=served.keys if served is not None else ("*",),
        deadline_seconds=settings.backup_deadline_seconds,
        like=_like(storage, encryption) if spec.source is None else None,
    )


def _like(storage: Storage | None, encryption: Encryption | None) -> BackupTemplate:
    """Only what is given: what is left out is the operator's to say."""
    given = {"storage": storage, "encryption": encryption}
    return BackupTemplate.model_validate(
        {field: value for field, value in given.items() if value is not None}
    )


def backup_needs(
    desired: RestoreDesired, databases: Sequence[str], planned: RestorePlan | None
) -> tuple[Need, ...]:
    """What the restore could overwrite, as its plan says; nothing of a store where it overwrites nothing."""
    needs = []
    for engine in desired.engines:
        if engine is BackupEngine.MONGODB and databases:
            needs.append(Need(engine, databases=tuple(databases)))
        elif engine is BackupEngine.REDIS:
            needs.append(Need(engine))
        elif engine is BackupEngine.ELASTICSEARCH:
            indices = _overwritten(desired.spec, planned)
            needs += [Need(engine, indices=indices)] if indices is not None else []
    return tuple(needs)


def _overwritten(spec: RestoreSpec, planned: RestorePlan | None) -> tuple[str, ...] | None:
    """Indices; an empty tuple means all, None means none. A backup refuses names of indices that are not there."""
    chosen = spec.elasticsearch
    if chosen is None or chosen.indices is None or chosen.rename_to is not None:
        return ()
    if any("*" in name for name in chosen.indices) or planned is None:
        return ()
    targets = planned.targets or []
    if len(targets) < (planned.target_count or 0):
        return ()  # not all of them are told
    there = {target.target for target in targets if target.overwrites}
    return tuple(name for name in chosen.indices if name in there) or None


def wants_backup(spec: Mapping[str, object]) -> bool:
    """Of the raw spec. InPlace is protected unless that is declined: it has nothing to go back to."""
    asked = spec.get("backupBefore")
    return bool(asked) if asked is not None else spec.get("strategy") == Strategy.IN_PLACE


def backup_name(resource: Resource, run: str) -> str:
    """Of the Backup before one run."""
    return f"{resource.key.name[:NAME_CHARACTERS].rstrip('-.')}-before-{run[:8]}"


def worker_request(
    desired: RestoreDesired,
    run: str,
    cluster: str,
    identity: str | None,
    *,
    run_again: str,
    plan_only: bool,
    filling: Filling = NOTHING,
) -> WorkerRequest:
    """The worker that plans, or that stages. `filling` are the volumes of the latter.

    `run_again` is the value that asked for the run: the annotation may have another one by now.
    """
    resource, spec, key = desired.resource, desired.spec, desired.resource.key
    order = RestoreOrder(
        run=run,
        owner=Owner(
            cluster=cluster,
            namespace=key.namespace,
            name=key.name,
            uid=resource.uid,
            spec_hash=spec_hash(spec),
        ),
        destination=desired.place.destination,
        chain=desired.chain,
        deadline_seconds=desired.deadline_seconds,
        backup_id=desired.backup_id,
        elsewhere=desired.elsewhere,
        only_namespace=key.namespace if desired.place.shared else None,
        point_in_time=spec.point_in_time,
        plan_only=plan_only,
        count_expiring=plan_only and spec.dry_run,
        sliced=desired.sliced,
        run_again=run_again,
        in_place=spec.strategy is Strategy.IN_PLACE,
        engines=desired.engines,
        server_identity=identity,
        database_patterns=desired.database_patterns,
        index_patterns=desired.index_patterns,
        key_patterns=desired.key_patterns,
        source_database=spec.source_database,
        target_database=spec.target_database,
        collections=tuple(spec.collections or ()),
        drop_existing=spec.drop_existing,
        allow_unknown_space=spec.allow_unknown_space,
        users_and_roles=spec.users_and_roles,
        redis=spec.redis,
        elasticsearch=spec.elasticsearch,
        volumes=asked(spec.volumes) if plan_only else filling.targets,
    )
    return WorkerRequest(
        command="restore",
        name=job_name(resource, "plan" if plan_only else "restore", run),
        owner=OwnerRef("Restore", API_VERSION, key.namespace, key.name, resource.uid),
        order=order,
        connection=desired.connection,
        place=desired.place,
        keys_secret=desired.keys_secret,
        mounts=filling.mounts,
        identity=filling.identity,
    )
