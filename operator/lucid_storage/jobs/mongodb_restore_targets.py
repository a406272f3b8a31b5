"""Which databases a restore of MongoDB writes, and what one order may ask for."""

from __future__ import annotations

from collections.abc import Collection
from fnmatch import fnmatchcase

from lucid_storage.archive.mongodump import Prelude
from lucid_storage.errors import NotAllowedError, Reason, RefusedError
from lucid_storage.models.meta import RESERVED_DATABASES
from lucid_storage.models.orders import RestoreOrder
from lucid_storage.stores.mongodb.restore.accounts import USERS

MOST_DATABASES = 64
"""That one restore writes: a status names them all."""
MOST_NAME_BYTES = 2048
"""Of their names together: the worker's result names them, and a termination message has 4,096 bytes."""


class NoDatabaseError(RefusedError):
    """The backup is of a server, or of a part of one, that held nothing."""

    reason = Reason.RESTORE_BLOCKED


def choose_targets(order: RestoreOrder, found: frozenset[str]) -> dict[str, str]:
    """Which database of the backup goes where. Raises RefusedError, NoDatabaseError, NotAllowedError."""
    databases = found - set(RESERVED_DATABASES)
    if order.source_database is not None:
        if order.source_database not in databases:
            raise RefusedError(
                f"The backup holds no database {order.source_database}; it holds {some(databases)}. Name one of them"
                " in sourceDatabase.",
                reason=Reason.RESTORE_BLOCKED,
            )
        databases = frozenset({order.source_database})
    if order.target_database is not None and len(databases) > 1:
        raise RefusedError(
            f"The backup holds several databases ({some(databases)}); name in sourceDatabase which of them goes to"
            f" {order.target_database}.",
            reason=Reason.RESTORE_BLOCKED,
        )
    targets = {database: order.target_database or database for database in sorted(databases)}
    for target in targets.values():
        if not any(fnmatchcase(target, pattern) for pattern in order.database_patterns):
            raise NotAllowedError(
                f"This namespace may not write the database {target}; choose another with targetDatabase.",
                reason=Reason.DATABASE_NOT_ALLOWED,
            )
    if not targets:
        raise NoDatabaseError("The backup holds no database to restore; choose another one.")
    return targets


def check_told(databases: Collection[str]) -> None:
    """That status and result can name the databases that are written. Raises RefusedError."""
    if len(databases) > MOST_DATABASES or sum(len(name.encode()) for name in databases) > MOST_NAME_BYTES:
        raise RefusedError(
            f"The backup holds {len(databases)} databases, and one Restore writes at most {MOST_DATABASES}, with names"
            f" of {MOST_NAME_BYTES} bytes together; make one Restore for each, with sourceDatabase.",
            reason=Reason.RESTORE_BLOCKED,
        )


def check_accounts(order: RestoreOrder, prelude: Prelude) -> None:
    """Users and roles are of the whole deployment. Raises RefusedError, NotAllowedError."""
    if "*" not in order.database_patterns:
        raise NotAllowedError(
            "This namespace may not write all databases, so it restores no users and roles; leave usersAndRoles out.",
            reason=Reason.DATABASE_NOT_ALLOWED,
        )
    if order.source_database or order.target_database or order.collections:
        raise RefusedError(
            "Users and roles come back with everything only; leave out usersAndRoles, or sourceDatabase,"
            " targetDatabase and collections.",
            reason=Reason.RESTORE_BLOCKED,
        )
    if not any(tuple(found.namespace) == USERS for found in prelude.collections):
        raise RefusedError(
            "The backup holds no users: it is not of everything, or its login may not read them (the role backup may);"
            " leave usersAndRoles out.",
            reason=Reason.RESTORE_BLOCKED,
        )


def some(names: Collection[str]) -> str:
    """The first names, and how many more."""
    shown = sorted(names)
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
