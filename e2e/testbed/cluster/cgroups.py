"""The control groups below which a node puts its pods."""

import time
from pathlib import Path

from testbed.errors import TestbedError

_ROOT = Path("/sys/fs/cgroup")
_NEEDED = ("cpu", "memory", "pids", "cpuset")


def create(name: str) -> None:
    """Makes the group `name` with the controllers that the kubelet asks for, in version 1 or 2.

    Raises TestbedError when a controller is missing.
    """
    if unified():
        _enable(_ROOT)
        (_ROOT / name).mkdir(exist_ok=True)
        return
    missing = [controller for controller in _NEEDED if not (_ROOT / controller).is_dir()]
    if missing:
        raise TestbedError(f"This machine has no control groups for {', '.join(missing)}; use CLUSTER=kind.")
    for hierarchy in _hierarchies():
        group = hierarchy / name
        group.mkdir(exist_ok=True)
        # A new group has no processors and no memory nodes until it is given some.
        for setting in ("cpuset.cpus", "cpuset.mems"):
            if (group / setting).exists() and not (group / setting).read_text().strip():
                (group / setting).write_text((hierarchy / setting).read_text())


def delete(name: str, deadline: float = 10) -> None:
    """Removes the group and those below it, once their processes are gone; harmless when there is none."""
    end = time.monotonic() + deadline
    for hierarchy in [_ROOT] if unified() else _hierarchies():
        while not _removed(hierarchy / name):
            if time.monotonic() > end:
                raise TestbedError(f"{hierarchy / name} still holds processes; end them by hand.")
            time.sleep(0.05)


def unified() -> bool:
    """Whether the machine uses version 2 alone."""
    return (_ROOT / "cgroup.controllers").exists()


def _enable(group: Path) -> None:
    available = (group / "cgroup.controllers").read_text().split()
    missing = [controller for controller in _NEEDED if controller not in available]
    if missing:
        raise TestbedError(f"This machine has no control groups for {', '.join(missing)}; use CLUSTER=kind.")
    # The kubelet also insists on hugetlb where the kernel has it.
    wanted = " ".join(f"+{name}" for name in (*_NEEDED, "hugetlb", "io") if name in available)
    (group / "cgroup.subtree_control").write_text(wanted)


def _hierarchies() -> list[Path]:
    # Links such as cpu,cpuacct name the same hierarchy twice.
    return sorted({entry.resolve() for entry in _ROOT.iterdir() if entry.is_dir()})


def _removed(group: Path) -> bool:
    if not group.exists():
        return True
    folders = sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True)
    for folder in (*folders, group):
        try:
            folder.rmdir()
        except FileNotFoundError:
            continue
        except OSError:  # busy: a process in it has not ended yet
            return False
    return True
