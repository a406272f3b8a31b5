"""PersistentVolumeClaims and what surrounds them, read and changed. Bodies become the values of `storage`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from lucid_storage.errors import AccessDeniedError, LucidError, Reason, RefusedError, ServerRefusedError
from lucid_storage.kube.client import Json, Kube, KubeApiError
from lucid_storage.kube.paths import segment
from lucid_storage.kube.storage import (
    Attachment,
    Claim,
    Class,
    Node,
    PersistentVolume,
    PodUse,
    attachment_of,
    claim_of,
    class_of,
    node_of,
    pod_use,
    volume_of,
)
from lucid_storage.models.meta import GROWN_TO
from lucid_storage.models.quantity import to_text

__all__ = ["Attachment", "Claim", "Claims", "Class", "Node", "PersistentVolume", "PodUse", "claim_path"]

CONFLICT, FORBIDDEN, GONE, UNPROCESSABLE = 409, 403, 404, 422
EVENT_LIMIT = "50"


class Claims:
    """Every call raises KubeApiError when the API server refuses or cannot be reached, and a reading one
    AccessDeniedError when the operator's own rights are too few.
    """

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    async def get(self, namespace: str, name: str) -> Claim | None:
        with _reading("PersistentVolumeClaims"):
            body = await self._kube.get(claim_path(namespace, name))
        return claim_of(body) if body is not None else None

    async def create(self, body: Json) -> Claim | None:
        """The claim as it was made; None when there is one of its name.

        Raises RefusedError(QuotaExceeded), AccessDeniedError and ServerRefusedError.
        """
        namespace = body["metadata"]["namespace"]
        try:
            return claim_of(await self._kube.request("POST", claim_path(namespace), body=body))
        except KubeApiError as error:
            if error.status == CONFLICT:
                return None
            raise _refusal(error, f'The claim "{body["metadata"]["name"]}" cannot be made') from None

    async def expand(self, claim: Claim, size: int, *, grown: bool) -> None:
        """Ask for a larger size of this very claim; harmless when it is gone. Raises as `create` does.

        With `grown` it is noted on the claim that nobody declared this size.
        """
        metadata: Json = {"uid": claim.uid}
        if grown:
            metadata["annotations"] = {GROWN_TO: to_text(size)}
        patch = {
            "metadata": metadata,
            "spec": {"resources": {"requests": {"storage": to_text(size)}}},
        }
        try:
            await self._kube.patch(claim_path(claim.namespace, claim.name), patch)
        except KubeApiError as error:
            raise _refusal(error, f'The claim "{claim.name}" cannot be expanded') from None

    async def annotate(self, claim: Claim, annotations: Mapping[str, str]) -> None:
        """Add annotations to this very claim; harmless when it is gone or changed since it was read. Raises as `create`
        does.
        """
        metadata = {
            "uid": claim.uid,
            "resourceVersion": claim.resource_version,
            "annotations": {**annotations},
        }
        try:
            await self._kube.patch(claim_path(claim.namespace, claim.name), {"metadata": metadata})
        except KubeApiError as error:
            if error.status not in (GONE, CONFLICT):
                raise _refusal(error, f'The claim "{claim.name}" cannot be changed') from None

    async def delete(self, claim: Claim, *, as_seen: bool = False) -> None:
        """Delete this very claim; harmless when it is gone or another one has its name. Raises as `create` does.

        With `as_seen` nothing happens either when it changed since it was read.
        """
        preconditions = {"uid": claim.uid}
        if as_seen:
            preconditions["resourceVersion"] = claim.resource_version
        body = {"preconditions": preconditions}
        try:
            await self._kube.request("DELETE", claim_path(claim.namespace, claim.name), body=body)
        except KubeApiError as error:
            if error.status not in (GONE, CONFLICT):
                raise _refusal(error, f'The claim "{claim.name}" cannot be deleted') from None

    async def volume(self, name: str) -> PersistentVolume | None:
        with _reading("PersistentVolumes"):
            body = await self._kube.get(f"/api/v1/persistentvolumes/{segment(name)}")
        return volume_of(body) if body is not None else None

    async def classes(self) -> dict[str, Class]:
        """All storage classes, by name. There are few."""
        with _reading("StorageClasses"):
            found = await self._kube.request("GET", "/apis/storage.k8s.io/v1/storageclasses")
        return {body["metadata"]["name"]: class_of(body) for body in found.get("items") or []}

    async def pods(self, namespace: str, *, ended: bool = False) -> list[PodUse]:
        """The pods of a namespace that use claims; with `ended` those too that are over and not deleted."""
        found = await self._all("Pods", f"/api/v1/namespaces/{segment(namespace)}/pods")
        uses = [use for body in found if (use := pod_use(body)) is not None]
        return [use for use in uses if ended or not use.ended]

    async def nodes(self) -> list[Node]:
        return [node_of(body) for body in await self._all("Nodes", "/api/v1/nodes")]

    async def attachments(self) -> list[Attachment]:
        found = await self._all("VolumeAttachments", "/apis/storage.k8s.io/v1/volumeattachments")
        return [a for body in found if (a := attachment_of(body)) is not None]

    async def last_warning(self, claim: Claim) -> str:
        """What the last Warning about a claim says; empty when there is none."""
        selector = f"involvedObject.uid={claim.uid},type=Warning"
        path = f"/api/v1/namespaces/{segment(claim.namespace)}/events"
        query = {"fieldSelector": selector, "limit": EVENT_LIMIT}
        with _reading("Events"):
            found = await self._kube.request("GET", path, query=query)
        events = found.get("items") or []
        last = max(events, key=_seen_at, default=None)
        return str(last.get("message") or "") if last is not None else ""

    async def _all(self, what: str, path: str) -> list[Json]:
        bodies: list[Json] = []
        with _reading(what):
            async for page in self._kube.pages(path):
                bodies += page
        return bodies


def claim_path(namespace: str, name: str | None = None) -> str:
    """Path of a claim, or of a namespace's list of them."""
    base = f"/api/v1/namespaces/{segment(namespace)}/persistentvolumeclaims"
    return base if name is None else f"{base}/{segment(name)}"


def _seen_at(event: Json) -> str:
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return next((str(t) for t in times if t), "")


@contextmanager
def _reading(what: str) -> Iterator[None]:
    try:
        yield
    except KubeApiError as error:
        if error.status != FORBIDDEN:
            raise
        raise AccessDeniedError(
            f"The operator may not read {what}; give its ServiceAccount the rights of the chart: {error.message}"
        ) from None


def _refusal(error: KubeApiError, what: str) -> LucidError | KubeApiError:
    """What a refusal of the API server means to a person."""
    if error.status == FORBIDDEN and "exceeded quota" in error.message:
        said = error.message.partition("exceeded quota: ")[2] or error.message
        return RefusedError(
            f"{what}: the namespace's quota is used up ({said}). Raise the ResourceQuota or free some of it.",
            reason=Reason.QUOTA_EXCEEDED,
        )
    if error.status == FORBIDDEN and "cannot" in error.message and "User" in error.message:
        return AccessDeniedError(f"{what}: {error.message}")
    if error.status in (FORBIDDEN, UNPROCESSABLE):
        return ServerRefusedError(f"{what}: the API server refused it: {error.message}")
    return error
