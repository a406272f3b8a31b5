"""What a migration makes: its claims and its workers. Pure."""

from __future__ import annotations

from lucid_storage.errors import Reason
from lucid_storage.kinds.volume.migration.journal import Journal
from lucid_storage.kinds.volume.migration.observed import Case
from lucid_storage.kinds.workers.job import USER, ClaimMount, OwnerRef, PodIdentity
from lucid_storage.kinds.workers.launch import NOWHERE, WorkerRequest
from lucid_storage.kube.client import Json
from lucid_storage.kube.volumes import MovingVolume
from lucid_storage.models.meta import (
    API_VERSION,
    MIGRATION,
    OWNER_KIND_LABEL,
    OWNER_NAMESPACE_LABEL,
    OWNER_UID_LABEL,
)
from lucid_storage.models.orders import Owner
from lucid_storage.models.quantity import to_text
from lucid_storage.models.volume import CopyIdentity
from lucid_storage.models.volume_work import VolumeCopyOrder

OLD, NEW = "old", "new"
"""Folders of a worker."""
COMMAND = "volume-copy"


def copy_request(case: Case) -> WorkerRequest:
    """The worker that copies the claim, which is mounted read-only, unless it is as it was at the last copy."""
    names = case.names
    return _request(case, names.copy_job, case.resource.key.name, case.migration.stamp)


def settle_request(case: Case) -> WorkerRequest:
    """The worker that looks, when nobody can write any more, whether anything changed since the copy; and copies it."""
    names = case.names
    return _request(case, names.settle_job, names.keeper, case.migration.stamp)


def identity(copy: CopyIdentity | None) -> PodIdentity:
    """Who copies. Root gets no fsGroup unless one is asked for: it would take the copied files' groups away."""
    if copy is None:
        return PodIdentity()
    user = copy.run_as_user if copy.run_as_user is not None else USER
    group = copy.run_as_group if copy.run_as_group is not None else user
    fallback = None if user == 0 else group
    return PodIdentity(user, group, copy.fs_group if copy.fs_group is not None else fallback)


def new_claim(case: Case, *, volume: str | None = None) -> Json:
    """The claim that the copy is written to; `volume` where its volume was made before."""
    journal, need = case.migration, case.need
    modes = need.access_modes if need is not None else _modes(case)
    return _temporary(
        case, case.names.new_claim, journal.storage_class_name or "", journal.size or "", modes, volume
    )


def keeper_claim(case: Case) -> Json:
    """The claim that will have the old volume once the old claim let it go. It asks for next to nothing, so that a
    quota need not have room for the data three times; where that was refused (a LimitRange has a minimum), for as much
    as the old claim does.
    """
    volume, claim, refusal = case.answer.old_volume, case.answer.claim, case.answer.refusal
    class_name = volume.class_name if volume is not None else None
    more = refusal is not None and refusal.reason is Reason.SERVER_REFUSED and claim is not None
    size = to_text(claim.requested) if more and claim is not None else "1"
    return _temporary(
        case, case.names.keeper, class_name or "", size, _modes(case), case.migration.old_volume
    )


def final_claim(journal: Journal, *, back: MovingVolume | None = None) -> Json:
    """The claim of the old name that has the new volume, as the old one was besides; or the old volume again."""
    class_name, volume, size = journal.class_name, journal.new_volume, journal.size
    if back is not None:
        class_name, volume = back.class_name or "", back.name
        size = journal.old_size or to_text(back.capacity)
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": journal.claim,
            "namespace": journal.namespace,
            "labels": dict(journal.labels),
            "annotations": {**journal.annotations, MIGRATION: journal.run},
            "ownerReferences": [dict(owner) for owner in journal.owners],
        },
        "spec": {
            "accessModes": list(journal.access_modes),
            "storageClassName": class_name,
            "volumeName": volume,
            "resources": {"requests": {"storage": size}},
        },
    }


def wanted_size(case: Case) -> str:
    assert case.need is not None
    return to_text(case.need.size)


def _modes(case: Case) -> tuple[str, ...]:
    for claim in (case.answer.claim, case.answer.new_claim, case.answer.keeper):
        if claim is not None:
            return claim.access_modes
    return ("ReadWriteOnce",)


def _temporary(
    case: Case, name: str, class_name: str, size: str, modes: tuple[str, ...], volume: str | None
) -> Json:
    key = case.resource.key
    owner = {"apiVersion": API_VERSION, "kind": "Volume", "name": key.name, "uid": case.resource.uid}
    spec: Json = {
        "accessModes": list(modes),
        "storageClassName": class_name,
        "resources": {"requests": {"storage": size}},
    }
    if volume is not None:
        spec["volumeName"] = volume
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name,
            "namespace": key.namespace,
            "labels": {
                "app.kubernetes.io/managed-by": "lucid-storage",
                OWNER_KIND_LABEL: "Volume",
                OWNER_NAMESPACE_LABEL: key.namespace,
                OWNER_UID_LABEL: case.resource.uid,
            },
            "annotations": {MIGRATION: case.migration.run},
            "ownerReferences": [owner],
        },
        "spec": spec,
    }


def _request(case: Case, job: str, source: str, known_stamp: str | None) -> WorkerRequest:
    key, run = case.resource.key, case.migration.run
    owner = Owner(
        cluster=case.answer.cluster,
        namespace=key.namespace,
        name=key.name,
        uid=case.resource.uid,
        spec_hash="",
    )
    order = VolumeCopyOrder(
        run=run,
        owner=owner,
        deadline_seconds=case.answer.deadline_seconds,
        source=OLD,
        target=NEW,
        known_stamp=known_stamp,
    )
    return WorkerRequest(
        command=COMMAND,
        name=job,
        owner=OwnerRef("Volume", API_VERSION, key.namespace, key.name, case.resource.uid),
        order=order,
        connection=None,
        place=NOWHERE,
        mounts=(ClaimMount(source, OLD), ClaimMount(case.names.new_claim, NEW, read_only=False)),
        identity=identity(case.desired.copy_identity if case.desired is not None else None),
        beside=True,
    )
