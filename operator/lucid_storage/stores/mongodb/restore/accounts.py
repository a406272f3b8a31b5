"""Users and roles of a backup (rule 2.11): merged after everything else, none is changed or dropped.

What is to be made waits in reserved collections of the database admin, where only those may read who may read users
anyway; the journal says that it does. After the swap the server itself merges it (_mergeAuthzCollections, as
mongorestore does). Left out and listed: what is there already, the operator's own login with its roles, and whoever
has all rights of root or could give them to himself.
Pure but for Waiting.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from bson.raw_bson import RawBSONDocument

from lucid_storage.errors import LucidError, Reason, RefusedError
from lucid_storage.stores.mongodb.restore.catalog import STAGED_PREFIX
from lucid_storage.stores.mongodb.restore.entries import RAW_OPTIONS
from lucid_storage.stores.mongodb.restore.target import Target

ADMIN = "admin"
USERS, ROLES, VERSION = (ADMIN, "system.users"), (ADMIN, "system.roles"), (ADMIN, "system.version")
SCHEMA = 5
"""Of users and roles since MongoDB 3.0 (SCRAM)."""
MOST_BYTES = 32 * 1024 * 1024
"""They are held in memory."""
RIGHTS = (
    "createUser",
    "createRole",
    "grantRole",
    "revokeRole",
    "viewUser",
    "viewRole",
    "createCollection",
    "dropCollection",
    "find",
    "insert",
    "remove",
)
"""In the database admin; the roles restore and readWrite there have them all."""
_ROOTS = frozenset({"root", "__system", "userAdminAnyDatabase", "restore", "userAdmin", "dbOwner"})
"""Built-in roles on the database admin that are root, or can give root: who writes users there writes his own."""
_GIVING = frozenset({"grantRole", "createRole", "createUser", "changePassword", "internal", "anyAction"})
"""Actions that make a root user, or make one's own of somebody else's."""
_WRITING = frozenset({"insert", "update"})
_OF_ACCOUNTS = frozenset({"system.users", "system.roles"})
_AT_ONCE = 200
_DUPLICATE_KEY = 11000

Account = Mapping[str, object]


@dataclass(slots=True)
class Accounts:
    """Users and roles as a backup holds them."""

    users: list[RawBSONDocument] = field(default_factory=list)
    roles: list[RawBSONDocument] = field(default_factory=list)
    schema: int | None = None
    size: int = 0

    def takes(self, name: tuple[str, str]) -> bool:
        """Whether documents of this collection of the archive belong here."""
        return name in (USERS, ROLES, VERSION)

    def add(self, name: tuple[str, str], documents: Iterable[bytes]) -> None:
        """Raises RefusedError when there are too many."""
        for raw in documents:
            document = RawBSONDocument(raw, RAW_OPTIONS)
            self.size += len(raw)
            if self.size > MOST_BYTES:
                raise RefusedError(
                    "The backup holds more users and roles than can be merged at once; leave usersAndRoles out and make"
                    " them with mongorestore.",
                    reason=Reason.RESTORE_BLOCKED,
                )
            if name == USERS:
                self.users.append(document)
            elif name == ROLES:
                self.roles.append(document)
            elif document.get("_id") == "authSchema":
                version = document.get("currentVersion")
                self.schema = int(version) if isinstance(version, int | float) else None


@dataclass(frozen=True, slots=True)
class Present:
    """What the target has, and who asks."""

    users: frozenset[str]
    """As `<database>.<name>`, like roles."""
    roles: frozenset[str]
    own: frozenset[str]
    """The login of this process: its users and all their roles."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is merged."""

    users: tuple[RawBSONDocument, ...]
    roles: tuple[RawBSONDocument, ...]
    skipped: tuple[str, ...]
    """Each with the reason, for people."""


def choose(accounts: Accounts, present: Present) -> Chosen:
    """Raises RefusedError when the backup's users are of another form than servers have today."""
    if (accounts.users or accounts.roles) and accounts.schema not in (None, SCHEMA):
        raise RefusedError(
            "The users of the backup are of a MongoDB before 3.0; leave usersAndRoles out and make them by hand.",
            reason=Reason.NOT_SUPPORTED,
        )
    roots = _rooted(accounts.roles)
    skipped: list[str] = []

    def kept(one: Account, kind: str, there: Collection[str], *, root: bool) -> bool:
        name = str(one["_id"])
        why = (
            "belongs to the operator's own login"
            if name in present.own
            else "is there already"
            if name in there
            else "has all rights of root, or could take them"
            if root
            else ""
        )
        if why:
            skipped.append(f"{kind} {name} {why}")
        return not why

    roles = tuple(r for r in accounts.roles if kept(r, "role", present.roles, root=str(r["_id"]) in roots))
    users = tuple(
        u
        for u in accounts.users
        if kept(u, "user", present.users, root=bool(_granted(u) & (roots | _builtin())))
    )
    return Chosen(users, roles, tuple(skipped))


def _builtin() -> frozenset[str]:
    return frozenset(f"{ADMIN}.{name}" for name in _ROOTS)


def _gives(privilege: Mapping[str, object]) -> bool:
    """Whether a privilege is as good as root."""
    listed, resource = privilege.get("actions"), privilege.get("resource")
    actions = {str(action) for action in listed} if isinstance(listed, list) else set()
    if not isinstance(resource, Mapping):
        return False
    if resource.get("anyResource"):
        return bool(actions & (_GIVING | _WRITING))
    if resource.get("cluster") or resource.get("db") in ("", ADMIN):
        written = resource.get("collection") in _OF_ACCOUNTS and bool(actions & _WRITING)
        return written or bool(actions & _GIVING)
    return False


def _granted(account: Account) -> frozenset[str]:
    """Roles that it has directly."""
    roles = account.get("roles")
    listed = [r for r in roles if isinstance(r, Mapping)] if isinstance(roles, list) else []
    return frozenset(f"{role.get('db')}.{role.get('role')}" for role in listed)


def _rooted(roles: Sequence[Account]) -> frozenset[str]:
    """Roles of the backup that hold root, by whatever way."""
    found = frozenset(str(r["_id"]) for r in roles if any(map(_gives, _list(r.get("privileges")))))
    while True:
        more = found | {str(r["_id"]) for r in roles if _granted(r) & (found | _builtin())}
        if more == found:
            return found
        found = more


def names(run: str) -> tuple[str, str]:
    """Where users and roles of a run wait, in the database admin."""
    return f"{STAGED_PREFIX}{run}_users", f"{STAGED_PREFIX}{run}_roles"


def merge_command(run: str) -> dict[str, object]:
    """Harmless to repeat."""
    users, roles = names(run)
    return {
        "_mergeAuthzCollections": 1,
        "tempUsersCollection": f"{ADMIN}.{users}",
        "tempRolesCollection": f"{ADMIN}.{roles}",
        "db": "",
        "drop": False,
    }


def present(
    status: Mapping[str, object], users: Mapping[str, object], roles: Mapping[str, object]
) -> Present:
    """From connectionStatus, usersInfo and rolesInfo."""
    info = status.get("authInfo")
    about = info if isinstance(info, Mapping) else {}
    return Present(
        users=frozenset(str(u["_id"]) for u in _list(users.get("users"))),
        roles=frozenset(
            str(r.get("_id", f"{r.get('db')}.{r.get('role')}")) for r in _list(roles.get("roles"))
        ),
        own=frozenset(f"{u.get('db')}.{u.get('user')}" for u in _list(about.get("authenticatedUsers")))
        | frozenset(f"{r.get('db')}.{r.get('role')}" for r in _list(about.get("authenticatedUserRoles"))),
    )


def _list(value: object) -> list[Mapping[str, object]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def look(target: Target, wanted: Accounts) -> Present:
    """What the target has of that. Raises LucidError."""
    status = target.command(ADMIN, {"connectionStatus": 1}, "ask who the login is")
    users: dict[str, object] = {}
    roles: dict[str, object] = {}
    # Asked for by name: to list those of all databases needs more rights.
    if wanted.users:
        asked = [{"user": user["user"], "db": user["db"]} for user in wanted.users]
        users = target.command(ADMIN, {"usersInfo": asked}, "look for the users")
    if wanted.roles:
        asked = [{"role": role["role"], "db": role["db"]} for role in wanted.roles]
        roles = target.command(ADMIN, {"rolesInfo": asked}, "look for the roles")
    return present(status, users, roles)


def put(target: Target, run: str, chosen: Chosen) -> None:
    """Has them wait for the end of the swap. Harmless to repeat."""
    for name, documents in zip(names(run), (chosen.users, chosen.roles), strict=True):
        target.drop(ADMIN, name)
        target.write(ADMIN, {"create": name}, "make the list of users and roles")
        for start in range(0, len(documents), _AT_ONCE):
            resent: list[bool] = []
            answer = target.write(
                ADMIN,
                {"insert": name, "documents": list(documents[start : start + _AT_ONCE]), "ordered": False},
                "keep the users and roles of the backup",
                sent_again=partial(resent.append, True),
            )
            # The list was made anew: what is a duplicate when it comes twice is there from the first time.
            errors = _list(answer.get("writeErrors"))
            if any(not resent or error.get("code") != _DUPLICATE_KEY for error in errors):
                raise LucidError("The server refused to keep the backup's users and roles; restore again.")


def forget(target: Target, run: str) -> None:
    """Harmless to repeat."""
    for name in names(run):
        target.drop(ADMIN, name)
