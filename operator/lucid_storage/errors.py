"""Errors that carry the condition's reason: the one vocabulary between stores, kinds and status.

Adapters turn driver errors into these at their border; the engine turns them into conditions. The message is
the sentence a person reads in `kubectl describe`; it names what to do and never holds a secret or a user's value.
"""

from __future__ import annotations

from enum import StrEnum

OUTAGE_GRACE_SECONDS = 5.0
"""How long a store may be away before resources that were Ready say so: an election is no news."""


class Reason(StrEnum):
    """Why a condition has its status. Documented in docs/conditions.md, which is generated from this enum."""

    def __new__(cls, value: str, doc: str) -> Reason:
        member = str.__new__(cls, value)
        member._value_ = value
        member.__doc__ = doc
        return member

    # Going well
    RECONCILED = "Reconciled", "The server matches the declaration."
    PROGRESSING = "Progressing", "Work is under way; the message says which."
    BUILDING = "Building", "An index build is running on the server."
    REPLACING = (
        "Replacing",
        "A new index is ready or building beside the old one, which is dropped afterwards.",
    )
    IN_SYNC = "InSync", "No difference between declaration and server."
    PAUSED = "Paused", "The annotation storage.lucid-blockchain.org/paused stops all writes."
    DELETING = "Deleting", "The resource is being deleted; the message says what happens to the data."

    # The declaration
    INVALID_SPEC = "InvalidSpec", "The declaration cannot be used; change it as the message says."
    TARGET_CHANGED = (
        "TargetChanged",
        "A setting or field now points at another target than the one pinned in status.",
    )
    CONFLICT = "Conflict", "Another resource owns the same real object."
    NOT_IN_PLACE = "NotInPlace", "The server cannot make this change in place; the message says how to do it."
    DATA_LOSS_REFUSED = (
        "DataLossRefused",
        "The change would lose data; allowDataLoss must name the target first.",
    )
    BACKUP_UNAVAILABLE = "BackupUnavailable", "backupBefore is asked for, and no backup can be made."
    NOT_IMPLEMENTED = "NotImplemented", "This version of the operator does not reconcile this yet."
    DATABASE_NOT_ALLOWED = "DatabaseNotAllowed", "The namespace may not use this database."
    INDEX_NOT_ALLOWED = "IndexNotAllowed", "The namespace may not use Elasticsearch indices of this name."
    KEYS_NOT_ALLOWED = "KeysNotAllowed", "The namespace may not use Redis keys of this pattern."

    # The server's answer
    SERVER_REFUSED = "ServerRefused", "The server refused the definition; the message holds its words."
    NOT_SUPPORTED = "NotSupported", "The server's version or kind cannot do this."
    DUPLICATE_KEYS = "DuplicateKeys", "Documents with equal keys stand in the way of a unique index."
    INDEX_CONFLICT = "IndexConflict", "An index that no resource declares stands in the way."
    UNHEALTHY = "Unhealthy", "The store answers, but part of the data cannot be used; the message says which."
    MAPPING_CONFLICT = "MappingConflict", "The mapping change needs a reindex."
    COLLECTION_NOT_READY = "CollectionNotReady", "The collection that the index belongs to is not there yet."

    # Drift
    DRIFT_DETECTED = "DriftDetected", "The server differs from the declaration."
    DRIFT_FIGHT = "DriftFight", "Somebody else keeps changing the object back; writes are stopped."

    # Reaching the store
    STORE_UNAVAILABLE = (
        "StoreUnavailable",
        "The store cannot be reached now; the operator tries again by itself.",
    )
    LOGIN_FAILED = "LoginFailed", "The store refused the login."
    ACCESS_DENIED = "AccessDenied", "The login lacks a privilege; the message names it."
    NOT_CONFIGURED = "NotConfigured", "No connection to this kind of store is configured."
    NAMESPACE_NOT_SERVED = "NamespaceNotServed", "The operator's own credentials do not serve this namespace."
    SECRET_NOT_FOUND = "SecretNotFound", "The Secret named in spec.connection does not exist."
    SECRET_NOT_ALLOWED = "SecretNotAllowed", "The Secret lacks the label that allows its use."
    SECRET_INVALID = "SecretInvalid", "The Secret does not hold a usable connection."
    ENDPOINT_REFUSED = "EndpointRefused", "The operator does not dial this kind of address."
    INTERNAL_ERROR = "InternalError", "A defect of the operator; its log has the details."


class LucidError(Exception):
    """Base of all errors that become a condition.

    `stalled` says that somebody must change something. It is tried again all the same, with back-off and a cap: what
    stands in the way may be outside the resource.
    """

    reason: Reason = Reason.INTERNAL_ERROR
    stalled: bool = True

    def __init__(self, message: str, *, reason: Reason | None = None) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason


class StoreUnavailableError(LucidError):
    """The store did not answer, or has no primary now. Retried with back-off."""

    reason = Reason.STORE_UNAVAILABLE
    stalled = False
    everywhere: bool = True
    """False when only this operation could not be done now (a lock, a conflict): the store answers others."""
    down_seconds: float = 0.0
    """How long the store had been away when this was raised."""

    @property
    def grace_seconds(self) -> float:
        """For how long yet a resource that was Ready need not say so; not above 0 when that time is over."""
        return OUTAGE_GRACE_SECONDS - self.down_seconds


class LoginFailedError(LucidError):
    """The store refused the login. Retried with back-off, since a password may be about to be rotated."""

    reason = Reason.LOGIN_FAILED
    stalled = False


class AccessDeniedError(LucidError):
    """The login lacks a privilege. Retried with back-off: the privilege may be granted later."""

    reason = Reason.ACCESS_DENIED
    stalled = False


class ServerRefusedError(LucidError):
    """The server refused the definition itself; the same request would be refused again."""

    reason = Reason.SERVER_REFUSED


class NotSupportedError(LucidError):
    """The server's version, topology or build cannot do this."""

    reason = Reason.NOT_SUPPORTED


class DuplicateKeysError(ServerRefusedError):
    """A unique index cannot be built over the documents there are."""

    reason = Reason.DUPLICATE_KEYS


class IndexConflictError(ServerRefusedError):
    """An equal or incompatible index exists under another name or definition."""

    reason = Reason.INDEX_CONFLICT


class RefusedError(LucidError):
    """The operator itself refuses; the reason is given by the caller."""


class NotAllowedError(LucidError):
    """Tenancy: the namespace may not use this store, Secret, database or address."""

    reason = Reason.NAMESPACE_NOT_SERVED
    stalled = True


class LeadershipLostError(Exception):
    """The lease is not certain, so this process may no longer act. Never becomes a condition."""
