"""Volumes as a part of a Backup: which claims its worker mounts, where and as whom; which snapshots are made. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from lucid_storage.errors import LucidError, NotSupportedError, Reason, RefusedError
from lucid_storage.kinds.workers.job import USER, WORKER, ClaimMount, PodIdentity
from lucid_storage.kube.claims import Claim, PersistentVolume, PodUse
from lucid_storage.kube.client import Json
from lucid_storage.kube.snapshots import Snapshot, SnapshotClass
from lucid_storage.models.backup import VolumeMethod
from lucid_storage.models.meta import OWNER_UID_LABEL
from lucid_storage.models.orders import VolumeSnapshot, VolumeSource
from lucid_storage.models.volume import AccessMode, CopyIdentity

SHARED_MODES = frozenset({AccessMode.READ_WRITE_MANY, AccessMode.READ_ONLY_MANY})
"""A claim that pods of several nodes can mount."""


class ClaimNotReadyError(LucidError):
    """The claim cannot be read now; it is looked at again."""

    reason = Reason.CLAIM_NOT_BOUND
    stalled = False


@dataclass(frozen=True, slots=True)
class VolumeFacts:
    """One volume that is wanted, and what the cluster says of it."""

    name: str
    method: VolumeMethod
    claim: Claim | None
    volume: PersistentVolume | None = None
    copy: CopyIdentity | None = None
    """Of the Volume resource, where there is one."""
    users: tuple[PodUse, ...] = ()
    """Pods that have the claim, without our own workers."""
    snapshot: Snapshot | None = None


@dataclass(frozen=True, slots=True)
class WantedSnapshot:
    """A snapshot that is made, or waited for."""

    name: str
    claim: str
    class_name: str
    there: bool
    taken: bool = False
    """The storage has the state of the volume, and is not done with it."""


@dataclass(frozen=True, slots=True)
class VolumesReading:
    """What a worker needs to read the volumes of one backup."""

    sources: tuple[VolumeSource, ...] = ()
    mounts: tuple[ClaimMount, ...] = ()
    node: str | None = None
    identity: PodIdentity = WORKER
    waiting: tuple[WantedSnapshot, ...] = ()
    """Snapshots that are not ready yet: the worker begins after them."""


NONE = VolumesReading()


def snapshot_name(uid: str, volume: str) -> str:
    """Of the one snapshot of a volume that a Backup makes: computed, so that a second attempt finds the first one's."""
    return f"lucid-{hashlib.sha256(f'{uid}/{volume}'.encode()).hexdigest()[:20]}"


def reading(
    uid: str, facts: Sequence[VolumeFacts], classes: Sequence[SnapshotClass], *, onto_claim: str | None
) -> VolumesReading:
    """`onto_claim` is the claim that the backup is written to. Raises LucidError with what to change."""
    sources, mounts, nodes, waiting = [], [], {}, []
    read = []
    for one in facts:
        claim = _readable(one)
        if claim.name == onto_claim:
            raise RefusedError(
                f'The volume "{one.name}" is the place that the backup is written to; leave it out of spec.volumes.',
                reason=Reason.INVALID_SPEC,
            )
        if one.method is VolumeMethod.SNAPSHOT:
            source, wanted = _by_snapshot(uid, one, claim, classes)
            sources += [source] if source is not None else []
            waiting += [wanted] if wanted is not None else []
            continue
        read.append(one)
        sources.append(_source(one, claim))
        mounts.append(ClaimMount(claim.name, one.name))
        node = _node(one, claim)
        if node is not None:
            nodes[node] = one.name
    if len(nodes) > 1:
        raise RefusedError(
            f"The volumes {_and(sorted(nodes.values()))} are in use on different nodes, and one worker reads them all;"
            " make a Backup for each.",
            reason=Reason.CLAIM_IN_USE,
        )
    return VolumesReading(
        sources=tuple(sources),
        mounts=tuple(mounts),
        node=next(iter(nodes), None),
        identity=_identity(read, onto_claim=onto_claim),
        waiting=tuple(waiting),
    )


def snapshot_body(namespace: str, uid: str, wanted: WantedSnapshot, owner: Json) -> Json:
    """A VolumeSnapshot as it is sent to the API server. It goes with `owner`, the Backup, until it is one's data."""
    return {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": {
            "name": wanted.name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/name": "lucid-storage", OWNER_UID_LABEL: uid},
            "ownerReferences": [owner],
        },
        "spec": {
            "volumeSnapshotClassName": wanted.class_name,
            "source": {"persistentVolumeClaimName": wanted.claim},
        },
    }


def _readable(one: VolumeFacts) -> Claim:
    claim = one.claim
    if claim is None:
        raise RefusedError(
            f'There is no claim "{one.name}" in this namespace; make a Volume of that name, or leave it out of'
            " spec.volumes.",
            reason=Reason.CLAIM_MISSING,
        )
    if claim.volume_mode != "Filesystem":
        raise NotSupportedError(
            f'The claim "{one.name}" is a raw block device, and only file systems are backed up; leave it out of'
            " spec.volumes, and save it by the means of what writes to it."
        )
    if claim.deleting:
        raise ClaimNotReadyError(
            f'The claim "{one.name}" is being deleted, so no pod can mount it; it is looked at again.'
        )
    if not claim.bound:
        raise ClaimNotReadyError(
            f'The claim "{one.name}" is {claim.phase}, so there is nothing to read; it is looked at again.'
        )
    return claim


def _node(one: VolumeFacts, claim: Claim) -> str | None:
    """The node that the worker must run on: a claim for one node goes where its pod is."""
    if AccessMode.READ_WRITE_ONCE_POD in claim.access_modes and one.users:
        raise RefusedError(
            f'The claim "{one.name}" can be mounted by one pod only, and {one.users[0].name} has it; use method'
            " Snapshot, or stop the pod.",
            reason=Reason.CLAIM_IN_USE,
        )
    if SHARED_MODES.intersection(claim.access_modes):
        return None
    return next((use.node for use in one.users if use.node is not None), None)


def _identity(read: Sequence[VolumeFacts], *, onto_claim: str | None) -> PodIdentity:
    """Who reads: the owner of the files, as spec.copy of the Volume says. One worker is one user."""
    group_of_backups = USER if onto_claim is not None else None
    wanted = {_one_identity(one.copy, group_of_backups): one.name for one in read}
    if len(wanted) > 1:
        raise RefusedError(
            f"The volumes {_and(sorted(wanted.values()))} are to be read as different users (spec.copy), and one worker"
            " is one user; make a Backup for each.",
            reason=Reason.INVALID_SPEC,
        )
    return next(iter(wanted), WORKER)


def _one_identity(copy: CopyIdentity | None, group_of_backups: int | None) -> PodIdentity:
    user, group, fs_group = None, None, None
    if copy is not None:
        user, group, fs_group = copy.run_as_user, copy.run_as_group, copy.fs_group
    user = USER if user is None else user
    group = user if group is None else group
    # Mounts of volumes are read-only, so the kubelet changes no group in them.
    return PodIdentity(user, group, fs_group if fs_group is not None else group_of_backups)


def _by_snapshot(
    uid: str, one: VolumeFacts, claim: Claim, classes: Sequence[SnapshotClass]
) -> tuple[VolumeSource | None, WantedSnapshot | None]:
    """The volume with its snapshot, or the snapshot that it waits for."""
    driver = one.volume.driver if one.volume is not None else None
    fitting = sorted((c for c in classes if c.driver == driver), key=lambda c: (not c.default, c.name))
    if driver is None or not fitting:
        raise NotSupportedError(
            f'The volume "{one.name}" cannot be snapshotted: no VolumeSnapshotClass is there for'
            f" {f'its driver {driver}' if driver else 'its kind of storage, which is no CSI driver'}; use method"
            " Archive."
        )
    snapshot = one.snapshot
    wanted = WantedSnapshot(
        snapshot_name(uid, one.name),
        claim.name,
        fitting[0].name,
        there=snapshot is not None,
        taken=snapshot is not None and snapshot.taken_at is not None,
    )
    if snapshot is None:
        return None, wanted
    if snapshot.labels.get(OWNER_UID_LABEL) != uid:
        raise RefusedError(
            f'A VolumeSnapshot "{snapshot.name}" that is not ours stands in the way; remove it.',
            reason=Reason.CONFLICT,
        )
    if not snapshot.ready:
        if snapshot.error:
            raise LucidError(
                f'The storage could not snapshot the volume "{one.name}": {snapshot.error[:300]}',
                reason=Reason.UNHEALTHY,
            )
        return None, wanted
    taken = VolumeSnapshot(
        name=snapshot.name,
        uid=snapshot.uid,
        class_name=snapshot.class_name,
        driver=driver,
        taken_at=_moment(snapshot),
        size_bytes=snapshot.restore_bytes,
    )
    return _source(one, claim).model_copy(update={"folder": None, "snapshot": taken}), None


def _moment(snapshot: Snapshot) -> datetime:
    if snapshot.taken_at is None:  # drivers must say it (CSI, CreateSnapshotResponse.creation_time)
        raise LucidError(f'The storage does not say when it took the snapshot "{snapshot.name}".')
    return snapshot.taken_at


def _source(one: VolumeFacts, claim: Claim) -> VolumeSource:
    writers = [use for use in one.users if not use.read_only]
    return VolumeSource(
        name=one.name,
        claim=claim.name,
        claim_uid=claim.uid,
        folder=one.name,
        requested_bytes=max(claim.requested, claim.capacity or 0),
        storage_class=claim.class_name,
        access_modes=claim.access_modes,
        in_use=bool(writers),
    )


def _and(names: Sequence[str]) -> str:
    return " and ".join(f'"{name}"' for name in names[:3])
