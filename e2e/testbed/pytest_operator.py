"""pytest plugin: the operator from source as a process of its own, on a real API server and real stores."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from lucid_storage.kube.client import Json, Kube, load_configuration, resource_path
from lucid_storage.models.kinds import KINDS
from lucid_storage.models.meta import API_VERSION, GROUP
from testbed import leftovers, ports
from testbed.cluster.controlplane import ControlPlane
from testbed.operator_forks import ForkedOperator, Parent
from testbed.paths import Instance, project_root
from testbed.process import Daemon
from testbed.testrun import TestRun

_FORKS = Parent()


def pytest_unconfigure() -> None:
    _FORKS.close()


@pytest.fixture(scope="session")
def control_plane(testbed_run: TestRun) -> ControlPlane:
    """An API server with the CRDs of this clone, shared by all workers of a run."""
    instance = Instance("kubernetes-api", testbed_run.instance.root / "kubernetes-api")
    plane = ControlPlane(instance)
    with testbed_run.once("kubernetes-api"):
        plane.start()
        _install_crds(plane)
    return plane


@pytest.fixture(scope="session")
def kubernetes_api(control_plane: ControlPlane) -> Path:
    """Its administrator's kubeconfig."""
    return control_plane.kubeconfig


def _install_crds(plane: ControlPlane) -> None:
    kubectl = [plane.kubectl, f"--kubeconfig={plane.kubeconfig}"]
    folder = project_root() / "crds"
    subprocess.run([*kubectl, "apply", "--server-side", "-f", folder], check=True, stdout=subprocess.DEVNULL)
    names = [f"crd/{info.plural}.{GROUP}" for info in KINDS.values()]
    wait = [*kubectl, "wait", "--for=condition=Established", "--timeout=60s", *names]
    subprocess.run(wait, check=True, stdout=subprocess.DEVNULL)
    # For a moment lists of what is established answer 429, "storage is (re)initializing", which kubectl waits out.
    kinds = ",".join(f"{info.plural}.{GROUP}" for info in KINDS.values())
    subprocess.run([*kubectl, "get", kinds, "--all-namespaces"], check=True, capture_output=True)


class OperatorProcess:
    """`lucid-storage operator` with an environment of its own; with `forked` without the imports that it costs."""

    def __init__(
        self, instance: Instance, name: str, environment: Mapping[str, str], *, forked: bool = False
    ) -> None:
        self.health_port = ports.reserve(instance, f"{name}-health")
        self.rest_port = ports.reserve(instance, f"{name}-rest")
        environment = {
            **os.environ,
            **environment,
            "HEALTH_HOST": "127.0.0.1",
            "REST_HOST": "127.0.0.1",
            "HEALTH_PORT": str(self.health_port),
            "REST_PORT": str(self.rest_port),
            "PYTHONPATH": os.pathsep.join(
                [str(project_root() / "operator"), os.environ.get("PYTHONPATH", "")]
            ),
        }
        program = [sys.executable, "-m", "lucid_storage", "operator"]
        self._daemon = (
            ForkedOperator(_FORKS, instance, name, environment)
            if forked
            else Daemon(instance, name, program, env=environment)
        )

    def start(self) -> None:
        """Returns when it is ready: it leads and has looked at everything, or it stands by."""
        self._daemon.start()
        self._daemon.wait_ready(self.ready, 40)

    def start_only(self) -> None:
        self._daemon.start()

    def ready(self) -> bool:
        return self.probe("readyz")[0] == 200

    def probe(self, path: str) -> tuple[int, Json]:
        """Status and body of /healthz or /readyz; (0, {}) while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}/{path}", timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            return 0, {}

    def metric(self, name: str, **labels: str) -> float:
        """Sum of a metric's samples that have these labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        found = [line for line in lines if line.split("{")[0].split(" ")[0] == name]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found if all(w in line for w in wanted))

    @property
    def log(self) -> str:
        return self._daemon.log.read_text(errors="replace") if self._daemon.log.exists() else ""

    def running(self) -> bool:
        return self._daemon.running()

    def stop(self) -> None:
        self._daemon.stop()

    def kill(self) -> None:
        self._daemon.kill()

    def freeze(self) -> None:
        self._daemon.freeze()

    def thaw(self) -> None:
        self._daemon.thaw()


@dataclass
class World:
    """One namespace of a real API server, and operators that serve only it."""

    kube: Kube
    namespace: str
    kubeconfig: Path
    instance: Instance
    environment: dict[str, str]
    operators: list[OperatorProcess] = field(default_factory=list)

    def operator(self, **environment: str) -> OperatorProcess:
        """A further operator process, not started."""
        name = f"operator-{self.namespace}-{len(self.operators)}"
        made = OperatorProcess(self.instance, name, {**self.environment, **environment}, forked=True)
        self.operators.append(made)
        return made

    def start_operator(self, **environment: str) -> OperatorProcess:
        made = self.operator(**environment)
        made.start()
        return made

    def path(self, kind: str, name: str | None = None, sub: str | None = None) -> str:
        return resource_path(KINDS[kind].plural, self.namespace, name, sub)

    async def create(
        self, kind: str, name: str, spec: Json, annotations: Mapping[str, str] | None = None
    ) -> Json:
        """Strict, as kubectl is."""
        body = {
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": {"name": name, "annotations": dict(annotations or {})},
            "spec": spec,
        }
        return await self.kube.request(
            "POST", self.path(kind), query={"fieldValidation": "Strict"}, body=body
        )

    async def patch(self, kind: str, name: str, patch: Json) -> Json:
        """A merge patch, {"spec": {...}} for instance."""
        changed = await self.kube.patch(self.path(kind, name), patch)
        assert changed is not None, f"{kind} {name} is gone"
        return changed

    async def get(self, kind: str, name: str) -> Json:
        found = await self.kube.get(self.path(kind, name))
        assert found is not None, f"{kind} {name} is gone"
        return found

    async def delete(self, kind: str, name: str, *, wait: float | None = 30) -> None:
        """Delete it and, with `wait`, return when it is gone."""
        await self.kube.request("DELETE", self.path(kind, name))
        if wait is not None:
            await self.until(lambda: self._gone(kind, name), wait, f"{kind} {name} to be gone")

    async def _gone(self, kind: str, name: str) -> bool:
        return await self.kube.get(self.path(kind, name)) is None

    async def ready(self, kind: str, name: str, deadline: float = 30) -> Json:
        """Wait until Ready is True for the current generation; returns the status."""
        return await self.condition(kind, name, "True", None, deadline)

    async def refused(self, kind: str, name: str, reason: str, deadline: float = 30) -> Json:
        """Wait until Ready is False with this reason for the current generation; returns the condition."""
        status = await self.condition(kind, name, "False", reason, deadline)
        return next(c for c in status["conditions"] if c["type"] == "Ready")

    async def condition(self, kind: str, name: str, value: str, reason: str | None, deadline: float) -> Json:
        last: Json = {}

        async def holds() -> bool:
            nonlocal last
            last = await self.get(kind, name)
            conditions = last.get("status", {}).get("conditions", [])
            ready = next((c for c in conditions if c["type"] == "Ready"), None)
            return (
                ready is not None
                and ready["status"] == value
                and (reason is None or ready["reason"] == reason)
                and ready.get("observedGeneration") == last["metadata"]["generation"]
            )

        try:
            await self.until(holds, deadline, "")
        except AssertionError:
            said = json.dumps(last.get("status", {}), indent=1)
            tail = "\n".join(self.operators[-1].log.splitlines()[-20:]) if self.operators else ""
            raise AssertionError(
                f"{kind} {name} has not become {value} {reason or ''}: {said}\n{tail}"
            ) from None
        status: Json = last["status"]
        return status

    async def until(self, holds: Callable[[], Awaitable[bool]], deadline: float, what: str) -> None:
        """Wait until something holds; AssertionError at the deadline (seconds)."""
        begun, pause = monotonic(), 0.02
        while not await holds():
            waited = monotonic() - begun
            assert waited < deadline, f"waited {deadline} s for {what}"
            await asyncio.sleep(pause)
            # Each look costs the API server a request; the longer it takes, the less a moment matters.
            pause = min(pause * 1.2, max(0.1, min(waited / 20, 0.3)))

    async def events(self, name: str) -> list[Json]:
        """Events about one object."""
        found = await self.kube.get(f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events")
        assert found is not None
        return [e for e in found["items"] if e.get("regarding", {}).get("name") == name]

    async def end(self, clean: Callable[[Kube, str], Awaitable[None]]) -> None:
        """Stop the operators and clean the namespace up; connections and ports are given back whatever that raises."""
        try:
            for operator in self.operators:
                operator.stop()
            await clean(self.kube, self.namespace)
        finally:
            await self.kube.close()
            ports.release_all(self.instance)

    async def secret(self, name: str, data: Mapping[str, str], *, allowed: bool = True) -> None:
        labels = {f"{GROUP}/allowed": "true"} if allowed else {}
        body: dict[str, Any] = {"metadata": {"name": name, "labels": labels}, "stringData": dict(data)}
        await self.kube.request("POST", f"/api/v1/namespaces/{self.namespace}/secrets", body=body)


@pytest.fixture
async def world(kubernetes_api: Path, testbed_run: TestRun) -> AsyncIterator[World]:
    """A namespace of its own; operators that are started in it stop with the test."""
    kube = Kube(await load_configuration(str(kubernetes_api)))
    namespace = f"world-{uuid.uuid4().hex[:8]}"
    await kube.request("POST", "/api/v1/namespaces", body={"metadata": {"name": namespace}})
    instance = Instance(namespace, testbed_run.instance.root / namespace)
    environment = {
        "KUBECONFIG": str(kubernetes_api),
        "POD_NAMESPACE": namespace,
        "WATCH_NAMESPACES": namespace,
        "ALLOW_LOOPBACK_ENDPOINTS": "true",
        "MONGODB_DATABASE": namespace.replace("-", "_"),
        "LOG_LEVEL": "DEBUG",
    }
    made = World(kube, namespace, kubernetes_api, instance, environment)
    yield made
    await made.end(leftovers.clear)
    shutil.rmtree(instance.root, ignore_errors=True)


@pytest.fixture
def mongo_world(world: World, mongodb: Any) -> Iterator[World]:
    """A world whose operators use the shared MongoDB; its database is dropped afterwards."""
    world.environment["MONGODB_URI"] = mongodb.uri
    yield world
    with mongodb.client() as client:
        client.drop_database(world.environment["MONGODB_DATABASE"])
