"""Many resources created at once: how fast status is written, and how often; the REST API meanwhile."""

import asyncio
import json
import sys
from dataclasses import dataclass, field
from statistics import median
from time import monotonic
from typing import Any

from bench.apiserver import Versions
from bench.bed import PLURALS, SETTLE_SECONDS, Bed, BenchError, at_once, child_environment, create_namespace
from bench.figures import Figure
from bench.rest import Latencies, RestProbe
from bench.storm_bare import patch
from lucid_storage.kube.client import resource_path

RESOURCES = 500
RATE_BAR = 0.7
WRITES_EACH = 3


@dataclass
class Storms:
    """What several storms gave. Rates are status writes a second, from the first to the last one."""

    rates: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    """Of the bare loop, which makes the same collections and indexes, in a storm of its own."""
    patching: list[float] = field(default_factory=list)
    """Of a loop that only patches, in a storm of its own."""
    alone: list[float] = field(default_factory=list)
    """Of a loop that only patches while nothing is created."""
    seconds: list[float] = field(default_factory=list)
    most: int = 0
    writes: int = 0
    latencies: Latencies = field(default_factory=Latencies)


async def rows(bed: Bed, times: int) -> list[Figure]:
    """Each storm next to its peers; medians."""
    await bed.running()
    peer = f"{bed.namespace}-peer"
    await create_namespace(bed.kube, peer)
    storms = Storms()
    for _ in range(times):
        await _storm(bed, storms)
        await _peers(bed, peer, storms)
    rate, bare = median(storms.rates), median(storms.bare)
    ratio = median([mine / theirs for mine, theirs in zip(storms.rates, storms.bare, strict=True)])
    mean = storms.writes / (RESOURCES * times)
    note = (
        f"{times} storms of {RESOURCES}, all Ready after {max(storms.seconds):.1f} s at most; a loop that only"
        f" patches, and makes nothing in MongoDB: {median(storms.patching):.0f}/s in such a storm,"
        f" {median(storms.alone):.0f}/s while nothing is created"
    )
    shown = f"{rate:.0f} writes/s", f"bare loop, same DDL: {bare:.0f}/s"
    return [
        Figure("create storm, rate", *shown, ratio, f">= {RATE_BAR}", ratio >= RATE_BAR, note),
        Figure(
            "create storm, writes a resource",
            f"{storms.most} at most",
            f"limit {WRITES_EACH}",
            storms.most / WRITES_EACH,
            "<= 1",
            storms.most <= WRITES_EACH,
            f"{mean:.2f} on average",
        ),
        storms.latencies.figure(),
    ]


async def _storm(bed: Bed, storms: Storms) -> None:
    await bed.settled()
    async with RestProbe(bed, storms.latencies):
        began = monotonic()
        versions = await bed.grow(bed.count + RESOURCES)
        storms.seconds.append(monotonic() - began)
    storms.rates.append(_rate(versions))
    storms.writes += len(versions.changes)
    storms.most = max(storms.most, *versions.each().values())


def _rate(versions: Versions) -> float:
    times = sorted(at for at, _ in versions.changes)
    return len(times) / (times[-1] - times[0])


async def _peers(bed: Bed, namespace: str, storms: Storms) -> None:
    """The same storm without the operator, which does not watch this namespace: as many objects of the same specs
    are created in the same way, and a loop in a process of its own writes their status as often as the operator did.
    """
    originals = await _newest(bed)
    rounds = max(1, round(storms.writes / len(storms.rates) / RESOURCES))
    database = f"{bed.database}_peer"
    for rates, more in ((storms.bare, (bed.mongodb.uri, database)), (storms.patching, ())):
        await bed.settled()
        versions = await _bare(bed, namespace, originals, rounds, more)
        rates.append(_rate(versions))
        if rates is storms.patching:
            began = monotonic()
            await at_once([patch(bed.kube, namespace, body, rounds) for body in originals])
            storms.alone.append(len(originals) / (monotonic() - began))
        for plural in PLURALS:
            await bed.kube.request("DELETE", resource_path(plural, namespace))
    with bed.mongodb.client(appName="bench") as client:
        client.drop_database(database)


async def _bare(
    bed: Bed, namespace: str, originals: list[dict[str, Any]], rounds: int, more: tuple[str, ...]
) -> Versions:
    environment = {**child_environment(), "KUBECONFIG": str(bed.plane.kubeconfig)}
    command = ["-m", "bench.storm_bare", namespace, str(rounds), *more]
    pipe = asyncio.subprocess.PIPE
    loop = await asyncio.create_subprocess_exec(
        sys.executable, *command, env=environment, stdin=pipe, stdout=pipe
    )
    assert loop.stdin is not None
    assert loop.stdout is not None
    if await asyncio.wait_for(loop.stdout.readline(), 60) != b"ready\n":
        raise BenchError("The bare loop does not start.")
    told = loop.stdin

    async def create(body: dict[str, Any]) -> None:
        await _copy(bed, namespace, body)
        told.write(json.dumps(body).encode() + b"\n")

    async with bed.apiserver.watching(namespace, PLURALS) as versions:
        await at_once([create(body) for body in originals])
        told.close()
        if await asyncio.wait_for(loop.wait(), SETTLE_SECONDS) != 0:
            raise BenchError("The bare loop failed.")
        ended = monotonic()
        while len(versions.changes) < rounds * len(originals):
            if monotonic() - ended > SETTLE_SECONDS:
                raise BenchError("The watch did not tell all that the bare loop wrote.")
            await asyncio.sleep(0.01)
    return versions


async def _newest(bed: Bed) -> list[dict[str, Any]]:
    """Of the last storm, in the order in which they were created."""
    found = []
    for plural in PLURALS:
        bodies = [b async for page in bed.kube.pages(resource_path(plural, bed.namespace)) for b in page]
        for body in sorted(bodies, key=lambda b: b["metadata"]["name"])[-RESOURCES // 2 :]:
            found.append({**body, "plural": plural})
    return sorted(found, key=lambda body: body["metadata"]["name"])


async def _copy(bed: Bed, namespace: str, body: dict[str, Any]) -> None:
    copy = {
        "apiVersion": body["apiVersion"],
        "kind": body["kind"],
        "metadata": {"name": body["metadata"]["name"]},
        "spec": body["spec"],
    }
    await bed.kube.request("POST", resource_path(body["plural"], namespace), body=copy)
