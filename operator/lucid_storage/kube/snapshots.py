"""CSI snapshots of claims: VolumeSnapshots and their classes (https://kubernetes.io/docs/concepts/storage/volume-snapshots/)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from lucid_storage.errors import AccessDeniedError
from lucid_storage.kube.client import Json, Kube, KubeApiError
from lucid_storage.kube.paths import segment
from lucid_storage.models.quantity import to_bytes

CONFLICT, FORBIDDEN, GONE = 409, 403, 404
_BASE = "/apis/snapshot.storage.k8s.io/v1"
_DEFAULT = "snapshot.storage.kubernetes.io/is-default-class"


@dataclass(frozen=True, slots=True)
class SnapshotClass:
    """A VolumeSnapshotClass."""

    name: str
    driver: str
    default: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A VolumeSnapshot."""

    namespace: str
    name: str
    uid: str
    claim: str | None
    class_name: str
    ready: bool
    taken_at: datetime | None
    """When the storage took it."""
    restore_bytes: int
    """Of a claim made from it, at least."""
    error: str
    labels: Mapping[str, str]
    owned: bool = False
    """It goes with another object."""
    deleting: bool = False


class Snapshots:
    """Every call raises KubeApiError when the API server refuses or cannot be reached."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    async def classes(self) -> list[SnapshotClass]:
        """Empty also where the cluster knows no snapshots at all."""
        try:
            found = await self._kube.request("GET", f"{_BASE}/volumesnapshotclasses")
        except KubeApiError as error:
            if error.status == GONE:
                return []
            raise
        return [
            SnapshotClass(
                name=body["metadata"]["name"],
                driver=str(body.get("driver") or ""),
                default=(body["metadata"].get("annotations") or {}).get(_DEFAULT) == "true",
            )
            for body in found.get("items") or []
        ]

    async def get(self, namespace: str, name: str) -> Snapshot | None:
        body = await self._kube.get(snapshot_path(namespace, name))
        return snapshot_of(body) if body is not None else None

    async def create(self, body: Json) -> None:
        """Harmless when there is one of its name. Raises AccessDeniedError."""
        try:
            await self._kube.request("POST", snapshot_path(body["metadata"]["namespace"]), body=body)
        except KubeApiError as error:
            if error.status == FORBIDDEN:
                raise AccessDeniedError(f"The snapshot cannot be made: {error.message}") from None
            if error.status != CONFLICT:
                raise

    async def disown(self, namespace: str, name: str, uid: str) -> None:
        """Have this very snapshot outlive its owner; harmless when it is gone or another one has its name."""
        patch = {"metadata": {"uid": uid, "ownerReferences": None}}
        try:
            await self._kube.patch(snapshot_path(namespace, name), patch)
        except KubeApiError as error:
            if error.status not in (GONE, CONFLICT):
                raise

    async def delete(self, namespace: str, name: str, uid: str) -> None:
        """Delete this very snapshot; harmless when it is gone or another one has its name."""
        try:
            await self._kube.request(
                "DELETE", snapshot_path(namespace, name), body={"preconditions": {"uid": uid}}
            )
        except KubeApiError as error:
            if error.status not in (GONE, CONFLICT):
                raise

    async def labelled(self, label: str, namespace: str | None) -> list[Snapshot]:
        """All with a label; in every namespace with None. Empty where the cluster knows no snapshots."""
        try:
            found = await self._kube.request("GET", snapshot_path(namespace), query={"labelSelector": label})
        except KubeApiError as error:
            if error.status == GONE:
                return []
            raise
        return [snapshot_of(body) for body in found.get("items") or []]


def snapshot_path(namespace: str | None, name: str | None = None) -> str:
    """Path of a snapshot, or of a list of them."""
    base = f"{_BASE}/namespaces/{segment(namespace)}" if namespace is not None else _BASE
    return f"{base}/volumesnapshots" if name is None else f"{base}/volumesnapshots/{segment(name)}"


def snapshot_of(body: Json) -> Snapshot:
    """A VolumeSnapshot as the API server has it."""
    meta, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    taken = status.get("creationTime")
    return Snapshot(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        claim=(spec.get("source") or {}).get("persistentVolumeClaimName"),
        class_name=str(spec.get("volumeSnapshotClassName") or ""),
        ready=bool(status.get("readyToUse")),
        taken_at=datetime.fromisoformat(taken) if taken else None,
        restore_bytes=to_bytes(status["restoreSize"]) if status.get("restoreSize") else 0,
        error=str((status.get("error") or {}).get("message") or ""),
        labels=meta.get("labels") or {},
        owned=bool(meta.get("ownerReferences")),
        deleting=meta.get("deletionTimestamp") is not None,
    )
