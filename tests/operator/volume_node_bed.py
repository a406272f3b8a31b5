"""Volumes on a real node: a namespace with an operator, pods that write to claims and tell what is on them."""

import json
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from lucid_storage.kube.client import Json, Kube, load_configuration
from testbed import leftovers
from testbed.cluster.images import BUSYBOX
from testbed.cluster.prepare import TEST_IMAGE
from testbed.cluster.provider import OwnCluster
from testbed.paths import Instance, project_root
from testbed.pytest_operator import World
from testbed.testrun import TestRun

ACCOUNT = "kubelet-figures"
USER = 1000
"""Owner of the files; workers run as this user because the Volume says so."""
COPY = {"runAsUser": USER, "runAsGroup": USER, "fsGroup": USER}


@asynccontextmanager
async def node_world(cluster: OwnCluster, run: TestRun, *, image: bool) -> AsyncIterator[World]:
    """A namespace of the node's cluster, held to the profile "restricted", whose operators may show the kubelet an
    account for statistics. With `image` workers of the real image run there.
    """
    root = project_root()
    cluster.kubectl("apply", "--server-side", "-f", str(root / "crds"))
    worker = cluster.provide_image(root / "Dockerfile", root, TEST_IMAGE) if image else None
    kube = Kube(await load_configuration(str(cluster.kubeconfig)))
    namespace = f"world-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    await kube.request("POST", "/api/v1/namespaces", body={"metadata": {"name": namespace, "labels": labels}})
    rbac = await _may_read_statistics(kube, namespace)
    instance = Instance(namespace, run.instance.root / namespace)
    environment = {
        "KUBECONFIG": str(cluster.kubeconfig),
        "POD_NAMESPACE": namespace,
        "WATCH_NAMESPACES": namespace,
        "KUBELET_CA": str(cluster.kubelet_authority),
        "KUBELET_SERVICE_ACCOUNT": ACCOUNT,
        "VOLUME_STATS_SECONDS": "1",
        **({"WORKER_IMAGE": worker} if worker is not None else {}),
    }
    made = World(kube, namespace, cluster.kubeconfig, instance, environment)

    async def clean(kube: Kube, namespace: str) -> None:
        for path in rbac:
            await kube.request("DELETE", path)
        await leftovers.remove(kube, namespace)

    try:
        yield made
    finally:
        await made.end(clean)


async def _may_read_statistics(kube: Kube, namespace: str) -> list[str]:
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    await kube.request("POST", accounts, body={"metadata": {"name": ACCOUNT}})
    group = "/apis/rbac.authorization.k8s.io/v1"
    rule = {"apiGroups": [""], "resources": ["nodes/stats"], "verbs": ["get"]}
    role: Json = {"metadata": {"name": namespace}, "rules": [rule]}
    await kube.request("POST", f"{group}/clusterroles", body=role)
    binding: Json = {
        "metadata": {"name": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": namespace},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}],
    }
    await kube.request("POST", f"{group}/clusterrolebindings", body=binding)
    return [f"{group}/clusterroles/{namespace}", f"{group}/clusterrolebindings/{namespace}"]


# Pods


def pods_path(world: World, name: str | None = None) -> str:
    base = f"/api/v1/namespaces/{world.namespace}/pods"
    return base if name is None else f"{base}/{name}"


def claims_path(world: World, name: str | None = None) -> str:
    base = f"/api/v1/namespaces/{world.namespace}/persistentvolumeclaims"
    return base if name is None else f"{base}/{name}"


async def start_pod(
    world: World, name: str, claim: str, command: Sequence[str], *, image: str = BUSYBOX
) -> None:
    """A restricted pod with the claim at /data, whose files belong to USER."""
    container = {
        "name": "main",
        "image": image,
        "command": list(command),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    body: Json = {
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                # Else the kubelet changes the modes of what lies there.
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
        },
    }
    account = f"/api/v1/namespaces/{world.namespace}/serviceaccounts/default"

    async def may_be_made() -> bool:
        return await world.kube.get(account) is not None

    await world.until(may_be_made, 20, "the namespace's ServiceAccount")
    await world.kube.request("POST", pods_path(world), body=body)


async def start_lasting(world: World, name: str, claim: str, script: str) -> None:
    """A pod that runs a shell script and then lasts."""
    await start_pod(world, name, claim, ["sh", "-ec", f"{script}; exec sleep 100000"])


async def ran(world: World, name: str, claim: str, command: Sequence[str], *, image: str = BUSYBOX) -> str:
    """What a pod prints that runs a command with the claim at /data; the pod is removed afterwards."""
    await start_pod(world, name, claim, command, image=image)
    phase = ""

    async def over() -> bool:
        nonlocal phase
        found = await world.kube.get(pods_path(world, name))
        assert found is not None
        phase = found["status"].get("phase", "")
        return phase in {"Succeeded", "Failed"}

    await world.until(over, 90, f"the pod {name} to end")
    said = await world.kube.text(f"{pods_path(world, name)}/log", query={})
    assert phase == "Succeeded", said
    await end_pod(world, name)
    return said


async def end_pod(world: World, name: str) -> None:
    await world.kube.request("DELETE", pods_path(world, name))


# Volumes


def condition(status: Json, kind: str) -> Json:
    """One condition of a status; empty when it is not there."""
    found: Json = next((c for c in status.get("conditions", []) if c["type"] == kind), {})
    return found


async def shows(world: World, name: str, deadline: float, **fields: Any) -> Json:
    """Wait until status has these fields; returns it."""
    last: Json = {}

    async def holds() -> bool:
        nonlocal last
        last = (await world.get("Volume", name)).get("status", {})
        return all(last.get(key) == value for key, value in fields.items())

    try:
        await world.until(holds, deadline, "")
    except AssertionError:
        raise AssertionError(f"{name} does not show {fields}: {last}") from None
    return last


async def migrated(world: World, name: str, class_name: str, deadline: float = 120) -> Json:
    """Wait until a migration to the class is over and the Volume Ready; returns its status."""
    status: Json = {}

    async def done() -> bool:
        nonlocal status
        status = (await world.get("Volume", name)).get("status", {})
        there = status.get("storageClassName") == class_name and condition(status, "Ready").get("status")
        return there == "True" and (status.get("migration") or {}).get("step") == "Completed"

    try:
        await world.until(done, deadline, "")
    except AssertionError:
        tail = "\n".join(world.operators[-1].log.splitlines()[-25:])
        raise AssertionError(f"not migrated: {json.dumps(status, indent=1)}\n{tail}") from None
    return status


async def released(world: World, name: str, old: str) -> None:
    """Release an old volume, and wait until the Volume knows of none."""
    release = {"storage.lucid-blockchain.org/release-old-volume": old}
    await world.patch("Volume", name, {"metadata": {"annotations": release}})

    async def done() -> bool:
        return "keptVolume" not in (await world.get("Volume", name))["status"]

    await world.until(done, 30, "the old volume to be released")
