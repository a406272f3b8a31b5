"""The adapter as a whole: one MongoDB deployment behind one set of credentials."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from lucid_storage.stores.mongodb import builds, counting, duplicates
from lucid_storage.stores.mongodb.collections import Collections
from lucid_storage.stores.mongodb.connection import Connection
from lucid_storage.stores.mongodb.indexes import Indexes
from lucid_storage.stores.mongodb.own import OwnChanges
from lucid_storage.stores.mongodb.sharding.adapter import Sharding
from lucid_storage.stores.mongodb.types import (
    BuildProgress,
    CollectionChange,
    CollectionOptions,
    CollectionState,
    CollectionStats,
    DdlEvent,
    DuplicateReport,
    IndexChange,
    IndexDefinition,
    IndexState,
    JsonDoc,
    ServerInfo,
    Violations,
)
from lucid_storage.stores.mongodb.watch import DdlWatch


class MongoDeployment:
    """Implements MongoPort over PyMongo's asyncio client. `label` names the connection in messages.

    Raises LucidError (SecretInvalid) when the connection string cannot be parsed.
    """

    def __init__(self, uri: str, *, label: str, app_name: str, guard: Callable[[], None]) -> None:
        self._connection = Connection(uri, label=label, app_name=app_name, guard=guard)
        self._own = OwnChanges()
        self._collections = Collections(self._connection, self._own)
        self._indexes = Indexes(self._connection, self._collections, self._own)
        self._watch = DdlWatch(self._connection)
        self._sharding = Sharding(self._connection)

    @property
    def sharding(self) -> Sharding:
        return self._sharding

    async def info(self) -> ServerInfo:
        return await self._connection.info()

    async def databases(self) -> tuple[str, ...]:
        return await self._collections.databases()

    async def collections(self, database: str) -> tuple[CollectionState, ...]:
        return await self._collections.all(database)

    async def collection(self, database: str, name: str) -> CollectionState | None:
        return await self._collections.one(database, name)

    async def create_collection(self, database: str, name: str, options: CollectionOptions) -> bool:
        try:
            return await self._collections.create(database, name, options)
        finally:
            self._indexes.snapshots.forget((database, name))

    async def change_collection(self, database: str, name: str, change: CollectionChange) -> None:
        await self._collections.change(database, name, change)

    async def drop_collection(self, database: str, name: str, uuid: str) -> bool:
        try:
            return await self._collections.drop(database, name, uuid)
        finally:
            self._indexes.snapshots.forget((database, name))

    async def collection_stats(self, database: str, name: str) -> CollectionStats | None:
        return await self._collections.stats(database, name)

    async def count_violations(
        self, database: str, name: str, validator: JsonDoc, budget_seconds: float
    ) -> Violations:
        return await counting.count_violations(self._connection, database, name, validator, budget_seconds)

    async def count_expired(
        self, database: str, name: str, field: str, seconds: int, budget_seconds: float
    ) -> int | None:
        return await counting.count_expired(
            self._connection, database, name, field, seconds, budget_seconds=budget_seconds
        )

    async def indexes(self, database: str, collection: str) -> tuple[IndexState, ...] | None:
        return await self._indexes.all(database, collection)

    async def create_index(
        self, database: str, collection: str, name: str, definition: IndexDefinition
    ) -> None:
        await self._indexes.create(database, collection, name, definition)

    async def change_index(self, database: str, collection: str, name: str, change: IndexChange) -> None:
        await self._indexes.change(database, collection, name, change)

    async def drop_index(self, database: str, collection: str, name: str) -> bool:
        return await self._indexes.drop(database, collection, name)

    async def build_progress(self, database: str, collection: str) -> tuple[BuildProgress, ...]:
        return await builds.build_progress(self._connection, database, collection)

    async def duplicates(
        self, database: str, collection: str, definition: IndexDefinition, budget_seconds: float
    ) -> DuplicateReport:
        return await duplicates.duplicates(self._connection, database, collection, definition, budget_seconds)

    @asynccontextmanager
    async def watch_ddl(self, databases: Sequence[str]) -> AsyncIterator[AsyncIterator[DdlEvent]]:
        async with self._watch.open(databases) as events:
            self._forget_all()
            yield self._noted(events)

    async def _noted(self, events: AsyncIterator[DdlEvent]) -> AsyncIterator[DdlEvent]:
        # Whoever looks because of an event must not be served a listing from before it.
        async for event in events:
            marked = await self._own.marked(event)
            if not marked.own:
                self._forget(marked)
            yield marked

    def _forget(self, event: DdlEvent) -> None:
        for database, collection in (
            (event.database, event.collection),
            (event.to_database, event.to_collection),
        ):
            if database is not None:
                self._collections.snapshots.forget(database)
            if database is not None and collection is not None:
                self._indexes.snapshots.forget((database, collection))
        if event.collection is None:
            self._indexes.snapshots.forget_all()

    def _forget_all(self) -> None:
        self._collections.snapshots.forget_all()
        self._indexes.snapshots.forget_all()

    async def close(self) -> None:
        await self._collections.close()
        await self._indexes.snapshots.close()
        await self._connection.close()
