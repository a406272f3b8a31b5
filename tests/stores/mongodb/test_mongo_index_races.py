"""An index whose collection goes away as it is created, on servers that compare no UUID."""

from typing import Any, cast

import pytest
from mongo_bed import index

from lucid_storage.errors import Reason, ServerRefusedError
from lucid_storage.stores.mongodb.collections import Collections
from lucid_storage.stores.mongodb.connection import Connection
from lucid_storage.stores.mongodb.errors import Attempt
from lucid_storage.stores.mongodb.indexes import Indexes
from lucid_storage.stores.mongodb.own import OwnChanges
from lucid_storage.stores.mongodb.types import CollectionOptions, CollectionState, ServerInfo, Topology


class Server:
    """Its collection was dropped since the look, so that createIndexes makes it anew."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def attempt(self, task: str, *, action: str | None = None) -> Attempt:
        return Attempt("MongoDB", task, action)

    async def info(self) -> ServerInfo:
        return ServerInfo("d", (5, 0, 0), Topology.REPLICA_SET)

    async def write(self, _database: str, command: dict[str, Any], *_: Any, **__: Any) -> dict[str, Any]:
        self.sent.append(next(iter(command)))
        return {"ok": 1, "createdCollectionAutomatically": True}

    async def read(self, _database: str, command: dict[str, Any], *_: Any, **__: Any) -> dict[str, Any]:
        both = [{"name": name, "key": {name: 1}} for name in ("_id_", "a_1")]
        return {"ok": 1, "cursor": {"firstBatch": both if "listIndexes" in command else []}}

    async def one(self, database: str, name: str) -> CollectionState:
        return CollectionState(database, name, "collection", "00" * 16, CollectionOptions())

    async def drop(self, *_: Any) -> bool:
        self.sent.append("drop")
        return True


async def test_a_collection_that_came_up_with_the_index_is_not_dropped() -> None:
    server = Server()
    indexes = Indexes(cast(Connection, server), cast(Collections, server), OwnChanges())
    with pytest.raises(ServerRefusedError) as refused:
        await indexes.create("shop", "a", "a_1", index(("a", 1)))
    assert refused.value.reason is Reason.COLLECTION_NOT_READY
    assert server.sent == ["createIndexes"]
