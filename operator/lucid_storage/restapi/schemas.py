"""Answers as the API contract describes them. A None is left out: the contract knows no null."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict


class HealthStatus(StrEnum):
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


class Answer(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ServiceHealth(Answer):
    status: HealthStatus
    version: str | None = None
    response_time: float
    """Milliseconds that the probe took."""
    last_check: datetime
    message: str | None = None
    """What to do, where the service is not healthy. An addition to the contract."""


class Services(Answer):
    """Only the stores that are configured."""

    mongodb: ServiceHealth | None = None
    redis: ServiceHealth | None = None
    elasticsearch: ServiceHealth | None = None


class DatabaseHealth(Answer):
    status: HealthStatus
    timestamp: datetime
    services: Services
    uptime: int
    """Seconds since the REST API started."""


class MongoConnections(Answer):
    current: int
    available: int


class MongoOperations(Answer):
    """Operations since the server started."""

    insert: int
    query: int
    update: int
    delete: int


class MongoStats(Answer):
    """Sums over the databases that the namespace may use; sizes in bytes."""

    collections: int
    documents: int
    data_size: int
    storage_size: int
    indexes: int
    index_size: int
    connections: MongoConnections | None = None
    operations: MongoOperations | None = None


class RedisStats(Answer):
    connected_clients: int
    used_memory: int
    used_memory_human: str
    total_commands_processed: int
    keyspace_hits: int
    keyspace_misses: int
    hit_rate: float
    """Hits over lookups, from 0 to 1; 0 where there was no lookup."""


class ElasticsearchStats(Answer):
    cluster_name: str
    cluster_status: str
    indices: int
    documents: int
    store_size: int
    nodes: int


class DatabaseStats(Answer):
    mongodb: MongoStats | None = None
    redis: RedisStats | None = None
    elasticsearch: ElasticsearchStats | None = None
    unavailable: dict[str, str] | None = None
    """For each store without figures, why. An addition to the contract."""
    timestamp: datetime


class Collection(Answer):
    """Sizes in bytes. MongoDB keeps no times for a collection, so the contract's two dates are left out."""

    name: str
    database: str
    document_count: int | None = None
    data_size: int | None = None
    storage_size: int | None = None
    index_count: int | None = None
    index_size: int | None = None


class Pagination(Answer):
    page: int
    limit: int
    total: int
    pages: int


class CollectionList(Answer):
    collections: list[Collection]
    pagination: Pagination


class Index(Answer):
    """`background` and `created_at` of the contract are left out: MongoDB 4.4 and later know neither."""

    name: str
    collection: str
    key: dict[str, Literal[1, -1, "2d", "2dsphere", "text", "hashed"]]
    unique: bool
    sparse: bool
    size: int | None = None
    """Bytes; absent while the index is being built."""


class IndexList(Answer):
    indexes: list[Index]
