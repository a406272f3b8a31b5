"""After a changed shard key: is there a backup that knows it? Pure.

Restores of older backups bring back documents that the new key may place elsewhere, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from lucid_storage.errors import Reason
from lucid_storage.kube.resources import Resource
from lucid_storage.models.backup import BackupEngine, BackupPhase, BackupStatus, BackupType
from lucid_storage.models.meta import BACKED_UP_AT
from lucid_storage.models.shardedcollection import ShardedCollectionStatus

CONDITION = "BackupNeeded"
CLOCKS_DIFFER = timedelta(minutes=1)
"""A backup that began later than now never did: it would count for changes yet to come."""


def still_needed(
    since: datetime,
    target: str,
    identity: str | None,
    backups: Iterable[Resource],
    backed_up_at: str | None,
    now: datetime,
) -> bool:
    """Whether no backup of the collection is known that began after `since`. `backups` are those that may hold it,
    whatever their namespace.
    """
    if backed_up_at is not None:
        said = _moment(backed_up_at)
        if said is not None and since <= said <= now + CLOCKS_DIFFER:
            return False
    return not any(_covers(backup, since, target, identity) for backup in backups)


def said(status: ShardedCollectionStatus) -> str:
    """What to do."""
    since = status.backup_needed_since
    moment = since.strftime("%Y-%m-%dT%H:%M:%SZ") if since else "an unknown time"
    return (
        f"The shard key of {status.target} changed at {moment}, and no backup is known that began later: make one"
        " with what you use for sharded deployments (mongodump through mongos with the balancer stopped, or"
        " snapshots), since the kind Backup does not support them yet, then set the annotation"
        f" {BACKED_UP_AT} to the time at which it began (RFC 3339, with its zone, not in the future)."
    )


def conditions(status: ShardedCollectionStatus, known: Sequence[str]) -> list[tuple[str, bool, Reason, str]]:
    """The condition BackupNeeded; absent as long as the key never changed."""
    if status.backup_needed_since is not None:
        return [(CONDITION, True, Reason.SHARD_KEY_CHANGED, said(status))]
    if CONDITION in known:
        return [(CONDITION, False, Reason.IN_SYNC, "")]
    return []


def _covers(backup: Resource, since: datetime, target: str, identity: str | None) -> bool:
    status = BackupStatus.model_validate(backup.status)
    if status.phase is not BackupPhase.COMPLETED or status.type is not BackupType.FULL:
        return False
    if status.started_at is None or status.started_at < since:
        return False
    if not identity or status.server_identity != identity:
        return False
    engines = backup.spec.get("engines") or [BackupEngine.MONGODB]
    selection = backup.spec.get("mongodb") or {}
    databases, collections = selection.get("databases"), selection.get("collections")
    return (
        BackupEngine.MONGODB in engines
        and (databases is None or target.split(".", 1)[0] in databases)
        and (collections is None or target in collections)
    )


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
