"""The servers of one test run, shared by its workers, and gone with the last of them.

Every process that takes part holds a shared lock on one file. A reaper, a process of its own, waits for the
exclusive lock. It gets it when the last participant has ended, be it by Ctrl-C or by SIGKILL, since the
kernel gives locks back; then it stops what is left and removes the folder.
"""

import fcntl
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from testbed import cluster_remains, ports
from testbed.errors import TestbedError
from testbed.locks import alone
from testbed.paths import Instance, project_root
from testbed.process import Daemon, stop_all, wait_until


def runs_folder() -> Path:
    folder = project_root() / ".testbed" / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class TestRun:
    """This process's part in a test run; `instance` holds the servers."""

    __test__ = False

    def __init__(self, name: str) -> None:
        self.instance = Instance(name, runs_folder() / name)
        self._lock: IO[str] | None = None

    def join(self) -> None:
        """Keeps the servers of the run alive until leave() or the end of this process."""
        if self._lock is not None:
            return
        with alone(runs_folder() / "lock"):
            _sweep()
            self._lock = _participants(self.instance).open("a")
            fcntl.flock(self._lock, fcntl.LOCK_SH)
        with self.once("reaper"):
            _reaper(self.instance).start()

    def leave(self) -> None:
        """Harmless when this process never joined or has left already."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def wait_until_gone(self, deadline: float = 60) -> None:
        """Returns when all servers of the run are stopped; raises TestbedError when others still use them."""
        root = self.instance.root
        wait_until(lambda: not root.exists(), deadline, f"The end of the test servers in {root}")

    @contextmanager
    def once(self, name: str) -> Iterator[None]:
        """Only one worker at a time is inside for one name; the others find the work done."""
        with alone(self.instance.run / f"{name}.lock"):
            yield


def reap(root: Path) -> None:
    """Waits for the end of the last participant, then removes the run; the body of the reaper process."""
    # A Ctrl-C in the terminal, or a stop of the whole run, must not end the one that cleans up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    instance = Instance(root.name, root)
    with alone(_participants(instance)):
        _remove(instance)


def _reaper(instance: Instance) -> Daemon:
    source = Path(__file__).resolve().parents[1]
    command: list[str | Path] = [sys.executable, "-m", "testbed.reaper", instance.root]
    return Daemon(instance, "reaper", command, env={"PYTHONPATH": str(source)})


def _participants(instance: Instance) -> Path:
    return instance.run / "participants"


def _sweep() -> None:
    """Removes runs whose participants and reaper are gone, for instance after a reboot."""
    for root in runs_folder().iterdir():
        if not root.is_dir():
            continue
        try:
            lock = (root / "run" / "participants").open("a")
        except FileNotFoundError:  # its reaper is removing it right now
            continue
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            _remove(Instance(root.name, root))


def _remove(instance: Instance) -> None:
    """Stops and removes the instance and those below it, which have folders of their own in it."""
    (instance.root / "run" / "reaper.pid").unlink(missing_ok=True)  # the reaper must not stop itself
    for run in [*instance.root.glob("*/run"), instance.root / "run"]:
        part = Instance(run.parent.name, run.parent)
        stop_all(part)
        cluster_remains.remove(part)
        ports.release_all(part)
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    if any(Path(point).is_relative_to(instance.root) for point in mounted):
        raise TestbedError(f"Something is mounted below {instance.root}; unmount it and remove the folder.")
    shutil.rmtree(instance.root)
