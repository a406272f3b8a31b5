"""The choice of a cluster: one of our own, kind, or the one of the current kubeconfig."""

import json
import os
import shutil
import socket
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from testbed.cluster import binaries, images, storage, storage_objects
from testbed.cluster.controlplane import LOOPBACK, ControlPlane
from testbed.cluster.network import Network
from testbed.cluster.node import Node, node_name
from testbed.cluster.storage import Storage
from testbed.cluster.storage_objects import StorageClasses
from testbed.errors import TestbedError
from testbed.paths import Instance
from testbed.progress import Progress

Mode = Literal["control-plane", "node"]


class Cluster(ABC):
    """A Kubernetes that the test bed may use. All calls are harmless when repeated."""

    def __init__(self, instance: Instance, progress: Progress) -> None:
        self.instance = instance
        self.progress = progress

    @property
    def kubeconfig(self) -> Path:
        """An administrator's, usable from this machine."""
        return self.instance.root / "kubeconfig"

    @property
    def bin(self) -> Path:
        """A folder for PATH with the tools that were asked for."""
        return self.instance.root / "bin"

    def tool(self, name: str) -> Path:
        """The path of kubectl or helm; built when missing, and linked into `bin`."""
        programs = binaries.ensure([name], self.progress)
        binaries.link(programs, self.bin)
        return programs[name]

    def kubectl(self, *arguments: str, document: str | None = None) -> str:
        """What kubectl prints; raises TestbedError with what it complains about."""
        command = [str(self.tool("kubectl")), f"--kubeconfig={self.kubeconfig}", *arguments]
        return run(command, document)

    @abstractmethod
    def up(self, mode: Mode = "node") -> None:
        """Starts what is missing and waits until it is ready; raises TestbedError with what to do."""

    @abstractmethod
    def down(self) -> None:
        """Stops what up() started."""

    @abstractmethod
    def running(self) -> bool:
        """Whether the API server says it is ready."""

    @abstractmethod
    def host_address(self) -> str:
        """An address of this machine that pods can reach, and to which stores can bind already."""

    @abstractmethod
    def provide_image(self, dockerfile: Path, context: Path, tag: str) -> str:
        """Builds the image when its sources changed, brings it to the node, and returns the name to use."""

    @abstractmethod
    def provide_storage(self) -> StorageClasses:
        """Starts what serves claims and names the classes; empty names where the cluster has none of the kind."""

    def storage_running(self) -> bool:
        """Whether what provide_storage() started still runs."""
        return True

    def environment(self) -> dict[str, str]:
        """Variables for a shell that works with the cluster."""
        return {"KUBECONFIG": str(self.kubeconfig)}


class OwnCluster(Cluster):
    """Kubernetes from Go's module proxy, a node from Debian's containerd. A node needs root."""

    def __init__(self, instance: Instance, progress: Progress) -> None:
        super().__init__(instance, progress)
        self._mode_file = instance.root / "run" / "cluster-mode"

    def up(self, mode: Mode = "node") -> None:
        if mode == "node" and os.geteuid() != 0:
            raise TestbedError("A node of our own needs root; use CLUSTER=kind or CLUSTER=current instead.")
        network = Network.reserve(self.instance)
        control_plane = self.control_plane(mode)
        # With a node the API server listens on other addresses than without.
        if self._mode() != mode:
            control_plane.stop()
        self._mode_file.write_text(mode)
        if mode == "node":
            network.create()
        control_plane.start()
        if mode == "node":
            self.node().start()

    def down(self) -> None:
        if not self.instance.root.exists():
            return
        network = Network.reserved(self.instance)
        if network is not None and os.geteuid() == 0:
            storage.end(self.instance)
            Node.end(self.instance, network)
        ControlPlane.end(self.instance)

    def running(self) -> bool:
        return self.kubeconfig.exists() and self.control_plane(self._mode()).healthy()

    def host_address(self) -> str:
        network = Network.reserve(self.instance)
        if os.geteuid() != 0:
            return LOOPBACK
        network.create()
        return network.host_address

    def provide_image(self, dockerfile: Path, context: Path, tag: str) -> str:
        image = images.build(dockerfile, context, tag, self.progress)
        self.load(image)
        return image.tag

    def provide_storage(self) -> StorageClasses:
        return self.storage().start()

    def storage_running(self) -> bool:
        return self.storage().running()

    def storage(self) -> Storage:
        """Its programs can be killed by tests, and its driver told to fail."""
        return Storage(self.node(), self.kubectl, self.progress)

    def environment(self) -> dict[str, str]:
        kubelet = {
            "KUBELET_CA": str(self.kubelet_authority),
            "KUBELET_SERVICE_ACCOUNT": storage_objects.FIGURES_ACCOUNT,
        }
        return super().environment() | (kubelet if self._mode() == "node" else {})

    @property
    def kubelet_authority(self) -> Path:
        """What the kubelet's certificate is checked against; pods have it as their ca.crt."""
        return self.control_plane("node").pki.authority

    def load(self, image: images.Image) -> None:
        """Brings the image to the node unless that very file was brought before."""
        loaded = self.instance.data / "node" / "loaded.json"
        known: dict[str, str] = json.loads(loaded.read_text()) if loaded.exists() else {}
        node = self.node()
        if known.get(image.tag) == str(image.file) and image.tag in node.images():
            return
        with self.progress.step(f"Loading {image.tag} into the node"):
            node.load(image.file)
        loaded.write_text(json.dumps(known | {image.tag: str(image.file)}))

    def control_plane(self, mode: Mode) -> ControlPlane:
        """Its daemons can be frozen and killed by tests."""
        network = Network.reserve(self.instance)
        return ControlPlane(
            self.instance,
            self.progress,
            service_cidr=network.service_cidr,
            node_name=node_name(self.instance),
            address=network.host_address if mode == "node" else LOOPBACK,
        )

    def node(self) -> Node:
        network = Network.reserve(self.instance)
        return Node(self.instance, self.control_plane("node"), network, self.progress)

    def _mode(self) -> Mode:
        return (
            "node" if self._mode_file.exists() and self._mode_file.read_text() == "node" else "control-plane"
        )


class KindCluster(Cluster):
    """Kubernetes in Docker, under a name of the instance."""

    def up(self, mode: Mode = "node") -> None:
        del mode  # kind has no cluster without a node
        require_docker()
        self.tool("kubectl")
        if self.running():
            return
        self.down()
        with self.progress.step("Starting Kubernetes in Docker with kind"):
            run([*self._kind("create", "cluster"), f"--kubeconfig={self.kubeconfig}", "--wait=180s"])

    def down(self) -> None:
        if shutil.which("docker") is not None:
            run([*self._kind("delete", "cluster"), f"--kubeconfig={self.kubeconfig}"])

    def running(self) -> bool:
        return self.kubeconfig.exists() and _ready(self)

    def host_address(self) -> str:
        require_docker()
        networks = json.loads(run(["docker", "network", "inspect", "kind"]))
        gateways = [entry.get("Gateway", "") for entry in networks[0]["IPAM"]["Config"]]
        for gateway in gateways:
            if "." in gateway:
                return str(gateway)
        raise TestbedError(
            "Docker's network `kind` has no IPv4 gateway; recreate it: docker network rm kind."
        )

    def provide_image(self, dockerfile: Path, context: Path, tag: str) -> str:
        with self.progress.step(f"Building the image {tag} with Docker"):
            run(["docker", "build", f"--file={dockerfile}", f"--tag={tag}", str(context)])
        with self.progress.step(f"Loading {tag} into the node"):
            run(self._kind("load", "docker-image", tag))
        return tag

    def provide_storage(self) -> StorageClasses:
        # kind comes with rancher's local-path under another name.
        return StorageClasses(local_path="standard", loop="", ext4="", snapshot="")

    def _kind(self, *arguments: str) -> list[str]:
        return [str(self.tool("kind")), *arguments, f"--name={node_name(self.instance)}"]


class CurrentCluster(Cluster):
    """The cluster of the current kubeconfig; its context is copied, so that a later switch does no harm."""

    def up(self, mode: Mode = "node") -> None:
        del mode
        view = [str(self.tool("kubectl")), "config", "view", "--minify", "--flatten", "--raw"]
        text = run(view)
        self.instance.root.mkdir(parents=True, exist_ok=True)
        self.kubeconfig.touch(0o600)
        self.kubeconfig.write_text(text)
        if not self.running():
            raise TestbedError(
                "The cluster of the current kubeconfig does not answer; check `kubectl get nodes`."
            )

    def down(self) -> None:
        self.kubeconfig.unlink(missing_ok=True)

    def running(self) -> bool:
        return self.kubeconfig.exists() and _ready(self)

    def host_address(self) -> str:
        chosen = os.environ.get("LUCID_HOST_ADDRESS")
        if chosen:
            return chosen
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            # Connecting a datagram socket sends nothing; it only picks the outgoing address.
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])

    def provide_image(self, dockerfile: Path, context: Path, tag: str) -> str:
        del dockerfile, context, tag
        chosen = os.environ.get("LUCID_IMAGE")
        if not chosen:
            raise TestbedError(
                "With CLUSTER=current push the image to a registry and name it in LUCID_IMAGE."
            )
        return chosen

    def provide_storage(self) -> StorageClasses:
        names = {
            "local_path": os.environ.get("LUCID_LOCAL_PATH_CLASS", ""),
            "loop": os.environ.get("LUCID_EXPANDABLE_CLASS", ""),
            "ext4": "",
            "snapshot": os.environ.get("LUCID_SNAPSHOT_CLASS", ""),
        }
        return StorageClasses(**names)


_KINDS: dict[str, type[Cluster]] = {"own": OwnCluster, "kind": KindCluster, "current": CurrentCluster}


def choose(instance: Instance, progress: Progress) -> Cluster:
    """The cluster that $CLUSTER names: own (when unset), kind or current; raises TestbedError for others."""
    name = os.environ.get("CLUSTER", "own")
    if name not in _KINDS:
        raise TestbedError(f"CLUSTER={name} is not known; use own, kind or current.")
    return _KINDS[name](instance, progress)


def require_docker() -> None:
    """Raises TestbedError when no Docker engine answers."""
    if shutil.which("docker") is None:
        raise TestbedError("CLUSTER=kind needs Docker; install it, or unset CLUSTER and run as root.")
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode != 0:
        raise TestbedError("CLUSTER=kind needs a running Docker engine; start it, and check `docker info`.")


def run(command: Sequence[str], document: str | None = None) -> str:
    answer = subprocess.run(command, input=document, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        name = " ".join([Path(command[0]).name, *command[1:3]])
        raise TestbedError(f"{name} failed: {answer.stderr.strip() or answer.stdout.strip()}")
    return answer.stdout


def _ready(cluster: Cluster) -> bool:
    command = [str(cluster.tool("kubectl")), f"--kubeconfig={cluster.kubeconfig}", "--request-timeout=10s"]
    answer = subprocess.run([*command, "get", "--raw=/readyz"], capture_output=True, check=False)
    return answer.returncode == 0
