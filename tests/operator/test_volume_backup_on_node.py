"""Volumes in Backups and Restores on a real node: real claims, real pods of the real image, real CSI snapshots."""

import json
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from backup_bed import BackupBed, conditions, reason

from lucid_storage.kube.client import Kube, load_configuration
from testbed import leftovers, ports
from testbed.cluster.images import BUSYBOX
from testbed.cluster.prepare import TEST_IMAGE
from testbed.cluster.provider import OwnCluster
from testbed.cluster.storage_objects import StorageClasses
from testbed.job_runner import JobRunner
from testbed.paths import Instance, project_root
from testbed.pytest_operator import World
from testbed.stores.s3 import S3
from testbed.testrun import TestRun

# The first test of a run that needs the operator's image builds it.
pytestmark = [
    pytest.mark.node,
    pytest.mark.slow,
    pytest.mark.xdist_group("node"),
    pytest.mark.timeout(900),
]

BUCKET = "vault"
FILL = (
    "echo first > /data/one; mkdir -p /data/deep; echo second > /data/deep/two; chmod 600 /data/deep/two;"
    " ln -s one /data/link; dd if=/dev/zero of=/data/sparse bs=1 count=1 seek=5000000 2>/dev/null;"
    " ln /data/one /data/deep/again; chmod 555 /data/deep"
)
SUMS = "cd /data && find . -type f -exec sha256sum {} + | sort -k 2; readlink link; stat -c %a deep deep/two"


@dataclass
class NodeBed:
    """A namespace on the node, the bed's words for it, and where backups go."""

    bed: BackupBed
    cluster: OwnCluster
    s3: S3

    @property
    def world(self) -> World:
        return self.bed.world

    def kubectl(self, *arguments: str, document: str = "") -> str:
        command = ["--namespace", self.world.namespace, *arguments]
        return (
            self.cluster.kubectl(*command, document=document) if document else self.cluster.kubectl(*command)
        )

    def apply(self, *objects: dict[str, Any]) -> None:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.kubectl("apply", "--filename=-", document=text)

    def ran(self, pod: str, claim: str, script: str, *, last: bool = False) -> str:
        """What a pod with the claim at /data prints; with `last` it goes on afterwards."""
        self.apply(_pod(pod, claim, script, last=last))
        if last:
            self.kubectl("wait", f"pod/{pod}", "--for=condition=Ready", "--timeout=90s")
        else:
            self.kubectl("wait", f"pod/{pod}", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=90s")
        return self.kubectl("logs", pod)

    def remove(self, pod: str) -> None:
        self.kubectl("delete", "pod", pod, "--now", "--wait")

    async def restored(self, name: str) -> dict[str, Any]:
        last: dict[str, Any] = {}

        async def over() -> bool:
            nonlocal last
            last = (await self.world.get("Restore", name)).get("status", {})
            return last.get("phase") in {"Completed", "Failed"}

        await self.world.until(over, 120, f"the Restore {name} to end")
        return last

    def snapshots(self) -> list[str]:
        return self.kubectl("get", "volumesnapshots", "--output=name").split()


def _pod(name: str, claim: str, script: str, *, last: bool) -> dict[str, Any]:
    user = {"runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532, "runAsNonRoot": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                **user,
                # Else the kubelet changes the modes of what was restored.
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "main",
                    "image": BUSYBOX,
                    "command": ["sh", "-ec", f"{script}; exec sleep 100000" if last else script],
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
        },
    }


def _claim(name: str, storage_class: str) -> dict[str, Any]:
    asked = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {**asked, "storageClassName": storage_class},
    }


@pytest.fixture
def s3(node_cluster: OwnCluster, testbed_run: TestRun) -> Iterator[S3]:
    """Reached by pods of the node."""
    name = f"node-vault-{uuid.uuid4().hex[:8]}"
    instance = Instance(name, testbed_run.instance.root / name)
    store = S3(instance, host=node_cluster.host_address())
    (store.folder / "buckets" / BUCKET).mkdir(parents=True)
    store.start()
    yield store
    store.stop()
    ports.release_all(instance)


@pytest.fixture
async def node_bed(
    node_cluster: OwnCluster, testbed_run: TestRun, s3: S3, tmp_path: Path
) -> AsyncIterator[NodeBed]:
    root = project_root()
    node_cluster.kubectl("apply", "--server-side", "-f", str(root / "crds"))
    image = node_cluster.provide_image(root / "Dockerfile", root, TEST_IMAGE)
    kube = Kube(await load_configuration(str(node_cluster.kubeconfig)))
    namespace = f"world-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    await kube.request("POST", "/api/v1/namespaces", body={"metadata": {"name": namespace, "labels": labels}})
    instance = Instance(namespace, testbed_run.instance.root / namespace)
    environment = {
        "KUBECONFIG": str(node_cluster.kubeconfig),
        "POD_NAMESPACE": namespace,
        "WATCH_NAMESPACES": namespace,
        "WORKER_IMAGE": image,
        "BACKUP_STORAGE_TYPE": "s3",
        "BACKUP_S3_BUCKET": BUCKET,
        "BACKUP_S3_ENDPOINT": s3.url,
        "BACKUP_S3_REGION": s3.region,
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
    }
    world = World(kube, namespace, node_cluster.kubeconfig, instance, environment)
    yield NodeBed(BackupBed(world, JobRunner(kube, [], tmp_path), tmp_path), node_cluster, s3)
    await world.end(leftovers.remove)


async def test_a_volume_in_use_is_archived_beside_its_pod_and_comes_back_into_a_new_claim(
    node_bed: NodeBed, storage_classes: StorageClasses
) -> None:
    node_bed.apply(_claim("data", storage_classes.loop))
    before = node_bed.ran("app", "data", f"{FILL}; {SUMS}", last=True)
    await node_bed.world.secret("keys", {"k1": "0123456789abcdef0123456789abcdef"})
    node_bed.world.start_operator()
    spec = {"volumes": [{"name": "data"}], "encryption": {"secretName": "keys", "keyId": "k1"}}
    await node_bed.world.create("Backup", "files", {"engines": ["volumes"], **spec})
    status = await node_bed.bed.phase("files", "Completed", "Failed", deadline=120)
    assert (status["phase"], status.get("verified")) == ("Completed", "Checksum"), await node_bed.bed.told(
        "files"
    )
    (engine,) = status["engines"]
    assert engine["documents"] == 3  # two names of one file are one
    assert "not the state of one moment" in engine["message"]

    again = {"backupName": "files", "engines": ["volumes"]}
    await node_bed.world.create("Restore", "over-it", again)
    status = await _stuck(node_bed, "over-it", "ClaimInUse")
    assert "app" in status["conditions"][0]["message"]
    await node_bed.world.delete("Restore", "over-it")

    node_bed.remove("app")
    node_bed.kubectl(
        "delete", "jobs", "--all", "--wait"
    )  # a pod that ended holds its claims until it is swept
    node_bed.kubectl("delete", "pvc", "data", "--wait")
    await node_bed.world.create("Restore", "again", again)
    status = await node_bed.restored("again")
    assert status["phase"] == "Completed", status["conditions"]
    assert node_bed.ran("reader", "data", SUMS) == before


async def test_a_volume_is_checked_when_its_annotation_asks_for_it(
    node_bed: NodeBed, storage_classes: StorageClasses
) -> None:
    node_bed.apply(_claim("data", storage_classes.loop))
    node_bed.ran("app", "data", FILL)
    node_bed.world.start_operator()
    await node_bed.world.create("Volume", "data", {"type": "chunks"})

    async def asked(value: str) -> dict[str, Any]:
        annotations = {"storage.lucid-blockchain.org/verify": value}
        await node_bed.world.patch("Volume", "data", {"metadata": {"annotations": annotations}})
        last: dict[str, Any] = {}

        async def checked() -> bool:
            nonlocal last
            last = (await node_bed.world.get("Volume", "data")).get("status", {})
            return bool(last.get("check", {}).get("asked") == value)

        await node_bed.world.until(checked, 90, "the content to be checked")
        return last

    first = await asked("monday")
    assert (first["check"]["intact"], first["check"]["files"]) == (True, 3), first
    assert conditions(first)["Intact"] == "True"
    node_bed.ran("writer", "data", "echo more >> /data/one; echo new > /data/three")
    second = await asked("tuesday")
    assert (second["check"]["intact"], second["check"]["added"]) == (True, 1), second
    assert second["check"]["since"] <= first["check"]["at"] < second["check"]["at"]


async def _stuck(node_bed: NodeBed, name: str, why: str) -> dict[str, Any]:
    last: dict[str, Any] = {}

    async def said() -> bool:
        nonlocal last
        last = (await node_bed.world.get("Restore", name)).get("status", {})
        return reason(last) == why

    await node_bed.world.until(said, 60, f"the Restore {name} to say {why}")
    return last


async def test_a_snapshot_is_made_outlives_its_object_is_restored_and_goes_with_its_data(
    node_bed: NodeBed, storage_classes: StorageClasses
) -> None:
    node_bed.apply(_claim("data", storage_classes.loop))
    before = node_bed.ran("app", "data", f"{FILL}; {SUMS}", last=True)
    node_bed.world.start_operator()
    volumes = [{"name": "data", "method": "Snapshot"}]
    spec = {"engines": ["volumes"], "volumes": volumes}
    await node_bed.world.create("Backup", "moment", spec)
    status = await node_bed.bed.phase("moment", "Completed", "Failed", deadline=120)
    assert (status["phase"], status.get("verified")) == ("Completed", "Checksum, SnapshotOnly"), status
    assert (conditions(status)["Verified"], reason(status, "Verified")) == ("False", "SnapshotOnly")
    assert status["engines"][0]["inCluster"] is True
    [snapshot] = node_bed.snapshots()

    # Under Retain it outlives its object from the first moment on, and is found when Git makes that again.
    await node_bed.world.delete("Backup", "moment")
    await node_bed.world.create("Backup", "moment", {**spec, "deletionPolicy": "Delete"})
    found = await node_bed.bed.phase("moment", "Completed", "Failed", deadline=120)
    assert (found["phase"], found["id"]) == ("Completed", status["id"]), found
    assert node_bed.snapshots() == [snapshot]

    into = [{"name": "data", "target": "copy"}]
    again = {"backupName": "moment", "engines": ["volumes"], "volumes": into}
    await node_bed.world.create("Restore", "again", again)
    status = await node_bed.restored("again")
    assert status["phase"] == "Completed", status["conditions"]
    assert node_bed.ran("reader", "copy", SUMS) == before
    node_bed.remove("reader")
    await node_bed.world.create("Restore", "over-it", again)
    await _stuck(node_bed, "over-it", "TargetNotEmpty")
    await node_bed.world.delete("Restore", "over-it")

    # The last good one keeps its data whatever its policy says, so it goes behind a newer one.
    await node_bed.world.create("Backup", "newer", spec)
    newer = await node_bed.bed.phase("newer", "Completed", "Failed", deadline=120)
    assert newer["phase"] == "Completed", newer
    await node_bed.world.delete("Backup", "moment")

    async def gone() -> bool:
        left = node_bed.snapshots()
        return len(left) == 1 and snapshot not in left

    await node_bed.world.until(gone, 60, "the snapshot to go with its backup")
