"""What each command becomes, one method a family; one Session a client."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from bson import Timestamp

from testbed.stores.router.backends import CONFIG, MAJORITY, UNSHARDED, Cluster, CommandError, refusal
from testbed.stores.router.cursors import Cursors
from testbed.stores.router.wire import LARGEST_MESSAGE, Document

LABEL = "stand-in of a test bed for mongos, not a mongos"
WIRE_VERSION = 17  # of MongoDB 6.0

BUCKETS = "system.buckets."
WRITES = frozenset({"insert", "update", "delete"})
STALE = 13388
NAMESPACE_NOT_FOUND = 26
_STALE_TRIES = 8
# What drivers add to each command for sessions and gossip; a stand-in without sessions passes none of it on.
_ENVELOPE = frozenset(
    {"$db", "$readPreference", "$clusterTime", "$client", "lsid", "txnNumber", "apiVersion"}
)

Handler = Callable[[str, Document], Awaitable[Document]]


class Session:
    """Runs the commands of one client."""

    def __init__(self, cluster: Cluster, cursors: Cursors) -> None:
        self._cluster = cluster
        self._cursors = cursors
        self._handlers = self._table()

    async def run(self, request: Document) -> Document:
        name = next(iter(request))
        database = str(request.get("$db", "admin"))
        command = {field: value for field, value in request.items() if field not in _ENVELOPE}
        handler = self._handlers.get(name)
        if handler is None:
            raise refusal(59, "CommandNotFound", f"the {LABEL} does not know the command {name}")
        return await handler(database, command)

    def _table(self) -> dict[str, Handler]:
        local = dict.fromkeys(("hello", "isMaster", "ismaster"), self._hello)
        documents = dict.fromkeys(("find", "aggregate", "insert", "update", "delete"), self._documents)
        config = {
            name: self._admin(internal)
            for name, internal in {
                "addShard": "_configsvrAddShard",
                "removeShard": "_configsvrRemoveShard",
                "addShardToZone": "_configsvrAddShardToZone",
                "removeShardFromZone": "_configsvrRemoveShardFromZone",
                "updateZoneKeyRange": "_configsvrUpdateZoneKeyRange",
                "configureCollectionBalancing": "_configsvrConfigureCollectionBalancing",
                "moveRange": "_configsvrMoveRange",
                "moveChunk": "_configsvrMoveRange",
                "abortReshardCollection": "_configsvrAbortReshardCollection",
                "commitReshardCollection": "_configsvrCommitReshardCollection",
                "clearJumboFlag": "_configsvrClearJumboFlag",
            }.items()
        }
        asked = {
            name: self._admin(internal, concern=False)
            for name, internal in {
                "balancerStart": "_configsvrBalancerStart",
                "balancerStop": "_configsvrBalancerStop",
                "balancerStatus": "_configsvrBalancerStatus",
                "balancerCollectionStatus": "_configsvrBalancerCollectionStatus",
            }.items()
        }
        primary = {
            name: self._on_primary(internal)
            for name, internal in {
                "refineCollectionShardKey": "_shardsvrRefineCollectionShardKey",
                "reshardCollection": "_shardsvrReshardCollection",
                "shardCollection": "_shardsvrCreateCollection",
                "collMod": "_shardsvrCollMod",
                "drop": "_shardsvrDropCollection",
                "dropDatabase": "_shardsvrDropDatabase",
                "dropIndexes": "_shardsvrDropIndexes",
            }.items()
        }
        own: dict[str, Handler] = {
            "ping": self._relayed,
            "buildInfo": self._build_info,
            "buildinfo": self._build_info,
            "connectionStatus": self._connection_status,
            "endSessions": self._nothing,
            "killCursors": self._kill_cursors,
            "getMore": self._get_more,
            "getParameter": self._relayed,
            "serverStatus": self._relayed,
            "hostInfo": self._relayed,
            "listShards": self._list_shards,
            "enableSharding": self._enable_sharding,
            "count": self._count,
            "create": self._create,
            "createIndexes": self._create_indexes,
            "listDatabases": self._list_databases,
            "listCollections": self._list_collections,
            "listIndexes": self._list_indexes,
            "dbStats": self._database_stats,
        }
        return {**local, **documents, **config, **asked, **primary, **own}

    # About itself.

    async def _hello(self, database: str, command: Document) -> Document:
        return {
            "isWritablePrimary": True,
            "ismaster": True,
            "msg": "isdbgrid",
            "helloOk": True,
            "maxBsonObjectSize": 16 * 1024 * 1024,
            "maxMessageSizeBytes": LARGEST_MESSAGE,
            "maxWriteBatchSize": 100_000,
            "localTime": datetime.now(UTC),
            "minWireVersion": 0,
            "maxWireVersion": WIRE_VERSION,
            "readOnly": False,
            "ok": 1.0,
        }

    async def _build_info(self, database: str, command: Document) -> Document:
        answer = await self._relayed(database, command)
        return {**answer, "standIn": LABEL}

    async def _connection_status(self, database: str, command: Document) -> Document:
        return {"authInfo": {"authenticatedUsers": [], "authenticatedUserRoles": []}, "ok": 1.0}

    async def _nothing(self, database: str, command: Document) -> Document:
        return {"ok": 1.0}

    async def _relayed(self, database: str, command: Document) -> Document:
        """As the config server answers it."""
        return await self._cluster.ask(self._cluster.config, command, database)

    # Documents and cursors.

    async def _documents(self, database: str, command: Document) -> Document:
        """By the config server for its own databases, else by the router that is inside of each shard."""
        name = next(iter(command))
        stage = _first_stage(command)
        if stage == "$changeStream":
            return await self._cursors.open_stream(self._cluster, database, command)
        if database in (CONFIG, "admin") and stage != "$currentOp":
            own = {**command, "writeConcern": MAJORITY} if name in WRITES else command
            answer = await self._cluster.ask(self._cluster.config, own, database)
            return self._cursors.noted(CONFIG, answer, "getMore")
        home = await self._home(database)
        if home is None and name == "insert":
            home = str((await self._cluster.created_database(database))["primary"])
        if home is None:
            return _empty(database, command)
        target = command[name]
        if stage == "$collStats":
            target = await self._statistics_target(database, str(target))
        inner = {f"cluster{name[0].upper()}{name[1:]}": target, **_without(command, name)}
        if name in WRITES:
            # What a mongos takes by itself; a shard's inner router would not wait for the journal.
            inner.setdefault("writeConcern", MAJORITY)
        answer = await self._cluster.ask(await self._cluster.server(home), inner, database)
        return self._cursors.noted(home, answer, "clusterGetMore")

    async def _statistics_target(self, database: str, name: str) -> str:
        """Statistics of a sharded time series are those of its buckets; a mongos looks there by itself."""
        buckets = f"{BUCKETS}{name}"
        is_series = await self._cluster.collection(f"{database}.{buckets}") is not None
        return buckets if is_series else name

    async def _count(self, database: str, command: Document) -> Document:
        stages: list[Document] = [{"$match": command.get("query") or {}}]
        stages += [{"$skip": command["skip"]}] if command.get("skip") else []
        stages += [{"$limit": command["limit"]}] if command.get("limit") else []
        kept: Document = {
            field: command[field] for field in ("maxTimeMS", "hint", "collation") if field in command
        }
        pipeline = [*stages, {"$group": {"_id": None, "n": {"$sum": 1}}}]
        answer = await self._documents(
            database, {"aggregate": command["count"], "pipeline": pipeline, "cursor": {}, **kept}
        )
        batch = answer["cursor"]["firstBatch"]
        return {"n": batch[0]["n"] if batch else 0, "ok": 1.0}

    async def _get_more(self, database: str, command: Document) -> Document:
        return await self._cursors.more(self._cluster, database, command)

    async def _kill_cursors(self, database: str, command: Document) -> Document:
        return await self._cursors.killed(self._cluster, database, command)

    async def _home(self, database: str) -> str | None:
        """The shard whose inner router is used, and that lists: the database's primary one."""
        if database in (CONFIG, "admin"):
            return next(iter(await self._cluster.shards()), None)
        entry = await self._cluster.database(database)
        return None if entry is None else str(entry["primary"])

    # Definitions.

    def _admin(self, internal: str, *, concern: bool = True) -> Handler:
        """A command of the config server under its internal name."""

        async def run(database: str, command: Document) -> Document:
            name = next(iter(command))
            inner = {internal: command[name], **_without(command, name, "writeConcern")}
            if concern:
                inner["writeConcern"] = MAJORITY
            return await self._cluster.ask(self._cluster.config, inner, "admin")

        return run

    def _on_primary(self, internal: str) -> Handler:
        """A change that the primary shard of the database coordinates."""

        async def run(database: str, command: Document) -> Document:
            name = next(iter(command))
            target, coordinated = command[name], _without(command, name, "writeConcern")
            if name in ("refineCollectionShardKey", "reshardCollection", "shardCollection"):
                database, _, target = str(target).partition(".")
            if name == "shardCollection":
                await self._cluster.created_database(database)
                coordinated["shardKey"] = coordinated.pop("key")
            if name == "refineCollectionShardKey":
                coordinated["newShardKey"] = coordinated.pop("key")
            if name == "reshardCollection":
                target = command[name]
            answer = await self._coordinated(
                database, {internal: target, **coordinated}, on_admin=name == "reshardCollection"
            )
            return {"collectionsharded": command[name], **answer} if name == "shardCollection" else answer

        return run

    async def _coordinated(self, database: str, command: Document, *, on_admin: bool = False) -> Document:
        """`on_admin`: the one that names its collection in full."""
        for last in [*[False] * _STALE_TRIES, True]:
            entry = await self._cluster.database(database)
            if entry is None and "_shardsvrDropDatabase" in command:
                return {"ok": 1.0}
            if entry is None:
                raise refusal(NAMESPACE_NOT_FOUND, "NamespaceNotFound", f"database {database} not found")
            versioned = {**command, "databaseVersion": entry["version"], "writeConcern": MAJORITY}
            try:
                primary = await self._cluster.server(str(entry["primary"]))
                return await self._cluster.ask(primary, versioned, "admin" if on_admin else database)
            except CommandError as refused:
                if last or not _is_stale(refused):
                    raise
        raise AssertionError("unreachable")

    async def _enable_sharding(self, database: str, command: Document) -> Document:
        await self._cluster.created_database(str(command["enableSharding"]), command.get("primaryShard"))
        return {"ok": 1.0}

    async def _list_shards(self, database: str, command: Document) -> Document:
        return {"shards": await self._cluster.read_config("shards", {}), "ok": 1.0}

    async def _create(self, database: str, command: Document) -> Document:
        entry = await self._cluster.created_database(database)
        return await self._versioned(str(entry["primary"]), command, database, entry)

    async def _create_indexes(self, database: str, command: Document) -> Document:
        entry = await self._cluster.created_database(database)
        name = str(command["createIndexes"])
        collection = await self._cluster.collection(f"{database}.{name}")
        if collection is None:
            buckets = f"{BUCKETS}{name}"
            collection = await self._cluster.collection(f"{database}.{buckets}")
            if collection is not None:
                command = {**command, "createIndexes": buckets, "isTimeseriesNamespace": True}
        if collection is None:
            return await self._versioned(str(entry["primary"]), command, database, entry)
        answer: Document = {}
        for shard in await self._cluster.owners(collection):
            answer = await self._versioned(shard, command, database, entry)
        return answer

    async def _versioned(self, shard: str, command: Document, database: str, entry: Document) -> Document:
        """With what we know of the placement, so that the shard refuses when it knows better."""
        namespace = f"{database}.{next(iter(command.values()))}"
        for last in [*[False] * _STALE_TRIES, True]:
            collection = await self._cluster.collection(namespace)
            if collection is None:
                placed: Document = {"shardVersion": UNSHARDED, "databaseVersion": entry["version"]}
            else:
                placed = {"shardVersion": await self._cluster.version(collection, shard)}
            try:
                backend = await self._cluster.server(shard)
                return await self._cluster.ask(backend, {**command, **placed}, database)
            except CommandError as refused:
                if last or not _is_stale(refused):
                    raise
        raise AssertionError("unreachable")

    # Listings.

    async def _list_databases(self, database: str, command: Document) -> Document:
        asked = _without(command, "authorizedDatabases")
        merged: dict[str, Document] = {}
        for backend in [*(await self._cluster.shards()).values(), self._cluster.config]:
            answer = await self._cluster.ask(backend, asked, "admin")
            for listed in answer["databases"]:
                if listed["name"] == "local" or (listed["name"] in ("config", "admin")) != (
                    backend is self._cluster.config
                ):
                    continue
                known = merged.setdefault(listed["name"], {"name": listed["name"]})
                if "sizeOnDisk" in listed:
                    known["sizeOnDisk"] = known.get("sizeOnDisk", 0) + listed["sizeOnDisk"]
                    known["empty"] = False
        names = [merged[name] for name in sorted(merged)]
        total = sum(int(entry.get("sizeOnDisk", 0)) for entry in names)
        return {"databases": names, "totalSize": total, "ok": 1.0}

    async def _list_collections(self, database: str, command: Document) -> Document:
        server = CONFIG if database in (CONFIG, "admin") else await self._home(database)
        if server is None:
            return _empty(database, {"aggregate": "$cmd.listCollections"})
        answer = await self._cluster.ask(await self._cluster.server(server), command, database)
        return self._cursors.noted(server, answer, "getMore")

    async def _list_indexes(self, database: str, command: Document) -> Document:
        namespace = f"{database}.{command['listIndexes']}"
        server = CONFIG if database in (CONFIG, "admin") else await self._home(database)
        if server is None:
            raise refusal(NAMESPACE_NOT_FOUND, "NamespaceNotFound", f"ns does not exist: {namespace}")
        collection = await self._cluster.collection(namespace) if server != CONFIG else None
        if collection is not None:
            # The primary shard need not hold any of it.
            server = (await self._cluster.owners(collection))[0]
        answer = await self._cluster.ask(await self._cluster.server(server), command, database)
        return self._cursors.noted(server, answer, "getMore")

    async def _database_stats(self, database: str, command: Document) -> Document:
        total: Document = {"db": database}
        for backend in (await self._cluster.shards()).values():
            answer = await self._cluster.ask(backend, command, database)
            for field in ("collections", "objects", "dataSize", "storageSize", "indexes", "indexSize"):
                total[field] = total.get(field, 0) + answer.get(field, 0)
        return {**total, "ok": 1.0}


def _first_stage(command: Document) -> str:
    pipeline: Any = command.get("pipeline")
    return next(iter(pipeline[0]), "") if isinstance(pipeline, list) and pipeline else ""


def _is_stale(refused: CommandError) -> bool:
    return refused.code == STALE or "StaleDbVersion" in str(refused.answer.get("codeName"))


def _empty(database: str, command: Document) -> Document:
    """Of a database that is not there."""
    name = next(iter(command))
    if name in ("find", "aggregate"):
        cursor = {"firstBatch": [], "id": 0, "ns": f"{database}.{command[name]}"}
        return {"cursor": cursor, "ok": 1.0, "operationTime": Timestamp(0, 0)}
    return {"n": 0, "nModified": 0, "ok": 1.0}


def _without(command: Document, *names: str) -> Document:
    return {field: value for field, value in command.items() if field not in names}
