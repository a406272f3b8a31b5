"""Builds and installs beforehand what a cluster of our own and the tests need.

The first time that takes minutes, too long for the time limit of the test that would happen to be first.
"""

import os

from testbed import apt
from testbed.cluster import binaries, images, node, storage
from testbed.paths import project_root
from testbed.progress import Progress

TEST_IMAGE = "lucid-storage:test"


def prepare(progress: Progress) -> None:
    """Raises TestbedError with what is missing. Without root nothing that only a node needs."""
    binaries.ensure((*binaries.CONTROL_PLANE, "helm", "promtool"), progress)
    if os.geteuid() == 0:
        apt.ensure(node.PACKAGES, progress)
        binaries.ensure(binaries.NODE, progress)
        node.pause_image(progress)
        images.busybox(progress)
        storage.prepare(progress)


def project_image(progress: Progress) -> None:
    """Builds the image as tests on a node of our own name it, so that none of them waits; without root nothing is done,
    as there is no such node.
    """
    if os.geteuid() == 0 and os.environ.get("CLUSTER", "own") == "own":
        root = project_root()
        images.build(root / "Dockerfile", root, TEST_IMAGE, progress)
