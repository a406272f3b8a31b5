"""Servers of the bench's own, the operator under measurement, and the resources that it is given."""

import asyncio
import os
import resource
import subprocess
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import yaml

from bench.apiserver import ApiServer, Versions
from lucid_storage.kube.client import Kube, load_configuration, resource_path
from lucid_storage.models.kinds import KINDS
from lucid_storage.models.meta import API_VERSION, GROUP
from testbed import ports
from testbed.cluster.controlplane import ControlPlane
from testbed.paths import Instance, project_root
from testbed.progress import Progress
from testbed.pytest_operator import OperatorProcess
from testbed.stores.mongodb import MongoDB
from testbed.testrun import TestRun

PLURALS = ("collections", "indexes")
CONCURRENCY = 12
"""Requests at the same time of whoever creates or patches."""
SETTLE_SECONDS = 300.0
_OPEN_FILES = 65_536  # mongod keeps two files a collection open


class BenchError(Exception):
    """The bench cannot go on; the message says why."""


class MeasuredOperator(OperatorProcess):
    """An operator process whose id is known."""

    @property
    def pid(self) -> int:
        process = self._daemon.process
        if process is None or not process.alive():
            raise BenchError(f"The operator does not run. The end of its log:\n{self.log[-3000:]}")
        return process.pid

    async def start_timed(self, deadline: float = 120) -> float:
        """Start it; returns the seconds from exec until /readyz says yes."""
        began = monotonic()
        self.start_only()
        while not await asyncio.to_thread(self.ready):
            if monotonic() - began > deadline:
                raise BenchError(f"The operator was not ready within {deadline:.0f} s.\n{self.log[-3000:]}")
            await asyncio.sleep(0.02)
        return monotonic() - began


@dataclass
class Bed:
    """What rows work on. Resources are numbered; the even ones are Collections, the odd ones their Indexes."""

    plane: ControlPlane
    mongodb: MongoDB
    kube: Kube
    apiserver: ApiServer
    instance: Instance
    namespace: str
    count: int = 0
    """Resources that exist and are settled."""
    _operators: list[MeasuredOperator] = field(default_factory=list)

    @property
    def database(self) -> str:
        return self.namespace.replace("-", "_")

    @property
    def operator(self) -> MeasuredOperator:
        """The one operator; made, and not started, at the first use."""
        if not self._operators:
            environment = {
                **_of_the_manifests("MALLOC_"),
                "KUBECONFIG": str(self.plane.kubeconfig),
                "POD_NAMESPACE": self.namespace,
                "WATCH_NAMESPACES": self.namespace,
                "MONGODB_URI": self.mongodb.uri,
                "MONGODB_DATABASE": self.database,
                "LOG_LEVEL": "WARNING",
            }
            self._operators.append(MeasuredOperator(self.instance, "operator", environment))
        return self._operators[0]

    async def running(self) -> MeasuredOperator:
        """The operator, started where it does not run."""
        if not self.operator.running():
            await self.operator.start_timed()
        return self.operator

    async def grow(self, count: int) -> Versions:
        """Create resources up to `count` and wait until all new ones are Ready. Returns what happened meanwhile."""
        new = range(self.count, count)
        async with self.apiserver.watching(self.namespace, PLURALS) as versions:
            await at_once([self._create(number) for number in new])
            began = monotonic()
            while len(versions.ready) < len(new):
                if monotonic() - began > SETTLE_SECONDS:
                    missing = len(new) - len(versions.ready)
                    raise BenchError(f"{missing} of {len(new)} resources did not become Ready.")
                await asyncio.sleep(0.05)
        self.count = max(self.count, count)
        return versions

    async def settled(self, quiet_seconds: float = 3, deadline: float = 120) -> None:
        """Wait until nobody has written for a while."""
        began = since = monotonic()
        writes = await self.apiserver.writes()
        while monotonic() - since < quiet_seconds:
            await asyncio.sleep(1)
            now = await self.apiserver.writes()
            if now != writes:
                writes, since = now, monotonic()
            if monotonic() - began > deadline:
                raise BenchError(f"The operator still wrote after {deadline:.0f} s.")

    async def _create(self, number: int) -> None:
        plural = PLURALS[number % 2]
        body = _index(number) if number % 2 else _collection()
        await create(self.kube, plural, self.namespace, name_of(number), body)


@asynccontextmanager
async def bed(progress: Progress) -> AsyncIterator[Bed]:
    """An API server, a MongoDB and a namespace; all of it ends with the block."""
    _allow_open_files()
    run = TestRun(f"bench-{uuid.uuid4().hex[:8]}")
    run.join()
    plane = ControlPlane(Instance("api", run.instance.root / "api"), progress)
    mongodb = MongoDB(run.instance, "mongodb", progress=progress)
    await asyncio.to_thread(plane.start)
    await asyncio.to_thread(_install_crds, plane)
    await asyncio.to_thread(mongodb.start)
    kube = Kube(await load_configuration(str(plane.kubeconfig)), pool_size=CONCURRENCY)
    apiserver = ApiServer(plane)
    namespace = f"bench-{uuid.uuid4().hex[:6]}"
    await create_namespace(kube, namespace)
    instance = Instance("operator", run.instance.root / "operator")
    made = Bed(plane, mongodb, kube, apiserver, instance, namespace)
    try:
        yield made
    finally:
        await asyncio.to_thread(made.operator.stop)
        await apiserver.close()
        await kube.close()
        ports.release_all(instance)
        run.leave()
        await asyncio.to_thread(run.wait_until_gone)


async def create_namespace(kube: Kube, name: str) -> None:
    await kube.request("POST", "/api/v1/namespaces", body={"metadata": {"name": name}})


async def create(kube: Kube, plural: str, namespace: str, name: str, spec: dict[str, Any]) -> None:
    kind = next(info.kind for info in KINDS.values() if info.plural == plural)
    body = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
    await kube.request("POST", resource_path(plural, namespace), body=body)


async def at_once(jobs: list[Any], concurrency: int = CONCURRENCY) -> None:
    """Run coroutines, so many at a time. The first failure ends it."""
    waiting = iter(jobs)

    async def work() -> None:
        for job in waiting:
            await job

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(work())


def _of_the_manifests(prefix: str) -> dict[str, str]:
    """The operator's environment as the manifests set it, of the variables that begin with `prefix`."""
    documents = yaml.safe_load_all((project_root() / "manifests" / "install.yaml").read_text())
    deployment = next(document for document in documents if document["kind"] == "Deployment")
    variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    found = {each["name"]: each["value"] for each in variables if each["name"].startswith(prefix)}
    if not found:
        raise BenchError(f"The Deployment of the manifests sets no variable {prefix}*.")
    return found


def name_of(number: int) -> str:
    """Name of a resource: Collection and Index of one pair have the same."""
    return f"entity-{number // 2:04d}"


def _collection() -> dict[str, Any]:
    text, time = {"bsonType": "string", "maxLength": 200}, {"bsonType": "date"}
    return {
        "validator": {
            "$jsonSchema": {
                "bsonType": "object",
                "required": ["account", "createdAt"],
                "properties": {
                    "account": text,
                    "createdAt": time,
                    "updatedAt": time,
                    "state": {"enum": ["new", "active", "closed"]},
                    "amount": {"bsonType": ["long", "int", "double"], "minimum": 0},
                    "tags": {"bsonType": "array", "items": text},
                },
            }
        },
        "validationLevel": "moderate",
    }


def _index(number: int) -> dict[str, Any]:
    keys = [{"field": "account", "order": 1}, {"field": "createdAt", "order": -1}]
    return {"engine": "mongodb", "mongodb": {"collection": name_of(number), "keys": keys}}


def _install_crds(plane: ControlPlane) -> None:
    kubectl = [str(plane.kubectl), f"--kubeconfig={plane.kubeconfig}"]
    folder = project_root() / "crds"
    subprocess.run([*kubectl, "apply", "--server-side", "-f", folder], check=True, stdout=subprocess.DEVNULL)
    names = [f"crd/{info.plural}.{GROUP}" for info in KINDS.values()]
    wait = [*kubectl, "wait", "--for=condition=Established", "--timeout=60s", *names]
    subprocess.run(wait, check=True, stdout=subprocess.DEVNULL)


def _allow_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def child_environment() -> dict[str, str]:
    """For the bench's own child processes: the same sources as this one's."""
    root = project_root()
    paths = [str(root / "e2e"), str(root / "operator")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
