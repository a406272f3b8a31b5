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


def ensure(packages: Iterable[str], progress: Progress) -> None:
    """Installs what is missing; raises TestbedError without root or when apt-get fails."""
    wanted = sorted(set(packages))
    if not missing(wanted):
        return
    if os.geteuid() != 0:
        names = " ".join(missing(wanted))
        raise TestbedError(f"Debian packages are missing; install them with: sudo apt-get install {names}")
    with (cache_dir() / "apt.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        absent = missing(wanted)
        if not absent:
            return
        with progress.step(f"Installing Debian packages {' '.join(absent)}"), _services_stay_off():
            _apt_get("update")
            _apt_get("install", "--yes", "--no-install-recommends", *absent)


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


def _apt_get(*arguments: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Another apt-get may hold dpkg's lock for a while.
    command = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", *arguments]
    answer = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
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
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
