"""Documents: read and written by the config server for its own databases, else by the router inside of a shard."""

from typing import Any

from testbed.stores.router.backends import CONFIG, MAJORITY, Cluster
from testbed.stores.router.cursors import Cursors
from testbed.stores.router.placing import BUCKETS, empty_cursor, home, without
from testbed.stores.router.wire import Document

WRITES = frozenset({"insert", "update", "delete"})
READS = frozenset({"find", "aggregate"})


class Documents:
    """Commands on documents, of one client."""

    def __init__(self, cluster: Cluster, cursors: Cursors) -> None:
        self._cluster = cluster
        self._cursors = cursors

    async def run(self, database: str, command: Document) -> Document:
        name = next(iter(command))
        stage = _first_stage(command)
        if stage == "$changeStream":
            return await self._cursors.open_stream(self._cluster, database, command)
        if database in (CONFIG, "admin") and stage != "$currentOp":
            own = {**command, "writeConcern": MAJORITY} if name in WRITES else command
            answer = await self._cluster.ask(self._cluster.config, own, database)
            return self._cursors.noted(CONFIG, answer, "getMore")
        place = await home(self._cluster, database)
        if place is None and name == "insert":
            place = str((await self._cluster.created_database(database))["primary"])
        if place is None:
            return _nothing_there(database, command)
        target = command[name]
        if stage == "$collStats":
            target = await self._statistics_target(database, str(target))
        inner = {f"cluster{name[0].upper()}{name[1:]}": target, **without(command, name)}
        if name in WRITES:
            # What a mongos takes by itself; a shard's inner router would not wait for the journal.
            inner.setdefault("writeConcern", MAJORITY)
        answer = await self._cluster.ask(await self._cluster.server(place), inner, database)
        return self._cursors.noted(place, answer, "clusterGetMore")

    async def _statistics_target(self, database: str, name: str) -> str:
        """Statistics of a sharded time series are those of its buckets; a mongos looks there by itself."""
        buckets = f"{BUCKETS}{name}"
        is_series = await self._cluster.collection(f"{database}.{buckets}") is not None
        return buckets if is_series else name

    async def count(self, database: str, command: Document) -> Document:
        stages: list[Document] = [{"$match": command.get("query") or {}}]
        stages += [{"$skip": command["skip"]}] if command.get("skip") else []
        stages += [{"$limit": command["limit"]}] if command.get("limit") else []
        kept: Document = {
            field: command[field] for field in ("maxTimeMS", "hint", "collation") if field in command
        }
        pipeline = [*stages, {"$group": {"_id": None, "n": {"$sum": 1}}}]
        answer = await self.run(
            database, {"aggregate": command["count"], "pipeline": pipeline, "cursor": {}, **kept}
        )
        batch = answer["cursor"]["firstBatch"]
        return {"n": batch[0]["n"] if batch else 0, "ok": 1.0}


def _first_stage(command: Document) -> str:
    pipeline: Any = command.get("pipeline")
    return next(iter(pipeline[0]), "") if isinstance(pipeline, list) and pipeline else ""


def _nothing_there(database: str, command: Document) -> Document:
    """Of a database that is not there."""
    name = next(iter(command))
    if name in READS:
        return empty_cursor(f"{database}.{command[name]}")
    return {"n": 0, "nModified": 0, "ok": 1.0}
