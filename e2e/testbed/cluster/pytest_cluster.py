"""Fixtures for tests on a Kubernetes of their own kind, beside the shared API server.

`node_cluster` is shared by all workers of a run: work in names of your own, and never stop or freeze it. A
test that breaks its Kubernetes takes one for itself from `private_control_plane` or `private_cluster`. All
end with the run.
"""

import os
import uuid
from collections.abc import Callable, Iterator

import pytest

from testbed.cluster.controlplane import ControlPlane
from testbed.cluster.images import busybox
from testbed.cluster.provider import OwnCluster
from testbed.cluster.storage_objects import StorageClasses
from testbed.paths import Instance
from testbed.progress import Progress
from testbed.testrun import TestRun


@pytest.fixture(scope="session")
def node_cluster(testbed_run: TestRun) -> OwnCluster:
    """A cluster with a real node and a busybox image (`images.BUSYBOX`), shared. Needs root."""
    _skip_without_root()
    shared = OwnCluster(_part(testbed_run, "node"), Progress())
    with testbed_run.once("node"):
        shared.up("node")
        shared.load(busybox(shared.progress))
    return shared


@pytest.fixture(scope="session")
def storage_classes(testbed_run: TestRun, node_cluster: OwnCluster) -> StorageClasses:
    """Names of storage classes of `node_cluster`; what serves them starts when the first test asks."""
    with testbed_run.once("storage"):
        return node_cluster.provide_storage()


@pytest.fixture
def private_control_plane(testbed_run: TestRun) -> Iterator[Callable[[], ControlPlane]]:
    """Each call gives a started control plane that the test may break."""
    made: list[ControlPlane] = []

    def make() -> ControlPlane:
        made.append(ControlPlane(_part(testbed_run, f"control-plane-{uuid.uuid4().hex[:8]}"), Progress()))
        made[-1].start()
        return made[-1]

    yield make
    for control_plane in made:
        control_plane.stop()


@pytest.fixture
def private_cluster(testbed_run: TestRun) -> Iterator[Callable[[], OwnCluster]]:
    """Each call gives a started cluster with a node that the test may break. Needs root."""
    _skip_without_root()
    made: list[OwnCluster] = []

    def make() -> OwnCluster:
        made.append(OwnCluster(_part(testbed_run, f"node-{uuid.uuid4().hex[:8]}"), Progress()))
        made[-1].up("node")
        return made[-1]

    yield make
    for cluster in made:
        cluster.down()


def _part(run: TestRun, name: str) -> Instance:
    return Instance(name, run.instance.root / name)


def _skip_without_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("a node of our own needs root")
