"""Daemons with a log and a pid file, and waiting with a deadline.

A pid file holds the pid, the kernel's start time of the process and the boot id, so that a recycled pid
is never signalled. Each daemon leads a session of its own; stop() ends what is left of that session too.
"""

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from testbed.errors import TestbedError
from testbed.identity import (
    INSTANCE_VARIABLE,
    ProcessId,
    marked,
    read_pidfile,
    stop_process,
    terminate,
    write_pidfile,
)
from testbed.paths import Instance

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], deadline: float, what: str, interval: float = 0.05) -> T:
    """The first truthy answer of `predicate`; raises TestbedError after `deadline` seconds, naming `what`."""
    end = time.monotonic() + deadline
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() >= end:
            raise TestbedError(f"{what}: not within {deadline:g} s.")
        time.sleep(interval)


class Daemon:
    """A background process of an instance: run/<name>.pid and logs/<name>.log.

    `ready` is asked until it is truthy; it must answer quickly and must not raise.
    """

    def __init__(
        self,
        instance: Instance,
        name: str,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        ready: Callable[[], object] | None = None,
        ready_deadline: float = 60,
        stop_deadline: float = 15,
    ) -> None:
        self.instance = instance
        self.name = name
        self.command = [str(word) for word in command]
        self._env = dict(env or {})
        self._cwd = cwd
        self._ready = ready
        self._ready_deadline = ready_deadline
        self._stop_deadline = stop_deadline
        self._log_offset = 0

    @property
    def pidfile(self) -> Path:
        return self.instance.root / "run" / f"{self.name}.pid"

    @property
    def log(self) -> Path:
        return self.instance.root / "logs" / f"{self.name}.log"

    @property
    def process(self) -> ProcessId | None:
        """What the pid file names, alive or not."""
        return read_pidfile(self.pidfile)

    def running(self) -> bool:
        process = self.process
        return process is not None and process.alive()

    def start(self) -> bool:
        """Starts the daemon and waits until it is ready; False when it ran already.

        Raises TestbedError with the last lines of its log when it ends or is not ready in time.
        """
        started = not self.running()
        if started:
            stop_process(self.process, 0)
            self._spawn()
        if self._ready is not None:
            self.wait_ready(self._ready, self._ready_deadline)
        return started

    def wait_ready(self, predicate: Callable[[], T], deadline: float) -> T:
        """Like wait_until, but gives up at once when the daemon has ended, and shows its log."""
        end = time.monotonic() + deadline
        while True:
            answer = predicate()
            if answer:
                return answer
            if not self.running():
                raise TestbedError(f"{self.name} ended while it started. {self._last_words()}")
            if time.monotonic() >= end:
                raise TestbedError(f"{self.name} was not ready within {deadline:g} s. {self._last_words()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """TERM, then KILL after the deadline, for the whole session; harmless when nothing runs."""
        stop_process(self.process, self._stop_deadline)
        self.pidfile.unlink(missing_ok=True)

    def kill(self) -> None:
        """KILL at once, as a crash would."""
        stop_process(self.process, 0)
        self.pidfile.unlink(missing_ok=True)

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP for the whole session: connections stay open and nothing answers.

        Returns when it holds: the kernel stops a process when one of its threads takes the signal, and on a busy
        machine the others go on and answer until that thread has its turn.
        """
        self._signal_session(signal.SIGSTOP)
        wait_until(
            lambda: all(member.stopped() for member in self._session()),
            30,
            f"{self.name} stops on SIGSTOP",
            0.01,
        )

    def thaw(self) -> None:
        self._signal_session(signal.SIGCONT)

    def last_log_lines(self, count: int = 15) -> str:
        """The end of what the daemon wrote since its last start by this object."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_offset, size - 20_000))
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join(line[:500] for line in lines[-count:])

    def _last_words(self) -> str:
        return f"The end of {self.log}:\n{self.last_log_lines()}"

    def _signal_session(self, number: int) -> None:
        for member in self._session():
            member.signal(number)

    def _session(self) -> list[ProcessId]:
        process = self.process
        if process is None or not process.alive():
            raise TestbedError(f"{self.name} does not run, so it cannot be frozen or thawed; start it first.")
        return process.session()

    def _spawn(self) -> None:
        self.pidfile.parent.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        # posix_spawn has no working directory; env(1) has.
        command = ["env", f"--chdir={self._cwd}", *self.command] if self._cwd else self.command
        environment = {**os.environ, **self._env, INSTANCE_VARIABLE: str(self.instance.root)}
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._log_offset = os.lseek(log, 0, os.SEEK_END)
            process = self._launch(command, environment, log)
        except FileNotFoundError as missing:
            raise TestbedError(f"{self.name} cannot start: {command[0]} is not installed.") from missing
        finally:
            os.close(log)
        write_pidfile(self.pidfile, process)

    def _launch(self, command: Sequence[str], environment: Mapping[str, str], log: int) -> ProcessId:
        pid = os.posix_spawnp(
            command[0],
            command,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGTERM],
        )
        return ProcessId.of_child(pid)


def stop_together(daemons: Sequence[Daemon]) -> None:
    """Stops the daemons at the same time, so that the slowest one decides how long it takes."""
    for daemon in daemons:
        process = daemon.process
        if process is not None:
            terminate(process)
    for daemon in daemons:
        daemon.stop()


def stop_all(instance: Instance, deadline: float = 15) -> None:
    """Ends every process of the instance: those with a pid file, then whatever carries its mark."""
    pidfiles = sorted((instance.root / "run").glob("*.pid"))
    processes = [process for process in map(read_pidfile, pidfiles) if process is not None]
    for process in processes:
        terminate(process)
    end = time.monotonic() + deadline
    for process in processes:
        stop_process(process, max(end - time.monotonic(), 0))
    for stray in marked(instance):
        stray.signal(signal.SIGKILL)
    for pidfile in pidfiles:
        pidfile.unlink(missing_ok=True)
