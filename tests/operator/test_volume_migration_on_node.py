"""A volume that moves from one real class to another, by a worker from the real image in a restricted namespace."""

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from lucid_storage.kube.client import Json, Kube, load_configuration
from testbed import ports
from testbed.cluster.prepare import TEST_IMAGE
from testbed.cluster.provider import OwnCluster
from testbed.cluster.storage_objects import StorageClasses
from testbed.paths import Instance, project_root
from testbed.pytest_operator import World
from testbed.testrun import TestRun

pytestmark = [pytest.mark.node, pytest.mark.xdist_group("node")]

USER = 1000
"""Owner of the files; the worker runs as this user because the Volume says so."""
WRITE = """
import os
os.umask(0)
os.makedirs("/data/deep/er"); open("/data/deep/er/file", "w").write("x")
open("/data/plain", "wb").write(bytes(range(256)) * 4000)
os.link("/data/plain", "/data/deep/second-name"); os.symlink("../nowhere", "/data/deep/dangling")
with open("/data/sparse", "wb") as f:
    f.truncate(40 << 20); f.seek(20 << 20); f.write(b"island")
os.setxattr("/data/plain", "user.note", b"kept"); os.chmod("/data/plain", 0o640)
os.mkfifo("/data/pipe"); open(b"/data/odd\\n\\xff", "w").write("odd")
for path in ("/data/plain", "/data/deep"): os.utime(path, ns=(10**18, 10**18 + 5))
"""
TELL = """
import hashlib, json, os
found = {}
for base, folders, files in os.walk(b"/data"):
    for name in (*folders, *files):
        path = os.path.join(base, name)
        if name == b"lost+found": continue
        s = os.lstat(path); kind = oct(s.st_mode)
        data = os.readlink(path).decode() if kind.startswith("0o12") else None
        if kind.startswith("0o10") and kind.startswith("0o100"):
            data = hashlib.sha256(open(path, "rb").read()).hexdigest()
        xattrs = {n: os.getxattr(path, n, follow_symlinks=False).hex()
                  for n in os.listxattr(path, follow_symlinks=False) if n.startswith("user.")}
        size = s.st_size if data else 0
        found[repr(path)] = [kind, s.st_uid, s.st_gid, size, s.st_mtime_ns, s.st_nlink if data else 0, data, xattrs]
print(json.dumps({"found": found, "sparse": os.stat("/data/sparse").st_blocks * 512}))
"""


@pytest.fixture(scope="module")
def image(node_cluster: OwnCluster) -> str:
    root = project_root()
    return node_cluster.provide_image(root / "Dockerfile", root, TEST_IMAGE)


@pytest.fixture
async def world(
    node_cluster: OwnCluster, storage_classes: StorageClasses, image: str, testbed_run: TestRun
) -> AsyncIterator[World]:
    node_cluster.kubectl("apply", "--server-side", "-f", str(project_root() / "crds"))
    kube = Kube(await load_configuration(str(node_cluster.kubeconfig)))
    namespace = f"world-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    meta = {"name": namespace, "labels": labels}
    await kube.request("POST", "/api/v1/namespaces", body={"metadata": meta})
    instance = Instance(namespace, testbed_run.instance.root / namespace)
    environment = {
        "KUBECONFIG": str(node_cluster.kubeconfig),
        "POD_NAMESPACE": namespace,
        "WATCH_NAMESPACES": namespace,
        "WORKER_IMAGE": image,
    }
    made = World(kube, namespace, node_cluster.kubeconfig, instance, environment)
    yield made
    for operator in made.operators:
        operator.stop()
    await kube.request("DELETE", f"/api/v1/namespaces/{namespace}")
    await kube.close()
    ports.release_all(instance)


async def run_pod(world: World, name: str, image: str, script: str) -> str:
    """Have a restricted pod run a script with the claim `data` at /data; returns what it prints."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
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
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "main",
                    "image": image,
                    "command": ["python", "-c", script],
                    "securityContext": security,
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }
            ],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        },
    }
    pods = f"/api/v1/namespaces/{world.namespace}/pods"

    async def account() -> bool:
        path = f"/api/v1/namespaces/{world.namespace}/serviceaccounts/default"
        return await world.kube.get(path) is not None

    await world.until(account, 20, "the namespace's ServiceAccount")
    await world.kube.request("POST", pods, body=body)
    phase = ""

    async def over() -> bool:
        nonlocal phase
        found = await world.kube.get(f"{pods}/{name}")
        assert found is not None
        phase = found["status"].get("phase", "")
        return phase in {"Succeeded", "Failed"}

    await world.until(over, 90, f"the pod {name} to end")
    said = await world.kube.text(f"{pods}/{name}/log", query={})
    assert phase == "Succeeded", said
    await world.kube.request("DELETE", f"{pods}/{name}")
    return said


async def migrated(world: World, class_name: str) -> Json:
    status: Json = {}

    async def done() -> bool:
        nonlocal status
        status = (await world.get("Volume", "data")).get("status", {})
        ready = next((c for c in status.get("conditions", []) if c["type"] == "Ready"), {})
        there = status.get("storageClassName") == class_name and ready.get("status") == "True"
        return there and (status.get("migration") or {}).get("step") == "Completed"

    try:
        await world.until(done, 120, "")
    except AssertionError:
        tail = "\n".join(world.operators[-1].log.splitlines()[-25:])
        raise AssertionError(f"not migrated: {json.dumps(status, indent=1)}\n{tail}") from None
    return status


async def released(world: World, old: str) -> None:
    """Release an old volume, and wait until the Volume knows of none."""
    release = {"storage.lucid-blockchain.org/release-old-volume": old}
    await world.patch("Volume", "data", {"metadata": {"annotations": release}})

    async def done() -> bool:
        return "keptVolume" not in (await world.get("Volume", "data"))["status"]

    await world.until(done, 30, "the old volume to be released")


async def test_a_volume_of_local_path_moves_to_a_larger_one_and_to_a_csi_class_with_everything_on_it(
    world: World, image: str, storage_classes: StorageClasses
) -> None:
    """First within local-path, which cannot give a larger size and makes no volume before a pod comes. Then to another
    class: the operator is killed in the middle, and the old volume is there until it is released.
    """
    operator = world.start_operator()
    spec: dict[str, Any] = {
        "type": "chunks",
        "size": "64Mi",
        "storageClassName": storage_classes.local_path,
        "resizeStrategy": "Migrate",
        "copy": {"runAsUser": USER, "runAsGroup": USER, "fsGroup": USER},
    }
    await world.create("Volume", "data", spec)
    await run_pod(world, "writer", image, WRITE)
    before = json.loads(await run_pod(world, "reader", image, TELL))

    await world.patch("Volume", "data", {"spec": {"size": "80Mi"}})
    status = await migrated(world, storage_classes.local_path)
    assert status["size"] == "80Mi"
    await released(world, status["keptVolume"])

    await world.patch("Volume", "data", {"spec": {"storageClassName": storage_classes.loop, "size": "96Mi"}})

    async def copying() -> bool:
        status = (await world.get("Volume", "data"))["status"]
        return (status.get("migration") or {}).get("jobName") is not None

    await world.until(copying, 60, "the copy to begin")
    operator.kill()
    operator.start()
    status = await migrated(world, storage_classes.loop)
    assert status["migration"]["ownersKept"] is True
    assert status["size"] == "96Mi"

    after = json.loads(await run_pod(world, "reader-again", image, TELL))
    assert after["found"] == before["found"]
    assert after["sparse"] < 4 << 20

    old = status["keptVolume"]
    kept = await world.kube.get(f"/api/v1/persistentvolumes/{old}")
    assert kept is not None
    assert kept["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    await released(world, old)

    async def freed() -> bool:
        return await world.kube.get(f"/api/v1/persistentvolumes/{old}") is None

    await world.until(freed, 60, "the old volume to be deleted by its class")
