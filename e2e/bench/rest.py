"""Reads of the REST API from a process of their own, at a steady pace that the rate limit allows."""

import asyncio
import json
import sys
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from bench.bed import Bed, BenchError, child_environment
from bench.figures import Figure
from testbed import ports
from testbed.process import Daemon

LIMIT_MS = 10.0
PATHS = ("/api/v1/database/health", "/api/v1/database/stats")


@dataclass
class Latencies:
    """Milliseconds of each answer, of the REST API and of a bare server that was asked right after."""

    rest: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)

    def figure(self) -> Figure:
        """The 95th percentile against the limit."""
        high, bare = _percentile(self.rest, 0.95), _percentile(self.bare, 0.95)
        note = (
            f"{len(self.rest)} reads during the storms, median {_percentile(self.rest, 0.5):.1f} ms, longest"
            f" {max(self.rest):.0f} ms; a bare server in a process of its own: {bare:.1f} ms"
        )
        shown = f"{high:.1f} ms", f"limit {LIMIT_MS:g} ms"
        return Figure("REST, cached reads, p95", *shown, high / LIMIT_MS, "< 1", high < LIMIT_MS, note)


class RestProbe:
    """Asks while the block runs, and adds what it took to `latencies`."""

    def __init__(self, bed: Bed, latencies: Latencies) -> None:
        self._bed = bed
        self._latencies = latencies
        self._client: asyncio.subprocess.Process | None = None
        port = ports.reserve(bed.instance, "rest-bare")
        command = [sys.executable, "-m", "bench.rest_bare", str(port)]
        self._bare = Daemon(bed.instance, "rest-bare", command, env=child_environment())
        self._bare_port = port

    async def __aenter__(self) -> Self:
        operator = await self._bed.running()
        await asyncio.to_thread(self._bare.start)
        command = ["-m", "bench.rest_client", str(operator.rest_port), str(self._bare_port), *PATHS]
        environment = {**child_environment(), "BENCH_TOKEN": self._bed.plane.pki.token("admin")}
        self._client = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._client.stdout is not None
        first = await asyncio.wait_for(self._client.stdout.readline(), 60)
        if first != b"answers\n":
            raise BenchError("The REST API does not answer.")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._client is not None
        output, _ = await asyncio.wait_for(self._client.communicate(b""), 30)
        await asyncio.to_thread(self._bare.stop)
        if kind is None:
            taken = json.loads(output)
            self._latencies.rest += taken["rest"]
            self._latencies.bare += taken["bare"]


def _percentile(values: list[float], part: float) -> float:
    return sorted(values)[int(len(values) * part)]
