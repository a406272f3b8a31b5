"""Storage classes of the test bed's node do what a real cluster's do."""

import json
import os
import ssl
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed import cluster_remains
from testbed.cluster.images import BUSYBOX, busybox
from testbed.cluster.provider import OwnCluster
from testbed.cluster.storage import CSI_DRIVER
from testbed.cluster.storage_objects import DRIVER, FIGURES_ACCOUNT, StorageClasses
from testbed.errors import TestbedError
from testbed.process import wait_until
from testbed.progress import Silent

pytestmark = [pytest.mark.node, pytest.mark.xdist_group("node")]

MEBIBYTE = 1 << 20
RESOURCE_EXHAUSTED = 8


def apply(cluster: OwnCluster, *objects: dict[str, Any]) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    cluster.kubectl("apply", "--filename=-", document=text)


def get(cluster: OwnCluster, kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cluster.kubectl("get", kind, name, "--output=json"))
    return found


def claim(name: str, storage_class: str, size: str = "64Mi", **spec: object) -> dict[str, Any]:
    asked = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {**asked, "storageClassName": storage_class, **spec},
    }


def pod(name: str, *script: str) -> dict[str, Any]:
    """Runs the script with the claim of its own name at /data, and lasts."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "fsGroup": 65532,
                "runAsNonRoot": True,
            },
            "containers": [
                {
                    "name": "main",
                    "image": BUSYBOX,
                    "command": ["sh", "-ec", "; ".join([*script, "exec sleep 100000"])],
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }
            ],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": name}}],
        },
    }


def run(cluster: OwnCluster, name: str, *command: str) -> str:
    return cluster.kubectl("exec", name, "--", *command)


def wait_ready(cluster: OwnCluster, *names: str) -> None:
    pods = [f"pod/{name}" for name in names]
    try:
        cluster.kubectl("wait", *pods, "--for=condition=Ready", "--timeout=60s")
    except TestbedError as late:
        late.add_note(cluster.kubectl("describe", *pods))
        raise


def volume_of(cluster: OwnCluster, name: str) -> str:
    return str(get(cluster, "pvc", name)["spec"]["volumeName"])


def bytes_of(cluster: OwnCluster, name: str) -> int:
    """How large the file system is that the pod sees."""
    return int(run(cluster, name, "df", "-k", "/data").splitlines()[-1].split()[1]) * 1024


def grow(cluster: OwnCluster, name: str, size: str) -> None:
    patch = json.dumps({"spec": {"resources": {"requests": {"storage": size}}}})
    cluster.kubectl("patch", "pvc", name, "--patch", patch)


def delete(cluster: OwnCluster, *names: str) -> None:
    cluster.kubectl("delete", "pod", *names, "--ignore-not-found", "--now", "--wait=false")
    cluster.kubectl("delete", "pvc", *names, "--ignore-not-found", "--wait=false")


def snapshot(name: str, source: str, snapshot_class: str) -> dict[str, Any]:
    return {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": {"name": name},
        "spec": {
            "volumeSnapshotClassName": snapshot_class,
            "source": {"persistentVolumeClaimName": source},
        },
    }


@pytest.fixture(scope="module")
def mounted(node_cluster: OwnCluster, storage_classes: StorageClasses) -> Iterator[str]:
    """The name of a pod and its claim of 64 MiB in the class that grows."""
    name = f"mounted-{uuid.uuid4().hex[:6]}"
    apply(node_cluster, claim(name, storage_classes.loop), pod(name, "echo first > /data/word"))
    wait_ready(node_cluster, name)
    yield name
    delete(node_cluster, name)


def test_a_pod_without_privileges_writes_to_the_default_class(
    node_cluster: OwnCluster, storage_classes: StorageClasses
) -> None:
    name = f"default-{uuid.uuid4().hex[:6]}"
    document = claim(name, "")
    del document["spec"]["storageClassName"]
    apply(node_cluster, document)
    assert get(node_cluster, "pvc", name)["status"]["phase"] == "Pending"

    apply(node_cluster, pod(name, "echo written > /data/word"))
    wait_ready(node_cluster, name)

    found = get(node_cluster, "pvc", name)
    assert found["spec"]["storageClassName"] == storage_classes.local_path
    assert run(node_cluster, name, "cat", "/data/word") == "written\n"
    assert "allowVolumeExpansion" not in get(node_cluster, "storageclass", storage_classes.local_path)
    folder = Path(get(node_cluster, "pv", found["spec"]["volumeName"])["spec"]["local"]["path"])
    inside = node_cluster.instance.data / "node" / "lib" / folder.relative_to("/var/lib")
    assert (inside / "word").read_text() == "written\n"

    delete(node_cluster, name)
    wait_until(lambda: not inside.exists(), 60, "The end of the deleted claim's folder")


def test_a_claim_of_the_class_that_grows_is_bound_before_a_pod_comes(
    node_cluster: OwnCluster, storage_classes: StorageClasses
) -> None:
    name = f"early-{uuid.uuid4().hex[:6]}"
    apply(node_cluster, claim(name, storage_classes.loop))
    node_cluster.kubectl("wait", f"pvc/{name}", "--for=jsonpath={.status.phase}=Bound", "--timeout=60s")
    volume = volume_of(node_cluster, name)
    image = node_cluster.storage().folder / "volumes" / f"{volume}.img"
    assert image.stat().st_size == 64 * MEBIBYTE

    delete(node_cluster, name)
    wait_until(lambda: not image.exists(), 60, "The end of the deleted claim's image")


def test_a_claim_of_a_class_that_does_not_exist_stays_pending(
    node_cluster: OwnCluster, storage_classes: StorageClasses
) -> None:
    name = f"nowhere-{uuid.uuid4().hex[:6]}"
    apply(node_cluster, claim(name, storage_classes.missing))
    said = f"--field-selector=involvedObject.name={name},reason=ProvisioningFailed"
    wait_until(
        lambda: "not found" in node_cluster.kubectl("get", "events", said),
        30,
        "The event of a class that does not exist",
    )
    assert get(node_cluster, "pvc", name)["status"]["phase"] == "Pending"
    delete(node_cluster, name)


def test_a_mounted_volume_grows_and_the_kubelet_tells_its_true_figures(
    node_cluster: OwnCluster, mounted: str
) -> None:
    assert bytes_of(node_cluster, mounted) < 64 * MEBIBYTE
    run(node_cluster, mounted, "dd", "if=/dev/zero", "of=/data/filler", "bs=1M", "count=20")

    grow(node_cluster, mounted, "128Mi")
    wait_until(
        lambda: bytes_of(node_cluster, mounted) > 100 * MEBIBYTE, 60, "The growth of a mounted file system"
    )

    assert run(node_cluster, mounted, "cat", "/data/word") == "first\n"
    capacity = "{.status.capacity.storage}"
    node_cluster.kubectl("wait", f"pvc/{mounted}", f"--for=jsonpath={capacity}=128Mi", "--timeout=30s")
    ask = statistics(node_cluster)
    wait_until(
        lambda: (
            ask(mounted).get("capacityBytes", 0) > 100 * MEBIBYTE
            and ask(mounted).get("usedBytes", 0) > 20 * MEBIBYTE
        ),
        60,
        "The kubelet's figures of the grown volume",
    )
    assert ask(mounted)["capacityBytes"] == bytes_of(node_cluster, mounted)
    assert ask(mounted)["inodes"] > ask(mounted)["inodesUsed"] > 0


def test_an_ext4_volume_grows_while_mounted_or_at_the_next_mount(
    node_cluster: OwnCluster, storage_classes: StorageClasses
) -> None:
    name = f"ext4-{uuid.uuid4().hex[:6]}"
    apply(node_cluster, claim(name, storage_classes.ext4), pod(name, "echo kept > /data/word"))
    wait_ready(node_cluster, name)
    assert get(node_cluster, "pv", volume_of(node_cluster, name))["spec"]["csi"]["fsType"] == "ext4"
    grow(node_cluster, name, "128Mi")
    image = node_cluster.storage().folder / "volumes" / f"{volume_of(node_cluster, name)}.img"
    wait_until(lambda: image.stat().st_size == 128 * MEBIBYTE, 60, "The growth of the image")

    if not may_grow_mounted_ext4():
        assert bytes_of(node_cluster, name) < 64 * MEBIBYTE
        node_cluster.kubectl("delete", "pod", name, "--now")
        apply(node_cluster, pod(name))
        wait_ready(node_cluster, name)

    wait_until(lambda: bytes_of(node_cluster, name) > 100 * MEBIBYTE, 60, "The growth of the file system")
    assert run(node_cluster, name, "cat", "/data/word") == "kept\n"
    capacity = "{.status.capacity.storage}"
    node_cluster.kubectl("wait", f"pvc/{name}", f"--for=jsonpath={capacity}=128Mi", "--timeout=60s")
    delete(node_cluster, name)


def may_grow_mounted_ext4() -> bool:
    """Whether root on this machine has CAP_SYS_RESOURCE."""
    status = Path("/proc/self/status").read_text()
    [effective] = [line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")]
    return bool(int(effective, 16) >> 24 & 1)


def statistics(cluster: OwnCluster) -> Callable[[str], dict[str, int]]:
    """Asks the kubelet as an account that may do nothing else, and checks the kubelet's certificate."""
    token = cluster.kubectl("create", "token", FIGURES_ACCOUNT).strip()
    trust = ssl.create_default_context(cafile=str(cluster.kubelet_authority))
    address = f"https://{cluster.node().network.node_address}:10250/stats/summary"
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"})

    def ask(name: str) -> dict[str, int]:
        with urllib.request.urlopen(request, context=trust, timeout=10) as answer:
            pods = json.load(answer)["pods"]
        volumes = [
            volume
            for pod in pods
            for volume in pod.get("volume", ())
            if volume.get("pvcRef", {}).get("name") == name
        ]
        return volumes[0] if volumes else {}

    return ask


def test_a_snapshot_of_a_mounted_volume_fills_a_new_and_larger_claim(
    node_cluster: OwnCluster, storage_classes: StorageClasses, mounted: str
) -> None:
    taken, copy = f"taken-{uuid.uuid4().hex[:6]}", f"copy-{uuid.uuid4().hex[:6]}"
    run(node_cluster, mounted, "sh", "-c", "echo before > /data/moment; mkdir -p /data/deep/er")
    apply(node_cluster, snapshot(taken, mounted, storage_classes.snapshot))
    ready = "--for=jsonpath={.status.readyToUse}=true"
    node_cluster.kubectl("wait", f"volumesnapshot/{taken}", ready, "--timeout=60s")
    run(node_cluster, mounted, "sh", "-c", "echo after > /data/moment")

    source = {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": taken}
    apply(node_cluster, claim(copy, storage_classes.loop, "256Mi", dataSource=source), pod(copy))
    wait_ready(node_cluster, copy)

    assert run(node_cluster, copy, "cat", "/data/moment", "/data/word") == "before\nfirst\n"
    assert "er" in run(node_cluster, copy, "ls", "/data/deep")
    assert bytes_of(node_cluster, copy) > 200 * MEBIBYTE
    kept = node_cluster.storage().folder / "snapshots"
    handle = get(node_cluster, "volumesnapshot", taken)["status"]["boundVolumeSnapshotContentName"]
    handle = get(node_cluster, "volumesnapshotcontent", handle)["status"]["snapshotHandle"]
    assert (kept / f"{handle}.img").exists()
    node_cluster.kubectl("delete", "volumesnapshot", taken, "--timeout=60s")
    wait_until(lambda: not (kept / f"{handle}.img").exists(), 60, "The end of the deleted snapshot's image")
    delete(node_cluster, copy)


def test_deleting_pod_and_claim_frees_the_loop_device_and_removes_the_image(
    node_cluster: OwnCluster, storage_classes: StorageClasses
) -> None:
    name = f"gone-{uuid.uuid4().hex[:6]}"
    apply(node_cluster, claim(name, storage_classes.loop), pod(name))
    wait_ready(node_cluster, name)
    volume = volume_of(node_cluster, name)
    assert volume in loop_volumes()

    delete(node_cluster, name)

    image = node_cluster.storage().folder / "volumes" / f"{volume}.img"
    wait_until(lambda: volume not in loop_volumes(), 60, "The end of the loop device")
    wait_until(lambda: not image.exists(), 60, "The end of the image")
    wait_until(
        lambda: not node_cluster.kubectl("get", "pv", volume, "--ignore-not-found"), 60, "The end of the PV"
    )


def test_an_expansion_that_the_driver_refuses_is_told_and_made_good_later(
    node_cluster: OwnCluster, storage_classes: StorageClasses
) -> None:
    name = f"refused-{uuid.uuid4().hex[:6]}"
    apply(node_cluster, claim(name, storage_classes.loop))
    node_cluster.kubectl("wait", f"pvc/{name}", "--for=jsonpath={.status.phase}=Bound", "--timeout=60s")
    volume = volume_of(node_cluster, name)
    image = node_cluster.storage().folder / "volumes" / f"{volume}.img"
    switch = node_cluster.storage().fault(
        "ControllerExpandVolume", volume, code=RESOURCE_EXHAUSTED, message="the pool is full"
    )
    with switch:
        grow(node_cluster, name, "128Mi")
        said = f"--field-selector=involvedObject.name={name},reason=VolumeResizeFailed"
        wait_until(
            lambda: "the pool is full" in node_cluster.kubectl("get", "events", said),
            60,
            "The refusal's event",
        )
        assert image.stat().st_size == 64 * MEBIBYTE
    wait_until(lambda: image.stat().st_size == 128 * MEBIBYTE, 60, "The expansion after the refusal")
    delete(node_cluster, name)


def test_a_claim_can_be_made_to_fail_until_its_annotation_goes(
    node_cluster: OwnCluster, storage_classes: StorageClasses
) -> None:
    name = f"faulty-{uuid.uuid4().hex[:6]}"
    document = claim(name, storage_classes.loop)
    fault = {"code": RESOURCE_EXHAUSTED, "message": "no room is left"}
    document["metadata"]["annotations"] = {f"{DRIVER}/create-fault": json.dumps(fault)}
    apply(node_cluster, document)
    said = f"--field-selector=involvedObject.name={name},reason=ProvisioningFailed"
    wait_until(
        lambda: "no room is left" in node_cluster.kubectl("get", "events", said), 60, "The failure's event"
    )
    node_cluster.kubectl("annotate", "pvc", name, f"{DRIVER}/create-fault-")
    node_cluster.kubectl("wait", f"pvc/{name}", "--for=jsonpath={.status.phase}=Bound", "--timeout=60s")
    delete(node_cluster, name)


def loop_volumes() -> set[str]:
    """Volumes that have a loop device on this machine."""
    found = set()
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            found.add(Path(backing.read_text().split()[0]).stem)
        except (OSError, IndexError):  # freed this moment
            continue
    return found


def test_a_killed_driver_comes_back_and_a_killed_node_leaves_no_loop_device(
    private_cluster: Callable[[], OwnCluster],
) -> None:
    cluster = private_cluster()
    cluster.load(busybox(Silent()))
    classes = cluster.provide_storage()
    apply(cluster, claim("lasting", classes.loop), pod("lasting", "echo here > /data/word"))
    wait_ready(cluster, "lasting")
    driver = cluster.storage().daemon(CSI_DRIVER)

    driver.kill()
    assert not cluster.storage_running()
    assert run(cluster, "lasting", "cat", "/data/word") == "here\n"
    apply(cluster, claim("later", classes.loop))
    cluster.provide_storage()

    assert run(cluster, "lasting", "sh", "-c", "echo more >> /data/word; cat /data/word") == "here\nmore\n"
    cluster.kubectl("wait", "pvc/later", "--for=jsonpath={.status.phase}=Bound", "--timeout=60s")
    volume = volume_of(cluster, "lasting")
    assert volume in loop_volumes()

    os.kill(cluster.node().pid(), 9)
    wait_until(lambda: not cluster_remains.loop_devices(cluster.instance), 30, "The end of the loop devices")
    assert volume not in loop_volumes()
    cluster.down()
    mounts = Path("/proc/mounts").read_text()
    assert str(cluster.instance.root) not in mounts
    image = cluster.storage().folder / "volumes" / f"{volume}.img"
    assert image.exists()
