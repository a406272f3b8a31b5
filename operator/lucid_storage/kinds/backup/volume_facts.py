"""What the cluster says of the volumes of a Backup, and the snapshots that it makes of them."""

from __future__ import annotations

from collections.abc import Callable

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
from lucid_storage.kube.claims import Claims
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.kube.snapshots import Snapshots
from lucid_storage.models.backup import BackupEngine, VolumeMethod
from lucid_storage.models.meta import API_VERSION
from lucid_storage.models.volume import CopyIdentity, VolumeSpec


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


def copy_identity(find: Callable[[Key], Resource | None], namespace: str, name: str) -> CopyIdentity | None:
    """Who may read and write the files, where a Volume of the name says it."""
    resource = find(Key("volumes", namespace, name))
    if resource is None:
        return None
    try:
        return VolumeSpec.model_validate(resource.spec).copy_identity
    except ValidationError:
        return None
