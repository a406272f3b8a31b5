"""Builds and installs beforehand what a cluster of our own needs.

The first time that takes minutes, too long for the time limit of the test that would happen to be first.
"""

import os

from testbed import apt
from testbed.cluster import binaries, node, storage
from testbed.cluster.images import busybox
from testbed.progress import Progress


def prepare(progress: Progress) -> None:
    """Raises TestbedError with what is missing. Without root only what a control plane needs."""
    binaries.ensure((*binaries.CONTROL_PLANE, "helm"), progress)
    if os.geteuid() == 0:
        apt.ensure(node.PACKAGES, progress)
        binaries.ensure(binaries.NODE, progress)
        node.pause_image(progress)
        busybox(progress)
        storage.prepare(progress)
