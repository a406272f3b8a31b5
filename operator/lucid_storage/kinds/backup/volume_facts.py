"""What the cluster says of the volumes of a Backup, and the snapshots that it makes of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from pydantic import ValidationError

from lucid_storage.kinds.backup.desired import BackupDesired
from lucid_storage.kinds.backup.volumes import (
    NONE,
    VolumeFacts,
    VolumesReading,
    WantedSnapshot,
    reading,
    snapshot_body,
    snapshot_name,
)
from lucid_storage.kinds.tasks import repeatedly
from lucid_storage.kube.claims import Claims
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.kube.snapshots import Snapshot, Snapshots
from lucid_storage.models.backup import BackupEngine, BackupPhase, VolumeMethod
from lucid_storage.models.meta import API_VERSION, OWNER_UID_LABEL, SCHEDULE
from lucid_storage.models.volume import CopyIdentity, VolumeSpec

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 60.0


class BackupVolumes:
    """Every call may raise KubeApiError. `find` gives a resource by its key, as far as it is known."""

    def __init__(self, claims: Claims, snapshots: Snapshots, find: Callable[[Key], Resource | None]) -> None:
        self._claims = claims
        self._snapshots = snapshots
        self._find = find

    async def reading(self, desired: BackupDesired) -> VolumesReading:
        """What the worker needs now. Raises LucidError with what to change."""
        if BackupEngine.VOLUMES not in desired.engines:
            return NONE
        namespace, uid = desired.resource.key.namespace, desired.resource.uid
        pods = await self._claims.pods(namespace)
        facts = []
        for selected in desired.spec.volumes or ():
            claim = await self._claims.get(namespace, selected.name)
            volume = None
            if claim is not None and claim.volume_name is not None:
                volume = await self._claims.volume(claim.volume_name)
            snapshot = None
            if selected.method is VolumeMethod.SNAPSHOT:
                snapshot = await self._snapshots.get(namespace, snapshot_name(uid, selected.name))
            facts.append(
                VolumeFacts(
                    name=selected.name,
                    method=selected.method,
                    claim=claim,
                    volume=volume,
                    copy=copy_identity(self._find, namespace, selected.name),
                    users=tuple(p for p in pods if selected.name in p.claims and p.owner_uid != uid),
                    snapshot=snapshot,
                )
            )
        by_snapshot = any(one.method is VolumeMethod.SNAPSHOT for one in facts)
        classes = await self._snapshots.classes() if by_snapshot else []
        return reading(uid, facts, classes, onto_claim=desired.place.claim)

    async def make(self, resource: Resource, wanted: WantedSnapshot) -> None:
        """Ask for a snapshot, once. Raises AccessDeniedError."""
        key = resource.key
        owner = {"apiVersion": API_VERSION, "kind": "Backup", "name": key.name, "uid": resource.uid}
        await self._snapshots.create(snapshot_body(key.namespace, resource.uid, wanted, owner))

    async def drop(self, namespace: str, uid: str) -> None:
        """Remove all snapshots of one Backup."""
        for snapshot in await self._snapshots.labelled(f"{OWNER_UID_LABEL}={uid}", namespace):
            await self._snapshots.delete(namespace, snapshot.name, snapshot.uid)


def copy_identity(find: Callable[[Key], Resource | None], namespace: str, name: str) -> CopyIdentity | None:
    """Who may read and write the files, where a Volume of the name says it."""
    resource = find(Key("volumes", namespace, name))
    if resource is None:
        return None
    try:
        return VolumeSpec.model_validate(resource.spec).copy_identity
    except ValidationError:
        return None


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
    """Whether a snapshot is to stay when its Backup is deleted: under Retain data outlive their resource. Pure.

    That of a schedule's Backup goes with it, since retention deletes the object after the data.
    """
    if owner is None or owner.key.plural != "backups" or SCHEDULE in owner.annotations:
        return False
    return snapshot.owned and owner.deleted is None and owner.status.get("manifestSha256") is not None


def needless(owner: Resource | None) -> bool:
    """Whether a snapshot is of no backup. Pure. One whose Backup is gone is not ours to judge."""
    if owner is None or owner.key.plural != "backups":
        return False
    phase = owner.status.get("phase")
    if phase in (BackupPhase.CANCELLED, BackupPhase.EXPIRED):
        return True
    return phase == BackupPhase.FAILED and owner.status.get("manifestSha256") is None
