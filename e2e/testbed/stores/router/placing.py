"""What several families of commands need."""

from collections.abc import Awaitable, Callable

from testbed.stores.router.backends import CONFIG, Cluster, CommandError
from testbed.stores.router.wire import Document

BUCKETS = "system.buckets."
NAMESPACE_NOT_FOUND = 26
STALE = 13388
STALE_TRIES = 8

Handler = Callable[[str, Document], Awaitable[Document]]
"""Takes a database and a command without its envelope."""


async def home(cluster: Cluster, database: str) -> str | None:
    """The shard whose inner router is used, and that lists: the database's primary one."""
    if database in (CONFIG, "admin"):
        return next(iter(await cluster.shards()), None)
    entry = await cluster.database(database)
    return None if entry is None else str(entry["primary"])


def empty_cursor(namespace: str) -> Document:
    return {"cursor": {"firstBatch": [], "id": 0, "ns": namespace}, "ok": 1.0}


def is_stale(refused: CommandError) -> bool:
    """A server knows of a newer placement than the sender of the command."""
    return refused.code == STALE or "StaleDbVersion" in str(refused.answer.get("codeName"))


def without(command: Document, *names: str) -> Document:
    return {field: value for field, value in command.items() if field not in names}
