"""helm, and an API server that only the chart's tests use: they install CRDs of their own."""

import json
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
import yaml
from chart_release import Apply, Helm

from lucid_storage.kube.client import Json, Kube, load_configuration
from testbed.cluster import binaries
from testbed.cluster.controlplane import ControlPlane
from testbed.paths import Instance
from testbed.progress import Progress
from testbed.testrun import TestRun


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(binaries.ensure(["helm"], Progress())["helm"], tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def chart_api(testbed_run: TestRun) -> ControlPlane:
    instance = Instance("chart-api", testbed_run.instance.root / "chart-api")
    plane = ControlPlane(instance)
    with testbed_run.once("chart-api"):
        plane.start()
    return plane


@pytest.fixture
async def kube(chart_api: ControlPlane) -> AsyncIterator[Kube]:
    client = Kube(await load_configuration(str(chart_api.kubeconfig)))
    yield client
    await client.close()


@pytest.fixture
async def namespaces(kube: Kube) -> AsyncIterator[tuple[str, str, str]]:
    """Three empty ones, where pods are held to the profile `restricted`."""
    mark = uuid.uuid4().hex[:8]
    names = (f"chart-{mark}", f"chart-{mark}-a", f"chart-{mark}-b")
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    for name in names:
        await kube.request("POST", "/api/v1/namespaces", body={"metadata": {"name": name, "labels": labels}})
    yield names
    for name in names:
        await kube.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
def apply(chart_api: ControlPlane) -> Apply:
    def apply_objects(objects: Iterable[Json], *, dry_run: bool = False) -> str:
        # As another manager than helm, which may own the CRDs at that moment.
        how = ["--server-side", "--force-conflicts", "--validate=strict"]
        how += ["--dry-run=server"] if dry_run else []
        command = [chart_api.kubectl, f"--kubeconfig={chart_api.kubeconfig}", "apply", *how, "-f", "-"]
        return _output(command, yaml.safe_dump_all(objects))

    return apply_objects


def _output(command: list[str | Path], text: str) -> str:
    answer = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def pytest_make_parametrize_id(val: object) -> str | None:
    # Of every test in a run, not of the charts' alone.
    return json.dumps(val, default=str, skipkeys=True)[:60] if isinstance(val, dict) else None
