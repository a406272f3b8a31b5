"""A whole migration of a Volume by the operator on a real node, and how soon status tells of a change:
`python -m bench.volume_moves [MIB]`.

The peer is a pod that mounts two claims of the same classes and runs `cp -a` on the same files, written out to the
disk. Its own start does not count. It proves nothing, and the workload would still have to be given another claim.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from time import monotonic, time
from typing import Any

from bench.bed import BenchError
from bench.figures import MIB, Figure, printed
from lucid_storage.kube.client import Json, Kube, load_configuration, resource_path
from lucid_storage.models.meta import API_VERSION, RELEASE_OLD_VOLUME
from testbed import ports
from testbed.cluster.images import busybox
from testbed.cluster.prepare import TEST_IMAGE
from testbed.cluster.provider import OwnCluster
from testbed.cluster.storage_objects import StorageClasses
from testbed.paths import Instance, project_root
from testbed.progress import Progress
from testbed.pytest_operator import OperatorProcess
from testbed.testrun import TestRun

SIZE_MIB, TURNS = 1024, 3
CHANGES = 20
"""Of a declaration, half of its size and half of its class."""
STATUS_BAR = 1.0
USER = 1000
LARGE_BYTES, SMALL_BYTES, SMALL_SHARE = 64 * MIB, 64 * 1024, 8
"""As in the row of the copy alone: an eighth of the data are small files."""
FILL = f"""
import os, sys
size = int(sys.argv[1]); os.makedirs("/old/small")
small = size // {SMALL_SHARE} // {SMALL_BYTES}
for n in range(small): open(f"/old/small/{{n:06}}", "wb").write(os.urandom({SMALL_BYTES}))
for n in range(max(1, (size - small * {SMALL_BYTES}) // {LARGE_BYTES})):
    open(f"/old/large-{{n}}", "wb").write(os.urandom({LARGE_BYTES}))
os.sync()
"""
COPY = """
import ctypes, os, subprocess, time
begun = time.perf_counter()
subprocess.run(["cp", "-a", "/old/.", "/new"], check=True)
assert ctypes.CDLL(None).syncfs(os.open("/new", os.O_RDONLY)) == 0
print(time.perf_counter() - begun)
"""
CLASSES = StorageClasses()


@dataclass(frozen=True)
class Move:
    """Seconds of one migration, from the change of the declaration to Ready, and of its parts."""

    whole: float
    start: float
    """Until the worker's program copies: claims, pod, imports, survey."""
    copy: float
    comparison: float
    switch: float
    """Until Ready: the second worker, and the claims."""


@dataclass
class Ground:
    """A namespace of a node with an operator."""

    cluster: OwnCluster
    kube: Kube
    namespace: str

    def kubectl(self, *arguments: str, document: str | None = None) -> str:
        return self.cluster.kubectl("--namespace", self.namespace, *arguments, document=document)

    def apply(self, body: Json) -> None:
        self.kubectl("apply", "--filename=-", document=json.dumps(body))

    async def volume(self, name: str) -> Json:
        found = await self.kube.get(resource_path("volumes", self.namespace, name))
        if found is None:
            raise BenchError(f"The Volume {name} is gone.")
        return found

    async def patch(self, name: str, patch: Json) -> Json:
        changed = await self.kube.patch(resource_path("volumes", self.namespace, name), patch)
        if changed is None:
            raise BenchError(f"The Volume {name} is gone.")
        return changed

    async def until(self, holds: Callable[[], Awaitable[bool]], what: str, seconds: float = 300) -> None:
        end = monotonic() + seconds
        while not await holds():
            if monotonic() > end:
                raise BenchError(f"Waited {seconds:.0f} s for {what}.")
            await asyncio.sleep(0.005)


def rows(mib: int = SIZE_MIB) -> list[Figure]:
    """Needs root, as every node of our own."""
    return asyncio.run(_rows(mib))


async def _rows(mib: int) -> list[Figure]:
    async with _ground() as ground:
        moves, peers = [], []
        for turn in range(TURNS):
            peer, move = await _turn(ground, f"turn-{turn}", mib)
            peers.append(peer)
            moves.append(move)
        waits = await _status_moves(ground)
    return [_whole(mib, moves, peers), _status(waits)]


def _whole(mib: int, moves: list[Move], peers: list[float]) -> Figure:
    ours, peer = median(m.whole for m in moves), median(peers)
    parts = {
        "to the first byte (claims, pod, imports)": median(m.start for m in moves),
        "copy": median(m.copy for m in moves),
        "comparison": median(m.comparison for m in moves),
        "switch with the second Job": median(m.switch for m in moves),
    }
    told = ", ".join(f"{what} {seconds:.1f} s" for what, seconds in parts.items())
    return Figure(
        "volume, whole migration",
        f"{ours:.1f} s",
        f"{peer:.2f} s, cp -a in a pod that runs",
        ours / peer,
        "",
        ok=True,
        note=f"median of {len(moves)}, {mib} MiB from {CLASSES.local_path} to {CLASSES.loop}; {told}",
    )


def _status(waits: list[float]) -> Figure:
    slowest = max(waits)
    return Figure(
        "volume, status moves after a change",
        f"{median(waits) * 1000:.0f} ms, at most {slowest * 1000:.0f} ms",
        f"{STATUS_BAR:.0f} s",
        slowest / STATUS_BAR,
        "< 1",
        slowest < STATUS_BAR,
        note=f"{len(waits)} changes of size and class, from the API server's answer to the status that tells of it",
    )


# A migration


async def _turn(ground: Ground, name: str, mib: int) -> tuple[float, Move]:
    """The peer first, so that both find the files in memory."""
    size = f"{mib + mib // 2 + 64}Mi"
    spec: dict[str, Any] = {"type": "chunks", "size": size, "storageClassName": CLASSES.local_path}
    identity = {"runAsUser": USER, "runAsGroup": USER, "fsGroup": USER}
    ground.apply(_volume(name, {**spec, "resizeStrategy": "Migrate", "copy": identity}))
    await _ran(ground, f"{name}-fill", {"old": name}, FILL, str(mib * MIB), user=USER)
    ground.apply(_claim(f"{name}-peer", size))
    both = {"old": name, "new": f"{name}-peer"}
    # As root, since cp -a sets the times of the new volume's own folder too.
    peer = float(await _ran(ground, f"{name}-cp", both, COPY, user=0))
    ground.kubectl("delete", "pvc", f"{name}-peer", "--wait")
    move = await _moved(ground, name)
    status = (await ground.volume(name))["status"]
    release = {RELEASE_OLD_VOLUME: status["keptVolume"]}
    await ground.patch(name, {"metadata": {"annotations": release}})
    await ground.until(lambda: _let_go(ground, status["keptVolume"]), "the old volume to go")
    ground.kubectl("delete", "volume.storage.lucid-blockchain.org", name, "--wait")
    ground.kubectl("delete", "pvc", name, "--wait")
    return peer, move


async def _moved(ground: Ground, name: str) -> Move:
    begun = time()
    await ground.patch(name, {"spec": {"storageClassName": CLASSES.loop}})
    pods: list[Json] = []

    async def running() -> bool:
        selector = {"labelSelector": "app.kubernetes.io/component=worker-volume-copy"}
        found = await ground.kube.request(
            "GET", f"/api/v1/namespaces/{ground.namespace}/pods", query=selector
        )
        pods[:] = [p for p in found["items"] if p["status"].get("phase") not in {None, "Pending"}]
        return bool(pods)

    await ground.until(running, "the worker to run")
    # It is asked for while the pod is there, and answered when the container ends.
    pod = pods[0]["metadata"]["name"]
    told = asyncio.create_task(asyncio.to_thread(ground.kubectl, "logs", pod, "--follow", "--timestamps"))

    async def ready() -> bool:
        status = (await ground.volume(name)).get("status", {})
        done = (status.get("migration") or {}).get("step") == "Completed"
        conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
        return done and conditions.get("Ready") == "True"

    await ground.until(ready, "the migration to end")
    ended = time()
    copying, verifying, result = _times(await told)
    return Move(ended - begun, copying - begun, verifying - copying, result - verifying, ended - result)


def _times(log: str) -> tuple[float, float, float]:
    """When the worker began to copy, began to compare, and gave its result."""
    first: dict[str, float] = {}
    for line in log.splitlines():
        stamp, _, words = line.partition(" ")
        if words.startswith("{"):
            (what, document), *_ = json.loads(words).items()
            first.setdefault(document.get("phase", what), datetime.fromisoformat(stamp).timestamp())
    try:
        return first["Copying"], first["Verifying"], first["result"]
    except KeyError as missing:
        raise BenchError(f"The worker's log does not tell of {missing}:\n{log[-2000:]}") from None


async def _let_go(ground: Ground, volume: str) -> bool:
    return await ground.kube.get(f"/api/v1/persistentvolumes/{volume}") is None


# Status


async def _status_moves(ground: Ground) -> list[float]:
    """Seconds from each change to the first status of its generation."""
    name = "changing"
    ground.apply(_volume(name, {"type": "logs", "size": "64Mi", "storageClassName": CLASSES.loop}))
    await ground.until(lambda: _settled(ground, name), "the Volume to be bound")
    waits = []
    for number in range(CHANGES):
        size = {"size": f"{64 + 16 * (number // 2 + 1)}Mi", "storageClassName": CLASSES.loop}
        spec = size if number % 2 == 0 else {"storageClassName": CLASSES.local_path}
        changed = await ground.patch(name, {"spec": spec})
        begun, generation = monotonic(), changed["metadata"]["generation"]

        async def told(wanted: int = generation) -> bool:
            return bool((await ground.volume(name))["status"].get("observedGeneration") == wanted)

        await ground.until(told, "status to tell of a change", 30)
        waits.append(monotonic() - begun)
    return waits


async def _settled(ground: Ground, name: str) -> bool:
    return (await ground.volume(name)).get("status", {}).get("phase") == "Bound"


# What is made


@asynccontextmanager
async def _ground() -> AsyncIterator[Ground]:
    progress = Progress()
    run = TestRun(f"bench-{uuid.uuid4().hex[:8]}")
    run.join()
    cluster = OwnCluster(Instance("node", run.instance.root / "node"), progress)
    instance = Instance("operator", run.instance.root / "operator")
    kube: Kube | None = None
    operator: OperatorProcess | None = None
    try:
        image = await asyncio.to_thread(_prepared, cluster)
        kube = Kube(await load_configuration(str(cluster.kubeconfig)))
        namespace = f"bench-{uuid.uuid4().hex[:6]}"
        await kube.request("POST", "/api/v1/namespaces", body={"metadata": {"name": namespace}})
        environment = {
            "KUBECONFIG": str(cluster.kubeconfig),
            "POD_NAMESPACE": namespace,
            "WATCH_NAMESPACES": namespace,
            "WORKER_IMAGE": image,
            "LOG_LEVEL": "WARNING",
        }
        operator = OperatorProcess(instance, "operator", environment)
        await asyncio.to_thread(operator.start)
        yield Ground(cluster, kube, namespace)
    finally:
        if operator is not None:
            await asyncio.to_thread(operator.stop)
        if kube is not None:
            await kube.close()
        ports.release_all(instance)
        run.leave()
        await asyncio.to_thread(run.wait_until_gone)


def _prepared(cluster: OwnCluster) -> str:
    root = project_root()
    cluster.up("node")
    cluster.load(busybox(cluster.progress))
    cluster.provide_storage()
    cluster.kubectl("apply", "--server-side", "-f", str(root / "crds"))
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
    return cluster.provide_image(root / "Dockerfile", root, TEST_IMAGE)


def _volume(name: str, spec: Json) -> Json:
    return {"apiVersion": API_VERSION, "kind": "Volume", "metadata": {"name": name}, "spec": spec}


def _claim(name: str, size: str) -> Json:
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": CLASSES.loop,
        "resources": {"requests": {"storage": size}},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


async def _ran(
    ground: Ground, name: str, claims: dict[str, str], script: str, *arguments: str, user: int
) -> str:
    """What a Python program prints in a pod with each claim below /; the pod is removed afterwards."""
    container = {
        "name": "main",
        "image": TEST_IMAGE,
        "command": ["python", "-c", script, *arguments],
        "volumeMounts": [{"name": folder, "mountPath": f"/{folder}"} for folder in claims],
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {"runAsUser": user, "runAsGroup": user},
        "containers": [container],
        "volumes": [
            {"name": folder, "persistentVolumeClaim": {"claimName": claim}}
            for folder, claim in claims.items()
        ],
    }
    ground.kubectl("wait", "serviceaccount/default", "--for=create", "--timeout=60s")
    ground.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
    phase = ""

    async def over() -> bool:
        nonlocal phase
        found = await ground.kube.get(f"/api/v1/namespaces/{ground.namespace}/pods/{name}")
        phase = found["status"].get("phase", "") if found is not None else "Failed"
        return phase in {"Succeeded", "Failed"}

    await ground.until(over, f"the pod {name} to end")
    said = ground.kubectl("logs", name)
    if phase != "Succeeded":
        raise BenchError(f"The pod {name} failed: {said[-2000:]}")
    ground.kubectl("delete", "pod", name, "--wait")
    return said


if __name__ == "__main__":
    raise SystemExit(printed(rows, SIZE_MIB))
