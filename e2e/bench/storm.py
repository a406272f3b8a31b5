"""Many resources created at once: how fast status is written, and how often; the REST API meanwhile."""

import asyncio
from dataclasses import dataclass, field
from statistics import median
from time import monotonic
from typing import Any

from bench.bed import CONCURRENCY, PLURALS, Bed, at_once, create_namespace
from bench.figures import Figure
from bench.rest import Latencies, RestProbe
from lucid_storage.kube.client import resource_path

RESOURCES = 500
RATE_BAR = 0.7
WRITES_EACH = 3


@dataclass
class Storms:
    """What several storms gave."""

    rates: list[float] = field(default_factory=list)
    """Status writes a second, from the first to the last one."""
    bare: list[float] = field(default_factory=list)
    """The same of the bare loop in a storm of its own."""
    alone: list[float] = field(default_factory=list)
    """The bare loop while nothing is created."""
    seconds: list[float] = field(default_factory=list)
    most: int = 0
    writes: int = 0
    latencies: Latencies = field(default_factory=Latencies)


async def rows(bed: Bed, times: int) -> list[Figure]:
    """Each storm next to its peer; medians."""
    await bed.running()
    peer = f"{bed.namespace}-peer"
    await create_namespace(bed.kube, peer)
    storms = Storms()
    for _ in range(times):
        await _storm(bed, storms)
        await _bare(bed, peer, storms)
    rate, bare = median(storms.rates), median(storms.bare)
    ratio = median([mine / theirs for mine, theirs in zip(storms.rates, storms.bare, strict=True)])
    mean = storms.writes / (RESOURCES * times)
    note = (
        f"{times} storms of {RESOURCES}, all Ready after {max(storms.seconds):.1f} s at most; the loop without"
        f" creations beside it: {median(storms.alone):.0f}/s"
    )
    shown = f"{rate:.0f} writes/s", f"bare patch loop in such a storm: {bare:.0f}/s"
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
    times = sorted(at for at, _ in versions.changes)
    storms.rates.append(len(times) / (times[-1] - times[0]))
    storms.writes += len(times)
    storms.most = max(storms.most, *versions.each().values())


async def _bare(bed: Bed, namespace: str, storms: Storms) -> None:
    """The same storm without an operator: as many objects are created, and a loop patches the status of each as
    soon as it is there, with what the operator wrote and as often. Then the loop once more, with nothing beside it.
    """
    await bed.settled()
    originals = await _newest(bed)
    rounds = max(1, round(storms.writes / len(storms.rates) / RESOURCES))
    created: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    ends: list[float] = []

    async def create(body: dict[str, Any]) -> None:
        await _copy(bed, namespace, body)
        created.put_nowait(body)

    async def patch() -> None:
        while (body := await created.get()) is not None:
            for number in range(rounds):
                await _patch(bed, namespace, body, number)
                ends.append(monotonic())

    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(patch())
        await at_once([create(body) for body in originals])
        for _ in range(CONCURRENCY):
            created.put_nowait(None)
    storms.bare.append(len(ends) / (max(ends) - min(ends)))
    began = monotonic()
    await at_once([_patch(bed, namespace, body, rounds) for body in originals])
    storms.alone.append(len(originals) / (monotonic() - began))
    for plural in PLURALS:
        await bed.kube.request("DELETE", resource_path(plural, namespace))


async def _newest(bed: Bed) -> list[dict[str, Any]]:
    found = []
    for plural in PLURALS:
        bodies = [b async for page in bed.kube.pages(resource_path(plural, bed.namespace)) for b in page]
        for body in sorted(bodies, key=lambda b: b["metadata"]["name"])[-RESOURCES // 2 :]:
            found.append({**body, "plural": plural})
    return found


async def _copy(bed: Bed, namespace: str, body: dict[str, Any]) -> None:
    copy = {
        "apiVersion": body["apiVersion"],
        "kind": body["kind"],
        "metadata": {"name": body["metadata"]["name"]},
        "spec": body["spec"],
    }
    await bed.kube.request("POST", resource_path(body["plural"], namespace), body=copy)


async def _patch(bed: Bed, namespace: str, body: dict[str, Any], number: int) -> None:
    name = body["metadata"]["name"]
    status = {**body["status"], "message": f"round {number}"}
    await bed.kube.patch(resource_path(body["plural"], namespace, name, "status"), {"status": status})
