"""What a node leaves on the machine when its processes are killed: a bridge, control groups, loop devices."""

import subprocess
from pathlib import Path

from testbed.cluster import cgroups
from testbed.cluster.network import Network
from testbed.paths import Instance
from testbed.process import wait_until


def remove(instance: Instance) -> None:
    """Harmless when the instance has no node. Raises TestbedError when a loop device stays in use."""
    if (instance.root / "run" / "network").exists():
        network = Network.reserve(instance)
        cgroups.delete(network.bridge)
        network.delete()
        Network.release(instance)
    wait_until(lambda: not _detach(instance), 15, f"The end of the loop devices below {instance.root}")


def loop_devices(instance: Instance) -> list[str]:
    """Devices of the volumes of the instance. The kernel names images as the node saw them, so by file name."""
    images = {path.name for path in instance.root.glob("data/node/lib/csi-loop/volumes/*.img")}
    found = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            name = Path(backing.read_text().strip().removesuffix(" (deleted)")).name
        except OSError:  # it was freed this moment
            continue
        if name in images:
            found.append(f"/dev/{backing.parts[3]}")
    return found


def _detach(instance: Instance) -> list[str]:
    """Devices that are left. The last mount frees them, unless something was killed between two steps."""
    for device in loop_devices(instance):
        subprocess.run(["losetup", "--detach", device], capture_output=True, check=False)
    return loop_devices(instance)
