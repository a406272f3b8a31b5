"""The workers that make a Backup and remove its data, with their orders. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from pydantic import ValidationError

from lucid_storage.kinds.backup.desired import BackupDesired, backup_id, job_name, run_id
from lucid_storage.kinds.workers.job import OwnerRef
from lucid_storage.kinds.workers.launch import WorkerRequest
from lucid_storage.models.backupschedule import Retention
from lucid_storage.models.meta import API_VERSION, PROTECTS, RETENTION, SLICING
from lucid_storage.models.orders import BackupOrder, Owner
from lucid_storage.models.pruning import PruneOrder

PRUNE_SECONDS = 1800
ABANDONED_SECONDS = 86_400
ABANDONED_MARGIN_SECONDS = 3600
"""Beyond the deadline of a backup: clocks differ, and a worker takes its time to end."""


def abandoned_seconds(deadline_seconds: int) -> int:
    """How long nothing moves in an upload that no worker can be at any more."""
    return max(ABANDONED_SECONDS, deadline_seconds + ABANDONED_MARGIN_SECONDS)


def backup_request(desired: BackupDesired, cluster: str, identity: str | None) -> WorkerRequest:
    """The worker that makes the backup. `identity` is the MongoDB that was seen."""
    resource, spec = desired.resource, desired.spec
    order = BackupOrder(
        run=run_id(resource.uid),
        owner=_owner(desired, cluster),
        destination=desired.place.destination,
        chain=desired.chain,
        key_id=desired.key_id,
        compression=desired.compression,
        deadline_seconds=desired.deadline_seconds,
        id=backup_id(resource.uid),
        type=spec.type,
        scheduled=desired.schedule is not None,
        may_dump=desired.dumps,
        look_only=desired.looks,
        engines=desired.engines,
        server_identity=identity,
        refuse_nothing=desired.schedule is None and PROTECTS not in resource.annotations,
        database_patterns=desired.database_patterns,
        index_patterns=desired.index_patterns,
        mongodb=spec.mongodb,
        elasticsearch=spec.elasticsearch,
        volumes=desired.volumes.sources,
        verify=spec.verify,
        retention=_rules(resource.annotations.get(RETENTION)),
        retention_days=desired.retention_days,
        slicing=resource.annotations.get(SLICING) == "true",
    )
    made = "full" if desired.becomes_full else "backup"
    work = "look" if desired.looks else made
    return replace(
        _request(desired, "backup", job_name(resource, work), order),
        mounts=desired.volumes.mounts,
        node=desired.volumes.node,
        identity=desired.volumes.identity,
    )


def prune_request(
    desired: BackupDesired,
    cluster: str,
    *,
    discard: bool,
    known_id: str,
    ruled: bool = False,
    unfinished: bool = False,
    due: datetime | None = None,
    has_data: bool = False,
    by_hand: tuple[str, ...] = (),
) -> WorkerRequest:
    """The worker that removes the backup's data; with `discard` also what a stopped run left without a manifest, with
    `unfinished` nothing but that, and with `ruled` only if no rule of its schedule keeps them. `due` is when their days
    were over, where that is why. `has_data` says that they are there: a place without them is another one. `by_hand`
    are the other Backups of the chain that say themselves how long theirs are kept.
    """
    resource = desired.resource
    order = PruneOrder(
        run=run_id(resource.uid),
        owner=_owner(desired, cluster),
        destination=desired.place.destination,
        chain=desired.chain,
        key_id=desired.key_id,
        deadline_seconds=PRUNE_SECONDS,
        remove=() if ruled or unfinished else (known_id,),
        expire=(known_id,) if ruled else (),
        due=due,
        discard=(known_id,) if discard else (),
        known=(known_id,) if has_data else (),
        by_hand=by_hand,
        abandoned_seconds=abandoned_seconds(desired.deadline_seconds),
    )
    return _request(desired, "prune", job_name(resource, "prune"), order)


def _request(
    desired: BackupDesired, command: str, name: str, order: BackupOrder | PruneOrder
) -> WorkerRequest:
    key = desired.resource.key
    return WorkerRequest(
        command=command,
        name=name,
        owner=OwnerRef("Backup", API_VERSION, key.namespace, key.name, desired.resource.uid),
        order=order,
        connection=desired.connection,
        place=desired.place,
        keys_secret=desired.keys_secret,
    )


def _owner(desired: BackupDesired, cluster: str) -> Owner:
    key = desired.resource.key
    return Owner(
        cluster=cluster,
        namespace=key.namespace,
        name=key.name,
        uid=desired.resource.uid,
        spec_hash=desired.spec_hash,
        schedule=desired.schedule,
        slot=desired.slot,
    )


def _rules(text: str | None) -> dict[str, int] | None:
    """The retention of the schedule, which the manifest keeps for the time when the schedule is gone."""
    try:
        rules = Retention.model_validate_json(text) if text else None
    except ValidationError:
        return None  # written by somebody else: the schedule itself is asked as long as it is there
    found: dict[str, int] | None = rules.model_dump(by_alias=True, exclude_none=True) if rules else None
    return found
