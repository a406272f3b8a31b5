"""From exec to /readyz with everything settled, beside a process that only lists and parses."""

import asyncio
import subprocess
import sys
from statistics import median
from time import monotonic

from bench import ddl
from bench.bed import Bed, child_environment
from bench.figures import Figure

RESOURCES = 1000
TIMES = 3
FACTOR, ALLOWANCE_SECONDS = 3.0, 2.0


async def rows(bed: Bed) -> list[Figure]:
    """Each restart next to its peer; medians."""
    await bed.running()
    if bed.count < RESOURCES:
        await bed.grow(RESOURCES)
    await bed.settled()
    ours, bare = [], []
    writes = await bed.apiserver.writes()
    with bed.mongodb.client(appName="bench") as client, ddl.profiled(client, bed.database):
        for _ in range(TIMES):
            await asyncio.to_thread(bed.operator.stop)
            bare.append(await asyncio.to_thread(_list, bed))
            ours.append(await bed.operator.start_timed())
        await bed.settled()
        commands = len(ddl.ran(client, bed.database))
    writes = await bed.apiserver.writes() - writes
    return [_time(ours, bare, bed.count), _writes(writes, commands)]


def _time(ours: list[float], bare: list[float], count: int) -> Figure:
    mine, theirs = median(ours), median(bare)
    bar = FACTOR * theirs + ALLOWANCE_SECONDS
    note = f"{count} resources, medians of {TIMES}, the bar is {bar:.1f} s"
    shown = f"{mine:.2f} s", f"list and parse: {theirs:.2f} s"
    return Figure("restart until ready", *shown, mine / theirs, "< 3x + 2 s", mine < bar, note)


def _writes(writes: int, commands: int) -> Figure:
    note = f"and {commands} DDL commands in {TIMES} restarts"
    ok = writes == commands == 0
    return Figure("restart, API writes", str(writes), "limit 0", None, "0", ok, note)


def _list(bed: Bed) -> float:
    environment = {**child_environment(), "KUBECONFIG": str(bed.plane.kubeconfig)}
    command = [sys.executable, "-m", "bench.listing", bed.namespace]
    began = monotonic()
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    seconds = monotonic() - began
    assert int(done.stdout) == bed.count
    return seconds
