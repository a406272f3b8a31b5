"""The VolumeSnapshots that Backups consist of: whose they are, and how long they stay.

One goes with its Backup until that is a backup; from then on it is data, and goes with the data only (rule 1.9).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from lucid_storage.kinds.backup.desired import backup_id
from lucid_storage.kinds.backup.observed import CLEANING
from lucid_storage.kinds.backup.results import FINISHED
from lucid_storage.kinds.tasks import repeatedly
from lucid_storage.kube.resources import Resource
from lucid_storage.kube.snapshots import Snapshot, Snapshots
from lucid_storage.models.backup import BackupPhase
from lucid_storage.models.meta import OWNER_UID_LABEL

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 60.0


class BackupSnapshots:
    """Every call may raise KubeApiError."""

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots

    async def of(self, namespace: str, uid: str | None, known_id: str | None) -> tuple[Snapshot, ...]:
        """Those that the object with a UID made, and those of the backup with an id: an object that Git made again
        has another UID and the backup of the former one.
        """
        there = await self._snapshots.labelled(OWNER_UID_LABEL, namespace)
        return tuple(one for one in there if not one.deleting and made_for(one, uid, known_id))

    async def keep(self, namespace: str, uid: str, known_id: str | None) -> None:
        """Have them outlive their object."""
        for one in await self.of(namespace, uid, known_id):
            if one.owned:
                await self._snapshots.disown(namespace, one.name, one.uid)

    async def drop(self, namespace: str, uid: str | None, known_id: str | None) -> None:
        """Remove them."""
        for one in await self.of(namespace, uid, known_id):
            await self._snapshots.delete(namespace, one.name, one.uid)


def made_for(snapshot: Snapshot, uid: str | None, known_id: str | None) -> bool:
    """Whether a snapshot is of this object or of this backup. Pure."""
    maker = snapshot.labels.get(OWNER_UID_LABEL, "")
    return maker == uid or (known_id is not None and backup_id(maker) == known_id)


class SnapshotSweep:
    """Removes snapshots of Backups that came to nothing, and lets those of others outlive them.

    `find` gives the resource with a UID, as far as it is known.
    """

    def __init__(
        self,
        snapshots: Snapshots,
        namespaces: Sequence[str | None],
        find: Callable[[str], Resource | None],
        *,
        interval: float = SWEEP_SECONDS,
    ) -> None:
        self._snapshots = snapshots
        self._namespaces = namespaces
        self._find = find
        self._interval = interval

    async def run(self) -> None:
        """Sweep until cancelled. The first list of resources must have been made."""
        await repeatedly(self.sweep, self._interval, "Snapshots that nobody needs")

    async def sweep(self) -> None:
        """Look once."""
        for namespace in self._namespaces:
            for snapshot in await self._snapshots.labelled(OWNER_UID_LABEL, namespace):
                owner = self._find(snapshot.labels[OWNER_UID_LABEL])
                if snapshot.deleting:
                    continue
                if outlives(snapshot, owner):
                    await self._snapshots.disown(snapshot.namespace, snapshot.name, snapshot.uid)
                elif needless(owner):
                    logger.info("removing the snapshot %s/%s", snapshot.namespace, snapshot.name)
                    await self._snapshots.delete(snapshot.namespace, snapshot.name, snapshot.uid)


def outlives(snapshot: Snapshot, owner: Resource | None) -> bool:
    """Whether a snapshot is to stay when its Backup is deleted: data outlive their resource. Pure."""
    if owner is None or owner.key.plural != "backups":
        return False
    cancelled = owner.status.get("phase") == BackupPhase.CANCELLED
    stays = cancelled and owner.status.get("retainedBecause") is not None
    return snapshot.owned and owner.deleted is None and (stays or _in_manifest(owner))


def needless(owner: Resource | None) -> bool:
    """Whether a snapshot is of no backup. Pure. One whose Backup is gone is not ours to judge."""
    if owner is None or owner.key.plural != "backups":
        return False
    phase = owner.status.get("phase")
    if phase in (BackupPhase.CANCELLED, BackupPhase.EXPIRED):
        # The data may be there still: one can be cancelled or deleted while something needs them.
        return owner.status.get("progress") != CLEANING and owner.status.get("retainedBecause") is None
    return phase in FINISHED and not _in_manifest(owner)


def _in_manifest(owner: Resource) -> bool:
    """Whether snapshots are data of the backup: one whose volumes failed names none."""
    engines = owner.status.get("engines") or ()
    return owner.status.get("manifestSha256") is not None and any(e.get("inCluster") for e in engines)
