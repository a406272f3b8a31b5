"""Operator processes without the two seconds of imports that each costs: forks of one that has imported everything.

A fork is the operator as `lucid-storage operator` is, with its own memory, environment, session and log; only the
modules were loaded by its parent. That one starts at the first call and ends with the process that asked for it.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from testbed.errors import TestbedError
from testbed.identity import INSTANCE_VARIABLE, ProcessId
from testbed.paths import Instance, project_root
from testbed.process import Daemon

_ENDED = "The process that forks operators has ended; its own words are above."


class Parent:
    """The process that forks, as others see it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def fork(self, instance: Instance, environment: Mapping[str, str], log: Path) -> ProcessId:
        """A started operator. Raises TestbedError when the parent has ended."""
        with self._lock:
            if self._process is None:
                self._process = self._start(instance)
            told, answers = self._process.stdin, self._process.stdout
            assert told is not None
            assert answers is not None
            try:
                _tell(told, json.dumps({"environment": dict(environment), "log": str(log)}))
                answer = answers.readline()
                if not answer:
                    raise TestbedError(_ENDED)
                # It does nothing before the next line, so that it cannot have ended when it is looked at.
                process = ProcessId.of_child(int(answer))
                _tell(told, "go")
            except BrokenPipeError as broken:
                raise TestbedError(_ENDED) from broken
            return process

    def close(self) -> None:
        """Harmless when it never began. Operators that still run go on."""
        with self._lock:
            if self._process is not None:
                self._process.kill()  # it has nothing to end in order
                self._process.communicate()
                self._process = None

    @staticmethod
    def _start(instance: Instance) -> "subprocess.Popen[str]":
        folders = [project_root() / "operator", project_root() / "e2e", os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, folders)),
            INSTANCE_VARIABLE: str(instance.root),
        }
        return subprocess.Popen(
            [sys.executable, "-m", "testbed.operator_forks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )


def _tell(pipe: IO[str], line: str) -> None:
    pipe.write(f"{line}\n")
    pipe.flush()


class ForkedOperator(Daemon):
    """A daemon that is a fork; `environment` is all that it sees."""

    def __init__(self, parent: Parent, instance: Instance, name: str, env: Mapping[str, str]) -> None:
        super().__init__(instance, name, ["lucid-storage", "operator"], env=env)
        self._parent = parent

    def _launch(self, command: Sequence[str], environment: Mapping[str, str], log: int) -> ProcessId:
        return self._parent.fork(self.instance, environment, self.log)


def serve() -> int:
    """Reads orders from standard input until it ends; returns the exit status of the operator in each fork."""
    import lucid_storage.app.operator  # noqa: F401, PLC0415
    from lucid_storage.__main__ import main  # noqa: PLC0415

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    for line in iter(sys.stdin.readline, ""):
        order = json.loads(line)
        gate, opener = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(opener)
            _become(order["environment"], order["log"])
            if os.read(gate, 1) != b"g":
                return 1
            os.close(gate)
            return main(["operator"])
        os.close(gate)
        os.write(1, f"{pid}\n".encode())
        if sys.stdin.readline() == "go\n":
            os.write(opener, b"g")
        os.close(opener)
    return 0


def _become(environment: Mapping[str, str], log: str) -> None:
    """A session, signals, files and an environment of its own."""
    from kubernetes.aio.config import kube_config  # noqa: PLC0415

    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    nothing, written = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for source, target in ((nothing, 0), (written, 1), (written, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(written)
    os.environ.clear()
    os.environ.update(environment)
    # The client reads this variable when it is imported.
    kube_config.KUBE_CONFIG_DEFAULT_LOCATION = environment.get("KUBECONFIG", "~/.kube/config")
    sys.argv = ["lucid-storage", "operator"]


if __name__ == "__main__":
    sys.exit(serve())
