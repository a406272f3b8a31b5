"""The operator does its work with the settings and the rights that the chart gives it, and asks for no more."""

import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from chart_release import Helm, environment, the, until

from lucid_storage.kube.client import Json, Kube, load_configuration
from lucid_storage.models.meta import API_VERSION, GROUP, RELEASE_OLD_VOLUME
from lucid_storage.models.orders import VOLUMES_FOLDER_VARIABLE
from testbed.cluster import kubeconfig
from testbed.cluster.controlplane import ControlPlane
from testbed.job_runner import JobRunner, worker_command
from testbed.paths import Instance
from testbed.pytest_operator import OperatorProcess
from testbed.testrun import TestRun

pytestmark = [pytest.mark.apiserver, pytest.mark.mongodb]

HOME = "operator-home"
TEAM = "team"


@pytest.fixture
def own_api(testbed_run: TestRun) -> Iterator[ControlPlane]:
    """One that serves this test alone: an operator that watches all namespaces would disturb others."""
    name = f"chart-rights-{uuid.uuid4().hex[:8]}"
    plane = ControlPlane(Instance(name, testbed_run.instance.root / name))
    plane.start()
    yield plane
    plane.stop()


@pytest.fixture
async def admin(own_api: ControlPlane) -> AsyncIterator[Kube]:
    client = Kube(await load_configuration(str(own_api.kubeconfig)))
    for name in (HOME, TEAM):
        await client.request("POST", "/api/v1/namespaces", body={"metadata": {"name": name}})
    yield client
    await client.close()


@pytest.mark.parametrize("watched", [[], [TEAM]], ids=["all namespaces", "one namespace"])
async def test_the_operator_reconciles_deletes_and_answers_with_the_charts_rights(
    own_api: ControlPlane,
    admin: Kube,
    helm: Helm,
    mongodb: Any,
    database: str,
    watched: list[str],
    tmp_path: Path,
) -> None:
    values: Json = {
        "stores.mongodb.uri": mongodb.uri,
        "stores.mongodb.database": database,
        "servedNamespaces": {TEAM: {"databases": [database]}},
        "watchNamespaces": watched,
        "settings.allowLoopbackEndpoints": True,
        "settings.logLevel": "DEBUG",
    }
    rendered = helm.objects(values, namespace=HOME)
    helm.install(values, own_api.kubeconfig, HOME)
    operator = await _operator(own_api, admin, rendered)
    operator.start()
    try:
        collection = f"/apis/{GROUP}/v1alpha1/namespaces/{TEAM}/collections"
        await admin.request("POST", collection, body=_collection("kept"))
        await admin.request("POST", collection, body=_collection("dropped", deletionPolicy="Delete"))
        for name in ("kept", "dropped"):
            await until(lambda path=f"{collection}/{name}": _ready(admin, path), 30, f"{name} to be Ready")
        await admin.request("DELETE", f"{collection}/dropped")
        await until(lambda: _gone(admin, f"{collection}/dropped"), 30, "the resource to go")
        with mongodb.client() as client:
            assert client[database].list_collection_names() == ["kept"]
        await _volume(admin)
        if watched:
            await _migration(admin, tmp_path)
        assert await _events(admin) != []
        assert _rest_status(operator, await _token(admin, TEAM, "default")) == 403
        assert _rest_status(operator, "no-token") == 401
    finally:
        operator.stop()
    assert "forbidden" not in operator.log.lower()


async def _volume(admin: Kube) -> None:
    """One that is bound, and takes its claim with it."""
    static = {"metadata": {"name": "static"}, "provisioner": "kubernetes.io/no-provisioner"}
    await admin.request("POST", "/apis/storage.k8s.io/v1/storageclasses", body=static)
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "static",
        "hostPath": {"path": "/nowhere"},
    }
    body = {"metadata": {"name": "nowhere"}, "spec": spec}
    await admin.request("POST", "/api/v1/persistentvolumes", body=body)
    volumes = f"/apis/{GROUP}/v1alpha1/namespaces/{TEAM}/volumes"
    declared = {"type": "logs", "size": "1Gi", "storageClassName": "static", "deletionPolicy": "Delete"}
    await admin.request(
        "POST",
        volumes,
        body={"apiVersion": API_VERSION, "kind": "Volume", "metadata": {"name": "logs"}, "spec": declared},
    )
    await until(lambda: _ready(admin, f"{volumes}/logs"), 30, "the Volume to be Ready")
    await admin.request("DELETE", f"{volumes}/logs")
    await until(lambda: _gone(admin, f"{volumes}/logs"), 30, "the Volume to go")
    claim = f"/api/v1/namespaces/{TEAM}/persistentvolumeclaims/logs"
    await until(lambda: _gone(admin, claim), 30, "its claim to go")


async def _migration(admin: Kube, folder: Path) -> None:
    """A whole one, with Jobs: the real worker copies what stands for the old disk to what stands for the new one."""
    classes, volumes = "/apis/storage.k8s.io/v1/storageclasses", "/api/v1/persistentvolumes"
    for name in ("old", "new"):
        (folder / name).mkdir()
        await admin.request(
            "POST",
            classes,
            body={"metadata": {"name": name}, "provisioner": "kubernetes.io/no-provisioner"},
        )
        spec = {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": name,
            "hostPath": {"path": "/nowhere"},
        }
        await admin.request("POST", volumes, body={"metadata": {"name": f"disk-{name}"}, "spec": spec})
    (folder / "old" / "file").write_text("data")

    def worker(pod: Json) -> list[str]:
        return ["env", f"{VOLUMES_FOLDER_VARIABLE}={folder}", *worker_command(pod)]

    path = f"/apis/{GROUP}/v1alpha1/namespaces/{TEAM}/volumes"
    declared = {"type": "chunks", "size": "1Gi", "storageClassName": "old", "resizeStrategy": "Migrate"}
    meta = {"name": "data"}
    body = {"apiVersion": API_VERSION, "kind": "Volume", "metadata": meta, "spec": declared}
    await admin.request("POST", path, body=body)
    await until(lambda: _ready(admin, f"{path}/data"), 30, "the Volume to be Ready")
    async with JobRunner(admin, [TEAM], folder / "node", worker).running():
        await admin.patch(f"{path}/data", {"spec": {"storageClassName": "new"}})
        await until(lambda: _moved(admin, f"{path}/data"), 90, "the migration to be over")
    claim = await admin.get(f"/api/v1/namespaces/{TEAM}/persistentvolumeclaims/data")
    assert claim is not None
    assert claim["spec"]["volumeName"] == "disk-new"
    assert (folder / "new" / "file").read_text() == "data"
    old = await admin.get(f"{volumes}/disk-old")
    assert old is not None
    release = {"metadata": {"annotations": {RELEASE_OLD_VOLUME: "disk-old"}}}
    await admin.patch(f"{path}/data", release)
    await until(lambda: _released(admin, f"{path}/data"), 30, "the old volume to be released")


async def _moved(admin: Kube, path: str) -> bool:
    found = await admin.get(path)
    journal = (found or {}).get("status", {}).get("migration") or {}
    return journal.get("step") == "Completed" and await _ready(admin, path)


async def _released(admin: Kube, path: str) -> bool:
    found = await admin.get(path)
    return found is not None and "keptVolume" not in found["status"]


def _collection(name: str, **spec: str) -> Json:
    return {"apiVersion": API_VERSION, "kind": "Collection", "metadata": {"name": name}, "spec": spec}


async def _operator(plane: ControlPlane, admin: Kube, rendered: list[Json]) -> OperatorProcess:
    """From source, with the chart's variables, and a token of the chart's account in its kubeconfig."""
    account = the(rendered, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"]
    login = kubeconfig.write(
        plane.instance.data / "operator-kubeconfig",
        server=plane.server,
        authority=plane.pki.authority,
        token=await _token(admin, HOME, account),
    )
    variables = environment(rendered) | {"POD_NAMESPACE": HOME, "KUBECONFIG": str(login)}
    return OperatorProcess(plane.instance, "operator", variables)


async def _token(admin: Kube, namespace: str, account: str) -> str:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}"
    await until(lambda: _exists(admin, path), 20, f"the account {account}")
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answer = await admin.request("POST", f"{path}/token", body=request)
    return str(answer["status"]["token"])


async def _exists(admin: Kube, path: str) -> bool:
    return await admin.get(path) is not None


async def _gone(admin: Kube, path: str) -> bool:
    return await admin.get(path) is None


async def _ready(admin: Kube, path: str) -> bool:
    found = await admin.get(path)
    conditions = found.get("status", {}).get("conditions", []) if found else []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


async def _events(admin: Kube) -> list[Json]:
    found = await admin.request("GET", f"/apis/events.k8s.io/v1/namespaces/{TEAM}/events")
    return [event for event in found["items"] if event["reportingController"] == "lucid-storage"]


def _rest_status(operator: OperatorProcess, token: str) -> int:
    address = f"http://127.0.0.1:{operator.rest_port}/api/v1/database/collections?namespace={TEAM}"
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
