"""What the operator asks of a server in a restore: listings, records of the journal, drops by UUID."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from bson import Binary

from lucid_storage.errors import LucidError
from lucid_storage.stores.mongodb.connection import Connection, ExpectedAnswerError
from lucid_storage.stores.mongodb.errors import NAMESPACE_NOT_FOUND, UUID_MISMATCH
from lucid_storage.stores.mongodb.names import BUCKETS_PREFIX
from lucid_storage.stores.mongodb.restore.catalog import any_document
from lucid_storage.stores.mongodb.restore.journal import JOURNALS


class Commands:
    """Over one connection. Everything raises LucidError, and what writes LeadershipLostError through the guard."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def entries(self, database: str) -> list[Mapping[str, object]]:
        attempt = self.connection.attempt(f"list the collections of {database}", action="listCollections")
        async with self.connection.bounded(attempt):
            scope = self.connection.database(database)
            cursor = await scope.cursor_command(
                {"listCollections": 1, "cursor": {}}, codec_options=scope.codec_options
            )
            return [dict(entry) async for entry in cursor]

    async def uuids(self, database: str) -> dict[str, str]:
        """Views have none, and stand there by an empty one, since they take a name too."""
        return {str(entry["name"]): uuid_of(entry) or "" for entry in await self.entries(database)}

    async def count(self, database: str, name: str, kind: str) -> int:
        """The server's own figure; but 0 only where no document is found, since a crash can leave it wrong."""
        counted = f"{BUCKETS_PREFIX}{name}" if kind == "timeseries" else name
        attempt = self.connection.attempt(f"count {database}.{name}", action="find")
        answer = await self.connection.read(database, {"count": counted}, attempt)
        found = answer.get("n")
        if isinstance(found, int | float) and found > 0:
            return int(found)
        cursor = (await self.connection.read(database, any_document(counted), attempt))["cursor"]
        assert isinstance(cursor, Mapping)
        return len(cursor["firstBatch"])

    async def stored(self, database: str, name: str) -> int:
        """0 where the login may not read it: then nothing is counted on."""
        attempt = self.connection.attempt(f"read the size of {database}.{name}", action="collStats")
        try:
            answer = await self.connection.read(database, {"collStats": name}, attempt)
        except LucidError:
            return 0
        sizes = (answer.get("storageSize"), answer.get("totalIndexSize"))
        return sum(int(size) for size in sizes if isinstance(size, int | float))

    async def find(self, database: str, collection: str, key: str) -> Mapping[str, object] | None:
        attempt = self.connection.attempt(f"read {database}.{collection}", action="find")
        command = {
            "find": collection,
            "filter": {"_id": key},
            "limit": 1,
            "readConcern": {"level": "majority"},
        }
        answer = await self.connection.read(database, command, attempt)
        cursor = answer["cursor"]
        assert isinstance(cursor, Mapping)
        batch = cursor["firstBatch"]
        return batch[0] if batch else None

    async def put(self, database: str, collection: str, document: Mapping[str, object], task: str) -> None:
        attempt = self.connection.attempt(task, action="update")
        change = {"q": {"_id": document["_id"]}, "u": dict(document), "upsert": True}
        answer = await self.connection.write(database, {"update": collection, "updates": [change]}, attempt)
        if answer.get("writeErrors"):
            raise LucidError(
                f"{attempt.label}: cannot {task}: the server refused the document; see that {database} can be written."
            )

    async def forget(self, database: str, run: str) -> None:
        attempt = self.connection.attempt("remove the swap's journal", action="remove")
        change = {"q": {"_id": run}, "limit": 1}
        await self.connection.write(database, {"delete": JOURNALS, "deletes": [change]}, attempt)

    async def drop(self, database: str, name: str, uuid: str) -> None:
        command: dict[str, object] = {"drop": name}
        if (await self.connection.info()).at_least(6):
            command["collectionUUID"] = Binary(UUID(hex=uuid).bytes, 4)
        attempt = self.connection.attempt(f"drop {database}.{name}")
        try:
            await self.connection.write(
                database, command, attempt, expected={NAMESPACE_NOT_FOUND, UUID_MISMATCH}
            )
        except ExpectedAnswerError:
            return


def uuid_of(entry: Mapping[str, object] | None) -> str | None:
    """Of an entry of listCollections, as 32 hexadecimal digits; views have none."""
    info = entry.get("info") if entry is not None else None
    found = info.get("uuid") if isinstance(info, Mapping) else None
    return bytes(found).hex() if isinstance(found, bytes) else None
