"""Debian packages that the test bed needs."""

import fcntl
import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.errors import TestbedError
from testbed.paths import cache_dir
from testbed.progress import Progress

_POLICY = Path("/usr/sbin/policy-rc.d")
_OURS = (
    "# Made by the Lucid test bed while it installs packages. Remove it when no installation is under way."
)


def ensure(packages: Iterable[str], progress: Progress) -> None:
    """Installs what is missing; raises TestbedError without root or when apt-get fails."""
    wanted = sorted(set(packages))
    if not missing(wanted):
        _clear_up()
        return
    if os.geteuid() != 0:
        names = " ".join(missing(wanted))
        raise TestbedError(f"Debian packages are missing; install them with: sudo apt-get install {names}")
    with (cache_dir() / "apt.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _remove_ours()
        absent = missing(wanted)
        if not absent:
            return
        with progress.step(f"Installing Debian packages {' '.join(absent)}"), _services_stay_off():
            _apt_get(lock.fileno(), "update")
            _apt_get(lock.fileno(), "install", "--yes", "--no-install-recommends", *absent)


def missing(packages: Iterable[str]) -> list[str]:
    """Those of the packages that are not installed."""
    absent = []
    for package in packages:
        query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
        try:
            answer = subprocess.run(query, capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise TestbedError(
                "The test bed installs Debian packages, and dpkg is not here; use Debian 12."
            ) from error
        if answer.stdout.strip() != "installed":
            absent.append(package)
    return absent


def _apt_get(lock: int, *arguments: str) -> None:
    """The lock stays taken as long as apt-get runs, also when this process is killed meanwhile."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Another apt-get may hold dpkg's lock for a while.
    command = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", *arguments]
    answer = subprocess.run(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        pass_fds=[lock],
    )
    if answer.returncode != 0:
        tail = "\n".join(answer.stdout.splitlines()[-15:])
        raise TestbedError(f"{' '.join(command)} failed; repair the package system and try again:\n{tail}")


@contextmanager
def _services_stay_off() -> Iterator[None]:
    """Keeps Debian from starting the daemons of the new packages; the test bed starts its own."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text(f"#!/bin/sh\n{_OURS}\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)


def _clear_up() -> None:
    """Removes what a killed installation left behind: with it no service of a later package would start."""
    if not _left_behind():
        return
    with (cache_dir() / "apt.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # an installation is under way
        _remove_ours()


def _remove_ours() -> None:
    """Call it with the lock taken."""
    if _left_behind():
        _POLICY.unlink(missing_ok=True)


def _left_behind() -> bool:
    """Whether the policy is ours, and may be removed by us."""
    try:
        return _OURS in _POLICY.read_text(errors="replace").splitlines() and os.geteuid() == 0
    except FileNotFoundError:
        return False
