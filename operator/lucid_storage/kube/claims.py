"""PersistentVolumeClaims and what surrounds them: volumes, classes, the pods that use a claim, nodes.

Bodies of the API server end here: upwards go frozen values with sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote

from lucid_storage.errors import AccessDeniedError, LucidError, Reason, RefusedError, ServerRefusedError
from lucid_storage.kube.client import Json, Kube, KubeApiError
from lucid_storage.models.meta import GROWN_TO, OWNER_UID_LABEL
from lucid_storage.models.quantity import to_bytes, to_text

CONFLICT, FORBIDDEN, GONE, UNPROCESSABLE = 409, 403, 404, 422
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
HOSTNAME = "kubernetes.io/hostname"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
EVENT_LIMIT = "50"


@dataclass(frozen=True, slots=True)
class Claim:
    """A PersistentVolumeClaim."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    phase: str
    """Pending, Bound or Lost."""
    created: datetime
    class_name: str | None
    volume_name: str | None
    access_modes: tuple[str, ...]
    volume_mode: str
    """Filesystem or Block."""
    requested: int
    """Bytes that it asks for."""
    capacity: int | None
    """Bytes that it has; None until it is bound."""
    deleting: bool = False
    conditions: Mapping[str, str] = field(default_factory=dict)
    """Type -> message of the conditions that are True: Resizing, FileSystemResizePending, ..."""
    resize: str | None = None
    """Where an expansion stands, as status.allocatedResourceStatuses has it; ends in Infeasible when refused."""
    selected_node: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    owners: tuple[Json, ...] = ()
    """ownerReferences."""

    @property
    def bound(self) -> bool:
        return self.phase == "Bound"


@dataclass(frozen=True, slots=True)
class PersistentVolume:
    """A PersistentVolume."""

    name: str
    uid: str
    phase: str
    """Available, Bound, Released, Failed or Pending."""
    reclaim_policy: str
    capacity: int
    class_name: str | None
    source: str
    """What it is made of: csi, hostPath, local, nfs, ..."""
    driver: str | None = None
    """Of a csi volume."""
    claim: tuple[str, str, str] | None = None
    """Namespace, name and UID of the claim that it is for."""
    hostnames: tuple[str, ...] = ()
    """Nodes that it lies on, where it lies on certain ones."""
    deleting: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Class:
    """A StorageClass."""

    name: str
    provisioner: str
    expandable: bool
    immediate: bool
    """False where a volume is made only when a pod needs it (WaitForFirstConsumer)."""
    reclaim_policy: str
    default: bool
    created: str = ""


@dataclass(frozen=True, slots=True)
class PodUse:
    """A pod that has a claim among its volumes and is not over."""

    name: str
    uid: str
    phase: str
    node: str | None
    claims: frozenset[str]
    read_only: bool = False
    """All mounts of claims are read-only."""
    owner_uid: str | None = None
    """UID of our own resource that it works for: such a pod is ours and ends by itself."""
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """A node, as far as volumes need to know it."""

    name: str
    hostname: str
    ready: bool
    since: str = ""
    """When `ready` last changed."""
    address: str | None = None
    port: int = 10250


@dataclass(frozen=True, slots=True)
class Attachment:
    """A volume that is attached to a node, or is to be."""

    volume: str
    node: str
    attached: bool
    error: str = ""


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

    async def expand(self, claim: Claim, size: int) -> None:
        """Ask for a larger size of this very claim; harmless when it is gone. Raises as `create` does."""
        patch = {
            "metadata": {"uid": claim.uid, "annotations": {GROWN_TO: to_text(size)}},
            "spec": {"resources": {"requests": {"storage": to_text(size)}}},
        }
        try:
            await self._kube.patch(claim_path(claim.namespace, claim.name), patch)
        except KubeApiError as error:
            raise _refusal(error, f'The claim "{claim.name}" cannot be expanded') from None

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
            body = await self._kube.get(f"/api/v1/persistentvolumes/{quote(name)}")
        return volume_of(body) if body is not None else None

    async def classes(self) -> dict[str, Class]:
        """All storage classes, by name. There are few."""
        with _reading("StorageClasses"):
            found = await self._kube.request("GET", "/apis/storage.k8s.io/v1/storageclasses")
        return {body["metadata"]["name"]: class_of(body) for body in found.get("items") or []}

    async def pods(self, namespace: str) -> list[PodUse]:
        """The pods of a namespace that use claims and are not over."""
        found = await self._all("Pods", f"/api/v1/namespaces/{quote(namespace)}/pods")
        return [use for body in found if (use := pod_use(body)) is not None]

    async def nodes(self) -> list[Node]:
        return [node_of(body) for body in await self._all("Nodes", "/api/v1/nodes")]

    async def attachments(self) -> list[Attachment]:
        found = await self._all("VolumeAttachments", "/apis/storage.k8s.io/v1/volumeattachments")
        return [a for body in found if (a := attachment_of(body)) is not None]

    async def last_warning(self, claim: Claim) -> str:
        """What the last Warning about a claim says; empty when there is none."""
        selector = f"involvedObject.uid={claim.uid},type=Warning"
        path = f"/api/v1/namespaces/{quote(claim.namespace)}/events"
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
    base = f"/api/v1/namespaces/{quote(namespace)}/persistentvolumeclaims"
    return base if name is None else f"{base}/{quote(name)}"


def claim_of(body: Json) -> Claim:
    """A PersistentVolumeClaim as the API server has it."""
    meta, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    capacity = (status.get("capacity") or {}).get("storage")
    annotations = meta.get("annotations") or {}
    return Claim(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        resource_version=str(meta.get("resourceVersion") or ""),
        phase=str(status.get("phase") or "Pending"),
        created=datetime.fromisoformat(meta["creationTimestamp"]),
        class_name=spec.get("storageClassName"),
        volume_name=spec.get("volumeName") or None,
        access_modes=tuple(spec.get("accessModes") or ()),
        volume_mode=str(spec.get("volumeMode") or "Filesystem"),
        requested=to_bytes(spec["resources"]["requests"]["storage"]),
        capacity=to_bytes(capacity) if capacity is not None else None,
        deleting=meta.get("deletionTimestamp") is not None,
        conditions={
            str(c["type"]): str(c.get("message") or "")
            for c in status.get("conditions") or []
            if c.get("status") == "True"
        },
        resize=(status.get("allocatedResourceStatuses") or {}).get("storage"),
        selected_node=annotations.get(SELECTED_NODE),
        labels=meta.get("labels") or {},
        annotations=annotations,
        owners=tuple(meta.get("ownerReferences") or ()),
    )


def volume_of(body: Json) -> PersistentVolume:
    """A PersistentVolume as the API server has it."""
    meta, spec, status = body["metadata"], body["spec"], body.get("status") or {}
    reference = spec.get("claimRef")
    source = next((name for name in _SOURCES if name in spec), "other")
    return PersistentVolume(
        name=meta["name"],
        uid=meta["uid"],
        phase=str(status.get("phase") or "Pending"),
        reclaim_policy=str(spec.get("persistentVolumeReclaimPolicy") or "Retain"),
        capacity=to_bytes((spec.get("capacity") or {}).get("storage", "0")),
        class_name=spec.get("storageClassName") or None,
        source=source,
        driver=(spec.get("csi") or {}).get("driver"),
        claim=(
            (reference.get("namespace", ""), reference.get("name", ""), reference.get("uid", ""))
            if reference
            else None
        ),
        hostnames=_hostnames(spec),
        deleting=meta.get("deletionTimestamp") is not None,
        annotations=meta.get("annotations") or {},
    )


_SOURCES = ("csi", "hostPath", "local", "nfs", "iscsi", "fc", "rbd", "cephfs")


def _hostnames(spec: Json) -> tuple[str, ...]:
    terms = ((spec.get("nodeAffinity") or {}).get("required") or {}).get("nodeSelectorTerms") or []
    names = [
        value
        for term in terms
        for expression in term.get("matchExpressions") or []
        if expression.get("key") == HOSTNAME and expression.get("operator") == "In"
        for value in expression.get("values") or []
    ]
    return tuple(names)


def class_of(body: Json) -> Class:
    """A StorageClass as the API server has it."""
    meta = body["metadata"]
    return Class(
        name=meta["name"],
        provisioner=str(body.get("provisioner") or ""),
        expandable=bool(body.get("allowVolumeExpansion")),
        immediate=body.get("volumeBindingMode") != "WaitForFirstConsumer",
        reclaim_policy=str(body.get("reclaimPolicy") or "Delete"),
        default=(meta.get("annotations") or {}).get(DEFAULT_CLASS) == "true",
        created=str(meta.get("creationTimestamp") or ""),
    )


def pod_use(body: Json) -> PodUse | None:
    """A pod's use of claims; None when it uses none or is over."""
    meta, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    if status.get("phase") in {"Succeeded", "Failed"}:
        return None
    mounts = [_claim_of_volume(meta["name"], v) for v in spec.get("volumes") or []]
    used = [mount for mount in mounts if mount is not None]
    if not used:
        return None
    return PodUse(
        name=meta["name"],
        uid=meta["uid"],
        phase=str(status.get("phase") or "Pending"),
        node=spec.get("nodeName"),
        claims=frozenset(name for name, _ in used),
        read_only=all(read_only for _, read_only in used),
        owner_uid=(meta.get("labels") or {}).get(OWNER_UID_LABEL),
        deleting=meta.get("deletionTimestamp") is not None,
    )


def _claim_of_volume(pod: str, volume: Json) -> tuple[str, bool] | None:
    if "persistentVolumeClaim" in volume:
        source = volume["persistentVolumeClaim"]
        return str(source["claimName"]), bool(source.get("readOnly"))
    if "ephemeral" in volume:  # its claim is named after pod and volume
        return f"{pod}-{volume['name']}", False
    return None


def node_of(body: Json) -> Node:
    """A Node as the API server has it."""
    meta, status = body["metadata"], body.get("status") or {}
    ready: Json = next((c for c in status.get("conditions") or [] if c.get("type") == "Ready"), {})
    addresses = {a["type"]: a["address"] for a in reversed(status.get("addresses") or [])}
    endpoint = (status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}
    return Node(
        name=meta["name"],
        hostname=(meta.get("labels") or {}).get(HOSTNAME, meta["name"]),
        ready=ready.get("status") == "True",
        since=str(ready.get("lastTransitionTime") or ""),
        address=addresses.get("InternalIP") or addresses.get("Hostname"),
        port=int(endpoint.get("Port") or 10250),
    )


def attachment_of(body: Json) -> Attachment | None:
    """A VolumeAttachment as the API server has it; None for one of a volume without a PersistentVolume."""
    spec, status = body["spec"], body.get("status") or {}
    volume = (spec.get("source") or {}).get("persistentVolumeName")
    if volume is None:
        return None
    error = status.get("attachError") or status.get("detachError") or {}
    return Attachment(volume, spec["nodeName"], bool(status.get("attached")), str(error.get("message") or ""))


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
