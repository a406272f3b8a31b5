"""The Job of a worker, built from values. Pure.

One pod, once: no retry, no replacement, so that nothing runs late or twice. The pod has no token for the API server,
no rights on its node and a read-only file system.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lucid_storage.kube.client import Json
from lucid_storage.models.meta import (
    OWNER_KIND_LABEL,
    OWNER_NAME,
    OWNER_NAMESPACE_LABEL,
    OWNER_UID_LABEL,
)
from lucid_storage.models.order_text import order_variables
from lucid_storage.models.orders import (
    DESTINATION_FOLDER_VARIABLE,
    KEYS_FOLDER_VARIABLE,
    VOLUMES_FOLDER_VARIABLE,
    Task,
)

KEYS_FOLDER = "/var/run/lucid/keys"
CA_FOLDER = "/var/run/lucid/ca"
DESTINATION_FOLDER = "/var/lib/lucid/destination"
VOLUMES_FOLDER = "/var/lib/lucid/volumes"
CA_FILE = "ca.crt"
STORES_CA_FOLDER = "/var/run/lucid/stores"
STORES_CA = "STORES_CA"
"""Entry of the Secret of one run, and the variable that names its file in the pod."""
S3_CA_VARIABLE = "LUCID_S3_CA"
USER = 65532
GRACE_SECONDS = 30
"""Between SIGTERM and SIGKILL: a worker aborts its uploads in less."""
MARGIN_SECONDS = 120
"""The Job's deadline is this much after the worker's own, which leaves a better sentence."""
LOST_NODE_SECONDS = 60
"""How long a pod stays bound to a node that does not answer; Kubernetes' own default is five minutes."""
TEMPORARY = "16Mi"
MOUNT_PREFIX = "volume-"
"""Of the names of claims that are read or filled, as volumes of the pod."""
CONTAINER = "worker"
ALLOCATOR = {"MALLOC_ARENA_MAX": "2"}
"""glibc keeps a heap for each thread, up to eight a core; two keep what threads free within reach of all."""
FOREIGN_FILES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETFCAP")
"""What root needs to read and write files of others; Kubernetes' baseline profile allows all of them."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a Secret."""

    secret: str
    key: str


@dataclass(frozen=True, slots=True)
class OwnerRef:
    """The resource that the work is done for."""

    kind: str
    api_version: str
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class ClaimMount:
    """A claim that the worker reads or fills, below VOLUMES_FOLDER."""

    claim: str
    folder: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """Who the worker is on the file systems that it mounts.

    With `fs_group` the kubelet gives the files of every writable volume to that group: never for a claim whose
    owners count.
    """

    user: int = USER
    group: int = USER
    fs_group: int | None = USER


WORKER = PodIdentity()
"""Of workers that touch no files of others."""


@dataclass(frozen=True, slots=True)
class Image:
    """What every worker of this operator runs."""

    name: str
    pull_policy: str
    pull_secrets: tuple[str, ...]
    resources: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class WorkerJob:
    """One worker. `variables` are taken from Secrets of the Job's namespace, each only where it is there."""

    command: str
    """Sub-command of lucid-storage."""
    name: str
    namespace: str
    owner: OwnerRef
    order: Task
    image: Image
    variables: Mapping[str, Entry]
    keys_secret: str | None = None
    """Secret whose entries are the encryption keys."""
    key_entries: tuple[tuple[str, str], ...] = ()
    """(entry, file) of that Secret; empty takes all."""
    ca: Entry | None = None
    stores_ca: Entry | None = None
    claim: str | None = None
    """PersistentVolumeClaim that backups are written to."""
    suspended: bool = False
    """The Job waits until its Secret is there."""
    mounts: tuple[ClaimMount, ...] = ()
    node: str | None = None
    """The only node that it may run on: of the pod that uses a claim which one node at a time can mount."""
    identity: PodIdentity = WORKER


def build(worker: WorkerJob) -> Json:
    """The Job as it is sent to the API server. Raises RefusedError for an order that it cannot hold."""
    labels = {
        "app.kubernetes.io/name": "lucid-storage",
        "app.kubernetes.io/component": f"worker-{worker.command}",
        OWNER_KIND_LABEL: worker.owner.kind,
        OWNER_NAMESPACE_LABEL: worker.owner.namespace,
        OWNER_UID_LABEL: worker.owner.uid,
    }
    annotations = {OWNER_NAME: worker.owner.name}
    metadata: Json = {
        "name": worker.name,
        "namespace": worker.namespace,
        "labels": labels,
        "annotations": annotations,
    }
    if worker.owner.namespace == worker.namespace:
        metadata["ownerReferences"] = [_reference(worker.owner)]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "backoffLimit": 0,
            "parallelism": 1,
            "completions": 1,
            "podReplacementPolicy": "Failed",
            "suspend": worker.suspended,
            "activeDeadlineSeconds": worker.order.deadline_seconds + MARGIN_SECONDS,
            "template": {"metadata": {"labels": labels, "annotations": annotations}, "spec": _pod(worker)},
        },
    }


def run_secret(name: str, namespace: str, job: Json, data: Mapping[str, str]) -> Json:
    """The Secret of one run, which goes when the Job goes. `data` is base64."""
    reference = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": job["metadata"]["name"],
        "uid": job["metadata"]["uid"],
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "immutable": True,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": job["metadata"]["labels"],
            "ownerReferences": [reference],
        },
        "data": dict(data),
    }


def _pod(worker: WorkerJob) -> Json:
    mounts, volumes = _volumes(worker)
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        # Kubernetes would set REDIS_PORT=tcp://... for a Service named redis, and our settings have such names.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": _pod_security(worker.identity),
        **({"affinity": _only(worker.node)} if worker.node is not None else {}),
        "tolerations": [_leave_after("not-ready"), _leave_after("unreachable")],
        **(
            {"imagePullSecrets": [{"name": n} for n in worker.image.pull_secrets]}
            if worker.image.pull_secrets
            else {}
        ),
        "containers": [
            {
                "name": CONTAINER,
                "image": worker.image.name,
                "imagePullPolicy": worker.image.pull_policy,
                "args": [worker.command],
                "env": _environment(worker),
                "resources": {k: dict(v) for k, v in worker.image.resources.items()},
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": _capabilities(worker.identity),
                },
                "terminationMessagePolicy": "File",
                "volumeMounts": mounts,
            }
        ],
        "volumes": volumes,
    }


def _pod_security(identity: PodIdentity) -> Json:
    security: Json = {
        "runAsNonRoot": identity.user != 0,
        "runAsUser": identity.user,
        "runAsGroup": identity.group,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if identity.fs_group is not None:
        security |= {"fsGroup": identity.fs_group, "fsGroupChangePolicy": "OnRootMismatch"}
    return security


def _capabilities(identity: PodIdentity) -> Json:
    return {"drop": ["ALL"], **({"add": list(FOREIGN_FILES)} if identity.user == 0 else {})}


def _only(node: str) -> Json:
    """Not nodeName, which would pass by the scheduler and with it by taints and the node's room."""
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    return {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchFields": [field]}]
            }
        }
    }


def _environment(worker: WorkerJob) -> list[Json]:
    plain = {
        **order_variables(worker.order.text()),
        **ALLOCATOR,
    }
    if worker.keys_secret is not None:
        plain[KEYS_FOLDER_VARIABLE] = KEYS_FOLDER
    if worker.claim is not None:
        plain[DESTINATION_FOLDER_VARIABLE] = DESTINATION_FOLDER
    if worker.mounts:
        plain[VOLUMES_FOLDER_VARIABLE] = VOLUMES_FOLDER
    if worker.ca is not None:
        plain[S3_CA_VARIABLE] = f"{CA_FOLDER}/{CA_FILE}"
    if worker.stores_ca is not None:
        plain[STORES_CA] = f"{STORES_CA_FOLDER}/{CA_FILE}"
    taken = [
        {
            "name": variable,
            "valueFrom": {"secretKeyRef": {"name": entry.secret, "key": entry.key, "optional": True}},
        }
        for variable, entry in sorted(worker.variables.items())
    ]
    # A kubelet takes $(NAME) for another variable and makes one $ of two.
    return [{"name": name, "value": value.replace("$", "$$")} for name, value in plain.items()] + taken


def _volumes(worker: WorkerJob) -> tuple[list[Json], list[Json]]:
    mounts: list[Json] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - a volume of the pod's own
    volumes: list[Json] = [{"name": "tmp", "emptyDir": {"sizeLimit": TEMPORARY}}]
    if worker.keys_secret is not None:
        # Entries belong to root and the pod's group; a pod without a group reads as one of the others.
        mode = 0o440 if worker.identity.fs_group is not None else 0o444
        secret: Json = {"secretName": worker.keys_secret, "defaultMode": mode}
        if worker.key_entries:
            secret["items"] = [{"key": entry, "path": file} for entry, file in worker.key_entries]
        mounts.append({"name": "keys", "mountPath": KEYS_FOLDER, "readOnly": True})
        volumes.append({"name": "keys", "secret": secret})
    for name, entry, folder in (
        ("ca", worker.ca, CA_FOLDER),
        ("stores-ca", worker.stores_ca, STORES_CA_FOLDER),
    ):
        if entry is not None:
            items = [{"key": entry.key, "path": CA_FILE}]
            mounts.append({"name": name, "mountPath": folder, "readOnly": True})
            volumes.append({"name": name, "secret": {"secretName": entry.secret, "items": items}})
    if worker.claim is not None:
        mounts.append({"name": "destination", "mountPath": DESTINATION_FOLDER})
        volumes.append({"name": "destination", "persistentVolumeClaim": {"claimName": worker.claim}})
    for index, mount in enumerate(worker.mounts):
        name, source = f"{MOUNT_PREFIX}{index}", {"claimName": mount.claim, "readOnly": mount.read_only}
        path = f"{VOLUMES_FOLDER}/{mount.folder}"
        mounts.append({"name": name, "mountPath": path, "readOnly": mount.read_only})
        volumes.append({"name": name, "persistentVolumeClaim": source})
    return mounts, volumes


def _leave_after(condition: str) -> Json:
    return {
        "key": f"node.kubernetes.io/{condition}",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": LOST_NODE_SECONDS,
    }


def _reference(owner: OwnerRef) -> Json:
    return {
        "apiVersion": owner.api_version,
        "kind": owner.kind,
        "name": owner.name,
        "uid": owner.uid,
    }
