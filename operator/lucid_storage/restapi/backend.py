"""What the routes need from the data layer."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

from lucid_storage.restapi.schemas import Collection, DatabaseHealth, DatabaseStats, Index


@dataclass(frozen=True, slots=True)
class StoreAccess:
    """What a namespace may see with the operator's own credentials."""

    namespace: str
    databases: tuple[str, ...]
    """Patterns as the shell writes them."""
    default_database: str | None = None

    def allows(self, database: str) -> bool:
        return any(fnmatchcase(database, pattern) for pattern in self.databases)


@dataclass(frozen=True, slots=True)
class CollectionPage:
    collections: tuple[Collection, ...]
    total: int


class Backend(Protocol):
    """Reads of live state. Raises only the errors of `lucid_storage.errors`, and TimeoutError.

    `database` has been checked against the namespace's patterns by the caller.
    """

    async def store_access(self, namespace: str) -> StoreAccess:
        """Raises NotAllowedError where the operator's own credentials do not serve the namespace."""

    async def health(self, access: StoreAccess) -> DatabaseHealth:
        """Never raises because of a store: one that does not answer within 2 s is unhealthy."""

    async def stats(self, access: StoreAccess) -> DatabaseStats:
        """Figures of the stores that answer within 2 s; `unavailable` names the others."""

    async def collections(
        self, access: StoreAccess, database: str | None, offset: int, limit: int
    ) -> CollectionPage:
        """A page by database and name, of one database or of all that the namespace may see."""

    async def collection(self, access: StoreAccess, database: str, name: str) -> Collection | None:
        """One collection with its figures, or None."""

    async def indexes(self, access: StoreAccess, database: str, name: str) -> tuple[Index, ...] | None:
        """The indexes of a collection, or None when there is no such collection."""

    async def close(self) -> None:
        """Close all connections. Idempotent."""
