"""A real API server for the tests of who may do what."""

import pytest

from testbed.cluster.controlplane import ControlPlane
from testbed.paths import Instance
from testbed.testrun import TestRun


@pytest.fixture(scope="session")
def control_plane(testbed_run: TestRun) -> ControlPlane:
    """Shared by the workers of the run; ends with it."""
    root = testbed_run.instance.root / "restapi"
    with testbed_run.once("restapi-control-plane"):
        plane = ControlPlane(Instance("restapi", root))
        plane.start()
    return plane


@pytest.fixture
def private_control_plane(testbed_run: TestRun, request: pytest.FixtureRequest) -> ControlPlane:
    """One that the test may freeze."""
    plane = ControlPlane(Instance("restapi-own", testbed_run.instance.root / "restapi-own"))
    request.addfinalizer(plane.stop)
    plane.start()
    return plane
