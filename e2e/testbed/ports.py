"""Ports that parallel runs do not take from each other.

A reservation is a file in the cache that names the instance; it holds as long as the folder of that
instance exists, also while the server is stopped for a while.
"""

import json
import random
import socket
from pathlib import Path

from testbed.errors import TestbedError
from testbed.locks import alone
from testbed.paths import Instance, cache_dir

# Below the kernel's range for outgoing connections (from 32768) and Kubernetes' node ports (from 30000).
RANGE = range(20_000, 30_000)


def reserve(instance: Instance, name: str) -> int:
    """The instance's port of that name, the same at every call; raises TestbedError when none is free."""
    with alone(_folder() / "lock"):
        known = _read(instance)
        if name not in known:
            known[name] = _free_port(instance)
            (instance.run / "ports.json").write_text(json.dumps(known, indent=1))
        return known[name]


def release_all(instance: Instance) -> None:
    """Gives the ports of the instance back."""
    with alone(_folder() / "lock"):
        for port in _read(instance).values():
            (_folder() / str(port)).unlink(missing_ok=True)
        (instance.root / "run" / "ports.json").unlink(missing_ok=True)


def _read(instance: Instance) -> dict[str, int]:
    path = instance.root / "run" / "ports.json"
    if not path.exists():
        return {}
    known: dict[str, int] = json.loads(path.read_text())
    return known


def _free_port(instance: Instance) -> int:
    start = random.randrange(len(RANGE))
    for step in range(len(RANGE)):
        port = RANGE[(start + step) % len(RANGE)]
        claim = _folder() / str(port)
        if claim.exists() and Path(claim.read_text()).is_dir():
            continue
        if _bindable(port):
            claim.write_text(str(instance.root))
            return port
    raise TestbedError(f"No port between {RANGE.start} and {RANGE.stop} is free; stop other test beds.")


def _bindable(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _folder() -> Path:
    folder = cache_dir() / "ports"
    folder.mkdir(exist_ok=True)
    return folder
