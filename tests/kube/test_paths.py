"""Names in the API's paths: one that no object can have is refused, and never names another object."""

import pytest

from lucid_storage.errors import RefusedError
from lucid_storage.kube.claims import claim_path
from lucid_storage.kube.client import resource_path
from lucid_storage.kube.deployments import deployments_path
from lucid_storage.kube.jobs import jobs_path
from lucid_storage.kube.snapshots import snapshot_path

FOREIGN = [
    "../../../kube-system/secrets/token",
    "..",
    ".",
    "a/b",
    "a..b",
    "a%2fb",
    "a?b=c",
    "a#b",
    "",
    "-a",
    "a-",
    "A",
    "a\n",
    "é",
    "a" * 254,
]


@pytest.mark.parametrize("name", FOREIGN)
def test_a_name_that_no_object_can_have_makes_no_path(name: str) -> None:
    for path in (claim_path, deployments_path, jobs_path, snapshot_path):
        with pytest.raises(RefusedError, match="no name of a Kubernetes object"):
            path("app", name)
        with pytest.raises(RefusedError, match="no name of a Kubernetes object"):
            path(name, "data")
    with pytest.raises(RefusedError):
        resource_path("volumes", "app", name)


@pytest.mark.parametrize("name", ["data", "pvc-2993413e-9e9d", "a.b-c.d", "0", "a" * 253])
def test_a_name_stands_in_its_path_as_it_is(name: str) -> None:
    assert claim_path("app", name) == f"/api/v1/namespaces/app/persistentvolumeclaims/{name}"
