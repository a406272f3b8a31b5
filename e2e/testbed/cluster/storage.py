"""Storage classes of the node: rancher's local-path, and a CSI driver over loop devices with its sidecars.

All programs run in the node's namespaces and end with it. Volumes lie in the folder of the instance; their
loop devices free themselves with the last mount, which the kernel drops at the end of the node.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from testbed import apt
from testbed.cluster import binaries, storage_objects
from testbed.cluster.images import BUSYBOX, busybox
from testbed.cluster.node import Node
from testbed.cluster.storage_objects import DRIVER, StorageClasses
from testbed.paths import Instance
from testbed.process import Daemon
from testbed.progress import Progress

PACKAGES = ("e2fsprogs", "mount", "xfsprogs")
LOCAL_PATH = "local-path-provisioner"
CSI_DRIVER = "csi-loop"
_PLUGIN = f"/var/lib/kubelet/plugins/{DRIVER}/csi.sock"
_REGISTRATION = f"/var/lib/kubelet/plugins_registry/{DRIVER}-reg.sock"
_DATA = f"/var/lib/{CSI_DRIVER}"
_READY_SECONDS = 60
# In the node's own network; each sidecar serves its metrics there.
_PORTS = {"csi-attacher": 9811, "csi-resizer": 9812, "csi-snapshotter": 9813, "snapshot-controller": 9814}
DAEMONS = (LOCAL_PATH, CSI_DRIVER, *_PORTS)


class Storage:
    """The storage of one running node; every call may be repeated."""

    def __init__(self, node: Node, kubectl: Callable[..., str], progress: Progress) -> None:
        self._node = node
        self._kubectl = kubectl
        self._progress = progress

    @property
    def folder(self) -> Path:
        """Where the driver keeps images of volumes and snapshots."""
        return self._node.instance.data / "node" / "lib" / CSI_DRIVER

    def start(self) -> StorageClasses:
        """Returns when claims of each class will be served; raises TestbedError with what did not come up."""
        if self.running():
            return StorageClasses()
        prepare(self._progress)
        with self._progress.step("Starting the storage classes"):
            self._node.client_config("admin", "storage")
            if BUSYBOX not in self._node.images():
                self._node.load(busybox(self._progress).file)
            with ThreadPoolExecutor() as pool:
                applied = pool.submit(self._apply)
                driver = pool.submit(self.daemon(CSI_DRIVER).start)
                for step in (applied, driver):
                    step.result()
                for started in [pool.submit(self.daemon(name).start) for name in (LOCAL_PATH, *_PORTS)]:
                    started.result()
            self._apply_objects(storage_objects.snapshots())
        return StorageClasses()

    def running(self) -> bool:
        return all(Daemon(self._node.instance, name, ()).running() for name in DAEMONS)

    def stop(self) -> None:
        """Ends the programs; what is mounted stays mounted."""
        end(self._node.instance)

    def daemon(self, name: str) -> Daemon:
        """One of DAEMONS, to be killed and started by tests."""
        ready: Callable[[], object] | None = None
        if name == CSI_DRIVER:
            ready = self._registered
        elif name in _PORTS:
            ready = lambda: self._node.answers(_PORTS[name], "/metrics")  # noqa: E731
        return self._node.daemon(name, self._command(name), ready)

    @contextmanager
    def fault(
        self, method: str, subject: str, *, code: int = 0, message: str = "", delay: str = ""
    ) -> Iterator[None]:
        """While inside, the driver's `method` for that volume waits and fails so; `code` is gRPC's number.

        `subject` is the id of a volume (the name of its PersistentVolume) or of a snapshot.
        """
        switch = self.folder / "faults" / f"{method}.{subject}"
        draft = switch.with_name(f".{switch.name}")
        draft.write_text(json.dumps({"code": code, "message": message, "delay": delay}))
        draft.replace(switch)
        try:
            yield
        finally:
            switch.unlink()

    def _command(self, name: str) -> list[str]:
        kubeconfig = f"--kubeconfig={self._node.config_file('storage.kubeconfig')}"
        program = self._node.program(name)
        match name:
            case "local-path-provisioner":
                options = [f"--namespace={storage_objects.NAMESPACE}", f"--helper-image={BUSYBOX}"]
                return [program, "start", kubeconfig, *options]
            case "csi-loop":
                sockets = [f"--socket={_PLUGIN}", f"--registration-socket={_REGISTRATION}"]
                return [program, kubeconfig, f"--data={_DATA}", f"--node={self._node.name}", *sockets]
            case _:
                return [program, kubeconfig, f"--http-endpoint=:{_PORTS[name]}", *_options(name)]

    def _registered(self) -> bool:
        """Whether the kubelet has told the API of the driver."""
        names = "--output=jsonpath={.spec.drivers[*].name}"
        return DRIVER in self._kubectl("get", "csinode", self._node.name, "--ignore-not-found", names).split()

    def _apply(self) -> None:
        definitions = [
            path.read_text()
            for path in sorted(binaries.snapshot_definitions(self._progress).glob("*snapshot.storage*.yaml"))
        ]
        self._kubectl("apply", "--server-side", "--filename=-", document="\n---\n".join(definitions))
        rights = [*storage_objects.kubelet_reads(), *storage_objects.figures()]
        self._apply_objects([*storage_objects.local_path(), *storage_objects.loop(), *rights])
        kinds = ("volumesnapshotclasses", "volumesnapshotcontents", "volumesnapshots")
        names = [f"crd/{kind}.snapshot.storage.k8s.io" for kind in kinds]
        self._kubectl("wait", "--for=condition=Established", "--timeout=60s", *names)

    def _apply_objects(self, objects: Sequence[storage_objects.Json]) -> None:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self._kubectl("apply", "--server-side", "--filename=-", document=text)


def _options(name: str) -> list[str]:
    address = f"--csi-address={_PLUGIN}"
    retries = ["--retry-interval-start=200ms", "--retry-interval-max=5s"]
    match name:
        case "csi-resizer":
            # Without it a watch of all pods is kept for drivers that cannot grow what is in use.
            return [address, *retries, "--handle-volume-inuse-error=false"]
        case "csi-attacher" | "csi-snapshotter":
            return [address, *retries]
        case _:
            return retries


def prepare(progress: Progress) -> None:
    """Builds and installs what is missing."""
    apt.ensure(PACKAGES, progress)
    binaries.ensure(binaries.STORAGE, progress)
    binaries.snapshot_definitions(progress)


def end(instance: Instance) -> None:
    """Ends the programs of the instance's storage; harmless when there are none."""
    for name in DAEMONS:
        Daemon(instance, name, ()).kill()
