"""PersistentVolumes and claims as a migration moves them: reclaim policies, whose volume it is, who holds a claim.

Each change names the UID of its object, so that it never hits another one of the same name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from lucid_storage.errors import AccessDeniedError
from lucid_storage.kube.claims import claim_path
from lucid_storage.kube.client import Json, Kube, KubeApiError
from lucid_storage.kube.paths import segment
from lucid_storage.models.meta import MIGRATION, MIGRATION_CLAIM_LABEL, MIGRATION_FINALIZER
from lucid_storage.models.quantity import to_bytes

CONFLICT, FORBIDDEN, GONE = 409, 403, 404
RETAIN = "Retain"
IN_USE = "kubernetes.io/pvc-protection"
"""Finalizer of a claim that Kubernetes takes off when no pod that was scheduled uses it
(https://kubernetes.io/docs/concepts/storage/persistent-volumes/#storage-object-in-use-protection)."""


@dataclass(frozen=True, slots=True)
class MovingClaim:
    """A claim of a migration."""

    namespace: str
    name: str
    uid: str
    version: str
    """resourceVersion."""
    phase: str
    volume_name: str | None
    class_name: str | None
    access_modes: tuple[str, ...]
    volume_mode: str
    requested: int
    """Bytes."""
    deleting: bool = False
    finalizers: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    owners: tuple[Json, ...] = ()

    @property
    def held(self) -> bool:
        """Whether our finalizer keeps the name taken."""
        return MIGRATION_FINALIZER in self.finalizers

    @property
    def in_use(self) -> bool:
        """Whether Kubernetes knows of a pod that uses it. Meant for a claim that is being deleted."""
        return IN_USE in self.finalizers


@dataclass(frozen=True, slots=True)
class MovingVolume:
    """A PersistentVolume of a migration."""

    name: str
    uid: str
    version: str
    phase: str
    policy: str
    class_name: str | None
    capacity: int
    claim: tuple[str, str, str] | None
    """Namespace, name and UID ("" while it is only reserved) of the claim that it is for."""
    deleting: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def journal(self) -> str | None:
        return self.annotations.get(MIGRATION)

    def is_for(self, claim: MovingClaim) -> bool:
        """Whether it is bound to this very claim, and the claim to it."""
        return (
            self.claim == (claim.namespace, claim.name, claim.uid)
            and claim.volume_name == self.name
            and claim.phase == "Bound"
        )


@contextmanager
def _changing(what: str) -> Iterator[None]:
    """A conflict changes nothing: the next look decides anew. Raises AccessDeniedError for a right that is missing."""
    try:
        yield
    except KubeApiError as error:
        if error.status == FORBIDDEN:
            raise AccessDeniedError(
                f"The operator may not change {what}, which a migration must; grant it that right"
                f" (docs/privileges.md): {error.message}"
            ) from None
        if error.status != CONFLICT:
            raise


class Volumes:
    """Every call may raise KubeApiError; a change raises AccessDeniedError when a right is missing."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    async def claim(self, namespace: str, name: str) -> MovingClaim | None:
        body = await self._kube.get(claim_path(namespace, name))
        return moving_claim(body) if body is not None else None

    async def volume(self, name: str) -> MovingVolume | None:
        body = await self._kube.get(_path(name))
        return moving_volume(body) if body is not None else None

    async def of_claim(self, digest: str) -> list[MovingVolume]:
        """Those that carry the journal of a migration of this claim."""
        query = {"labelSelector": f"{MIGRATION_CLAIM_LABEL}={digest}"}
        found = await self._kube.request("GET", _path(), query=query)
        return [moving_volume(body) for body in found.get("items") or []]

    async def keep(self, volume: MovingVolume, journal: str, digest: str) -> None:
        """Reclaim policy Retain, and the journal. Not believed until it is read back."""
        await self._change(
            volume,
            {
                "metadata": {
                    "annotations": {MIGRATION: journal},
                    "labels": {MIGRATION_CLAIM_LABEL: digest},
                },
                "spec": {"persistentVolumeReclaimPolicy": RETAIN},
            },
        )

    async def free(self, volume: MovingVolume, policy: str) -> None:
        """The reclaim policy that it had, and no journal."""
        await self._change(
            volume,
            {
                "metadata": {"annotations": {MIGRATION: None}, "labels": {MIGRATION_CLAIM_LABEL: None}},
                "spec": {"persistentVolumeReclaimPolicy": policy},
            },
        )

    async def reserve(self, volume: MovingVolume, namespace: str, claim: str) -> None:
        """Have it wait for the claim of this name; whatever claim it was bound to has it no longer."""
        reference = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": namespace,
            "name": claim,
        }
        clear = {"uid": None, "resourceVersion": None}
        await self._change(volume, {"metadata": {}, "spec": {"claimRef": reference | clear}}, as_seen=True)

    async def hold(self, claim: MovingClaim, run: str) -> None:
        """Put our finalizer on, and the run that it is for."""
        finalizers = [*claim.finalizers, *([] if claim.held else [MIGRATION_FINALIZER])]
        await self._set(claim, {"annotations": {MIGRATION: run}, "finalizers": finalizers})

    async def release(self, claim: MovingClaim) -> None:
        """Take our finalizer off."""
        await self._set(claim, {"finalizers": [f for f in claim.finalizers if f != MIGRATION_FINALIZER]})

    async def describe(
        self, claim: MovingClaim, labels: Mapping[str, str], annotations: Mapping[str, str | None]
    ) -> None:
        """Set labels and annotations of a claim. An annotation that is None is removed."""
        await self._set(claim, {"labels": dict(labels), "annotations": dict(annotations)})

    async def delete(self, claim: MovingClaim) -> None:
        """Delete this very claim; harmless when it is gone."""
        body = {"preconditions": {"uid": claim.uid}}
        try:
            with _changing("PersistentVolumeClaims"):
                await self._kube.request("DELETE", claim_path(claim.namespace, claim.name), body=body)
        except KubeApiError as error:
            if error.status != GONE:
                raise

    async def _set(self, claim: MovingClaim, metadata: Json) -> None:
        """Nothing happens where the claim changed meanwhile: the next look decides anew."""
        seen = {"uid": claim.uid, "resourceVersion": claim.version}
        with _changing("PersistentVolumeClaims"):
            await self._kube.patch(claim_path(claim.namespace, claim.name), {"metadata": seen | metadata})

    async def _change(self, volume: MovingVolume, patch: Json, *, as_seen: bool = False) -> None:
        patch["metadata"]["uid"] = volume.uid
        if as_seen:
            patch["metadata"]["resourceVersion"] = volume.version
        with _changing("PersistentVolumes"):
            await self._kube.patch(_path(volume.name), patch)


def moving_claim(body: Json) -> MovingClaim:
    """A PersistentVolumeClaim as the API server has it."""
    meta, spec, status = body["metadata"], body["spec"], body.get("status") or {}
    return MovingClaim(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        version=meta["resourceVersion"],
        phase=str(status.get("phase") or "Pending"),
        volume_name=spec.get("volumeName") or None,
        class_name=spec.get("storageClassName"),
        access_modes=tuple(spec.get("accessModes") or ()),
        volume_mode=str(spec.get("volumeMode") or "Filesystem"),
        requested=to_bytes(spec["resources"]["requests"]["storage"]),
        deleting=meta.get("deletionTimestamp") is not None,
        finalizers=tuple(meta.get("finalizers") or ()),
        labels=meta.get("labels") or {},
        annotations=meta.get("annotations") or {},
        owners=tuple(meta.get("ownerReferences") or ()),
    )


def moving_volume(body: Json) -> MovingVolume:
    """A PersistentVolume as the API server has it."""
    meta, spec, status = body["metadata"], body["spec"], body.get("status") or {}
    reference = spec.get("claimRef")
    return MovingVolume(
        name=meta["name"],
        uid=meta["uid"],
        version=meta["resourceVersion"],
        phase=str(status.get("phase") or "Pending"),
        policy=str(spec.get("persistentVolumeReclaimPolicy") or RETAIN),
        class_name=spec.get("storageClassName") or None,
        capacity=to_bytes((spec.get("capacity") or {}).get("storage", "0")),
        claim=(
            (reference.get("namespace") or "", reference.get("name") or "", reference.get("uid") or "")
            if reference
            else None
        ),
        deleting=meta.get("deletionTimestamp") is not None,
        annotations=meta.get("annotations") or {},
        labels=meta.get("labels") or {},
    )


def _path(name: str | None = None) -> str:
    base = "/api/v1/persistentvolumes"
    return base if name is None else f"{base}/{segment(name)}"
