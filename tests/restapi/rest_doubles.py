"""What stands behind the REST API where a test is about HTTP itself and not about stores or RBAC."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lucid_storage.errors import NotAllowedError
from lucid_storage.kube.authz import AccessReviews, ApiKeyEntry, Identity, Permission
from lucid_storage.kube.client import KubeApiError
from lucid_storage.restapi.backend import CollectionPage, StoreAccess
from lucid_storage.restapi.clock import Clock
from lucid_storage.restapi.schemas import (
    Collection,
    DatabaseHealth,
    DatabaseStats,
    HealthStatus,
    Index,
    RedisStats,
    ServiceHealth,
    Services,
)

NOW = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
NAMESPACE = "lucid"


class HandClock(Clock):
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class KnownCallers(AccessReviews):
    """Tokens and permissions from tables; counts how often it was asked."""

    tokens: dict[str, Identity] = field(
        default_factory=lambda: {"alice": Identity("alice"), "bob": Identity("bob")}
    )
    denied: set[tuple[str, str, str]] = field(default_factory=set)
    """(user, verb, resource)"""
    keys: tuple[ApiKeyEntry, ...] = ()
    down: bool = False
    seconds: float = 0.0
    asked: Counter[str] = field(default_factory=Counter)

    async def identify(self, token: str) -> Identity | None:
        await self._answer("identify")
        return self.tokens.get(token)

    async def allows(self, identity: Identity, permission: Permission) -> bool:
        await self._answer("allows")
        return (identity.user, permission.verb, permission.resource) not in self.denied

    async def api_keys(self, namespace: str, secret: str) -> tuple[ApiKeyEntry, ...]:
        await self._answer("api_keys")
        return self.keys

    async def close(self) -> None:
        self.asked["close"] += 1

    async def _answer(self, question: str) -> None:
        self.asked[question] += 1
        await asyncio.sleep(self.seconds)
        if self.down:
            raise KubeApiError(0, "Unreachable", "the API server cannot be reached")


@dataclass
class FixedBackend:
    """Answers at once from memory, or after `seconds`, or with `failure`."""

    seconds: float = 0.0
    failure: Exception | None = None
    status: HealthStatus = HealthStatus.HEALTHY
    total: int = 3
    closed: bool = False
    answered: int = 0

    async def store_access(self, namespace: str) -> StoreAccess:
        if namespace != NAMESPACE:
            raise NotAllowedError(f"The operator's own credentials do not serve namespace {namespace}.")
        return StoreAccess(namespace, ("lucid*", "admin"), "lucid_blockchain")

    async def health(self, access: StoreAccess) -> DatabaseHealth:
        await self._answer()
        part = ServiceHealth(status=self.status, version="6.0.5", response_time=1.25, last_check=NOW)
        return DatabaseHealth(status=self.status, timestamp=NOW, services=Services(mongodb=part), uptime=12)

    async def stats(self, access: StoreAccess) -> DatabaseStats:
        await self._answer()
        redis = RedisStats(
            connected_clients=1,
            used_memory=1024,
            used_memory_human="1.00K",
            total_commands_processed=7,
            keyspace_hits=3,
            keyspace_misses=1,
            hit_rate=0.75,
        )
        return DatabaseStats(
            redis=redis, unavailable={"mongodb": "MongoDB cannot be reached."}, timestamp=NOW
        )

    async def collections(
        self, access: StoreAccess, database: str | None, offset: int, limit: int
    ) -> CollectionPage:
        await self._answer()
        names = [f"coll{number:03}" for number in range(self.total)][offset : offset + limit]
        found = tuple(Collection(name=name, database=database or "lucid_blockchain") for name in names)
        return CollectionPage(found, self.total)

    async def collection(self, access: StoreAccess, database: str, name: str) -> Collection | None:
        await self._answer()
        return Collection(name=name, database=database, document_count=5) if name == "blocks" else None

    async def indexes(self, access: StoreAccess, database: str, name: str) -> tuple[Index, ...] | None:
        await self._answer()
        if name != "blocks":
            return None
        return (
            Index(name="_id_", collection=name, key={"_id": 1}, unique=True, sparse=False, size=4096),
            Index(name="text", collection=name, key={"z": -1, "a": "text"}, unique=False, sparse=False),
        )

    async def close(self) -> None:
        self.closed = True

    async def _answer(self) -> None:
        self.answered += 1
        await asyncio.sleep(self.seconds)
        if self.failure is not None:
            raise self.failure
