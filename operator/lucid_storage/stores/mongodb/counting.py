"""What a change would do to the documents there are: counted in bounded time, off the primary if possible."""

from __future__ import annotations

import asyncio

from bson.datetime_ms import DatetimeMS

from lucid_storage.stores.documents import to_bson
from lucid_storage.stores.mongodb.connection import Connection, Document
from lucid_storage.stores.mongodb.types import JsonDoc, Violations

FIRST_BATCH = 1_000
SMALLEST_BATCH, LARGEST_BATCH = 100, 200_000
BATCH_SECONDS = 1.0
"""Aimed at for one batch: short enough to stop near the budget, long enough to make the round trip cheap."""


async def count_violations(
    connection: Connection, database: str, name: str, validator: JsonDoc, budget_seconds: float
) -> Violations:
    """Walks the collection by `_id` in batches until its end or the end of the budget."""
    condition = to_bson(validator)
    if not condition:
        return Violations(checked=0, violating=0, complete=True)
    attempt = connection.attempt(f"count documents of {database}.{name} that the validator refuses")
    clock = asyncio.get_running_loop().time
    end = clock() + budget_seconds
    checked = violating = 0
    after: Document | None = None
    size = FIRST_BATCH
    while True:
        began = clock()
        pipeline = violations_pipeline(condition, after, size)
        batch = await connection.aggregate_within(end - began, database, name, pipeline, attempt)
        if batch is None:
            return Violations(checked, violating, complete=False)
        seen, refused, last = _batch(batch)
        checked, violating = checked + seen, violating + refused
        if seen < size:
            return Violations(checked, violating, complete=True)
        after, size = last, next_size(size, clock() - began)


def violations_pipeline(condition: Document, after: Document | None, size: int) -> list[Document]:
    """One batch: how many documents, how many refused ones, and the last `_id`.

    `$expr` compares `_id`s of all types with each other; a plain `$gt` would see only those of the same type.
    """
    bound: list[Document] = []
    if after is not None:
        bound = [{"$match": {"$expr": {"$gt": ["$_id", {"$literal": after["last"]}]}}}]
    return [
        *bound,
        {"$sort": {"_id": 1}},
        {"$limit": size},
        {
            "$facet": {
                "all": [{"$group": {"_id": None, "count": {"$sum": 1}, "last": {"$last": "$_id"}}}],
                "refused": [{"$match": {"$nor": [condition]}}, {"$count": "count"}],
            }
        },
    ]


def next_size(size: int, seconds: float) -> int:
    """The batch size that would have taken BATCH_SECONDS, at most four times as large as before."""
    wanted = int(size * min(4.0, BATCH_SECONDS / max(seconds, 0.001)))
    return max(SMALLEST_BATCH, min(LARGEST_BATCH, wanted))


async def count_expired(
    connection: Connection, database: str, name: str, field: str, seconds: int, *, budget_seconds: float
) -> int | None:
    """Documents that a TTL of `seconds` on `field` would delete now, by the server's clock.

    A comparison with a date sees only dates, and any of those in an array: that is the server's own rule.
    """
    attempt = connection.attempt(f"count expired documents of {database}.{name}", reads_documents=True)
    hello = await connection.read("admin", {"hello": 1}, attempt)
    cutoff = DatetimeMS(_milliseconds(hello["localTime"]) - seconds * 1000)
    pipeline: list[Document] = [{"$match": {field: {"$lt": cutoff}}}, {"$count": "count"}]
    counted = await connection.aggregate_within(budget_seconds, database, name, pipeline, attempt)
    if counted is None:
        return None
    return _whole(counted[0]["count"]) if counted else 0


def _batch(answer: list[Document]) -> tuple[int, int, Document | None]:
    everything, refused = answer[0]["all"], answer[0]["refused"]
    assert isinstance(everything, list)
    assert isinstance(refused, list)
    if not everything:
        return 0, 0, None
    return _whole(everything[0]["count"]), _whole(refused[0]["count"]) if refused else 0, everything[0]


def _milliseconds(value: object) -> int:
    assert isinstance(value, DatetimeMS)
    return int(value)


def _whole(value: object) -> int:
    assert isinstance(value, int)
    return int(value)
