"""Volumes on a real node: real drivers, a real kubelet that is asked for their use, and a pod that reads it."""

import json
from collections.abc import AsyncIterator

import pytest
from operator_bed import noted
from volume_node_bed import claims_path, condition, end_pod, node_world, shows, start_lasting

from lucid_storage.kube.client import Json
from lucid_storage.models.meta import API_VERSION
from testbed.cluster.prepare import TEST_IMAGE
from testbed.cluster.provider import OwnCluster
from testbed.cluster.storage_objects import StorageClasses
from testbed.paths import project_root
from testbed.pytest_operator import World
from testbed.testrun import TestRun

pytestmark = [pytest.mark.node, pytest.mark.xdist_group("node")]

OUT_OF_RANGE = 11
"""gRPC's number, which a driver gives for a size that it cannot make."""


@pytest.fixture
async def world(
    node_cluster: OwnCluster, storage_classes: StorageClasses, testbed_run: TestRun
) -> AsyncIterator[World]:
    async with node_world(node_cluster, testbed_run, image=False) as made:
        yield made


async def test_a_volume_that_fills_up_is_told_and_grows_under_its_pod(
    world: World, node_cluster: OwnCluster, storage_classes: StorageClasses
) -> None:
    operator = world.start_operator()
    spec = {
        "type": "logs",
        "size": "64Mi",
        "storageClassName": storage_classes.loop,
        "autoExpand": {"enabled": True, "stepPercent": 100, "maxSize": "128Mi"},
        "deletionPolicy": "Delete",
    }
    await world.create("Volume", "logs", spec)
    status = await world.ready("Volume", "logs")
    assert (condition(status, "Expandable")["status"], status["size"]) == ("True", "64Mi")

    await start_lasting(world, "logs", "logs", "dd if=/dev/zero of=/data/full bs=1M count=50")
    status = await shows(world, "logs", 60, size="128Mi")
    await noted(world, "logs", "AutoExpand")
    # The figures of the larger file system end the warning.
    await world.until(lambda: _calm(world), 60, "the end of the warning")
    status = (await world.get("Volume", "logs"))["status"]
    assert status["usageSource"] == "kubelet"
    assert status["capacityBytes"] > 100 << 20
    assert 50 << 20 <= status["usedBytes"] <= 56 << 20
    assert status["usedBy"] == ["logs"]
    assert (await world.get("Volume", "logs"))["spec"]["size"] == "64Mi"

    # At its largest size it stops, and says so.
    fill = "dd if=/dev/zero of=/data/more bs=1M; true"
    node_cluster.kubectl("exec", f"--namespace={world.namespace}", "logs", "--", "sh", "-c", fill)
    await world.until(lambda: _full(world), 60, "both thresholds to be told")
    status = (await world.get("Volume", "logs"))["status"]
    for kind in ("UsageWarning", "UsageCritical"):
        assert condition(status, kind)["reason"] == "MaxSizeReached"
        assert "its largest size, 128Mi" in condition(status, kind)["message"]

    # Git that applies the old size again, and another operator, change nothing.
    operator.stop()
    before = [await world.get("Volume", "logs"), await claim_of(world)]
    manifest = {"apiVersion": API_VERSION, "kind": "Volume", "metadata": {"name": "logs"}, "spec": spec}
    applied = ("apply", "--server-side", f"--namespace={world.namespace}", "-f", "-")
    node_cluster.kubectl(*applied, document=json.dumps(manifest))
    operator = world.start_operator()

    async def looked() -> bool:
        return operator.metric("lucid_reconciles_total", kind="Volume") >= 3

    await world.until(looked, 60, "three looks with figures")
    after = [await world.get("Volume", "logs"), await claim_of(world)]
    assert [body["status"] for body in after] == [body["status"] for body in before]
    assert after[1]["metadata"]["resourceVersion"] == before[1]["metadata"]["resourceVersion"]
    assert after[1]["spec"]["resources"]["requests"]["storage"] == "128Mi"
    assert condition(after[0]["status"], "Ready")["status"] == "True"
    for written in ("lucid_status_writes_total", "lucid_actions_total"):
        assert operator.metric(written) == 0

    # Deletion waits for the pod, and then takes the volume with it.
    volume = status["volumeName"]
    await world.delete("Volume", "logs", wait=None)
    await world.refused("Volume", "logs", "ClaimInUse")
    await end_pod(world, "logs")
    await world.until(lambda: world._gone("Volume", "logs"), 60, "the Volume to be gone")

    async def freed() -> bool:
        return await world.kube.get(f"/api/v1/persistentvolumes/{volume}") is None

    await world.until(freed, 60, "the PersistentVolume to be gone")


async def claim_of(world: World) -> Json:
    found = await world.kube.get(claims_path(world, "logs"))
    assert found is not None
    return found


async def _full(world: World) -> bool:
    status = (await world.get("Volume", "logs"))["status"]
    told = [condition(status, kind).get("status") for kind in ("UsageWarning", "UsageCritical")]
    return told == ["True", "True"]


async def _calm(world: World) -> bool:
    status = (await world.get("Volume", "logs"))["status"]
    return condition(status, "UsageWarning").get("status") == "False" and status["phase"] == "Bound"


async def test_a_size_that_the_driver_refuses_is_one_condition_until_it_takes_it(
    world: World, node_cluster: OwnCluster, storage_classes: StorageClasses
) -> None:
    world.start_operator()
    spec = {"type": "logs", "size": "64Mi", "storageClassName": storage_classes.loop}
    await world.create("Volume", "logs", spec)
    status = await world.ready("Volume", "logs")
    storage = node_cluster.storage()
    with storage.fault(
        "ControllerExpandVolume", status["volumeName"], code=OUT_OF_RANGE, message="the array has no room"
    ):
        await world.patch("Volume", "logs", {"spec": {"size": "96Mi"}})
        said = await world.refused("Volume", "logs", "ExpansionFailed", deadline=60)
        assert "the array has no room" in said["message"]
    await world.kube.request("DELETE", claims_path(world, "logs"))


@pytest.mark.timeout(900)  # the first test of a run that needs the operator's image builds it
async def test_a_volume_of_local_path_waits_for_a_pod_and_a_reader_tells_its_use(
    world: World, node_cluster: OwnCluster, storage_classes: StorageClasses
) -> None:
    root = project_root()
    image = node_cluster.provide_image(root / "Dockerfile", root, TEST_IMAGE)
    world.start_operator(WORKER_IMAGE=image, VOLUME_READER_SECONDS="5")
    await world.create("Volume", "chunks", {"type": "chunks", "size": "32Mi", "deletionPolicy": "Delete"})
    said = await world.refused("Volume", "chunks", "WaitingForPod")
    assert storage_classes.local_path in said["message"]

    await start_lasting(world, "chunks", "chunks", "dd if=/dev/zero of=/data/some bs=1M count=30")
    status = await world.ready("Volume", "chunks", deadline=60)
    assert status["storageClassName"] == storage_classes.local_path
    expandable = condition(status, "Expandable")
    assert (expandable["status"], expandable["reason"]) == ("False", "NotExpandable")
    assert "resizeStrategy: Migrate" in expandable["message"]
    await world.patch("Volume", "chunks", {"spec": {"size": "64Mi"}})
    said = await world.refused("Volume", "chunks", "NotInPlace")
    assert "resizeStrategy: Migrate" in said["message"]

    # The kubelet tells the whole disk of the node; the reader adds up the volume's own files.
    await world.until(lambda: _counted(world), 90, "the reader's figures")
    status = (await world.get("Volume", "chunks"))["status"]
    assert 30 << 20 <= status["usedBytes"] < 32 << 20
    assert status["useSummary"] in ("94%", "95%")
    assert condition(status, "UsageWarning")["status"] == "True"


async def _counted(world: World) -> bool:
    """A reader that came before the pod had written tells less, and another one follows."""
    status = (await world.get("Volume", "chunks"))["status"]
    return status.get("usageSource") == "reader pod" and status["usedBytes"] >= 30 << 20
