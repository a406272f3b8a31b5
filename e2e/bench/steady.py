"""Nothing changes in the declarations, the databases are busy: nobody is written to."""

import asyncio
import random
from datetime import UTC, datetime
from threading import Event

import psutil

from bench import ddl
from bench.bed import Bed, name_of
from bench.figures import Figure

RESOURCES = 1000
PAUSE_SECONDS = 0.01
BATCH = 5


async def rows(bed: Bed, seconds: float) -> list[Figure]:
    """Writes to the API server and definition changes over `seconds`."""
    operator = await bed.running()
    if bed.count < RESOURCES:
        await bed.grow(RESOURCES)
    await bed.settled()
    process = psutil.Process(operator.pid)
    with bed.mongodb.client(appName="bench") as client, ddl.profiled(client, bed.database):
        looks, cpu = operator.metric("lucid_reconciles_total"), sum(process.cpu_times()[:2])
        writes = await bed.apiserver.writes()
        inserted = await _busy(bed, seconds)
        writes = await bed.apiserver.writes() - writes
        commands = len(ddl.ran(client, bed.database))
        looks = operator.metric("lucid_reconciles_total") - looks
        cpu = sum(process.cpu_times()[:2]) - cpu
    note = (
        f"{bed.count} resources, {seconds / 60:g} minutes, {inserted} documents written, {looks:.0f} looks,"
        f" {cpu / seconds:.1%} of a core"
    )
    return [
        Figure("steady state, API writes", str(writes), "limit 0", None, "0", writes == 0, note),
        Figure("steady state, DDL commands", str(commands), "limit 0", None, "0", commands == 0),
    ]


async def _busy(bed: Bed, seconds: float) -> int:
    stop = Event()
    writer = asyncio.create_task(asyncio.to_thread(_write, bed, stop))
    try:
        done, _ = await asyncio.wait([writer], timeout=seconds)
        assert not done, writer.result()
    finally:
        stop.set()
    return await writer


def _write(bed: Bed, stop: Event) -> int:
    """Insert into random collections until stopped; returns the number of documents."""
    inserted = 0
    chance = random.Random(1)
    with bed.mongodb.client(appName="bench") as client:
        db = client[bed.database]
        while not stop.wait(PAUSE_SECONDS):
            collection = db[name_of(2 * chance.randrange(bed.count // 2))]
            now = datetime.now(UTC)
            made = [{"account": f"a{chance.random()}", "createdAt": now, "amount": 1} for _ in range(BATCH)]
            inserted += len(collection.insert_many(made).inserted_ids)
    return inserted
