"""The MongoDB deployment as kinds see it. Implemented by `adapter.MongoDeployment`, and by a fake in unit tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from lucid_storage.stores.mongodb.sharding.port import ShardingPort
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


class MongoPort(Protocol):
    """One MongoDB deployment behind one set of credentials.

    Every call raises only the errors of `lucid_storage.errors`: StoreUnavailableError (no answer, no primary, a
    time-out), LoginFailedError, AccessDeniedError (its message names the action), ServerRefusedError and its
    children, NotSupportedError. Each call is bounded (20 s unless said otherwise); writes use majority concern.
    """

    @property
    def sharding(self) -> ShardingPort:
        """What only the router of a sharded cluster can do; elsewhere each of its calls raises NotShardedError."""

    async def info(self) -> ServerInfo:
        """Identity, version and topology; asked again after a lost connection, cached for 30 s otherwise."""

    async def databases(self) -> tuple[str, ...]:
        """Names of user databases (admin, local, config and reserved scratch names left out)."""

    async def collections(self, database: str) -> tuple[CollectionState, ...]:
        """All collections of a database, system ones and reserved ones (lucid_stg_, lucid_old_) left out."""

    async def collection(self, database: str, name: str) -> CollectionState | None:
        """One collection, or None. Served from one listing of the database that callers at the same time share
        (at most 0.5 s old, and never older than the caller's own last write).
        """

    async def create_collection(self, database: str, name: str, options: CollectionOptions) -> bool:
        """Create it; False when a collection of that name is there already (nothing is changed then)."""

    async def change_collection(self, database: str, name: str, change: CollectionChange) -> None:
        """Change it by collMod, with as few commands as the server allows."""

    async def drop_collection(self, database: str, name: str, uuid: str) -> bool:
        """Drop it if its UUID is still `uuid`; False when it is gone or another one took its name."""

    async def collection_stats(self, database: str, name: str) -> CollectionStats | None:
        """Counts and sizes from metadata ($collStats); None for a view or an absent collection."""

    async def count_violations(
        self, database: str, name: str, validator: JsonDoc, budget_seconds: float
    ) -> Violations:
        """Documents that `validator` would refuse, read from a secondary where there is one."""

    async def count_expired(
        self, database: str, name: str, field: str, seconds: int, budget_seconds: float
    ) -> int | None:
        """Documents whose date `field` (or earliest of an array of dates) is older than `seconds`, so that a TTL
        would delete them now; from a secondary where there is one. None when the budget ended first.
        """

    async def indexes(self, database: str, collection: str) -> tuple[IndexState, ...] | None:
        """All indexes with the building ones marked (includeBuildUUIDs), `_id_` included; None if absent.
        Callers at the same time share one listing, as with `collection`.
        """

    async def create_index(
        self, database: str, collection: str, name: str, definition: IndexDefinition
    ) -> None:
        """createIndexes, returning when the index is ready. Not bounded in time: cancel it to stop waiting; the
        build then goes on at the server. Raises DuplicateKeysError, IndexConflictError, ServerRefusedError;
        never creates the collection (raises ServerRefusedError with reason CollectionNotReady).
        """

    async def change_index(self, database: str, collection: str, name: str, change: IndexChange) -> None:
        """CollMod on one index. With `unique=True` raises DuplicateKeysError when documents stand in the way."""

    async def drop_index(self, database: str, collection: str, name: str) -> bool:
        """Drop it (a running build is aborted); False when it is not there."""

    async def build_progress(self, database: str, collection: str) -> tuple[BuildProgress, ...]:
        """Index builds that run now, from $currentOp; empty without the right to look (inprog)."""

    async def duplicates(
        self, database: str, collection: str, definition: IndexDefinition, budget_seconds: float
    ) -> DuplicateReport:
        """Which documents stand in the way of a unique index, as far as the budget goes."""

    def watch_ddl(self, databases: Sequence[str]) -> AbstractAsyncContextManager[AsyncIterator[DdlEvent]]:
        """Change stream with expanded events, matched to DDL on the server. Entering returns only when the
        stream is open, so that a look afterwards misses nothing. At deployment scope where the login may,
        else over each of `databases`; raises AccessDeniedError when neither is allowed and NotSupportedError
        before 6.0 or on a standalone. The iterator raises StoreUnavailableError when the stream is lost, a
        silent one included (a server that sends nothing for 60 s is asked for a sign of life).
        """

    async def close(self) -> None:
        """Close all connections. Idempotent."""
