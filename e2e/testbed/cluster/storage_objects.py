"""What the API must hold for the node's storage: classes, the driver, and settings of the provisioner."""

import json
from dataclasses import dataclass

from testbed.cluster.images import BUSYBOX

DRIVER = "loop.testbed.lucid"
NAMESPACE = "kube-system"
# Where k3s keeps such volumes.
LOCAL_PATH_FOLDER = "/var/lib/rancher/k3s/storage"

_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_ACCOUNT = "local-path-provisioner-service-account"
_CONFIG_MAP = "local-path-config"

Json = dict[str, object]


@dataclass(frozen=True)
class StorageClasses:
    """Names of what a cluster has; empty where it has none."""

    local_path: str = "local-path"  # the default class: no expansion, bound when a pod comes
    loop: str = "lucid-loop"  # expansion, snapshots, true figures; bound at once
    ext4: str = (
        "lucid-loop-ext4"  # the same with ext4, which grows at the next mount where root is restricted
    )
    snapshot: str = "lucid-loop"  # the VolumeSnapshotClass
    missing: str = "no-such-class"  # does not exist


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


def kubelet() -> list[Json]:
    """The kubelet may read every claim, not only those of its pods.

    On a busy machine the authorizer learns of a pod after the kubelet does, which then waits ten seconds or more.
    """
    name = "lucid-testbed:kubelet-reads-volumes"
    group = "rbac.authorization.k8s.io"
    return [
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": name},
            "rules": [
                {
                    "apiGroups": [""],
                    "resources": ["persistentvolumeclaims", "persistentvolumes"],
                    "verbs": ["get"],
                },
                {"apiGroups": ["storage.k8s.io"], "resources": ["volumeattachments"], "verbs": ["get"]},
            ],
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": group, "kind": "Group", "name": "system:nodes"}],
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
