"""Kubernetes for the test bed: a control plane alone, or with a real node.

binaries      Kubernetes, etcd, CoreDNS, helm and kind, built by Go into the cache
pki           keys and certificates of an instance
controlplane  etcd, API server, controller manager, scheduler
network       subnets and the bridge between the machine and the node
node          containerd, kubelet, kube-proxy and CoreDNS in namespaces of their own
images        building images and bringing them to the node
provider      the choice between own cluster, kind, and the current kubeconfig
"""
