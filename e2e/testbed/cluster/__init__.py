"""Kubernetes for the test bed: a control plane alone, or with a real node.

binaries      Kubernetes, etcd, CoreDNS, helm and kind, built by Go into the cache
pki           keys and certificates of an instance
controlplane  etcd, API server, controller manager, scheduler
network       subnets and the bridge between the machine and the node
node          containerd, kubelet, kube-proxy and CoreDNS in namespaces of their own
images        building images and bringing them to the node
prepare       all of that beforehand
provider      the choice between own cluster, kind, and the current kubeconfig

Pods of our own cluster reach this machine and each other, but no network beyond it: there is no address
translation, so that nothing of the machine's packet filter is touched.
"""

from testbed.cluster.provider import Cluster, Mode, choose
from testbed.paths import Instance
from testbed.progress import Progress

__all__ = ["Cluster", "choose", "up"]


def up(instance: Instance, mode: Mode = "node", progress: Progress | None = None) -> Cluster:
    """Starts the cluster that $CLUSTER names and returns it; raises TestbedError with what to do."""
    cluster = choose(instance, progress or Progress())
    cluster.up(mode)
    return cluster
