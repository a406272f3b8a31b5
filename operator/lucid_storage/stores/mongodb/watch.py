"""Changes of definitions as they happen: change streams with expanded events, matched on the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TypeAlias

from pymongo.asynchronous.change_stream import AsyncChangeStream
from pymongo.errors import PyMongoError

from lucid_storage.errors import AccessDeniedError, NotSupportedError
from lucid_storage.stores.mongodb.collections import RESERVED_PREFIXES, is_user_database
from lucid_storage.stores.mongodb.connection import Connection, Document
from lucid_storage.stores.mongodb.errors import Attempt
from lucid_storage.stores.mongodb.own import moment
from lucid_storage.stores.mongodb.types import DdlEvent, Topology

Stream: TypeAlias = AsyncChangeStream[Document]

OPEN_SECONDS = 20.0
AWAIT_MS = 10_000
"""The server answers an idle stream this often: its sign of life, on the stream's own connection."""
SILENCE_SECONDS = 25.0
"""Without any answer for so long the stream is lost: one is due every 10 s, and a failover takes a while."""
CLOSE_SECONDS = 2.0
QUEUE_LIMIT = 1_000

DDL_OPERATIONS = (
    "create",
    "createIndexes",
    "drop",
    "dropDatabase",
    "dropIndexes",
    "modify",
    "refineCollectionShardKey",
    "rename",
    "reshardCollection",
    "shardCollection",
)
INVALIDATE = "invalidate"

# `_id` is the resume token and has to stay. Nothing of a document is in what is left.
PIPELINE: tuple[Mapping[str, object], ...] = (
    {"$match": {"operationType": {"$in": [*DDL_OPERATIONS, INVALIDATE]}}},
    {
        "$project": {
            "operationType": 1,
            "clusterTime": 1,
            "ns": 1,
            "to": 1,
            "operationDescription.indexes.name": 1,
        }
    },
)


class DdlWatch:
    """Opens streams on one deployment. Holds nothing itself."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._attempt = connection.attempt("watch for changes of definitions", action="changeStream")

    @asynccontextmanager
    async def open(self, databases: Sequence[str]) -> AsyncIterator[AsyncIterator[DdlEvent]]:
        """One stream over the deployment, or one a database where the login may not more.

        Raises AccessDeniedError when it may neither, NotSupportedError where there are no such streams.
        """
        await self._supported()
        async with AsyncExitStack() as stack:
            try:
                sources = [await self._source(None)]
            except AccessDeniedError:
                if not databases:
                    raise
                sources = await self._source_each(databases)
            for source in sources:
                stack.push_async_callback(source.close)
            if len(sources) == 1:
                yield sources[0].events()
            else:
                yield await stack.enter_async_context(_merged(sources))

    async def _supported(self) -> None:
        info = await self._connection.info()
        label = self._connection.label
        if info.topology is Topology.STANDALONE:
            raise NotSupportedError(
                f"{label}: a standalone server has no change streams; make it a replica set to see drift."
            )
        if not info.runs(6):
            raise NotSupportedError(
                f"{label}: change streams show definitions since MongoDB 6.0; upgrade to see drift at once."
            )

    async def _source(self, database: str | None) -> _Source:
        source = _Source(self._connection, self._attempt, database)
        await source.open()
        return source

    async def _source_each(self, databases: Sequence[str]) -> list[_Source]:
        names = sorted(set(databases))
        opened = await asyncio.gather(*map(self._source, names), return_exceptions=True)
        sources = [outcome for outcome in opened if isinstance(outcome, _Source)]
        for outcome in opened:
            if isinstance(outcome, BaseException):
                for source in sources:
                    await source.close()
                raise outcome
        return sources


class _Source:
    """One stream, opened anew where a dropped database ended it."""

    def __init__(self, connection: Connection, attempt: Attempt, database: str | None) -> None:
        self._connection = connection
        self._attempt = attempt
        self._database = database
        self._stream: Stream | None = None

    async def open(self, after: Mapping[str, object] | None = None) -> Stream:
        """Opens the stream, right after the token `after` where there is one."""
        client = self._connection.client
        scope = client if self._database is None else client.get_database(self._database)
        async with self._connection.bounded(self._attempt, OPEN_SECONDS):
            self._stream = await scope.watch(
                list(PIPELINE),
                show_expanded_events=True,
                max_await_time_ms=AWAIT_MS,
                start_after=after,
                batch_size=100,
            )
        return self._stream

    async def events(self) -> AsyncIterator[DdlEvent]:
        """What the stream says, until it is lost (StoreUnavailableError)."""
        stream = self._stream or await self.open()
        while True:
            async with self._connection.bounded(self._attempt, SILENCE_SECONDS):
                change = await stream.try_next()
            if change is None and stream.alive:
                continue
            if change is None or change["operationType"] == INVALIDATE:
                token = stream.resume_token
                await self.close()
                stream = await self.open(after=token)
                continue
            event = ddl_event(change)
            if event is not None:
                yield event

    async def close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is None:
            return
        # Closing asks the server to drop its cursor; one that does not answer must not hold us up.
        with suppress(TimeoutError, PyMongoError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await stream.close()


@asynccontextmanager
async def _merged(sources: Sequence[_Source]) -> AsyncIterator[AsyncIterator[DdlEvent]]:
    queue: asyncio.Queue[DdlEvent | Exception] = asyncio.Queue(QUEUE_LIMIT)
    pumps = [asyncio.create_task(_pump(source, queue)) for source in sources]
    try:
        yield _drained(queue)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(source: _Source, queue: asyncio.Queue[DdlEvent | Exception]) -> None:
    try:
        async for event in source.events():
            await queue.put(event)
    except Exception as error:  # noqa: BLE001 - whatever ends one stream is raised to the one who iterates
        await queue.put(error)


async def _drained(queue: asyncio.Queue[DdlEvent | Exception]) -> AsyncIterator[DdlEvent]:
    while True:
        item = await queue.get()
        if isinstance(item, Exception):
            raise item
        yield item


def ddl_event(change: Mapping[str, object]) -> DdlEvent | None:
    """An event in our words; None when it concerns only reserved names."""
    database, collection = _namespace(change.get("ns"))
    to_database, to_collection = _namespace(change.get("to"))
    if not (_visible(database, collection) or _visible(to_database, to_collection)):
        return None
    description = change.get("operationDescription")
    indexes = description.get("indexes") if isinstance(description, Mapping) else None
    names = tuple(str(index.get("name")) for index in indexes) if isinstance(indexes, list) else ()
    return DdlEvent(
        str(change["operationType"]),
        database or "",
        collection,
        to_database,
        to_collection,
        names,
        at=moment(change.get("clusterTime")),
    )


def _namespace(value: object) -> tuple[str | None, str | None]:
    if not isinstance(value, Mapping):
        return None, None
    database, collection = value.get("db"), value.get("coll")
    return (
        database if isinstance(database, str) else None,
        collection if isinstance(collection, str) else None,
    )


def _visible(database: str | None, collection: str | None) -> bool:
    if database is None or not is_user_database(database):
        return False
    return collection is None or not collection.startswith(RESERVED_PREFIXES)
