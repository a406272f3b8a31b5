"""Processes by exact identity, so that a recycled pid is never signalled."""

import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from testbed.errors import TestbedError
from testbed.paths import Instance

# Every process of an instance carries this in its environment, so that a sweep finds it without a pid file.
INSTANCE_VARIABLE = "LUCID_TESTBED_INSTANCE"


@dataclass(frozen=True)
class ProcessId:
    """A process that cannot be confused with a later one of the same number."""

    pid: int
    start_time: int  # clock ticks after boot, field 22 of /proc/<pid>/stat
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> "ProcessId | None":
        """The identity of a live process; None when there is none, or only a zombie."""
        stat = _stat(pid)
        if stat is None or stat.ended:
            return None
        return cls(pid, stat.start_time, _boot_id())

    @classmethod
    def of_child(cls, pid: int) -> "ProcessId":
        """The identity of a child that was not waited for yet, so that even an ended one is still known."""
        stat = _stat(pid)
        if stat is None:
            raise TestbedError(f"Process {pid} is no child of this one.")
        return cls(pid, stat.start_time, _boot_id())

    def alive(self) -> bool:
        _reap(self.pid)
        return ProcessId.of(self.pid) == self

    def signal(self, number: int) -> bool:
        """Sends the signal when the process is still that one; says whether it was sent."""
        if not self.alive():
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    def stopped(self) -> bool:
        """Whether each of its threads is stopped by a signal; an ended process counts as stopped."""
        try:
            threads = [int(entry.name) for entry in Path(f"/proc/{self.pid}/task").iterdir()]
        except FileNotFoundError:
            return True
        stats = [_stat(thread) for thread in threads]  # /proc/<thread> exists, though it is not listed
        return all(stat is None or stat.state in "TtZX" for stat in stats)

    def session(self) -> list["ProcessId"]:
        """Live members of the session that this process leads, itself included.

        The kernel does not reuse a pid as long as it names a session. So when another process has the
        number now, the session is gone.
        """
        _reap(self.pid)
        leader = _stat(self.pid)
        if self.boot_id != _boot_id() or (leader is not None and leader.start_time != self.start_time):
            return []
        members = []
        for pid in _all_pids():
            stat = _stat(pid)
            if stat is not None and stat.session == self.pid and not stat.ended:
                members.append(ProcessId(pid, stat.start_time, self.boot_id))
        return members


def write_pidfile(path: Path, process: ProcessId) -> None:
    """Replaces the file in one step, so that a reader never sees half of it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(asdict(process)))
    draft.replace(path)


def read_pidfile(path: Path) -> ProcessId | None:
    """None when there is no such file; raises TestbedError when it holds something else."""
    try:
        return ProcessId(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as broken:
        raise TestbedError(f"{path} is not a pid file of the test bed; remove it.") from broken


def stop_process(process: ProcessId | None, deadline: float) -> None:
    """Ends the session of the process: TERM (unless the deadline is 0), KILL for what is left after it.

    What outlives the leader gets a TERM of its own: a launcher may end before the server that it started.
    """
    if process is None:
        return
    asked: set[ProcessId] = set()
    end = time.monotonic() + deadline
    while deadline > 0 and time.monotonic() < end:
        members = process.session()
        if not members:
            return
        for member in [process] if process in members else members:
            if member not in asked:
                terminate(member)
                asked.add(member)
        for member in members:
            member.signal(signal.SIGCONT)  # a frozen process sees TERM only once it is thawed
        _wait_for_end(process, min(end, time.monotonic() + 0.5))
    for _ in range(500):
        members = process.session()
        if not members:
            return
        for member in members:
            member.signal(signal.SIGKILL)
        _wait_for_end(process, time.monotonic() + 0.5)
    raise TestbedError(
        f"Processes {[member.pid for member in process.session()]} do not end; end them by hand."
    )


def _wait_for_end(leader: ProcessId, end: float) -> None:
    """Waits for the leader alone, and a moment: to find a session the whole list of processes has to be read."""
    time.sleep(0.02)
    while leader.alive() and time.monotonic() < end:
        time.sleep(0.02)


def terminate(process: ProcessId) -> None:
    """Asks one process to end."""
    process.signal(signal.SIGTERM)
    process.signal(signal.SIGCONT)  # a frozen process sees TERM only once it is thawed


def marked(instance: Instance) -> list[ProcessId]:
    """Live processes, this one excepted, that carry the mark of the instance in their environment."""
    mark = f"{INSTANCE_VARIABLE}={instance.root}".encode()
    found = []
    for pid in _all_pids():
        if pid == os.getpid():
            continue
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
        process = ProcessId.of(pid) if mark in environment.split(b"\0") else None
        if process is not None:
            found.append(process)
    return found


@dataclass(frozen=True)
class _Stat:
    state: str
    session: int
    threads: int
    start_time: int

    @property
    def ended(self) -> bool:
        """Whether the whole process has ended, its files and ports with it.

        Its first thread may be a zombie before the others have ended, which on a busy machine takes a while.
        """
        return self.state in "ZX" and self.threads < 2


def _stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the command in parentheses, which may itself hold spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    return _Stat(state=fields[0], session=int(fields[3]), threads=int(fields[17]), start_time=int(fields[19]))


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _reap(pid: int) -> None:
    """Collects the process when it is an ended child of ours, so that it does not stay a zombie."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
