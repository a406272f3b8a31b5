"""Configuration files of a node's programs, as these see them in the node's mount namespace."""

import json
from dataclasses import dataclass
from pathlib import Path

import yaml

from testbed.cluster import overlay
from testbed.cluster.network import Network
from testbed.cluster.node_init import INSTANCE

PAUSE_IMAGE = "localhost/lucid-testbed/pause:1"
CLUSTER_DOMAIN = "cluster.local"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
DNS_READY_PORT = 8181
PROXY_HEALTH_PORT = 10256


@dataclass(frozen=True)
class NodeConfig:
    """Writes the files into `folder`, which lies in the folder `root` of the instance."""

    root: Path
    folder: Path
    network: Network
    cgroup: str

    def inside(self, path: Path) -> str:
        """The path of a file of the instance as the node sees it."""
        return str(INSTANCE / path.relative_to(self.root))

    def write(self, authority: Path, certificate: Path, key: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "cni").mkdir(exist_ok=True)
        _write(self.folder / "containerd.toml", self._containerd())
        _write(self.folder / "cni" / "10-lucid.conflist", json.dumps(self._cni(), indent=1))
        _write(self.folder / "resolv.conf", f"nameserver {self.network.node_address}\n")
        _write(self.folder / "kubelet.yaml", yaml.safe_dump(self._kubelet(authority, certificate, key)))
        _write(self.folder / "kube-proxy.yaml", yaml.safe_dump(self._kube_proxy()))
        _write(self.folder / "Corefile", self._corefile())

    def _containerd(self) -> str:
        snapshotter = "overlayfs" if overlay.usable(self.root) else "native"
        return f"""\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
# Without CAP_SYS_RESOURCE nobody may lower a score; every sandbox would fail.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{self.inside(self.folder / "cni")}"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "{snapshotter}"
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"""

    def _cni(self) -> dict[str, object]:
        # Point to point, not a bridge: packets between pods are routed, so that kube-proxy's rules see them
        # also where the kernel has no br_netfilter.
        point_to_point = {
            "type": "ptp",
            "mtu": 1400,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": self.network.pod_cidr}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
        ports = {"type": "portmap", "capabilities": {"portMappings": True}}
        return {"cniVersion": "0.4.0", "name": "lucid", "plugins": [point_to_point, ports]}

    def _kubelet(self, authority: Path, certificate: Path, key: Path) -> dict[str, object]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": self.inside(authority)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": self.inside(certificate),
            "tlsPrivateKeyFile": self.inside(key),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.cgroup}",
            "failCgroupV1": False,
            "clusterDNS": [self.network.node_address],
            "clusterDomain": CLUSTER_DOMAIN,
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            "failSwapOn": False,
            "oomScoreAdj": 0,
            "resolvConf": self.inside(self.folder / "resolv.conf"),
            "podCIDR": self.network.pod_cidr,
            # A full disk of the machine must neither evict pods nor delete the images that were loaded.
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "enforceNodeAllocatable": ["pods"],
            "readOnlyPort": 0,
            "registerNode": True,
            "nodeStatusUpdateFrequency": "2s",
            # A grown volume is looked at when its pod is; a minute is Kubernetes' own.
            "syncFrequency": "3s",
            # How often volumes are measured; a minute is Kubernetes' own, and long for a test.
            "volumeStatsAggPeriod": "5s",
        }

    def _kube_proxy(self) -> dict[str, object]:
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": self.inside(self.folder / "proxy.kubeconfig")},
            "clusterCIDR": self.network.pod_cidr,
            "mode": "iptables",
            "iptables": {"minSyncPeriod": "100ms", "localhostNodePorts": False},
            "oomScoreAdj": 0,
            "healthzBindAddress": f"{self.network.node_address}:{PROXY_HEALTH_PORT}",
            "metricsBindAddress": "127.0.0.1:10249",
            # These are settings of the machine, not of the node's namespace: leave them alone.
            "conntrack": {
                "maxPerCore": 0,
                "min": 0,
                "tcpEstablishedTimeout": "0s",
                "tcpCloseWaitTimeout": "0s",
            },
        }

    def _corefile(self) -> str:
        return f"""\
.:53 {{
    bind {self.network.node_address}
    errors
    ready {self.network.node_address}:{DNS_READY_PORT}
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {self.inside(self.folder / "dns.kubeconfig")}
        pods insecure
        ttl 1
    }}
}}
"""


def _write(path: Path, text: str) -> None:
    """Leaves a file alone that holds the text already: kube-proxy ends when its configuration is touched."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
