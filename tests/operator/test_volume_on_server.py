"""Volumes on a real API server with its binder of claims; there is no node, so drivers' answers are written by hand."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from statistics import median
from time import monotonic
from typing import Any

import pytest

from lucid_storage.kube.client import Json, KubeApiError
from lucid_storage.models.meta import CONFIRM_DELETE, PAUSED
from testbed.pytest_operator import World

pytestmark = pytest.mark.apiserver

STATUS = "status"


class Storage:
    """Classes and volumes of a test's own, removed afterwards."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.kube = world.kube
        self.made: list[str] = []

    async def storage_class(self, *, expandable: bool = False, **fields: Any) -> str:
        name = f"class-{uuid.uuid4().hex[:8]}"
        body = {
            "metadata": {"name": name},
            "provisioner": "kubernetes.io/no-provisioner",
            "allowVolumeExpansion": expandable,
            "volumeBindingMode": "Immediate",
            **fields,
        }
        await self._make("/apis/storage.k8s.io/v1/storageclasses", body)
        return name

    async def volume(
        self, class_name: str, size: str = "10Gi", *, policy: str = "Retain", node: str | None = None
    ) -> str:
        """A PersistentVolume that the binder gives to the next claim of the class; on the disk of a node."""
        name = f"pv-{uuid.uuid4().hex[:8]}"
        body: Json = {
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": size},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": policy,
                "storageClassName": class_name,
                "hostPath": {"path": f"/nowhere/{name}"},
            },
        }
        if node is not None:
            here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
            terms = [{"matchExpressions": [here]}]
            body["spec"]["nodeAffinity"] = {"required": {"nodeSelectorTerms": terms}}
        await self._make("/api/v1/persistentvolumes", body)
        return name

    async def node(self) -> str:
        """One whose kubelet nobody is."""
        name = f"node-{uuid.uuid4().hex[:8]}"
        labels = {"kubernetes.io/hostname": name}
        await self._make("/api/v1/nodes", {"metadata": {"name": name, "labels": labels}})
        return name

    async def kubelet_says(self, node: str, ready: str) -> None:
        """Whether a node is Ready: True, False or Unknown."""
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        told = {"type": "Ready", "status": ready, "lastHeartbeatTime": now, "lastTransitionTime": now}
        await self.kube.patch(f"/api/v1/nodes/{node}/status", {"status": {"conditions": [told]}})

    async def claim(self, name: str) -> Json | None:
        return await self.kube.get(self.claim_path(name))

    def claim_path(self, name: str, sub: str = "") -> str:
        base = f"/api/v1/namespaces/{self.world.namespace}/persistentvolumeclaims/{name}"
        return f"{base}/{sub}" if sub else base

    async def make_claim(self, name: str, class_name: str, size: str, **spec: Any) -> None:
        asked = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
        body = {"metadata": {"name": name}, "spec": {**asked, "storageClassName": class_name, **spec}}
        path = f"/api/v1/namespaces/{self.world.namespace}/persistentvolumeclaims"
        await self.kube.request("POST", path, body=body)

    async def going(self, name: str) -> bool:
        """Whether somebody asked for its deletion."""
        found = await self.claim(name)
        return found is None or found["metadata"].get("deletionTimestamp") is not None

    async def requested(self, name: str) -> str:
        found = await self.claim(name)
        assert found is not None
        size: str = found["spec"]["resources"]["requests"]["storage"]
        return size

    async def driver_says(self, name: str, size: str, conditions: list[Json] | None = None) -> None:
        """What a resizer writes into a claim's status."""
        await self.kube.patch(
            self.claim_path(name, STATUS),
            {"status": {"capacity": {"storage": size}, "conditions": conditions or []}},
        )

    async def _make(self, path: str, body: Json) -> None:
        await self.kube.request("POST", path, body=body)
        self.made.append(f"{path}/{body['metadata']['name']}")

    async def clean_up(self) -> None:
        for path in self.made:
            try:
                await self.kube.patch(path, {"metadata": {"finalizers": None}})
                await self.kube.request("DELETE", path)
            except KubeApiError as error:
                if error.status != 404:
                    raise


@pytest.fixture
async def storage(world: World) -> AsyncIterator[Storage]:
    made = Storage(world)
    yield made
    await made.clean_up()


async def bound(world: World, storage: Storage, name: str = "chunks", **spec: Any) -> tuple[str, str]:
    """A Ready Volume with its class and PersistentVolume; its operator runs."""
    class_name = await storage.storage_class(expandable=True)
    volume = await storage.volume(class_name, policy=spec.pop("policy", "Retain"))
    await world.create(
        "Volume", name, {"type": "chunks", "size": "10Gi", "storageClassName": class_name, **spec}
    )
    await world.ready("Volume", name)
    return class_name, volume


async def test_a_volume_is_made_bound_expanded_paused_and_kept(world: World, storage: Storage) -> None:
    operator = world.start_operator()
    class_name, volume = await bound(world, storage)
    status = (await world.get("Volume", "chunks"))["status"]
    assert (status["phase"], status["size"], status["storageClassName"], status["volumeName"]) == (
        "Bound",
        "10Gi",
        class_name,
        volume,
    )
    # The claim made, bound, its capacity written: others do these, so each may be seen by itself.
    assert operator.metric("lucid_status_writes_total") <= 5

    await world.patch("Volume", "chunks", {"spec": {"size": "12Gi"}})
    await world.refused("Volume", "chunks", "Expanding", deadline=5)
    assert await storage.requested("chunks") == "12Gi"
    failed = {
        "type": "ControllerResizeError",
        "status": "True",
        "message": "the array has no room",
        "lastTransitionTime": "2026-11-21T09:00:00Z",
    }
    await storage.driver_says("chunks", "10Gi", [failed])
    said = await world.refused("Volume", "chunks", "ExpansionFailed", deadline=5)
    assert "the array has no room" in said["message"]
    await storage.driver_says("chunks", "12Gi")
    await world.ready("Volume", "chunks", deadline=5)
    assert (await world.get("Volume", "chunks"))["status"]["size"] == "12Gi"

    await world.patch("Volume", "chunks", {"metadata": {"annotations": {PAUSED: "true"}}})
    await world.patch("Volume", "chunks", {"spec": {"size": "14Gi"}})
    said = await world.refused("Volume", "chunks", "Paused")
    assert "expand the claim chunks from 12Gi to 14Gi" in said["message"]
    assert await storage.requested("chunks") == "12Gi"

    await world.delete("Volume", "chunks", wait=5)
    assert await storage.claim("chunks") is not None


async def test_status_moves_soon_after_a_change(world: World, storage: Storage) -> None:
    """How soon is measured by the bench (`volume operations, status moves`); here it is no matter of polling."""
    world.start_operator()
    await bound(world, storage)
    took: list[float] = []
    for size in ("12Gi", "14Gi", "16Gi"):
        began = monotonic()
        await world.patch("Volume", "chunks", {"spec": {"size": size}})
        await world.refused("Volume", "chunks", "Expanding", deadline=5)
        took.append(monotonic() - began)
        began = monotonic()
        await storage.driver_says("chunks", size)
        await world.ready("Volume", "chunks", deadline=5)
        took.append(monotonic() - began)
    assert median(took) < 2, took


async def test_a_node_that_is_away_is_told_until_it_answers_again(world: World, storage: Storage) -> None:
    world.start_operator(VOLUME_STATS_SECONDS="1")
    class_name, node = await storage.storage_class(), await storage.node()
    await storage.kubelet_says(node, "True")
    await storage.volume(class_name, node=node)
    await world.create("Volume", "chunks", {"type": "chunks", "size": "10Gi", "storageClassName": class_name})
    await world.ready("Volume", "chunks")
    await storage.kubelet_says(node, "Unknown")
    said = await world.refused("Volume", "chunks", "NodeAway", deadline=15)
    assert f"The volume lies on the node {node}, which has not answered since" in said["message"]
    await storage.kubelet_says(node, "True")
    await world.ready("Volume", "chunks", deadline=15)


async def test_an_adopted_claim_stays_until_its_deletion_is_confirmed_and_no_pod_uses_it(
    world: World, storage: Storage
) -> None:
    class_name = await storage.storage_class()
    await storage.volume(class_name)
    await storage.make_claim("chunks", class_name, "8Gi")
    world.start_operator()
    spec = {"type": "chunks", "deletionPolicy": "Delete"}
    await world.create("Volume", "chunks", spec)
    status = await world.ready("Volume", "chunks")
    assert (status["origin"], status["requestedSize"]) == ("Adopted", "8Gi")
    assert status["expandable"] is False
    await world.delete("Volume", "chunks")
    assert not await storage.going("chunks")

    await _pod(world, "writer", "chunks")
    await world.create("Volume", "chunks", spec, {CONFIRM_DELETE: "chunks"})
    await world.ready("Volume", "chunks")
    await world.delete("Volume", "chunks", wait=None)
    said = await world.refused("Volume", "chunks", "ClaimInUse")
    assert "writer" in said["message"]
    assert not await storage.going("chunks")
    pod = f"/api/v1/namespaces/{world.namespace}/pods/writer"
    await world.kube.request("DELETE", pod, body={"gracePeriodSeconds": 0})
    await world.until(lambda: world._gone("Volume", "chunks"), 30, "the Volume to be gone")
    assert await storage.claim("chunks") is None


async def _pod(world: World, name: str, claim: str) -> None:
    path = f"/api/v1/namespaces/{world.namespace}"
    body = {
        "metadata": {"name": name},
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [{"name": "main", "image": "none"}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
        },
    }

    async def may_be_made() -> bool:
        return await world.kube.get(f"{path}/serviceaccounts/default") is not None

    await world.until(may_be_made, 20, "the namespace's ServiceAccount")
    await world.kube.request("POST", f"{path}/pods", body=body)


async def test_a_claim_deleted_by_hand_is_told_at_once_and_never_replaced(
    world: World, storage: Storage
) -> None:
    world.start_operator()
    class_name, volume = await bound(world, storage)
    await storage.volume(class_name)  # another one that an empty claim would get
    await world.kube.request("DELETE", storage.claim_path("chunks"))
    said = await world.refused("Volume", "chunks", "ClaimLost", deadline=10)
    assert f"safe on the PersistentVolume {volume}" in said["message"]
    status = (await world.get("Volume", "chunks"))["status"]
    assert status["phase"] == "Lost"
    assert await storage.claim("chunks") is None

    # As the message says: the same data under a new claim are taken over.
    path = f"/api/v1/persistentvolumes/{volume}"
    await world.kube.patch(path, {"spec": {"claimRef": {"uid": None, "resourceVersion": None}}})

    async def free() -> bool:
        found = await world.kube.get(path)
        return found is not None and found["status"]["phase"] == "Available"

    await world.until(free, 30, "the PersistentVolume to be free")
    await storage.make_claim("chunks", class_name, "10Gi", volumeName=volume)
    status = await world.ready("Volume", "chunks")
    assert (status["volumeName"], status["origin"]) == (volume, "Adopted")


async def test_a_missing_class_and_a_wrong_one_are_told_and_mended(world: World, storage: Storage) -> None:
    world.start_operator()
    await world.create("Volume", "chunks", {"type": "chunks", "storageClassName": "no-such-class"})
    said = await world.refused("Volume", "chunks", "ClassNotFound")
    assert "no-such-class" in said["message"]
    assert await storage.claim("chunks") is None

    waiting = await storage.storage_class(volumeBindingMode="WaitForFirstConsumer")
    await world.patch("Volume", "chunks", {"spec": {"storageClassName": waiting}})
    said = await world.refused("Volume", "chunks", "WaitingForPod")
    assert "first pod" in said["message"]
    assert (await world.get("Volume", "chunks"))["status"]["phase"] == "Pending"

    # It holds no data yet, so it is made anew.
    right = await storage.storage_class()
    await storage.volume(right, "20Gi")
    await world.patch("Volume", "chunks", {"spec": {"storageClassName": right}})
    status = await world.ready("Volume", "chunks")
    assert status["storageClassName"] == right


async def test_a_used_up_quota_is_one_condition_without_a_storm(world: World, storage: Storage) -> None:
    quota = {"metadata": {"name": "disk"}, "spec": {"hard": {"requests.storage": "10Gi"}}}
    path = f"/api/v1/namespaces/{world.namespace}/resourcequotas"
    await world.kube.request("POST", path, body=quota)

    async def counted() -> bool:
        found = await world.kube.get(f"{path}/disk")
        return found is not None and "requests.storage" in found.get("status", {}).get("hard", {})

    await world.until(counted, 20, "the quota to be counted")
    operator = world.start_operator()
    class_name = await storage.storage_class(expandable=True)
    await storage.volume(class_name)
    spec = {"type": "chunks", "size": "11Gi", "storageClassName": class_name}
    await world.create("Volume", "too-large", spec)
    said = await world.refused("Volume", "too-large", "QuotaExceeded")
    assert "requests.storage" in said["message"]

    async def told() -> bool:
        return any(e["reason"] == "QuotaExceeded" for e in await world.events("too-large"))

    await world.until(told, 10, "the event")
    assert operator.metric("lucid_status_writes_total") <= 3

    await world.create("Volume", "chunks", {**spec, "size": "10Gi"})
    await world.ready("Volume", "chunks")
    await world.patch("Volume", "chunks", {"spec": {"size": "12Gi"}})
    await world.refused("Volume", "chunks", "QuotaExceeded")
    events = [e for e in await world.events("too-large") if e["reason"] == "QuotaExceeded"]
    assert len(events) == 1
    await world.kube.patch(f"{path}/disk", {"spec": {"hard": {"requests.storage": "30Gi"}}})

    async def asked() -> bool:
        return await storage.requested("chunks") == "12Gi"

    await world.until(asked, 40, "the expansion after the quota was raised")


async def test_a_restart_changes_nothing_and_forbidden_drops_leave_the_claim(
    world: World, storage: Storage
) -> None:
    operator = world.start_operator()
    await bound(world, storage, deletionPolicy="Delete")
    before = await world.get("Volume", "chunks")
    operator.stop()
    operator = world.start_operator(FORBID_DROPS="true")
    after = await world.get("Volume", "chunks")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert operator.metric("lucid_status_writes_total") == 0
    await world.delete("Volume", "chunks")
    assert not await storage.going("chunks")
