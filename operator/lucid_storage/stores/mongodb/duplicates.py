"""Documents that stand in the way of a unique index, without any value of theirs."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

from bson import Binary, ObjectId, encode
from bson.binary import UUID_SUBTYPE

from lucid_storage.stores.documents import to_bson
from lucid_storage.stores.mongodb.connection import Connection, Document
from lucid_storage.stores.mongodb.types import DuplicateReport, IndexDefinition

SAMPLE_DOCUMENTS = 50_000
"""Looked at first, so that there is an answer when the budget does not last for all."""
EXAMPLE_GROUPS = 5
EXAMPLE_IDS = 5


async def duplicates(
    connection: Connection, database: str, collection: str, definition: IndexDefinition, budget_seconds: float
) -> DuplicateReport:
    """Groups of documents with the same key as the index would see them.

    Missing fields count as null, elements of arrays each for themselves; the filter, sparseness and collation
    of the index are respected.
    """
    attempt = connection.attempt(f"look for duplicates in {database}.{collection}", reads_documents=True)
    clock = asyncio.get_running_loop().time
    end = clock() + budget_seconds
    first_ids = (await connection.info()).runs(6)
    collation = None if definition.collation is None else to_bson(definition.collation)
    pattern = key_pattern(definition)
    report = DuplicateReport(pattern, groups=0, documents=0, complete=False)
    for limit in (SAMPLE_DOCUMENTS, None):
        pipeline = duplicates_pipeline(definition, limit, first_ids)
        answer = await connection.aggregate_within(
            end - clock(), database, collection, pipeline, attempt, collation=collation
        )
        if answer is None:
            break
        complete = limit is None or _figure(answer[0], "seen") < limit
        report = DuplicateReport(
            pattern,
            groups=_figure(answer[0], "repeated", "groups"),
            documents=_figure(answer[0], "repeated", "documents"),
            complete=complete,
            examples=_examples(answer[0]),
        )
        if complete:
            break
    return report


def duplicates_pipeline(definition: IndexDefinition, limit: int | None, first_ids: bool) -> list[Document]:
    """`first_ids`: the server has $firstN (5.2), else one `_id` of each end is taken."""
    fields = [field for field, _ in definition.keys]
    names = [f"k{place}" for place in range(len(fields))]
    head: list[Document] = []
    if definition.partial_filter is not None:
        head.append({"$match": to_bson(definition.partial_filter)})
    if definition.sparse:
        head.append({"$match": {"$or": [{field: {"$exists": True}} for field in fields]}})
    if limit is not None:
        head.append({"$limit": limit})
    ids: Document = {"ids": {"$firstN": {"n": EXAMPLE_IDS, "input": "$_id"}}}
    if not first_ids:
        ids = {"lowest": {"$min": "$_id"}, "highest": {"$max": "$_id"}}
    unwound: list[Document] = [{"$unwind": f"${name}"} for name in names]
    return [
        *head,
        {"$project": {name: _key_values(field) for name, field in zip(names, fields, strict=True)}},
        *unwound,
        {"$group": {"_id": {name: f"${name}" for name in names}, "count": {"$sum": 1}, **ids}},
        {
            "$facet": {
                "seen": [{"$group": {"_id": None, "count": {"$sum": "$count"}}}],
                "repeated": [
                    {"$match": {"count": {"$gt": 1}}},
                    {"$group": {"_id": None, "groups": {"$sum": 1}, "documents": {"$sum": "$count"}}},
                ],
                "examples": [
                    {"$match": {"count": {"$gt": 1}}},
                    {"$sort": {"count": -1}},
                    {"$limit": EXAMPLE_GROUPS},
                    {"$project": {"_id": 0, "ids": 1, "lowest": 1, "highest": 1}},
                ],
            }
        },
    ]


def key_pattern(definition: IndexDefinition) -> str:
    """The keys as a shell shows them: {email: 1, created_at: -1}."""
    return "{" + ", ".join(f"{field}: {order}" for field, order in definition.keys) + "}"


def rendered_id(value: object) -> str:
    """An ObjectId, UUID or whole number as text; a short hash of anything else."""
    if isinstance(value, ObjectId):
        return str(value)
    if isinstance(value, Binary) and value.subtype == UUID_SUBTYPE:
        return str(value.as_uuid())
    if isinstance(value, int) and not isinstance(value, bool):
        return str(int(value))
    return f"hash:{hashlib.sha256(encode({'_id': value})).hexdigest()[:12]}"


def _key_values(field: str) -> Document:
    """The distinct keys that one document has in the index; a document's own repetition is no conflict."""
    value = f"${field}"
    # To an index an empty array is a value of its own, other than null.
    empty: list[Document] = [{"$literal": {"": "empty"}}]
    elements: Document = {"$cond": [{"$eq": [value, []]}, empty, {"$setUnion": [value]}]}
    return {"$cond": [{"$isArray": [value]}, elements, [{"$ifNull": [value, None]}]]}


def _figure(answer: Document, branch: str, name: str = "count") -> int:
    found = answer[branch]
    assert isinstance(found, list)
    return int(found[0][name]) if found else 0


def _examples(answer: Document) -> tuple[tuple[str, ...], ...]:
    groups = answer["examples"]
    assert isinstance(groups, list)
    return tuple(tuple(rendered_id(value) for value in _ids(group)) for group in groups)


def _ids(group: Document) -> Sequence[object]:
    ids = group.get("ids")
    return ids if isinstance(ids, list) else (group.get("lowest"), group.get("highest"))
