"""What the API must hold for the node's storage: classes, the driver, and settings of the provisioner."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from testbed.cluster.images import BUSYBOX

DRIVER = "loop.testbed.lucid"
NAMESPACE = "kube-system"
# Where k3s keeps such volumes.
LOCAL_PATH_FOLDER = "/var/lib/rancher/k3s/storage"

FIGURES_ACCOUNT = "kubelet-figures"

_RBAC = "rbac.authorization.k8s.io"
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_ACCOUNT = "local-path-provisioner-service-account"
_CONFIG_MAP = "local-path-config"

Json = dict[str, object]


@dataclass(frozen=True)
class StorageClasses:
    """Names of what a cluster has; empty where it has none."""

    # The default class: no expansion, bound when a pod comes.
    local_path: str = "local-path"
    # Expansion, snapshots, true figures; bound at once.
    loop: str = "lucid-loop"
    # The same with ext4, which grows at the next mount where root is restricted.
    ext4: str = "lucid-loop-ext4"
    # The VolumeSnapshotClass of both.
    snapshot: str = "lucid-loop"
    # Does not exist.
    missing: str = "no-such-class"


def local_path() -> list[Json]:
    """The class as k3s has it, and what its provisioner reads at its start."""
    annotations = {"defaultVolumeType": "local", _DEFAULT_CLASS: "true"}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _named(_ACCOUNT)},
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": _named(_CONFIG_MAP),
            "data": {
                "config.json": json.dumps(
                    {
                        "nodePathMap": [
                            {"node": "DEFAULT_PATH_FOR_NON_LISTED_NODES", "paths": [LOCAL_PATH_FOLDER]}
                        ]
                    }
                ),
                "setup": '#!/bin/sh\nset -eu\nmkdir -m 0777 -p "$VOL_DIR"\nchmod 700 "$VOL_DIR/.."\n',
                "teardown": '#!/bin/sh\nset -eu\nrm -rf "$VOL_DIR"\n',
                "helperPod.yaml": json.dumps(_helper_pod()),
            },
        },
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": StorageClasses.local_path, "annotations": annotations},
            "provisioner": "rancher.io/local-path",
            "volumeBindingMode": "WaitForFirstConsumer",
            "reclaimPolicy": "Delete",
        },
    ]


def loop() -> list[Json]:
    return [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "CSIDriver",
            "metadata": {"name": DRIVER},
            "spec": {"attachRequired": True, "podInfoOnMount": False, "fsGroupPolicy": "File"},
        },
        _loop_class(StorageClasses.loop),
        _loop_class(StorageClasses.ext4) | {"parameters": {"csi.storage.k8s.io/fstype": "ext4"}},
    ]


def _loop_class(name: str) -> Json:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": DRIVER,
        "volumeBindingMode": "Immediate",
        "reclaimPolicy": "Delete",
        "allowVolumeExpansion": True,
    }


def kubelet_reads() -> list[Json]:
    """The kubelet may read every claim, not only those of its pods.

    On a busy machine the authorizer learns of a pod after the kubelet does, which then waits ten seconds or more.
    """
    rules = [
        {"apiGroups": [""], "resources": ["persistentvolumeclaims", "persistentvolumes"], "verbs": ["get"]},
        {"apiGroups": ["storage.k8s.io"], "resources": ["volumeattachments"], "verbs": ["get"]},
    ]
    kubelets = {"apiGroup": _RBAC, "kind": "Group", "name": "system:nodes"}
    return _allowed("lucid-testbed:kubelet-reads-volumes", rules, kubelets)


def figures() -> list[Json]:
    """An account in the namespace `default` that may ask the kubelet for statistics and nothing else."""
    rules = [{"apiGroups": [""], "resources": ["nodes/stats"], "verbs": ["get"]}]
    account = {"name": FIGURES_ACCOUNT, "namespace": "default"}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        *_allowed("lucid-testbed:figures", rules, {"kind": "ServiceAccount", **account}),
    ]


def _allowed(name: str, rules: Sequence[Json], subject: Json) -> list[Json]:
    version, metadata = f"{_RBAC}/v1", {"name": name}
    role = {"apiGroup": _RBAC, "kind": "ClusterRole", "name": name}
    return [
        {"apiVersion": version, "kind": "ClusterRole", "metadata": metadata, "rules": list(rules)},
        {
            "apiVersion": version,
            "kind": "ClusterRoleBinding",
            "metadata": metadata,
            "roleRef": role,
            "subjects": [subject],
        },
    ]


def snapshots() -> list[Json]:
    return [
        {
            "apiVersion": "snapshot.storage.k8s.io/v1",
            "kind": "VolumeSnapshotClass",
            "metadata": {"name": StorageClasses.snapshot},
            "driver": DRIVER,
            "deletionPolicy": "Delete",
        }
    ]


def _named(name: str) -> Json:
    return {"name": name, "namespace": NAMESPACE}


def _helper_pod() -> Json:
    container = {"name": "helper-pod", "image": BUSYBOX, "imagePullPolicy": "IfNotPresent"}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "helper-pod"}, "spec": spec}
