"""The test bed's Kubernetes keeps its promises, on the real servers."""

import http.server
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testbed.cluster import choose
from testbed.cluster.controlplane import ControlPlane
from testbed.cluster.images import BUSYBOX, busybox
from testbed.cluster.network import Network
from testbed.cluster.provider import OwnCluster
from testbed.errors import TestbedError
from testbed.identity import marked
from testbed.paths import Instance
from testbed.process import wait_until
from testbed.progress import Silent


def kubectl(where: ControlPlane | OwnCluster, *arguments: str, document: object = None) -> str:
    program = where.kubectl if isinstance(where, ControlPlane) else where.tool("kubectl")
    answer = subprocess.run(
        [program, f"--kubeconfig={where.kubeconfig}", *arguments],
        input=None if document is None else json.dumps(document),
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def pod(name: str, *script: str, **spec: object) -> dict[str, Any]:
    container = {"name": "main", "image": BUSYBOX, "command": ["sh", "-c", "; ".join(script)]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsUser": 65532, "runAsGroup": 65532, "runAsNonRoot": True},
            "containers": [container],
            **spec,
        },
    }


def phase(cluster: OwnCluster, name: str) -> str:
    return kubectl(cluster, "get", "pod", name, "--output=jsonpath={.status.phase}")


def run_to_completion(cluster: OwnCluster, document: dict[str, Any]) -> str:
    """The logs of the pod, which must succeed."""
    name = document["metadata"]["name"]
    kubectl(cluster, "apply", "--filename=-", document=document)
    end = wait_until(
        lambda: (now := phase(cluster, name)) in {"Succeeded", "Failed"} and now, 60, f"The end of pod {name}"
    )
    logs = kubectl(cluster, "logs", name)
    assert end == "Succeeded", logs
    return logs


def traces(instance: Instance, network: Network) -> list[str]:
    """What a node must not leave on the machine."""
    processes = [Path(f"/proc/{process.pid}/cmdline").read_text() for process in marked(instance)]
    links = [
        entry.name for entry in Path("/sys/class/net").iterdir() if entry.name.startswith(network.bridge)
    ]
    groups = [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{network.bridge}")]
    groups += [str(path) for path in Path("/sys/fs/cgroup").glob(network.bridge)]
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if str(instance.root) in line]
    return processes + links + groups + mounts


def programs(instance: Instance) -> set[str]:
    """The names of the programs that run for the instance."""
    names = set()
    for process in marked(instance):
        try:
            names.add(Path(f"/proc/{process.pid}/exe").readlink().name)
        except FileNotFoundError:  # it has just ended
            continue
    return names


@pytest.mark.apiserver
class TestControlPlane:
    def test_it_serves_the_api_with_its_controllers(self, control_plane: ControlPlane) -> None:
        kubectl(control_plane, "create", "namespace", "short-lived")
        accounts = wait_until(
            lambda: kubectl(
                control_plane, "get", "serviceaccounts", "--namespace=short-lived", "--output=name"
            ),
            20,
            "The service account that a controller makes in a new namespace",
        )
        assert accounts.split() == ["serviceaccount/default"]
        kubectl(control_plane, "delete", "namespace", "short-lived", "--timeout=30s")

    def test_it_says_the_version_it_was_built_from(self, control_plane: ControlPlane) -> None:
        version = json.loads(kubectl(control_plane, "version", "--output=json"))
        assert version["serverVersion"]["gitVersion"] == version["clientVersion"]["gitVersion"] == "v1.34.4"

    def test_it_enforces_rbac_for_service_accounts(self, control_plane: ControlPlane) -> None:
        token = kubectl(control_plane, "create", "token", "default").strip()
        document = json.loads(kubectl(control_plane, "config", "view", "--raw", "--flatten", "--output=json"))
        document["users"][0]["user"] = {"token": token}
        path = control_plane.instance.data / "restricted.json"
        path.write_text(json.dumps(document))
        answer = subprocess.run(
            [control_plane.kubectl, f"--kubeconfig={path}", "get", "secrets"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode != 0
        assert "Forbidden" in answer.stderr

    def test_several_run_side_by_side(self, private_control_plane: Callable[[], ControlPlane]) -> None:
        first, second = private_control_plane(), private_control_plane()
        kubectl(first, "create", "namespace", "only-in-the-first")
        assert "only-in-the-first" in kubectl(first, "get", "namespaces")
        assert "only-in-the-first" not in kubectl(second, "get", "namespaces")

    def test_stopping_twice_leaves_no_process(
        self, private_control_plane: Callable[[], ControlPlane]
    ) -> None:
        control_plane = private_control_plane()
        assert marked(control_plane.instance)
        control_plane.stop()
        control_plane.stop()
        assert not marked(control_plane.instance)

    def test_it_keeps_its_objects_over_a_restart(
        self, private_control_plane: Callable[[], ControlPlane]
    ) -> None:
        control_plane = private_control_plane()
        kubectl(control_plane, "create", "configmap", "kept", "--from-literal=word=here")
        control_plane.stop()
        control_plane.start()
        assert kubectl(control_plane, "get", "configmap", "kept", "--output=jsonpath={.data.word}") == "here"

    def test_a_frozen_api_server_answers_nothing_until_it_is_thawed(
        self, private_control_plane: Callable[[], ControlPlane]
    ) -> None:
        control_plane = private_control_plane()
        control_plane.apiserver.freeze()
        assert not control_plane.healthy()
        control_plane.apiserver.thaw()
        wait_until(control_plane.healthy, 30, "The API server after it was thawed")

    def test_its_secrets_are_readable_by_their_owner_only(self, control_plane: ControlPlane) -> None:
        assert control_plane.kubeconfig.stat().st_mode & 0o077 == 0
        assert (control_plane.instance.data / "pki").stat().st_mode & 0o077 == 0


@pytest.mark.node
@pytest.mark.xdist_group("node")
class TestNode:
    def test_a_pod_runs_to_completion_without_privileges_and_its_logs_can_be_read(
        self, node_cluster: OwnCluster
    ) -> None:
        logs = run_to_completion(node_cluster, pod("unprivileged", "id"))
        assert logs.strip() == "uid=65532 gid=65532 groups=65532"

    def test_a_service_is_found_by_name_and_a_command_runs_in_a_pod(self, node_cluster: OwnCluster) -> None:
        server = pod(
            "server", "mkdir /tmp/www", "echo served > /tmp/www/index.html", "httpd -f -p 8080 -h /tmp/www"
        )
        kubectl(node_cluster, "apply", "--filename=-", document=server)
        kubectl(node_cluster, "expose", "pod", "server", "--port=80", "--target-port=8080")
        kubectl(node_cluster, "wait", "pod/server", "--for=condition=Ready", "--timeout=60s")
        # Rules for a new Service arrive a moment after it; the script asks until its own deadline.
        asked = (
            "for i in $(seq 50); do wget -qO- http://server.default.svc && exit 0; sleep 0.2; done; exit 1"
        )
        assert run_to_completion(node_cluster, pod("client", asked)).strip().endswith("served")
        assert kubectl(node_cluster, "exec", "server", "--", "id", "-u").strip() == "65532"

    def test_a_pod_reaches_a_server_on_this_machine(self, node_cluster: OwnCluster) -> None:
        class Greeter(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"hello from the machine\n")

            def log_message(self, *arguments: object) -> None:
                del arguments

        with http.server.ThreadingHTTPServer((node_cluster.host_address(), 0), Greeter) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            host, port = server.server_address[:2]
            logs = run_to_completion(node_cluster, pod("caller", f"wget -qO- http://{host!s}:{port}/"))
            server.shutdown()
        assert logs == "hello from the machine\n"

    def test_a_pod_that_asks_for_too_much_memory_is_ended(self, node_cluster: OwnCluster) -> None:
        document = pod("greedy", "tail /dev/zero")
        document["spec"]["containers"][0]["resources"] = {"limits": {"memory": "32Mi"}}
        kubectl(node_cluster, "apply", "--filename=-", document=document)
        wait_until(lambda: phase(node_cluster, "greedy") == "Failed", 60, "The end of the greedy pod")
        state = "{.status.containerStatuses[0].state.terminated.reason}"
        assert kubectl(node_cluster, "get", "pod", "greedy", f"--output=jsonpath={state}") == "OOMKilled"

    def test_a_deployment_comes_back_after_a_restart_and_stopping_twice_leaves_no_trace(
        self, private_cluster: Callable[[], OwnCluster]
    ) -> None:
        cluster = private_cluster()
        network = Network.reserve(cluster.instance)
        cluster.load(busybox(Silent()))
        spec = pod("unused", "exec sleep 100000")["spec"] | {"restartPolicy": "Always"}
        template = {"metadata": {"labels": {"app": "steady"}}, "spec": spec}
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "steady"},
            "spec": {"selector": {"matchLabels": {"app": "steady"}}, "template": template},
        }
        kubectl(cluster, "apply", "--filename=-", document=deployment)
        kubectl(cluster, "rollout", "status", "deployment/steady", "--timeout=60s")

        def containers() -> list[dict[str, Any]]:
            pods = json.loads(kubectl(cluster, "get", "pods", "--selector=app=steady", "--output=json"))[
                "items"
            ]
            return [container for pod in pods for container in pod["status"]["containerStatuses"]]

        [before] = containers()
        cluster.down()
        assert traces(cluster.instance, network) == []
        cluster.up("node")
        assert (
            "running" not in containers()[0]["state"]
            or containers()[0]["containerID"] != before["containerID"]
        )
        wait_until(lambda: containers()[0]["restartCount"] == 1, 60, "The restart of the container")
        kubectl(cluster, "rollout", "status", "deployment/steady", "--timeout=60s")

        cluster.down()
        cluster.down()
        assert traces(cluster.instance, network) == []

    def test_killing_its_first_process_ends_all_of_the_node(
        self, private_cluster: Callable[[], OwnCluster]
    ) -> None:
        cluster = private_cluster()
        cluster.load(busybox(Silent()))
        kubectl(cluster, "apply", "--filename=-", document=pod("lasting", "exec sleep 100000"))
        kubectl(cluster, "wait", "pod/lasting", "--for=condition=Ready", "--timeout=60s")
        os.kill(cluster.node().pid(), signal.SIGKILL)
        left = {"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}

        wait_until(lambda: programs(cluster.instance) == left, 30, "The end of the node's processes")


class TestChoice:
    def test_an_unknown_kind_of_cluster_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("CLUSTER", "cloud")
        with pytest.raises(TestbedError, match="use own, kind or current"):
            choose(Instance("any", tmp_path), Silent())

    def test_a_node_without_root_is_refused_with_the_alternatives(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        with pytest.raises(TestbedError, match="CLUSTER=kind or CLUSTER=current"):
            OwnCluster(Instance("any", tmp_path), Silent()).up("node")
        assert not list(tmp_path.iterdir())

    def test_kind_without_docker_is_refused(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv("CLUSTER", "kind")
        with pytest.raises(TestbedError, match="needs Docker"):
            choose(Instance("any", tmp_path / "any"), Silent()).up()
