"""Free space of each member, asked from each by itself (rule 2.8)."""

from __future__ import annotations

from collections.abc import Sequence

from lucid_storage.errors import LucidError
from lucid_storage.stores.mongodb.connection import Connection
from lucid_storage.stores.mongodb.restore.port import MemberSpace, first


async def member_space(connection: Connection, uri: str, databases: Sequence[str]) -> tuple[MemberSpace, ...]:
    """Of every data-bearing member that clients may see."""
    hosts = await _hosts(connection)
    return tuple([MemberSpace(host, await _free(uri, host, first(databases))) for host in hosts])


async def _hosts(connection: Connection) -> list[str]:
    attempt = connection.attempt("ask which members there are")
    hello = await connection.read("admin", {"hello": 1}, attempt)
    hosts, passives = hello.get("hosts"), hello.get("passives")
    found = [
        *(hosts if isinstance(hosts, list) else ()),
        *(passives if isinstance(passives, list) else ()),
    ]
    return [str(host) for host in found] or [str(hello.get("me", ""))]


async def _free(own_uri: str, host: str, database: str) -> int | None:
    """Each member is asked by a connection of its own, since a replica set's answers for one of them."""
    uri = direct_uri(own_uri, host)
    if uri is None:
        return None
    member = Connection(uri, label=host, app_name="lucid-storage-restore", guard=lambda: None)
    try:
        # A member says it only for a database that it has.
        for name in (database, "admin", "local"):
            free = await _free_bytes(member, name)
            if free is not None:
                return free
    finally:
        await member.close()
    return None


async def _free_bytes(member: Connection, database: str) -> int | None:
    attempt = member.attempt("read the free space", action="dbStats")
    try:
        answer = await member.read(database, {"dbStats": 1}, attempt)
    except LucidError:
        return None
    total, used = answer.get("fsTotalSize"), answer.get("fsUsedSize")
    if not isinstance(total, int | float) or not isinstance(used, int | float) or total <= 0:
        return None
    return int(total - used)


def direct_uri(uri: str, host: str) -> str | None:
    """The same login at one member alone; None for addresses by DNS, whose options lie in records."""
    scheme, found, rest = uri.partition("://")
    if scheme != "mongodb" or not found:
        return None
    address, _, tail = rest.partition("/")
    database, _, options = tail.partition("?")
    login = f"{address.rpartition('@')[0]}@" if "@" in address else ""
    gone = ("replicaset=", "directconnection=", "loadbalanced=", "readpreference")
    kept = [option for option in options.split("&") if option and not option.lower().startswith(gone)]
    return f"mongodb://{login}{host}/{database}?{'&'.join([*kept, 'directConnection=true'])}"
