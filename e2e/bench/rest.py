"""Reads of the REST API from a process of their own, at a steady pace that the rate limit allows."""

import asyncio
import json
import sys
from types import TracebackType
from typing import Self

from bench.bed import Bed, BenchError, child_environment
from bench.figures import Figure

LIMIT_MS = 10.0
PATHS = ("/api/v1/database/health", "/api/v1/database/stats")


class RestProbe:
    """Asks while the block runs; afterwards `latencies` holds the milliseconds of each answer."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self._process: asyncio.subprocess.Process | None = None
        self.latencies: list[float] = []

    async def __aenter__(self) -> Self:
        operator = await self._bed.running()
        command = ["-m", "bench.rest_client", str(operator.rest_port), *PATHS]
        environment = {**child_environment(), "BENCH_TOKEN": self._bed.plane.pki.token("admin")}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        first = await asyncio.wait_for(self._process.stdout.readline(), 30)
        if first != b"answers\n":
            raise BenchError("The REST API does not answer.")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        output, _ = await asyncio.wait_for(self._process.communicate(b""), 30)
        if kind is None:
            self.latencies = json.loads(output)

    @staticmethod
    def figure(latencies: list[float]) -> Figure:
        """The 95th percentile against the limit."""
        ordered = sorted(latencies)
        middle, high = (ordered[int(len(ordered) * part)] for part in (0.5, 0.95))
        note = f"{len(ordered)} reads during the storms, median {middle:.1f} ms, longest {ordered[-1]:.0f} ms"
        shown = f"{high:.1f} ms", f"limit {LIMIT_MS:g} ms"
        return Figure("REST, cached reads, p95", *shown, high / LIMIT_MS, "< 1", high < LIMIT_MS, note)
