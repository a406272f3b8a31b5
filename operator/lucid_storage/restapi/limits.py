"""How much of this process the REST API may use: every bound in one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class OperationGroup(StrEnum):
    """Operations that share a rate limit, as the API specification groups them."""

    DATABASE = "database_operations"
    BACKUPS = "backup_operations"
    SHARDING = "sharding_operations"


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket: `burst` at once, refilled with `per_minute`."""

    per_minute: float
    burst: int


def _specified_rates() -> dict[OperationGroup, Rate]:
    return {
        OperationGroup.DATABASE: Rate(per_minute=500, burst=1000),
        OperationGroup.BACKUPS: Rate(per_minute=10, burst=20),
        OperationGroup.SHARDING: Rate(per_minute=5, burst=10),
    }


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds for clients. The rates come from the API specification, the others protect the reconciler."""

    rates: dict[OperationGroup, Rate] = field(default_factory=_specified_rates)
    """For each user and group of operations."""
    failed_logins: Rate = Rate(per_minute=60, burst=60)
    """For each client address: each failure may cost a TokenReview."""
    buckets: int = 10_000
    """Rate-limit buckets kept; beyond it the one unused for longest is forgotten."""
    requests_at_once: int = 32
    requests_at_once_per_user: int = 8
    strangers_at_once: int = 16
    """For each client address: requests whose caller the API server is being asked about."""
    request_seconds: float = 15.0
    """From the end of the request's header to the end of the answer."""
    answer_seconds: float = 1.0
    """How long a caller gets the same health and statistics again."""
    answers: int = 256
    """Kept answers; beyond it the oldest goes."""
    body_bytes: int = 65_536
    connections: int = 256
    header_bytes: int = 16_384
    header_seconds: float = 5.0
    """From the first moment of a connection, or of a request on it, to the end of its header."""
    keep_alive_seconds: float = 15.0
