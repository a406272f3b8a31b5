"""A worker as its pod runs it: a process with an order, whose time and memory are measured."""

import json
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

from bench.figures import peak_bytes
from lucid_storage.kinds.workers.job import ALLOCATOR
from testbed.errors import TestbedError


def run_worker(
    command: str, uri: str, root: Path, order: dict[str, Any]
) -> tuple[float, int, dict[str, Any]]:
    """Seconds from its start to its end, peak of its memory in bytes, and its result.

    Below `root` are keys, destination and what it logs. Raises TestbedError when it did not succeed.
    """
    (root / "destination").mkdir(exist_ok=True)
    termination = root / f"termination-{order['run']}"
    environ = {
        **os.environ,
        **ALLOCATOR,
        "MONGODB_URI": uri,
        "LUCID_ORDER": json.dumps(order),
        "LUCID_KEYS": str(root / "keys"),
        "LUCID_DESTINATION": str(root / "destination"),
        "LUCID_TERMINATION_PATH": str(termination),
    }
    with (root / "log").open("ab") as log:
        begun, peak = perf_counter(), 0
        process = subprocess.Popen(
            [sys.executable, "-m", "lucid_storage", command], env=environ, stdout=log, stderr=log
        )
        while process.poll() is None:
            peak = max(peak, peak_bytes(process.pid))
            sleep(0.02)
        seconds = perf_counter() - begun
    if process.returncode != 0:
        raise TestbedError(f"The {command} worker ended with {process.returncode}; see {root / 'log'}.")
    told: dict[str, Any] = json.loads(termination.read_text())
    if not told.get("ok"):
        raise TestbedError(f"The {command} failed: {told.get('message')}")
    return seconds, peak, told
