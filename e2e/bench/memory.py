"""Memory of the operator: idle beside a bare import of kopf, and for each resource."""

import asyncio
import subprocess
import sys
from pathlib import Path

from bench.bed import Bed, child_environment
from bench.figures import MIB, Figure

RESOURCES = 2000
IDLE_BAR = 2.0
EACH_LIMIT_KIB = 30.0
IDLE_SECONDS = 3.0


async def idle(bed: Bed) -> tuple[Figure, int]:
    """Before there is any resource. Also returns the operator's resident bytes."""
    operator = await bed.running()
    await asyncio.sleep(IDLE_SECONDS)  # what is measured is a state that lasts
    ours, bare = resident(operator.pid), await asyncio.to_thread(_bare_import)
    ratio = ours / bare
    row = "memory, idle"
    shown = f"{ours / MIB:.0f} MiB", f"import kopf: {bare / MIB:.0f} MiB"
    return Figure(row, *shown, ratio, f"< {IDLE_BAR:g}x", ratio < IDLE_BAR), ours


async def each(bed: Bed, idle_bytes: int, count: int = RESOURCES) -> list[Figure]:
    """Growth over idle for each of `count` resources: in the process that made them, and in one started anew."""
    await bed.running()
    if bed.count < count:
        await bed.grow(count)
    await bed.settled()
    figures = [_growth(f"memory a resource, {count} made", resident(bed.operator.pid), idle_bytes, count)]
    await asyncio.to_thread(bed.operator.stop)
    await bed.operator.start_timed()
    await bed.settled()
    now = resident(bed.operator.pid)
    figures.append(_growth(f"memory a resource, {count} found at start", now, idle_bytes, count))
    return figures


def resident(pid: int) -> int:
    """Resident bytes of a process."""
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    return int(fields["VmRSS"].split()[0]) * 1024


def _growth(row: str, now: int, idle_bytes: int, count: int) -> Figure:
    kib = (now - idle_bytes) / count / 1024
    ratio = kib / EACH_LIMIT_KIB
    note = f"{now / MIB:.0f} MiB in all"
    return Figure(row, f"{kib:.1f} KiB", f"limit {EACH_LIMIT_KIB:g} KiB", ratio, "<= 1", ratio <= 1, note)


def _bare_import() -> int:
    program = "import kopf, sys; print('imported', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=child_environment()
    ) as bare:
        assert bare.stdout is not None
        assert bare.stdout.readline() == b"imported\n"
        found = resident(bare.pid)
        bare.communicate()
    return found
