"""Volumes that migrate on a real API server: its binder, its protection of claims in use, its deletion of hostPath
volumes under /tmp are the real ones. What is played is the kubelet's part: a copy worker runs in this process, on the
folders of the volumes that its claims are bound to.
"""

import asyncio
import os
import shutil
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, cast

from played_api import PlayedApi, Store

from lucid_storage.errors import LeadershipLostError, LucidError
from lucid_storage.jobs.reporting import Reporter
from lucid_storage.jobs.volume_copy import copy_volume, failed
from lucid_storage.jobs.worker import Stop
from lucid_storage.kinds.metrics import Metrics
from lucid_storage.kinds.oneshot import OneShotCycle
from lucid_storage.kinds.services import Services
from lucid_storage.kinds.volume.book import UsageBook
from lucid_storage.kinds.volume.kind import VolumeKind
from lucid_storage.kinds.volume.migration.hands import VolumeMigrations
from lucid_storage.kinds.volume.surroundings import Surroundings
from lucid_storage.kinds.workers.launch import WorkerRequest
from lucid_storage.kinds.workers.state import ABSENT, WorkerPhase, WorkerState
from lucid_storage.kube.claims import Claims, claim_path
from lucid_storage.kube.client import Json, Kube, KubeApiError, load_configuration, resource_path
from lucid_storage.kube.events import EventRecorder
from lucid_storage.kube.finalizers import Finalizers
from lucid_storage.kube.resources import Resource
from lucid_storage.kube.status import StatusWriter
from lucid_storage.kube.volumes import Volumes
from lucid_storage.models.kinds import KINDS
from lucid_storage.models.meta import API_VERSION, MIGRATION_FINALIZER, OWNER_UID_LABEL
from lucid_storage.models.orders import VOLUMES_FOLDER_VARIABLE
from lucid_storage.models.settings import Settings
from lucid_storage.models.volume_work import VolumeCopyOrder
from testbed import leftovers

CORE = "/api/v1"
LONGEST_WAIT = 0.1


class Mortal:
    """Lets so many writes pass; then the operator has died."""

    def __init__(self, writes: int | None = None) -> None:
        self.left, self.done = writes, 0

    def __call__(self) -> None:
        if self.left is not None and self.done >= self.left:
            raise LeadershipLostError("died here")
        self.done += 1


@dataclass
class Copies:
    """Jobs and pods of copy workers. They survive the operator."""

    kube: Kube
    results: dict[str, WorkerState] = field(default_factory=dict)
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    stops: dict[str, Stop] = field(default_factory=dict)
    refuse: Callable[[WorkerRequest], WorkerState | None] = lambda request: None
    """What becomes of a worker instead of a copy."""
    before: Callable[[WorkerRequest], Awaitable[None]] | None = None
    started: list[str] = field(default_factory=list)

    async def cluster(self) -> str:
        return "cluster"

    async def start(self, request: WorkerRequest) -> None:
        key = f"{request.owner.namespace}/{request.name}"
        if key in self.results:
            return
        self.started.append(request.name)
        self.results[key] = WorkerState(WorkerPhase.WAITING, "its pod is starting")
        self.stops[key] = Stop()
        self.tasks[key] = asyncio.create_task(self._run(key, request))

    async def stop(
        self, owner_namespace: str, connection: str | None, name: str, *, beside: bool = False
    ) -> None:
        assert beside
        key = f"{owner_namespace}/{name}"
        task = self.tasks.get(key)
        if task is None or task.done():
            self.results.pop(key, None)
        else:
            self.results[key] = WorkerState(WorkerPhase.STOPPING, "it is being ended")
            self.stops[key].event.set()

    async def state(
        self,
        owner_namespace: str,
        connection: str | None,
        name: str,
        *,
        owner_uid: str,
        beside: bool = False,
    ) -> WorkerState:
        return self.results.get(f"{owner_namespace}/{name}", ABSENT)

    async def _run(self, key: str, request: WorkerRequest) -> None:
        instead = self.refuse(request)
        if instead is not None:
            self.results[key] = instead
            return
        stop = self.stops[key]
        folders = {
            m.folder: await self._folder(request.owner.namespace, m.claim, stop) for m in request.mounts
        }
        if self.before is not None:
            await self.before(request)
        assert isinstance(request.order, VolumeCopyOrder)
        result = await asyncio.to_thread(self._copied, request.order, folders, stop)
        if stop.event.is_set():
            self.results.pop(key, None)
        else:
            self.results[key] = WorkerState(WorkerPhase.ENDED, result=result)

    def _copied(self, order: VolumeCopyOrder, folders: dict[str, Path], stop: Stop) -> str:
        root = Path("/tmp") / f"lucid-mounts-{uuid.uuid4().hex}"
        root.mkdir()
        try:
            for name, folder in folders.items():
                (root / name).symlink_to(folder)
            with Path(os.devnull).open("w") as out:
                result = copy_volume(order, {VOLUMES_FOLDER_VARIABLE: str(root)}, Reporter(out=out), stop)
        except LucidError as error:
            result = failed(order, error.reason, error.message)
        finally:
            shutil.rmtree(root)
        return result.model_dump_json(by_alias=True)

    async def _folder(self, namespace: str, claim: str, stop: Stop) -> Path:
        """Where a claim is mounted from. As the kubelet, it waits for a bound claim that nobody deletes."""
        while not stop.event.is_set():
            body = await self.kube.get(claim_path(namespace, claim))
            bound = body is not None and body.get("status", {}).get("phase") == "Bound"
            if body is not None and bound and "deletionTimestamp" not in body["metadata"]:
                volume = await self.kube.get(f"{CORE}/persistentvolumes/{body['spec']['volumeName']}")
                assert volume is not None
                return Path(volume["spec"]["hostPath"]["path"])
            await asyncio.sleep(LONGEST_WAIT)
        return Path("/nowhere")


@dataclass
class Ground:
    """One API server with two classes, and folders as volumes."""

    kube: Kube
    connect: Callable[[Callable[[], None]], Awaitable[Kube]]
    """Another client, with a guard of its own."""
    folder: Path
    wait: float
    """Between two looks."""
    old_class: str
    new_class: str
    made: list[str] = field(default_factory=list)
    places: list[Any] = field(default_factory=list)

    async def volume(self, name: str, class_name: str, policy: str = "Delete", size: str = "1Gi") -> Path:
        """A hostPath volume. Under Delete the API server's own controller removes its folder."""
        folder = self.folder / name
        folder.mkdir()
        self.made.append(name)
        spec = {
            "capacity": {"storage": size},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": policy,
            "storageClassName": class_name,
            "hostPath": {"path": str(folder)},
        }
        body = {"metadata": {"name": name}, "spec": spec}
        await self.kube.request("POST", f"{CORE}/persistentvolumes", body=body)
        return folder

    async def pv(self, name: str) -> Json | None:
        return await self.kube.get(f"{CORE}/persistentvolumes/{name}")

    async def close(self) -> None:
        for place in self.places:
            await place.close()
        for name in self.made:
            path = f"{CORE}/persistentvolumes/{name}"
            try:
                await self.kube.request("DELETE", path)
            except KubeApiError as error:
                assert error.status == 404
        for name in (self.old_class, self.new_class):
            await self.kube.request("DELETE", f"/apis/storage.k8s.io/v1/storageclasses/{name}")
        await self.kube.close()
        shutil.rmtree(self.folder, ignore_errors=True)


async def real_ground(kubeconfig: Path) -> Ground:
    """On a real API server."""

    async def connect(guard: Callable[[], None]) -> Kube:
        return Kube(await load_configuration(str(kubeconfig)), guard=guard)

    return await _ground(connect, 0.1)


async def played_ground() -> Ground:
    """On one that is played."""
    store = Store()

    async def connect(guard: Callable[[], None]) -> Kube:
        return cast("Kube", PlayedApi(store, guard))

    return await _ground(connect, 0.01)


async def _ground(connect: Callable[[Callable[[], None]], Awaitable[Kube]], wait: float) -> Ground:
    kube = await connect(lambda: None)
    mark = uuid.uuid4().hex[:8]
    folder = Path("/tmp") / f"lucid-volumes-{mark}"
    folder.mkdir()
    made = Ground(kube, connect, folder, wait, f"old-{mark}", f"new-{mark}")
    for name in (made.old_class, made.new_class):
        body = {"metadata": {"name": name}, "provisioner": "kubernetes.io/no-provisioner"}
        await kube.request("POST", "/apis/storage.k8s.io/v1/storageclasses", body=body)
    return made


@dataclass
class Place:
    """A namespace with one Volume `data`, whose claim has data on a volume of the old class."""

    ground: Ground
    namespace: str
    source: Path
    copies: Copies
    mortal: Mortal = field(default_factory=Mortal)
    cycle: OneShotCycle[Any, Any] | None = None
    kube: Kube | None = None
    events: list[str] = field(default_factory=list)

    async def born(self, writes: int | None = None) -> None:
        """A new operator, which dies after so many writes."""
        await self.die()
        self.mortal = Mortal(writes)
        self.kube = kube = await self.ground.connect(self.mortal)
        settings = Settings.read({"WORKER_IMAGE": "image", "POD_NAMESPACE": self.namespace})
        claims = Claims(kube)
        migrations = VolumeMigrations(
            claims, Volumes(kube), self.copies, settings, namespace_terminating=kube.namespace_terminating
        )
        kind = VolumeKind(
            claims, Surroundings(claims, seconds=0.0), UsageBook(), settings, migrations=migrations
        )
        recorder = EventRecorder(kube)
        recorder.emit = lambda event: self.events.append(event.reason)  # type: ignore[method-assign]
        services = Services(
            status=StatusWriter(kube),
            events=recorder,
            finalizers=Finalizers(kube),
            metrics=Metrics(),
            namespace_terminating=kube.namespace_terminating,
            peers=lambda resource, target: [],
            touch_dependents=lambda key, target: None,
            remember=lambda resource, version: None,
        )
        self.cycle = OneShotCycle(kind, services, ends=False)

    async def die(self) -> None:
        if self.kube is not None:
            await self.kube.close()
        self.kube = None

    async def body(self) -> Json | None:
        return await self.ground.kube.get(resource_path("volumes", self.namespace, "data"))

    async def status(self) -> Json:
        body = await self.body()
        assert body is not None
        return body.get("status") or {}

    async def migration(self) -> Json:
        return (await self.status()).get("migration") or {}

    async def claim(self, name: str = "data") -> Json | None:
        return await self.ground.kube.get(claim_path(self.namespace, name))

    async def claims(self) -> list[str]:
        found = await self.ground.kube.request("GET", claim_path(self.namespace))
        return [c["metadata"]["name"] for c in found["items"]]

    async def declare(self, **spec: Any) -> None:
        body = {
            "apiVersion": API_VERSION,
            "kind": KINDS["Volume"].kind,
            "metadata": {"name": "data"},
            "spec": {"type": "chunks", "resizeStrategy": "Migrate", **spec},
        }
        await self.ground.kube.request("POST", resource_path("volumes", self.namespace), body=body)

    async def change(self, patch: Json) -> None:
        await self.ground.kube.patch(resource_path("volumes", self.namespace, "data"), patch)

    async def forget(self) -> None:
        """The status is lost."""
        path = resource_path("volumes", self.namespace, "data", "status")
        await self.ground.kube.patch(path, {"status": None})

    async def pod(
        self,
        name: str,
        claim: str = "data",
        *,
        scheduled: bool = True,
        phase: str | None = None,
        owner: str | None = None,
    ) -> None:
        """A pod that has the claim; on a node that nobody is, so that it is used for as long as it is there. `owner` is
        the UID of our resource that it works for.
        """
        spec: Json = {
            "containers": [{"name": "main", "image": "image"}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
            "terminationGracePeriodSeconds": 0,
        }
        if scheduled:
            spec["nodeName"] = "no-such-node"
        labels = {OWNER_UID_LABEL: owner} if owner is not None else {}
        body = {"metadata": {"name": name, "labels": labels}, "spec": spec}
        pods = f"{CORE}/namespaces/{self.namespace}/pods"
        await self.ground.kube.request("POST", pods, body=body)
        if phase is not None:
            await self.ground.kube.patch(f"{pods}/{name}/status", {"status": {"phase": phase}})

    async def end_pod(self, name: str) -> None:
        path = f"{CORE}/namespaces/{self.namespace}/pods/{name}"
        await self.ground.kube.request("DELETE", path, body={"gracePeriodSeconds": 0})

    async def look(self) -> float | None:
        """One look of the operator; how long it would wait then. Raises LeadershipLostError when it died."""
        assert self.cycle is not None
        body = await self.body()
        if body is None:
            return None
        outcome = await self.cycle.run(Resource.from_body("volumes", body))
        return outcome.again_seconds

    async def until(self, holds: Callable[[], Awaitable[bool]], what: str, deadline: float = 60) -> None:
        """Look again and again until something holds. A refused write is tried again, as the engine does."""
        end = monotonic() + deadline
        while not await holds():
            assert monotonic() < end, f"waited for {what}: {await self.status()}"
            try:
                await self.look()
            except KubeApiError as error:
                assert error.status in (404, 409), error
            await asyncio.sleep(self.ground.wait)

    async def step(self, *names: str, deadline: float = 60) -> None:
        async def there() -> bool:
            return (await self.migration()).get("step") in names

        await self.until(there, f"the step {names}", deadline)

    async def settled(self, deadline: float = 60) -> None:
        """The migration is over, and the Volume Ready."""

        async def ready() -> bool:
            body = await self.body()
            assert body is not None
            status = body.get("status") or {}
            if body["metadata"].get("finalizers"):
                return False
            conditions = {c["type"]: c["status"] for c in status.get("conditions") or []}
            over = (status.get("migration") or {}).get("step") == "Completed"
            return over and conditions.get("Ready") == "True"

        await self.until(ready, "the migration to be over", deadline)

    async def close(self) -> None:
        for task in self.copies.tasks.values():
            task.cancel()
        await self.die()
        await leftovers.clear(self.ground.kube, self.namespace)


async def place(
    ground: Ground,
    *,
    policy: str = "Delete",
    target: bool = True,
    source_size: str = "1Gi",
    declared: Json | None = None,
) -> Place:
    """Data on a bound claim of the old class, and a volume of the new class that waits for a claim. What is `declared`
    is the new class, unless something else is.
    """
    mark = uuid.uuid4().hex[:10]
    namespace = f"move-{mark}"
    await ground.kube.request("POST", f"{CORE}/namespaces", body={"metadata": {"name": namespace}})
    source = await ground.volume(f"old-{mark}", ground.old_class, policy, source_size)
    if target:
        await ground.volume(f"new-{mark}", ground.new_class)
    (source / "folder").mkdir()
    (source / "folder/file").write_text("data")
    (source / "other").write_bytes(os.urandom(10_000))
    made = Place(ground, namespace, source, Copies(ground.kube))
    ground.places.append(made)
    body = {
        "metadata": {
            "name": "data",
            "labels": {"app": "chunks"},
            "annotations": {"example.org/note": "kept"},
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": ground.old_class,
            "volumeName": f"old-{mark}",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    await ground.kube.request("POST", claim_path(namespace), body=body)
    await made.declare(**(declared or {"storageClassName": ground.new_class}))

    async def bound() -> bool:
        claim = await made.claim()
        return claim is not None and claim.get("status", {}).get("phase") == "Bound"

    end = monotonic() + 40
    while not await bound():
        assert monotonic() < end
        await asyncio.sleep(LONGEST_WAIT)
    return made


async def moved(there: Place, class_name: str | None = None) -> None:
    """What must be true after a migration, whatever happened on the way. Without a class it is the new one."""
    status, claim = await there.status(), await there.claim()
    assert claim is not None
    journal = status["migration"]
    assert claim["metadata"]["labels"]["app"] == "chunks"
    notes = claim["metadata"]["annotations"]
    assert notes["example.org/note"] == "kept"
    assert not [name for name in notes if "migration" in name], notes
    assert claim["spec"]["volumeName"] == journal["newVolume"] == status["volumeName"]
    assert claim["spec"]["storageClassName"] == (class_name or there.ground.new_class)
    new, old = await there.ground.pv(journal["newVolume"]), await there.ground.pv(journal["oldVolume"])
    assert new is not None
    assert old is not None
    assert new["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
    assert new["spec"]["claimRef"]["uid"] == claim["metadata"]["uid"] == status["claimUid"]
    assert "storage.lucid-blockchain.org/migration" not in (new["metadata"].get("annotations") or {})
    assert old["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert status["keptVolume"] == journal["oldVolume"]
    (kept,) = [c for c in status["conditions"] if c["type"] == "OldVolumeKept"]
    assert (kept["status"], kept["reason"]) == ("True", "OldVolumeKept")
    assert f"release-old-volume: {journal['oldVolume']}" in kept["message"]
    target = Path(new["spec"]["hostPath"]["path"])
    for folder in (there.source, target):
        assert (folder / "folder/file").read_text() == "data"
    assert (target / "other").read_bytes() == (there.source / "other").read_bytes()
    assert await there.claims() == ["data"]
    body = await there.body()
    assert body is not None
    assert not body["metadata"].get("finalizers")


async def killed(land: Ground, writes: int, *, forgets: bool, exact: bool = True) -> None:
    """An operator that dies after so many writes, and another one that knows what is written down at most.

    On a real API server the number of writes varies a little with its pace: the last ones may not come.
    """
    there = await place(land)
    await there.born(writes)
    try:
        await there.settled()
        assert not exact, f"it did not come to {writes} writes"
        return await moved(there)
    except LeadershipLostError:
        pass
    if forgets:
        await there.forget()
    await there.born()
    try:
        await there.settled()
        await moved(there)
    except AssertionError as error:
        raise AssertionError(f"died after {writes} writes: {error}") from error


async def says(there: Place, words: str) -> bool:
    """Whether the status' sentence has these words."""
    return words in ((await there.status()).get("message") or "")


async def target(there: Place) -> Path:
    """The folder of the volume that the claim has now."""
    claim = await there.claim()
    assert claim is not None
    volume = await there.ground.pv(claim["spec"]["volumeName"])
    assert volume is not None
    return Path(volume["spec"]["hostPath"]["path"])


async def crawl(there: Place, holds: Callable[[], Awaitable[bool]]) -> None:
    """Operators that die after each write, until something holds."""
    for _ in range(500):
        if await holds():
            return
        await asyncio.sleep(0.005)
        await there.born(1)
        with suppress(LeadershipLostError):
            await there.look()
    raise AssertionError("it never came to that")


async def held(there: Place) -> bool:
    claim = await there.claim()
    return claim is not None and MIGRATION_FINALIZER in claim["metadata"].get("finalizers", [])
