"""Processes of the test bed end when told to, and nobody else's is touched."""

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from testbed.errors import TestbedError
from testbed.identity import ProcessId, marked, stop_process, write_pidfile
from testbed.paths import Instance
from testbed.process import Daemon, stop_all, wait_until


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    return Instance("unit", tmp_path)


def test_a_recycled_pid_is_never_signalled(instance: Instance) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        identity = ProcessId.of(stranger.pid)
        assert identity is not None
        recycled = replace(identity, start_time=identity.start_time - 1)
        daemon = Daemon(instance, "server", ["sleep", "60"])
        write_pidfile(instance.run / "server.pid", recycled)

        assert not daemon.running()
        daemon.stop()
        daemon.kill()
        stop_process(recycled, 1)
        stop_all(instance)

        assert stranger.poll() is None
        stranger.kill()


def test_a_pid_of_an_earlier_boot_is_never_signalled(instance: Instance) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        identity = ProcessId.of(stranger.pid)
        assert identity is not None
        stop_process(replace(identity, boot_id="before"), 1)
        assert stranger.poll() is None
        stranger.kill()


def test_stop_ends_the_children_of_a_daemon_too(instance: Instance) -> None:
    daemon = Daemon(instance, "server", ["sh", "-c", "sleep 60 & exec sleep 60"])
    daemon.start()
    wait_until(lambda: len(marked(instance)) == 2, 5, "The child")
    daemon.stop()
    daemon.stop()
    assert marked(instance) == []


def test_children_that_outlive_a_killed_leader_end_at_the_next_stop(instance: Instance) -> None:
    daemon = Daemon(instance, "server", ["sh", "-c", "sleep 60 & exec sleep 60"])
    daemon.start()
    wait_until(lambda: len(marked(instance)) == 2, 5, "The child")
    leader = daemon.process
    assert leader is not None
    leader.signal(signal.SIGKILL)
    wait_until(lambda: not daemon.running(), 5, "The end of the leader")
    daemon.stop()
    assert marked(instance) == []


def test_a_daemon_that_ignores_term_is_killed_after_its_deadline(instance: Instance) -> None:
    script = "trap '' TERM; echo deaf; while :; do sleep 1; done"
    daemon = Daemon(
        instance,
        "deaf",
        ["sh", "-c", script],
        ready=lambda: "deaf" in daemon.last_log_lines(),
        stop_deadline=0.5,
    )
    daemon.start()
    daemon.stop()
    assert marked(instance) == []


def test_a_frozen_daemon_stops_in_good_order(instance: Instance) -> None:
    script = "trap 'echo bye; exit' TERM; echo up; while :; do sleep 0.1; done"
    daemon = Daemon(instance, "polite", ["sh", "-c", script], ready=lambda: "up" in daemon.last_log_lines())
    daemon.start()
    daemon.freeze()
    daemon.stop()
    assert "bye" in daemon.last_log_lines()


def test_a_frozen_daemon_runs_no_thread_from_the_moment_freeze_returns(instance: Instance) -> None:
    busy = "import threading\ndef spin():\n    while True: pass\n"
    script = (
        busy
        + "for _ in range(8): threading.Thread(target=spin, daemon=True).start()\nprint('up', flush=True)\nspin()"
    )
    daemon = Daemon(
        instance, "busy", [sys.executable, "-c", script], ready=lambda: "up" in daemon.last_log_lines()
    )
    daemon.start()
    try:
        daemon.freeze()
        assert daemon.process is not None
        assert daemon.process.stopped()
        daemon.thaw()
        assert not daemon.process.stopped()
    finally:
        daemon.kill()


def test_a_daemon_runs_until_its_last_thread_has_ended(instance: Instance) -> None:
    """Until then its port is taken and no restart may begin, though the kernel calls the leader a zombie."""
    address = f"\0lucid-{uuid.uuid4().hex}"
    script = f"""
import ctypes, socket, threading, time
listener = socket.socket(socket.AF_UNIX)
listener.bind({address!r})
threading.Thread(target=time.sleep, args=(300,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""
    daemon = Daemon(instance, "threads", [sys.executable, "-c", script])
    daemon.start()
    assert daemon.process is not None
    stat = Path(f"/proc/{daemon.process.pid}/stat")
    wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z", 20, "The end of the leader")
    assert daemon.running()
    daemon.stop()
    assert not daemon.running()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)


def test_a_daemon_that_ends_while_it_starts_shows_its_log(instance: Instance) -> None:
    daemon = Daemon(instance, "broken", ["sh", "-c", "echo no such disk; exit 3"], ready=lambda: False)
    with pytest.raises(TestbedError, match="no such disk"):
        daemon.start()


def test_a_missing_program_is_named(instance: Instance) -> None:
    with pytest.raises(TestbedError, match="no-such-program is not installed"):
        Daemon(instance, "absent", ["no-such-program"]).start()


def test_a_second_start_keeps_the_first_process(instance: Instance) -> None:
    daemon = Daemon(instance, "server", ["sleep", "60"])
    assert daemon.start()
    first = daemon.process
    assert not Daemon(instance, "server", ["sleep", "60"]).start()
    assert daemon.process == first
    daemon.kill()


def test_stop_all_finds_a_process_without_a_pid_file(instance: Instance) -> None:
    daemon = Daemon(instance, "server", ["sleep", "60"])
    daemon.start()
    daemon.pidfile.unlink()
    stop_all(instance)
    wait_until(lambda: marked(instance) == [], 5, "The end of the stray process")


def test_waiting_gives_up_at_its_deadline_and_says_for_what() -> None:
    began = time.monotonic()
    with pytest.raises(TestbedError, match="The moon: not within"):
        wait_until(lambda: False, 0.2, "The moon")
    assert time.monotonic() - began < 5


def test_parallel_runs_get_different_ports_and_keep_them(tmp_path: Path) -> None:
    script = """
import pathlib, sys
from testbed import ports
from testbed.paths import Instance
instance = Instance("run", pathlib.Path(sys.argv[1]))
print(*[ports.reserve(instance, f"server-{number}") for number in range(20)])
"""
    environment = {**_environment(), "LUCID_TESTBED_CACHE": str(tmp_path / "cache")}

    def reserve(number: int) -> list[str]:
        command = [sys.executable, "-c", script, str(tmp_path / f"run-{number}")]
        answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return answer.stdout.split()

    with ThreadPoolExecutor(4) as pool:
        reserved = list(pool.map(reserve, range(4)))
    assert len({port for run in reserved for port in run}) == 80
    assert reserve(0) == reserved[0]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_servers_of_a_test_run_end_with_it(end: signal.Signals) -> None:
    """However pytest ends, the reaper gets the lock, stops the servers and removes their folder."""
    # A run in the background of a shell begins with SIGINT ignored, and Python leaves it so.
    script = """
import signal, sys, time, uuid
from testbed.process import Daemon
from testbed.testrun import TestRun
signal.signal(signal.SIGINT, signal.default_int_handler)
run = TestRun(uuid.uuid4().hex[:8])
run.join()
Daemon(run.instance, "server", ["sleep", "300"]).start()
print(run.instance.root, flush=True)
time.sleep(300)
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(
        command, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as run:
        try:
            assert run.stdout is not None
            root = Path(run.stdout.readline().strip())
            instance = Instance(root.name, root)
            # The server and the reaper; a process carries its mark from its exec on.
            wait_until(lambda: len(marked(instance)) == 2, 10, "the server and the reaper")
            run.send_signal(end)
            run.wait(10)
        finally:
            run.kill()
    wait_until(lambda: not root.exists() and marked(instance) == [], 20, "The end of the servers")


def _environment() -> dict[str, str]:
    """For a Python of its own that imports the test bed."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
