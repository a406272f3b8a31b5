"""A real node: containerd, kubelet, kube-proxy and a name server, in namespaces of their own.

Process 1 of the node holds mount, process, network and host name namespaces. When it is killed the
kernel ends every process of the node and drops its mounts, links and packet filter rules, so nothing
can be left behind but the control groups, the bridge and the files, which stop() looks after.
"""

import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from testbed import apt
from testbed.cluster import archive, binaries, cgroups, node_init
from testbed.cluster.controlplane import NODE_LOGIN, ControlPlane
from testbed.cluster.network import Network
from testbed.cluster.node_config import (
    CONTAINERD_SOCKET,
    DNS_READY_PORT,
    PAUSE_IMAGE,
    PROXY_HEALTH_PORT,
    NodeConfig,
)
from testbed.errors import TestbedError
from testbed.paths import Instance, cache_dir
from testbed.process import Daemon, wait_until
from testbed.progress import Progress, Silent

PACKAGES = (
    "containerd",
    "runc",
    "containernetworking-plugins",
    "iptables",
    "conntrack",
    "iproute2",
    "mount",
    "util-linux",
)
KUBELET = "kubelet-server"
_READY_SECONDS = 120  # a few on an idle machine; others may be busy here too


class Node:
    """The one node of the control plane's cluster."""

    def __init__(
        self,
        instance: Instance,
        control_plane: ControlPlane,
        network: Network,
        progress: Progress | None = None,
    ) -> None:
        self.instance = instance
        self.network = network
        self.name = node_name(instance)
        self._control_plane = control_plane
        self._progress = progress or Silent()
        self._cgroup = network.bridge
        self._folder = instance.data / "node" / "config"
        self._config = NodeConfig(instance.root, self._folder, network, self._cgroup)

    def start(self) -> None:
        """Brings the node up and waits until Kubernetes calls it Ready; twice is harmless.

        The control plane must run. Raises TestbedError with the end of the log of what did not come up.
        """
        if os.geteuid() != 0:
            raise TestbedError("A node of our own needs root; use CLUSTER=kind or CLUSTER=current instead.")
        apt.ensure(PACKAGES, self._progress)
        binaries.ensure(binaries.NODE, self._progress)
        with self._progress.step("Starting the node"):
            pki = self._control_plane.pki
            pki.serve(KUBELET, (f"DNS:{self.name}", f"IP:{self.network.node_address}"))
            self._config.write(pki.authority, pki.certificate(KUBELET), pki.key(KUBELET))
            self._write_client_configs()
            self.network.create()
            cgroups.create(self._cgroup)
            if self._init().start():
                self.network.connect(self.pid())
            self._containerd().start()
            if PAUSE_IMAGE not in self.images():
                self.load(pause_image(self._progress))
            with ThreadPoolExecutor() as pool:
                daemons = (self._kubelet(), self._kube_proxy(), self._dns())
                for started in [pool.submit(daemon.start) for daemon in daemons]:
                    started.result()
            wait_until(
                self._pods_reported, _READY_SECONDS, "The kubelet's report on the pods of the last run"
            )

    def stop(self) -> None:
        """Ends the node with all its containers; images and data stay. Harmless when nothing runs."""
        self.end(self.instance, self.network)

    @staticmethod
    def end(instance: Instance, network: Network) -> None:
        """stop() for who only knows the instance and its network: builds nothing."""
        for name in ("node", "containerd", "kubelet", "kube-proxy", "dns"):
            Daemon(instance, name, ()).kill()
        cgroups.delete(network.bridge)
        network.delete()

    def load(self, image: Path) -> None:
        """Brings an image in the form of `docker save` to the node; raises TestbedError when refused."""
        with image.open("rb") as content:
            self._ctr("images", "import", "-", content=content)

    def images(self) -> set[str]:
        """The names of the images that the node has."""
        return set(self._ctr("images", "list", "--quiet").split())

    def _write_client_configs(self) -> None:
        for login, file in ((NODE_LOGIN, "kubelet"), ("proxy", "proxy"), ("dns", "dns")):
            self.client_config(login, file)

    def client_config(self, login: str, file: str) -> None:
        """A kubeconfig for a program on the node: config_file(`<file>.kubeconfig`)."""
        server = f"https://{self.network.host_address}:{self._control_plane.port}"
        self._control_plane.client_config(login, server, self._folder / f"{file}.kubeconfig")

    def _init(self) -> Daemon:
        namespaces = ["--mount", "--propagation=private", "--net", "--uts", "--pid", "--fork", "--mount-proc"]
        program = [sys.executable, "-I", node_init.__file__]
        arguments = [str(self.instance.root), str(cache_dir() / "bin"), self.name]
        command = ["unshare", *namespaces, "--kill-child=KILL", "--", *program, *arguments]
        return Daemon(self.instance, "node", command, ready=self._arranged)

    def _arranged(self) -> bool:
        pid = self.pid()
        return pid > 0 and Path(f"/proc/{pid}/root/run/lucid/ready").exists()

    def pid(self) -> int:
        """The number that process 1 of the node has on this machine; 0 when there is none."""
        process = Daemon(self.instance, "node", ()).process
        if process is None:
            return 0
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        numbers = children.read_text().split() if children.exists() else []
        return int(numbers[0]) if numbers else 0

    def _inside(self, command: Sequence[str]) -> list[str]:
        pid = self.pid()
        if pid == 0:
            raise TestbedError("The node does not run; start it with: make testbed.")
        return ["nsenter", f"--target={pid}", "--mount", "--net", "--uts", "--pid", "--", *command]

    def daemon(self, name: str, command: Sequence[str], ready: Callable[[], object] | None) -> Daemon:
        """A program in the namespaces of the node, which ends with it."""
        return Daemon(self.instance, name, self._inside(command), ready=ready, ready_deadline=_READY_SECONDS)

    def program(self, name: str) -> str:
        """The path of one of our programs as the node sees it."""
        return str(node_init.PROGRAMS / binaries.PROGRAMS[name].path().relative_to(cache_dir() / "bin"))

    def config_file(self, name: str) -> str:
        """The path of a configuration file as the node sees it."""
        return self._config.inside(self._folder / name)

    def _containerd(self) -> Daemon:
        command = ["containerd", "--config", self.config_file("containerd.toml")]
        return self.daemon("containerd", command, self._containerd_answers)

    def _containerd_answers(self) -> bool:
        return self._run(self._inside(["ctr", "--address", CONTAINERD_SOCKET, "version"])).returncode == 0

    def _kubelet(self) -> Daemon:
        reported = Daemon(self.instance, "kubelet", ()).running()
        since = datetime.min.replace(tzinfo=UTC) if reported else datetime.now(UTC).replace(microsecond=0)
        command = [
            self.program("kubelet"),
            f"--config={self.config_file('kubelet.yaml')}",
            f"--kubeconfig={self.config_file('kubelet.kubeconfig')}",
            f"--node-ip={self.network.node_address}",
            f"--hostname-override={self.name}",
        ]
        return self.daemon("kubelet", command, lambda: self.ready(since))

    def _kube_proxy(self) -> Daemon:
        command = [
            self.program("kube-proxy"),
            f"--config={self.config_file('kube-proxy.yaml')}",
            f"--hostname-override={self.name}",
        ]
        return self.daemon("kube-proxy", command, lambda: self.answers(PROXY_HEALTH_PORT, "/livez"))

    def _dns(self) -> Daemon:
        command = [self.program("coredns"), "-conf", self.config_file("Corefile")]
        return self.daemon("dns", command, lambda: self.answers(DNS_READY_PORT, "/ready"))

    def ready(self, since: datetime) -> bool:
        """Whether the kubelet has reported the node Ready since then; older reports stay in the API."""
        query = ["get", "node", self.name, "--output=json", "--ignore-not-found"]
        answer = self._run([*self._kubectl(), *query])
        if answer.returncode != 0 or not answer.stdout.strip():
            return False
        conditions = json.loads(answer.stdout)["status"].get("conditions", ())
        return any(
            condition["type"] == "Ready"
            and condition["status"] == "True"
            and datetime.fromisoformat(condition["lastHeartbeatTime"]) >= since
            for condition in conditions
        )

    def _pods_reported(self) -> bool:
        """Whether every container that the API calls running does run; after a restart that takes a moment."""
        query = [
            "get",
            "pods",
            "--all-namespaces",
            f"--field-selector=spec.nodeName={self.name}",
            "--output=json",
        ]
        answer = self._run([*self._kubectl(), *query])
        if answer.returncode != 0:
            return False
        statuses = [pod["status"].get("containerStatuses", ()) for pod in json.loads(answer.stdout)["items"]]
        claimed = {
            container["containerID"].removeprefix("containerd://")
            for containers in statuses
            for container in containers
            if "running" in container["state"]
        }
        return claimed <= set(self._ctr("tasks", "list", "--quiet").split())

    def _kubectl(self) -> list[str]:
        return [str(self._control_plane.kubectl), f"--kubeconfig={self._control_plane.kubeconfig}"]

    def answers(self, port: int, path: str) -> bool:
        """Whether a server on the node gives 200."""
        connection = http.client.HTTPConnection(self.network.node_address, port, timeout=2)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _ctr(self, *arguments: str, content: IO[bytes] | None = None) -> str:
        command = ["ctr", "--address", CONTAINERD_SOCKET, "--namespace=k8s.io", *arguments]
        answer = self._run(self._inside(command), content)
        if answer.returncode != 0:
            raise TestbedError(f"containerd refused {' '.join(arguments)}: {answer.stderr.strip()}")
        return answer.stdout

    @staticmethod
    def _run(command: Sequence[str], content: IO[bytes] | None = None) -> subprocess.CompletedProcess[str]:
        source = content if content is not None else subprocess.DEVNULL
        return subprocess.run(command, stdin=source, capture_output=True, text=True, check=False)


def node_name(instance: Instance) -> str:
    """A name that Kubernetes accepts."""
    return "lucid-" + re.sub(r"[^a-z0-9]+", "-", instance.name.lower()).strip("-")[:50]


def pause_image(progress: Progress) -> Path:
    """The image that holds the namespaces of a pod; a file in the cache."""
    program = binaries.ensure(["pause"], progress)["pause"]
    image = cache_dir() / "images" / f"{program.parent.name}.tar"
    if not image.exists():
        image.parent.mkdir(exist_ok=True)
        archive.write(image, PAUSE_IMAGE, files={"/pause": program}, entrypoint=["/pause"])
    return image
