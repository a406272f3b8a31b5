"""What Kubernetes says of storage, as frozen values with sizes in bytes. Pure.

Bodies of the API server end here: claims, volumes, classes, attachments, the pods that use a claim, nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from lucid_storage.kube.client import Json
from lucid_storage.models.meta import OWNER_UID_LABEL
from lucid_storage.models.quantity import to_bytes

DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
HOSTNAME = "kubernetes.io/hostname"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
PROVISIONER = "volume.kubernetes.io/storage-provisioner"
"""Set when the storage is asked to make a claim; for a class that waits for a pod, when a node was first chosen."""


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
    """Where the pod goes that a claim of a class which waits for one is made for."""
    source: str | None = None
    """Name of the snapshot or claim that its first content comes from."""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    owners: tuple[Json, ...] = ()
    """ownerReferences."""

    @property
    def bound(self) -> bool:
        return self.phase == "Bound"

    @property
    def pending(self) -> bool:
        """No volume is there for it yet, so nothing is in it."""
        return self.phase == "Pending"

    @property
    def being_made(self) -> bool:
        """Its storage was asked for it. One that wants another node takes the chosen one off until there is a next."""
        return self.pending and (self.selected_node is not None or PROVISIONER in self.annotations)


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
    """A pod that has a claim among its volumes."""

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
    ended: bool = False
    """It is over. Kubernetes holds claims for such a pod too, until it is deleted."""


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
        source=(spec.get("dataSource") or spec.get("dataSourceRef") or {}).get("name"),
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
    """A pod's use of claims; None when it uses none, or is over and was on no node."""
    meta, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    ended = status.get("phase") in {"Succeeded", "Failed"}
    if ended and not spec.get("nodeName"):
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
        ended=ended,
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
