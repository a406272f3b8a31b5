"""Whether a collection holds documents, as its primaries say: a secondary may not have heard of them yet."""

from __future__ import annotations

from lucid_storage.stores.mongodb.connection import Connection, Document, ExpectedAnswerError
from lucid_storage.stores.mongodb.errors import NAMESPACE_NOT_FOUND, NOT_SUPPORTED_ON_VIEW
from lucid_storage.stores.mongodb.sharding.catalogue import whole
from lucid_storage.stores.mongodb.sharding.types import Occupancy

LEVELS = ("local", "majority")
"""Empty is what neither has a document of: not yet inserted for a majority, or not yet deleted for one. The first is
asked first, since a majority read of a new collection waits for members that lag.
"""


async def occupancy(connection: Connection, database: str, name: str) -> Occupancy:
    """Asked of the primaries, through the router where there is one. A collection that is not there is empty."""
    for level in LEVELS:
        if await _holds_one(connection, database, name, level):
            return Occupancy(empty=False, documents=await _counted(connection, database, name))
    return Occupancy(empty=True, documents=0)


async def _holds_one(connection: Connection, database: str, name: str, level: str) -> bool:
    attempt = connection.attempt(f"ask whether {database}.{name} holds documents", reads_documents=True)
    command: Document = {"find": name, "limit": 1, "singleBatch": True, "projection": {"_id": 1}}
    answer = await connection.read(database, {**command, "readConcern": {"level": level}}, attempt)
    cursor = answer.get("cursor")
    return isinstance(cursor, dict) and bool(cursor.get("firstBatch"))


async def _counted(connection: Connection, database: str, name: str) -> int | None:
    """The servers' own count, from metadata."""
    attempt = connection.attempt(f"count the documents of {database}.{name}", action="collStats")
    pipeline: list[Document] = [{"$collStats": {"count": {}}}]
    try:
        counted = await connection.aggregate(
            database, name, pipeline, attempt, expected={NAMESPACE_NOT_FOUND, NOT_SUPPORTED_ON_VIEW}
        )
    except ExpectedAnswerError:
        return None
    return sum(whole(entry.get("count")) for entry in counted)
