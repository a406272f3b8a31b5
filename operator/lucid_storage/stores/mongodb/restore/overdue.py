"""What a swap replaced, when nobody is there any more to drop it: until when it stays, and whose it is.

Both stand in the journal, by the server's own clock, since a Restore can be deleted at any time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from bson.datetime_ms import DatetimeMS

from lucid_storage.errors import LucidError
from lucid_storage.stores.mongodb.collections import is_user_database
from lucid_storage.stores.mongodb.restore.commands import Commands
from lucid_storage.stores.mongodb.restore.journal import JOURNALS, SwapState
from lucid_storage.stores.mongodb.types import Topology

PAGE = 100

Command = dict[str, object]


@dataclass(frozen=True, slots=True)
class OverdueRun:
    """A swapped run whose replaced collections have been kept for their time."""

    run: str
    database: str
    """That holds its journal."""
    namespace: str
    name: str
    """Of its Restore."""
    uid: str
    until: float
    """Seconds since 1970: the end of the time for which it is kept."""
    databases: tuple[str, ...] = ()
    """That the journal names, with the one that holds it."""


def keeping(run: str, minutes: int) -> Command:
    """Written once, whoever comes again."""
    until = {"$add": ["$$NOW", minutes * 60_000]}
    query = {"_id": run, "state": str(SwapState.SWAPPED), "until": None}
    return {"update": JOURNALS, "updates": [{"q": query, "u": [{"$set": {"until": until}}]}]}


def due(cluster: str, namespaces: Collection[str], after: str) -> Command:
    """Journals of Restores of one cluster; those of others, and of runs without a time, are nobody's here."""
    query: dict[str, object] = {
        "_id": {"$type": "string", "$gt": after},
        "state": str(SwapState.SWAPPED),
        "owner.cluster": cluster,
        "until": {"$type": "date"},
        "$expr": {"$lte": ["$until", "$$NOW"]},
    }
    if namespaces:
        query["owner.namespace"] = {"$in": sorted(namespaces)}
    return {
        "find": JOURNALS,
        "filter": query,
        "projection": {
            "owner": 1,
            "until": 1,
            "pairs.database": 1,
            "views.database": 1,
            "direct.database": 1,
        },
        "sort": {"_id": 1},
        "limit": PAGE,
        "singleBatch": True,
        "readConcern": {"level": "majority"},
    }


class Overdue:
    """Over one connection. Everything raises LucidError."""

    def __init__(self, commands: Commands) -> None:
        self._connection = commands.connection

    async def keep(self, database: str, run: str, minutes: int) -> None:
        """From now on, and for so long. Harmless to repeat."""
        attempt = self._connection.attempt("write down how long what was replaced stays", action="update")
        answer = await self._connection.write(database, keeping(run, minutes), attempt)
        if answer.get("writeErrors"):
            raise LucidError(
                f"{attempt.label}: cannot {attempt.task}: the server refused it; the swap goes on by itself."
            )

    async def databases(self) -> tuple[str, ...]:
        """That the login may read; none of a sharded deployment, into which nothing is restored."""
        if (await self._connection.info()).topology is Topology.SHARDED:
            return ()
        attempt = self._connection.attempt("list the databases")
        command = {"listDatabases": 1, "nameOnly": True, "authorizedDatabases": True}
        answer = await self._connection.read("admin", command, attempt)
        listed = answer["databases"]
        assert isinstance(listed, list)
        return tuple(sorted(name for entry in listed if is_user_database(name := str(entry["name"]))))

    async def runs(
        self, database: str, cluster: str, namespaces: Collection[str], after: str
    ) -> tuple[OverdueRun, ...]:
        """In order of their ids, some of those behind `after`; none when there are no more."""
        attempt = self._connection.attempt(f"read {database}.{JOURNALS}", action="find")
        answer = await self._connection.read(database, due(cluster, namespaces, after), attempt)
        cursor = answer["cursor"]
        assert isinstance(cursor, Mapping)
        return tuple(_run(database, document) for document in cursor["firstBatch"])


def _run(database: str, document: Mapping[str, object]) -> OverdueRun:
    owner = document.get("owner")
    about = owner if isinstance(owner, Mapping) else {}
    namespace, name, uid = (str(about.get(field) or "") for field in ("namespace", "name", "uid"))
    until = document["until"]
    seconds = until.timestamp() if isinstance(until, datetime) else int(cast("DatetimeMS", until)) / 1000
    databases = tuple(sorted({database, *_named(document)}))
    return OverdueRun(str(document["_id"]), database, namespace, name, uid, seconds, databases)


def _named(document: Mapping[str, object]) -> Iterator[str]:
    """Databases, wherever the journal names one."""
    for part in ("pairs", "views", "direct"):
        entries = document.get(part)
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, Mapping):
                yield str(entry.get("database", ""))
