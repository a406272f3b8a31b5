"""What the documents say about a shard key, before what cannot be undone. Figures only: values stay on the server."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lucid_storage.stores.mongodb.connection import Connection, Document
from lucid_storage.stores.mongodb.sharding.catalogue import whole
from lucid_storage.stores.mongodb.sharding.types import KeyGaps, KeySample, ShardKey

FIRST_DOCUMENTS = 50_000
"""Looked at first, so that there is an answer when the budget does not last for all."""
ENOUGH_FOR_ORDER = 30
"""Documents below which a correlation says nothing."""
TEXT_CHARACTERS = 200
HASHED = "hashed"
SIMPLE: Mapping[str, object] = {"locale": "simple"}
"""Shard keys are compared so, whatever the collection's default collation is."""
BY_ID: list[Document] = [{"$sort": {"_id": 1}}]
"""Puts a sample in the order of insertion where ids are ObjectIds."""


async def key_gaps(
    connection: Connection, database: str, name: str, key: ShardKey, budget_seconds: float
) -> KeyGaps:
    """Counts as far as the budget goes; what it went through last is the answer. From secondaries where there are some,
    so that finding nothing is no proof that there is nothing.
    """
    attempt = connection.attempt(
        f"look for documents of {database}.{name} without a shard key", reads_documents=True
    )
    clock = asyncio.get_running_loop().time
    end = clock() + budget_seconds
    gaps = KeyGaps(checked=0, missing=0, arrays=0, complete=False)
    for limit in (FIRST_DOCUMENTS, None):
        pipeline = gaps_pipeline(key, limit)
        answer = await connection.aggregate_within(end - clock(), database, name, pipeline, attempt)
        if answer is None:
            break
        found: Document = answer[0] if answer else {}
        checked = whole(found.get("checked"))
        complete = limit is None or checked < limit
        gaps = KeyGaps(checked, whole(found.get("missing")), whole(found.get("arrays")), complete)
        if complete:
            break
    return gaps


async def key_sample(
    connection: Connection,
    database: str,
    name: str,
    key: ShardKey,
    *,
    size: int,
    budget_seconds: float,
    in_one_place: bool,
) -> KeySample | None:
    """One random sample, grouped by key on the server; what comes back are counts and places in the order of insertion.

    ObjectIds tell that order. Without them the first documents do, as the server stores them, if all of the collection
    is `in_one_place`.
    """
    attempt = connection.attempt(f"sample the shard key in {database}.{name}", reads_documents=True)
    clock = asyncio.get_running_loop().time
    end = clock() + budget_seconds

    async def read(pipeline: list[Document]) -> list[Document] | None:
        return await connection.aggregate_within(
            end - clock(), database, name, pipeline, attempt, collation=SIMPLE
        )

    random = await read(sample_pipeline(key, [{"$sample": {"size": size}}, *BY_ID]))
    if random is None:
        return None
    keys = sampled_keys(random)
    ordered = keys
    if not all(group.get("object_ids") for group in random):
        first = await read(sample_pipeline(key, [{"$limit": size}])) if in_one_place else []
        ordered = sampled_keys(first or [])
    return judged(keys, ordered, key)


def gaps_pipeline(key: ShardKey, limit: int | None) -> list[Document]:
    types = [{"$type": f"${field}"} for field, _ in key]
    missing: Document = {"$or": [{"$in": [kind, ["missing", "null", "undefined"]]} for kind in types]}
    arrays: Document = {"$or": [{"$eq": [kind, "array"]} for kind in types]}
    head: list[Document] = [] if limit is None else [{"$limit": limit}]
    return [
        *head,
        {
            "$group": {
                "_id": None,
                "checked": {"$sum": 1},
                "missing": {"$sum": {"$cond": [missing, 1, 0]}},
                "arrays": {"$sum": {"$cond": [arrays, 1, 0]}},
            }
        },
    ]


def sample_pipeline(key: ShardKey, head: list[Document]) -> list[Document]:
    """Distinct keys in order, gathered by their first field, each with the places that `head` gave its documents."""
    names = [f"k{place}" for place in range(len(key))]
    values: Document = {name: _value(field) for name, (field, _) in zip(names, key, strict=True)}
    whole_key = {name: f"$document.{name}" for name in names}
    missing = {"$or": [{"$eq": [f"$_id.{name}", None]} for name in names]}
    found = {"places": "$places", "missing": missing}
    return [
        *head,
        {"$project": {**values, "_id": 0, "object_id": {"$eq": [{"$type": "$_id"}, "objectId"]}}},
        {"$group": {"_id": None, "document": {"$push": "$$ROOT"}}},
        {"$unwind": {"path": "$document", "includeArrayIndex": "place"}},
        {
            "$group": {
                "_id": whole_key,
                "places": {"$push": "$place"},
                "object_ids": {"$min": "$document.object_id"},
            }
        },
        {"$sort": {"_id": 1}},
        {"$group": {"_id": "$_id.k0", "keys": {"$push": found}, "object_ids": {"$min": "$object_ids"}}},
        {"$sort": {"_id": 1}},
        {"$project": {"_id": 0, "keys": 1, "object_ids": 1}},
    ]


def _value(field: str) -> Document:
    """Null for a missing one; of a long text its beginning, since the sample is gathered in one document."""
    value = f"${field}"
    is_text: Document = {"$eq": [{"$type": value}, "string"]}
    return {"$cond": [is_text, {"$substrCP": [value, 0, TEXT_CHARACTERS]}, {"$ifNull": [value, None]}]}


@dataclass(frozen=True, slots=True)
class SampledKey:
    """One distinct key: where its documents came in the order of insertion."""

    places: tuple[int, ...]
    missing: bool


def sampled_keys(groups: Iterable[Mapping[str, object]]) -> list[list[SampledKey]]:
    """Keys by the values of their first field, both in the order of the key."""
    return [[_key(found) for found in _list(group["keys"])] for group in groups]


def judged(keys: list[list[SampledKey]], ordered: list[list[SampledKey]], key: ShardKey) -> KeySample:
    """Figures of the random sample `keys`; the correlation is that of `ordered`."""
    flat = [one for group in keys for one in group]
    sampled = sum(len(one.places) for one in flat)
    return KeySample(
        sampled=sampled,
        distinct=len(flat),
        most_frequent=max((len(one.places) for one in flat), default=0),
        missing=sum(len(one.places) for one in flat if one.missing),
        leading_distinct=len(keys),
        correlation=_correlation(ordered, key),
    )


def _correlation(keys: list[list[SampledKey]], key: ShardKey) -> float | None:
    """Hashes have no order, so with a hashed field somewhere the first field alone counts."""
    if key[0][1] == HASHED:
        return None
    if any(order == HASHED for _, order in key):
        steps = [[place for one in group for place in one.places] for group in keys]
    else:
        steps = [list(one.places) for group in keys for one in group]
    if sum(map(len, steps)) < ENOUGH_FOR_ORDER:
        return None
    return rank_correlation(steps)


def rank_correlation(steps: Sequence[Sequence[int]]) -> float | None:
    """Spearman's: between the order of the steps and that of the numbers in them, ties in a step sharing a rank.

    None where there is one step only.
    """
    if len(steps) < 2:
        return None
    places = sorted(place for step in steps for place in step)
    rank_of = {place: rank for rank, place in enumerate(places)}
    count = len(places)
    mean = (count - 1) / 2
    passed, products, squares = 0, 0.0, 0.0
    for step in steps:
        shared = passed + (len(step) - 1) / 2 - mean
        products += sum(shared * (rank_of[place] - mean) for place in step)
        squares += shared * shared * len(step)
        passed += len(step)
    others = sum((rank - mean) ** 2 for rank in range(count))
    return products / math.sqrt(squares * others) if squares and others else None


def _key(found: object) -> SampledKey:
    assert isinstance(found, Mapping)
    return SampledKey(tuple(whole(place) for place in _list(found["places"])), bool(found["missing"]))


def _list(value: object) -> list[object]:
    assert isinstance(value, list)
    return value
