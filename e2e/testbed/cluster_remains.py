"""What a node leaves on the machine when its processes are killed: a bridge and control groups."""

from testbed.cluster import cgroups
from testbed.cluster.network import Network
from testbed.paths import Instance


def remove(instance: Instance) -> None:
    """Harmless when the instance has no node."""
    if (instance.root / "run" / "network").exists():
        network = Network.reserve(instance)
        cgroups.delete(network.bridge)
        network.delete()
        Network.release(instance)
