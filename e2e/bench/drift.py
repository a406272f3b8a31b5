"""From a change behind the operator's back until the operator's first command against it, by the server's clock."""

import asyncio
from collections.abc import Callable
from statistics import median
from time import monotonic, sleep
from typing import Any

from pymongo.database import Database

from bench import ddl
from bench.bed import Bed, BenchError, name_of
from bench.figures import Figure

TIMES = 20
LIMIT_SECONDS = 1.0
REPAIR_SECONDS = 30.0
RESOURCES = 100

Db = Database[dict[str, Any]]


async def rows(bed: Bed) -> list[Figure]:
    """A dropped index and a changed validator, each on 20 collections one after the other."""
    await bed.running()
    if bed.count < RESOURCES:
        await bed.grow(RESOURCES)
    await bed.settled()
    return await asyncio.to_thread(_rows, bed)


def _rows(bed: Bed) -> list[Figure]:
    with bed.mongodb.client(appName="bench") as client:
        db = client[bed.database]
        with ddl.profiled(client, bed.database):
            for pair in range(TIMES):
                _provoke(_drop_index, _index_is_there, db, name_of(2 * pair))
                _provoke(_change_validator, _validator_is_there, db, name_of(2 * pair))
        recorded = ddl.ran(client, bed.database)
    return [
        _figure("drift, dropped index", _delays(recorded, "dropIndexes", "createIndexes"), bed.count),
        _figure("drift, changed validator", _delays(recorded, "collMod", "collMod"), bed.count),
    ]


def _provoke(
    change: Callable[[Db, str], None], is_right: Callable[[Db, str], bool], db: Db, name: str
) -> None:
    assert is_right(db, name)
    change(db, name)
    began = monotonic()
    while not is_right(db, name):
        if monotonic() - began > REPAIR_SECONDS:
            raise BenchError(f"The operator did not repair {name} within {REPAIR_SECONDS:.0f} s.")
        sleep(0.05)


def _drop_index(db: Db, name: str) -> None:
    db[name].drop_index("*")


def _index_is_there(db: Db, name: str) -> bool:
    listed = db.command("listIndexes", name, includeBuildUUIDs=True)["cursor"]["firstBatch"]
    return len(listed) == 2 and not any("buildUUID" in index for index in listed)


def _change_validator(db: Db, name: str) -> None:
    db.command("collMod", name, validator={"account": {"$exists": True}})


def _validator_is_there(db: Db, name: str) -> bool:
    options = next(db.list_collections(filter={"name": name}))["options"]
    return "$jsonSchema" in options.get("validator", {})


def _delays(recorded: list[ddl.Ran], change: str, repair: str) -> list[float]:
    """Seconds from the end of each foreign change until the operator's next repairing command begins."""
    delays = []
    for foreign in recorded:
        if foreign.by_operator or foreign.command != change:
            continue
        repairs = [
            entry.began
            for entry in recorded
            if entry.by_operator
            and (entry.command, entry.collection) == (repair, foreign.collection)
            and entry.ended > foreign.ended
        ]
        delays.append((min(repairs) - foreign.ended).total_seconds())
    return delays


def _figure(row: str, delays: list[float], count: int) -> Figure:
    assert len(delays) == TIMES
    worst, middle = max(delays), median(delays)
    ours = f"{middle * 1000:.0f} ms, at most {worst * 1000:.0f} ms"
    note = f"median and maximum of {TIMES}, with {count} resources"
    return Figure(
        row, ours, f"limit {LIMIT_SECONDS:g} s", worst / LIMIT_SECONDS, "< 1", worst < LIMIT_SECONDS, note
    )
