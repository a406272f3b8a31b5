"""What a test leaves behind costs the tests after it nothing."""

import pytest

from testbed import leftovers
from testbed.pytest_operator import World

pytestmark = pytest.mark.apiserver

CLAIM = {
    "metadata": {"name": "data", "finalizers": ["example.com/held"]},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
}


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
