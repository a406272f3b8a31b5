"""What a login may do, against what a staged restore needs (rule 2.4). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

CLUSTER = ("applyOps",)
"""The roles readWrite and dbAdmin of the target database bring all but this; a role of its own grants it."""
DATABASE = (
    "find",
    "insert",
    "update",
    "remove",
    "listCollections",
    "createCollection",
    "dropCollection",
    "createIndex",
    "collMod",
    "renameCollectionSameDB",
    "bypassDocumentValidation",
)


def missing_rights(
    status: Mapping[str, object], databases: Sequence[str], admin: Sequence[str] = ()
) -> tuple[str, ...]:
    """From connectionStatus with showPrivileges; empty where the server asks for no login.

    `admin` are actions that are needed in the database admin.
    """
    info = status.get("authInfo")
    if not isinstance(info, Mapping) or not info.get("authenticatedUsers"):
        return ()
    found = info.get("authenticatedUserPrivileges")
    privileges = [p for p in found if isinstance(p, Mapping)] if isinstance(found, list) else []
    missing = [f"{action} on the cluster" for action in CLUSTER if not _allows(privileges, None, action)]
    for database in databases:
        missing += [
            f"{action} on {database}" for action in DATABASE if not _allows(privileges, database, action)
        ]
    missing += [f"{action} on admin" for action in admin if not _allows(privileges, "admin", action)]
    return tuple(missing)


def _allows(privileges: Sequence[Mapping[str, object]], database: str | None, action: str) -> bool:
    return any(_covers(p.get("resource"), database) and action in _actions(p) for p in privileges)


def _covers(resource: object, database: str | None) -> bool:
    if not isinstance(resource, Mapping):
        return False
    if resource.get("anyResource"):
        return True
    if database is None:
        return bool(resource.get("cluster"))
    return resource.get("db") in ("", database) and resource.get("collection") == ""


def _actions(privilege: Mapping[str, object]) -> Sequence[object]:
    actions = privilege.get("actions")
    return actions if isinstance(actions, list) else ()
