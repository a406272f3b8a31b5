"""The subnets of an instance, and the bridge between this machine and its node.

The node lives in a network namespace of its own, so that its packet filter rules, links and addresses
end with it and meet neither another instance nor a Kubernetes of this machine. On the machine there is
one bridge, and routes to the pods and Services behind the node, so that both can be reached from here.
"""

import ipaddress
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import TestbedError
from testbed.locks import alone
from testbed.paths import Instance, cache_dir

_NUMBERS = range(256)


@dataclass(frozen=True)
class Network:
    """Everything that follows from the number of an instance."""

    number: int

    @classmethod
    def reserve(cls, instance: Instance) -> "Network":
        """The network of the instance, the same at every call; raises TestbedError when none is free.

        A reservation holds as long as the folder of the instance exists.
        """
        with alone(_folder() / "lock"):
            network = cls.reserved(instance)
            if network is not None:
                return network
            routed = _routed()
            for number in _NUMBERS:
                network, claim = cls(number), _folder() / str(number)
                owner = claim.read_text() if claim.exists() else str(instance.root)
                held = owner != str(instance.root) and Path(owner).is_dir()
                if held or any(network._overlaps(subnet) for subnet in routed):
                    continue
                claim.write_text(str(instance.root))
                (instance.run / "network").write_text(str(number))
                return network
        raise TestbedError("All subnets from 10.213.0.0 to 10.213.255.0 are taken; stop other test beds.")

    @classmethod
    def reserved(cls, instance: Instance) -> "Network | None":
        """The network of the instance when it has one."""
        known = instance.root / "run" / "network"
        return cls(int(known.read_text())) if known.exists() else None

    @staticmethod
    def release(instance: Instance) -> None:
        """Gives the number back; harmless when there is none."""
        with alone(_folder() / "lock"):
            known = instance.root / "run" / "network"
            if known.exists():
                (_folder() / known.read_text()).unlink(missing_ok=True)
                known.unlink()

    @property
    def host_address(self) -> str:
        """This machine as pods and the node see it."""
        return f"10.213.{self.number}.1"

    @property
    def node_address(self) -> str:
        return f"10.213.{self.number}.2"

    @property
    def pod_cidr(self) -> str:
        return f"10.214.{self.number}.0/24"

    @property
    def service_cidr(self) -> str:
        return f"10.215.{self.number}.0/24"

    @property
    def bridge(self) -> str:
        return f"lucid{self.number}"

    def create(self) -> None:
        """Makes the bridge with this machine's address; twice is harmless."""
        if not (Path("/sys/class/net") / self.bridge).exists():
            _ip("link", "add", self.bridge, "type", "bridge")
        _ip("address", "replace", f"{self.host_address}/24", "dev", self.bridge)
        _ip("link", "set", self.bridge, "up")

    def connect(self, pid: int) -> None:
        """Joins the network namespace of the process to the bridge, as eth0 with the node's address."""
        port = f"{self.bridge}n"
        if (Path("/sys/class/net") / port).exists():
            _ip("link", "delete", port)
        _ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        _ip("link", "set", port, "master", self.bridge, "up")
        inside = ("nsenter", f"--target={pid}", "--net", "ip")
        _run(*inside, "link", "set", "lo", "up")
        _run(*inside, "address", "add", f"{self.node_address}/24", "dev", "eth0")
        _run(*inside, "link", "set", "eth0", "up")
        _run(*inside, "route", "add", "default", "via", self.host_address)
        for subnet in (self.pod_cidr, self.service_cidr):
            _ip("route", "replace", subnet, "via", self.node_address)

    def delete(self) -> None:
        """Removes the bridge, and with it the routes; harmless when there is none."""
        if (Path("/sys/class/net") / self.bridge).exists():
            _ip("link", "delete", self.bridge)

    def _overlaps(self, subnet: ipaddress.IPv4Network) -> bool:
        own = (f"10.213.{self.number}.0/24", self.pod_cidr, self.service_cidr)
        return any(ipaddress.IPv4Network(cidr).overlaps(subnet) for cidr in own)


def _routed() -> list[ipaddress.IPv4Network]:
    """Subnets that this machine has a route to, the default route excepted."""
    routes = json.loads(_run("ip", "-json", "-4", "route", "show"))
    return [ipaddress.IPv4Network(route["dst"]) for route in routes if route["dst"] != "default"]


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> str:
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        said = answer.stderr.strip()
        raise TestbedError(f"The node's network could not be set up: {' '.join(command)} said {said!r}.")
    return answer.stdout


def _folder() -> Path:
    folder = cache_dir() / "networks"
    folder.mkdir(exist_ok=True)
    return folder
