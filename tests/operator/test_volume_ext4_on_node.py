"""A Volume of the ext4 class on a real node: its true figures, its growth, its moves, and workers that are deleted."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pytest
from volume_node_bed import (
    COPY,
    claims_path,
    condition,
    end_pod,
    migrated,
    node_world,
    pods_path,
    ran,
    start_lasting,
)

from lucid_storage.kinds.workers.job import VOLUMES_FOLDER
from lucid_storage.kube.client import Json
from testbed.cluster.provider import OwnCluster
from testbed.cluster.storage_objects import StorageClasses
from testbed.pytest_operator import World
from testbed.testrun import TestRun

pytestmark = [
    pytest.mark.node,
    pytest.mark.xdist_group("node"),
    pytest.mark.timeout(900),  # the first test of a run that needs the operator's image builds it
]

MIB = 1 << 20
CAP_SYS_RESOURCE = 24
"""Without it the kernel does not let root grow ext4 while it is mounted."""
WRITE = (
    "dd if=/dev/urandom of=/data/one bs=1M count=46 2>/dev/null; mkdir -p /data/deep; echo two > /data/deep/two;"
    " ln /data/one /data/deep/again; ln -s one /data/link; chmod 640 /data/deep/two"
)
FILES, FILE_MIB = 40, 4
WRITE_MANY = (
    f"for n in $(seq {FILES}); do dd if=/dev/urandom of=/data/file-$n bs=1M count={FILE_MIB} 2>/dev/null; done;"
    " ln -s file-1 /data/link"
)
SUMS = (
    "cd /data; find . -name lost+found -prune -o -type f -exec sha256sum {} + | sort -k 2; readlink link;"
    " find . -name lost+found -prune -o -type f -exec stat -c '%n %a %u %g %h %Y' {} + | sort"
)


@pytest.fixture
async def world(
    node_cluster: OwnCluster, storage_classes: StorageClasses, testbed_run: TestRun
) -> AsyncIterator[World]:
    async with node_world(node_cluster, testbed_run, image=True) as made:
        yield made


async def test_a_volume_of_ext4_tells_its_figures_grows_and_moves_to_local_path(
    world: World, storage_classes: StorageClasses
) -> None:
    world.start_operator()
    spec = {"type": "blocks", "size": "64Mi", "storageClassName": storage_classes.ext4, "copy": COPY}
    await world.create("Volume", "blocks", spec)
    await start_lasting(world, "store", "blocks", f"{WRITE}; {SUMS}")
    # A threshold is told at once, whatever the kubelet saw before the pod had written.
    status = await figures(world, "blocks", lambda s: s["usedBytes"] >= 46 * MIB)
    assert (status["usageSource"], condition(status, "UsageWarning")["status"]) == ("kubelet", "True")
    assert 48 * MIB < status["capacityBytes"] < 64 * MIB  # of the file system, without its own tables
    assert condition(status, "Expandable")["status"] == "True"
    before = await world.kube.text(f"{pods_path(world, 'store')}/log", query={})

    await world.patch("Volume", "blocks", {"spec": {"size": "96Mi"}})
    if not may_grow_mounted_ext4():
        said = await world.refused("Volume", "blocks", "ClaimInUse")
        assert "under the pods that use it: store. End them" in said["message"]
        await end_pod(world, "store")
        await until(lambda: detached(world, status["volumeName"]), 60, "the node to let the volume go")
        await start_lasting(world, "store-again", "blocks", "true")
    status = await figures(world, "blocks", lambda s: s["capacityBytes"] > 64 * MIB)
    assert condition(status, "UsageWarning")["status"] == "False"
    assert (status["size"], condition(await ready(world, "blocks"), "Ready")["status"]) == ("96Mi", "True")

    # The move waits for the pod that has it, and no longer.
    there = {"storageClassName": storage_classes.local_path, "resizeStrategy": "Migrate"}
    await world.patch("Volume", "blocks", {"spec": there})
    said = await world.refused("Volume", "blocks", "ClaimInUse")
    (user,) = [p["metadata"]["name"] for p in await alive(world)]
    assert f"these do: {user}." in said["message"]
    await end_pod(world, user)
    status = await migrated(world, "blocks", storage_classes.local_path)
    assert status["size"] == "96Mi"
    assert await ran(world, "reader", "blocks", ["sh", "-ec", SUMS]) == before


async def test_a_migration_whose_pod_and_then_whose_job_is_deleted_begins_anew_and_loses_nothing(
    world: World, node_cluster: OwnCluster, storage_classes: StorageClasses
) -> None:
    """Each worker is stopped in the middle of its copy. One whose Job was deleted still lives for a while: no other one
    begins before it has ended.
    """
    world.start_operator()
    local = {"type": "chunks", "size": "256Mi", "storageClassName": storage_classes.local_path}
    await world.create("Volume", "chunks", {**local, "resizeStrategy": "Migrate", "copy": COPY})
    before = await ran(world, "writer", "chunks", ["sh", "-ec", f"{WRITE_MANY}; {SUMS}"])
    claim = await world.kube.get(claims_path(world, "chunks"))
    assert claim is not None

    await world.patch("Volume", "chunks", {"spec": {"storageClassName": storage_classes.ext4}})
    first = await stopped_in_the_middle(world)
    delete = (f"--namespace={world.namespace}", "--wait=false")
    node_cluster.kubectl("delete", "pod", first.pod, "--grace-period=1", *delete)

    second = await stopped_in_the_middle(world, other_than=first)
    assert await world.kube.get(pods_path(world, first.pod)) is None
    node_cluster.kubectl("delete", "job", second.job, *delete)
    await until(lambda: waits_for(world, second.pod), 30, "the operator to wait for the worker's end")
    assert [p["metadata"]["name"] for p in await alive(world)] == [second.pod]
    now = await world.kube.get(claims_path(world, "chunks"))
    assert now is not None
    assert (now["metadata"]["uid"], now["spec"]) == (claim["metadata"]["uid"], claim["spec"])
    second.resume()

    status = await migrated(world, "chunks", storage_classes.ext4)
    assert await ran(world, "reader", "chunks", ["sh", "-ec", SUMS]) == before
    await nothing_left(world, status)


async def nothing_left(world: World, status: Json) -> None:
    """One claim of the name with the new volume, the old volume as it was, and nothing of the migration besides."""
    claims = (await world.kube.request("GET", claims_path(world)))["items"]
    assert [c["metadata"]["name"] for c in claims] == ["chunks"]
    assert claims[0]["spec"]["volumeName"] == status["migration"]["newVolume"] == status["volumeName"]
    volumes = (await world.kube.request("GET", "/api/v1/persistentvolumes"))["items"]
    of_ours = [
        v["metadata"]["name"] for v in volumes if v["spec"]["claimRef"]["namespace"] == world.namespace
    ]
    assert sorted(of_ours) == sorted([status["volumeName"], status["keptVolume"]])
    jobs = await world.kube.request("GET", f"/apis/batch/v1/namespaces/{world.namespace}/jobs")
    assert (jobs["items"], await alive(world)) == ([], [])
    assert not (await world.get("Volume", "chunks"))["metadata"].get("finalizers")


# Workers


@dataclass(frozen=True)
class Stopped:
    """A copy worker whose process the kernel does not run any more."""

    pid: int
    pod: str
    job: str

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


async def stopped_in_the_middle(world: World, *, other_than: Stopped | None = None) -> Stopped:
    """The next copy worker, stopped when it has copied something and not everything."""
    end = monotonic() + 60
    while True:
        assert monotonic() < end, "no worker that copies"
        pid = _copying(world.namespace)
        if pid is not None and (other_than is None or pid != other_than.pid) and _copied(pid):
            os.kill(pid, signal.SIGSTOP)
            break
        await asyncio.sleep(0.005)
    assert 0 < _copied(pid) < FILES
    uid = _pod_of(pid)
    found = next(p for p in await alive(world) if p["metadata"]["uid"] == uid)
    return Stopped(
        pid, found["metadata"]["name"], found["metadata"]["labels"]["batch.kubernetes.io/job-name"]
    )


def _copying(namespace: str) -> int | None:
    """The process of a copy worker for a Volume of this namespace; it is a process of this machine."""
    for folder in Path("/proc").iterdir():
        try:
            copies = folder.name.isdigit() and b"volume-copy" in (folder / "cmdline").read_bytes()
            if copies and f'"namespace":"{namespace}"'.encode() in (folder / "environ").read_bytes():
                return int(folder.name)
        except OSError:
            continue  # it ended meanwhile
    return None


def _pod_of(pid: int) -> str:
    """UID of the pod, which the kubelet gives a control group of its own."""
    parts = Path(f"/proc/{pid}/cgroup").read_text().split("/")
    return next(part for part in parts if part.startswith("pod")).removeprefix("pod")


def _copied(pid: int) -> int:
    """Files in the new volume, as the worker sees it."""
    try:
        return sum(
            p.name.startswith("file-") for p in Path(f"/proc/{pid}/root{VOLUMES_FOLDER}/new").iterdir()
        )
    except OSError:
        return 0


async def alive(world: World) -> list[Json]:
    """Pods that are not over."""
    found = await world.kube.request("GET", pods_path(world))
    return [p for p in found["items"] if p["status"].get("phase") not in {"Succeeded", "Failed"}]


async def waits_for(world: World, pod: str) -> bool:
    status = (await world.get("Volume", "chunks"))["status"]
    return f"the pod {pod} has ended" in (status.get("message") or "")


# Figures


async def figures(world: World, name: str, holds: Callable[[Json], bool]) -> Json:
    """Wait for figures of which this holds; returns the status."""
    status: Json = {}

    async def told() -> bool:
        nonlocal status
        status = (await world.get("Volume", name)).get("status", {})
        return "usedBytes" in status and holds(status)

    await until(told, 60, "figures of the volume")
    return status


async def detached(world: World, volume: str) -> bool:
    """Whether no node has it: a pod that comes sooner uses the mount that is there."""
    found = await world.kube.request("GET", "/apis/storage.k8s.io/v1/volumeattachments")
    return volume not in [a["spec"]["source"]["persistentVolumeName"] for a in found["items"]]


async def ready(world: World, name: str) -> Json:
    return await world.ready("Volume", name, deadline=60)


async def until(holds: Callable[[], Awaitable[bool]], deadline: float, what: str) -> None:
    end = monotonic() + deadline
    while not await holds():
        assert monotonic() < end, f"waited {deadline} s for {what}"
        await asyncio.sleep(0.05)


def may_grow_mounted_ext4() -> bool:
    lines = Path("/proc/self/status").read_text().splitlines()
    bits = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff"))
    return bool(bits & 1 << CAP_SYS_RESOURCE)
