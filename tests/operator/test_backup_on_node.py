"""Backups in real pods of a real node, from the real image, in namespaces held to the profile "restricted"."""

import json
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from backup_bed import BackupBed, reason

from lucid_storage.kube.client import Kube, load_configuration
from testbed import leftovers, ports
from testbed.cluster.prepare import TEST_IMAGE
from testbed.cluster.provider import OwnCluster
from testbed.job_runner import JobRunner
from testbed.paths import Instance, project_root
from testbed.pytest_operator import World
from testbed.stores.mongodb import MongoDB
from testbed.stores.s3 import S3
from testbed.testrun import TestRun

pytestmark = [pytest.mark.mongodb, pytest.mark.node, pytest.mark.slow, pytest.mark.xdist_group("node")]

BUCKET = "vault"
PATH = "of $$ all $(LUCID_ORDER)"
"""A kubelet reads such signs, and the worker has to get them as they are."""
SMALL = {"requests": {"memory": "16Mi"}, "limits": {"memory": "24Mi"}}


@pytest.fixture
def stores(node_cluster: OwnCluster, testbed_run: TestRun) -> Iterator[tuple[MongoDB, S3]]:
    """Reached by pods of the node."""
    name = f"node-stores-{uuid.uuid4().hex[:8]}"
    instance = Instance(name, testbed_run.instance.root / name)
    host = node_cluster.host_address()
    mongodb, s3 = MongoDB(instance, host=host), S3(instance, host=host)
    (s3.folder / "buckets" / BUCKET).mkdir(parents=True)
    mongodb.start()
    s3.start()
    yield mongodb, s3
    mongodb.stop()
    s3.stop()
    ports.release_all(instance)


@pytest.fixture
async def on_node(
    node_cluster: OwnCluster, testbed_run: TestRun, stores: tuple[MongoDB, S3], tmp_path: Path
) -> AsyncIterator[BackupBed]:
    root, (mongodb, s3) = project_root(), stores
    node_cluster.kubectl("apply", "--server-side", "-f", str(root / "crds"))
    image = node_cluster.provide_image(root / "Dockerfile", root, TEST_IMAGE)
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
        "MONGODB_URI": mongodb.uri,
        "WORKER_IMAGE": image,
        "BACKUP_STORAGE_TYPE": "s3",
        "BACKUP_S3_BUCKET": BUCKET,
        "BACKUP_S3_ENDPOINT": s3.url,
        "BACKUP_S3_REGION": s3.region,
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
    }
    world = World(kube, namespace, node_cluster.kubeconfig, instance, environment)
    yield BackupBed(world, JobRunner(kube, [], tmp_path), tmp_path)
    await world.end(leftovers.remove)


async def create(bed: BackupBed, name: str, **spec: Any) -> None:
    await bed.world.create(
        "Backup", name, {"engines": ["mongodb"], "mongodb": {"databases": ["app"]}, **spec}
    )


async def pods(bed: BackupBed) -> list[Any]:
    found = await bed.world.kube.get(f"/api/v1/namespaces/{bed.world.namespace}/pods")
    return found["items"] if found is not None else []


def fill(mongodb: MongoDB) -> None:
    with mongodb.client() as client:
        client["app"]["users"].insert_many([{"n": n, "text": "x" * 200} for n in range(5000)])


async def test_a_backup_is_made_in_a_restricted_pod_within_its_memory(
    on_node: BackupBed, stores: tuple[MongoDB, S3]
) -> None:
    mongodb, s3 = stores
    fill(mongodb)
    await on_node.world.secret("keys", {"k1": "0123456789abcdef0123456789abcdef"})
    on_node.world.start_operator(BACKUP_STORAGE_PATH=PATH)
    await create(on_node, "full", encryption={"secretName": "keys", "keyId": "k1"})
    status = await on_node.phase("full", "Completed", "Failed", deadline=120)
    assert (status["phase"], status["verified"]) == ("Completed", "Checksum"), status
    assert [e["documents"] for e in status["engines"]] == [5000]
    [pod] = await pods(on_node)
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"memory": "192Mi"}
    names = {p.name for p in (s3.folder / "buckets" / BUCKET / PATH).rglob("*") if p.is_file()}
    assert {"manifest.json", "proof.json", "mongodb.archive"} <= names


async def test_a_worker_that_is_ended_for_its_memory_is_lost_and_says_so(
    on_node: BackupBed, stores: tuple[MongoDB, S3]
) -> None:
    fill(stores[0])
    on_node.world.start_operator(WORKER_RESOURCES=json.dumps(SMALL))
    await create(on_node, "greedy")
    status = await on_node.phase("greedy", "Failed", "Completed", deadline=120)
    assert reason(status) == "WorkerLost"
    assert "OOMKilled" in status["conditions"][0]["message"]


async def test_an_image_that_cannot_be_had_is_said_and_the_backup_can_be_cancelled(
    on_node: BackupBed,
) -> None:
    on_node.world.start_operator(WORKER_IMAGE="lucid-storage:absent", WORKER_IMAGE_PULL_POLICY="Never")
    await create(on_node, "stuck")

    async def said() -> bool:
        conditions = (await on_node.status("stuck")).get("conditions") or [{}]
        return "image cannot be had" in conditions[0].get("message", "")

    await on_node.world.until(said, 60, "the image to be named")
    await on_node.world.patch("Backup", "stuck", {"spec": {"cancel": True}})

    async def gone() -> bool:
        return not [p for p in await pods(on_node) if "-backup-" in p["metadata"]["name"]]

    await on_node.world.until(gone, 60, "the pod to go")
