"""What a test leaves behind costs the tests after it nothing."""

from pathlib import Path

import pytest

from lucid_storage.kube.client import Kube, KubeApiError, load_configuration
from testbed import leftovers
from testbed.paths import Instance, cache_dir
from testbed.pytest_operator import World

pytestmark = pytest.mark.apiserver

CLAIM = {
    "metadata": {"name": "data", "finalizers": ["example.com/held"]},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
}


async def test_a_clean_up_that_fails_keeps_no_connection_and_no_port(
    kubernetes_api: Path, tmp_path: Path
) -> None:
    kube = Kube(await load_configuration(str(kubernetes_api)))
    instance = Instance("ended", tmp_path / "ended")
    world = World(kube, "ended", kubernetes_api, instance, {})
    port = world.operator().health_port

    async def clean(kube: Kube, namespace: str) -> None:
        await kube.request("GET", f"/api/v1/namespaces/{namespace}/nothing")

    with pytest.raises(KubeApiError):
        await world.end(clean)
    with pytest.raises(RuntimeError, match="closed"):
        await kube.request("GET", "/api/v1/namespaces")
    assert not (cache_dir() / "ports" / str(port)).exists()


async def test_what_waits_for_a_finalizer_goes_and_the_namespace_stays(world: World) -> None:
    await world.create("Collection", "users", {})
    await world.patch("Collection", "users", {"metadata": {"finalizers": ["example.com/held"]}})
    claims = f"/api/v1/namespaces/{world.namespace}/persistentvolumeclaims"
    await world.kube.request("POST", claims, body=CLAIM)

    await leftovers.clear(world.kube, world.namespace)

    async def gone() -> bool:
        listed = [await world.kube.request("GET", path) for path in (world.path("Collection"), claims)]
        return not any(found["items"] for found in listed)

    await world.until(gone, 20, "everything to be gone")
    assert not await world.kube.namespace_terminating(world.namespace)
