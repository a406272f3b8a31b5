"""A volume that moves from one real class to another, by a worker from the real image in a restricted namespace."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from volume_node_bed import COPY, migrated, node_world, ran, released

from testbed.cluster.prepare import TEST_IMAGE
from testbed.cluster.provider import OwnCluster
from testbed.cluster.storage_objects import StorageClasses
from testbed.pytest_operator import World
from testbed.testrun import TestRun

pytestmark = [pytest.mark.node, pytest.mark.xdist_group("node")]

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


@pytest.fixture
async def world(
    node_cluster: OwnCluster, storage_classes: StorageClasses, testbed_run: TestRun
) -> AsyncIterator[World]:
    async with node_world(node_cluster, testbed_run, image=True) as made:
        yield made


async def told(world: World, pod: str, script: str) -> str:
    """What a Python program prints that has the claim `data` at /data."""
    return await ran(world, pod, "data", ["python", "-c", script], image=TEST_IMAGE)


async def test_a_volume_of_local_path_moves_to_a_larger_one_and_to_a_csi_class_with_everything_on_it(
    world: World, storage_classes: StorageClasses
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
        "copy": COPY,
    }
    await world.create("Volume", "data", spec)
    await told(world, "writer", WRITE)
    before = json.loads(await told(world, "reader", TELL))

    await world.patch("Volume", "data", {"spec": {"size": "80Mi"}})
    status = await migrated(world, "data", storage_classes.local_path)
    assert status["size"] == "80Mi"
    await released(world, "data", status["keptVolume"])

    await world.patch("Volume", "data", {"spec": {"storageClassName": storage_classes.loop, "size": "96Mi"}})

    async def copying() -> bool:
        status = (await world.get("Volume", "data"))["status"]
        return (status.get("migration") or {}).get("jobName") is not None

    await world.until(copying, 60, "the copy to begin")
    operator.kill()
    operator.start()
    status = await migrated(world, "data", storage_classes.loop)
    assert status["migration"]["ownersKept"] is True
    assert status["size"] == "96Mi"

    after = json.loads(await told(world, "reader-again", TELL))
    assert after["found"] == before["found"]
    assert after["sparse"] < 4 << 20

    old = status["keptVolume"]
    kept = await world.kube.get(f"/api/v1/persistentvolumes/{old}")
    assert kept is not None
    assert kept["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    await released(world, "data", old)

    async def freed() -> bool:
        return await world.kube.get(f"/api/v1/persistentvolumes/{old}") is None

    await world.until(freed, 60, "the old volume to be deleted by its class")
