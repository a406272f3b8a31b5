"""`CLUSTER=current`: the test bed works in a cluster that was there before, and leaves it as it was."""

import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.cluster.controlplane import ControlPlane
from testbed.identity import marked
from testbed.paths import Instance, project_root

pytestmark = pytest.mark.apiserver


class Person:
    """Somebody with a kubeconfig of another cluster, at a prompt."""

    def __init__(self, kubeconfig: Path, instance: Instance) -> None:
        self.kubeconfig = kubeconfig
        self.instance = instance
        self.environment = {
            **os.environ,
            "CLUSTER": "current",
            "KUBECONFIG": str(kubeconfig),
            "PYTHONPATH": str(project_root() / "e2e"),
        }

    def testbed(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "testbed", *arguments, "--name", self.instance.name]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)

    def up(self) -> "subprocess.CompletedProcess[str]":
        return self.testbed("up", "--control-plane-only")

    def sourced(self, command: str) -> str:
        """What a command prints in a shell that has sourced the test bed's variables."""
        script = f". {self.instance.root / 'env'} && {command}"
        answer = subprocess.run(
            ["bash", "-c", script],
            env={**os.environ, "KUBECONFIG": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr
        return answer.stdout


@pytest.fixture
def person(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Person]:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_bytes(control_plane.kubeconfig.read_bytes())
    made = Person(kubeconfig, Instance.named(f"test-{uuid.uuid4().hex[:8]}"))
    yield made
    made.testbed("down", "--purge")
    command = [control_plane.kubectl, f"--kubeconfig={control_plane.kubeconfig}", "delete", "namespace"]
    subprocess.run([*command, made.instance.name, "--ignore-not-found", "--wait=false"], check=True)


def kept(control_plane: ControlPlane) -> set[str]:
    """What no test of a run touches, and every one needs."""
    names = get(control_plane, "crd,namespace,priorityclass")
    return {name for name in names if name.endswith(("lucid-blockchain.org", "/default")) or "/kube-" in name}


def get(control_plane: ControlPlane, *arguments: str) -> set[str]:
    command = [control_plane.kubectl, f"--kubeconfig={control_plane.kubeconfig}", "get", "--output=name"]
    answer = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    return set(answer.stdout.split())


def test_it_is_used_and_left_as_it_was(person: Person, control_plane: ControlPlane) -> None:
    before, config = kept(control_plane), person.kubeconfig.read_bytes()
    first = person.up()
    assert (first.returncode, "is up:" in first.stdout) == (0, True), first.stderr
    assert "is up already" in person.up().stdout
    copied = person.instance.root / "kubeconfig"
    assert copied.stat().st_mode & 0o077 == 0, "it holds a login"
    assert marked(person.instance) == [], "nothing of its own runs"
    name, sample = person.instance.name, project_root() / "manifests" / "samples" / "collection-minimal.yaml"
    person.sourced(f"kubectl create namespace {name} && kubectl apply --namespace={name} --filename={sample}")
    assert person.testbed("status").returncode == 0

    down = person.testbed("down")
    assert (down.returncode, "is stopped" in down.stdout) == (0, True), down.stderr
    assert control_plane.healthy(), "the cluster is not its to stop"
    assert kept(control_plane) == before
    assert get(control_plane, "collections", f"--namespace={name}"), "what a person applied is the person's"
    assert person.kubeconfig.read_bytes() == config
    assert not copied.exists(), "no copy of the login is left"
    assert person.testbed("status").returncode == 3


def test_a_cluster_that_does_not_answer_is_said_at_once_and_nothing_is_left(
    person: Person, control_plane: ControlPlane
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    config = person.kubeconfig.read_text().replace(f":{control_plane.port}", f":{port}")
    person.kubeconfig.write_text(config)
    answer = person.up()
    assert answer.returncode == 1
    assert "does not answer; check `kubectl get nodes`" in answer.stderr
    assert person.testbed("down").returncode == 0
    assert not (person.instance.root / "kubeconfig").exists()
