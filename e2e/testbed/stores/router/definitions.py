"""Changes of definitions, as the internal commands that a mongos sends to the config server and to shards."""

from testbed.stores.router.backends import MAJORITY, UNSHARDED, Cluster, CommandError, refusal
from testbed.stores.router.placing import (
    BUCKETS,
    NAMESPACE_NOT_FOUND,
    STALE_TRIES,
    Handler,
    is_stale,
    without,
)
from testbed.stores.router.wire import Document

ON_CONFIG = {
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
}
ON_CONFIG_WITHOUT_CONCERN = {
    "balancerStart": "_configsvrBalancerStart",
    "balancerStop": "_configsvrBalancerStop",
    "balancerStatus": "_configsvrBalancerStatus",
    "balancerCollectionStatus": "_configsvrBalancerCollectionStatus",
}
ON_PRIMARY = {
    "refineCollectionShardKey": "_shardsvrRefineCollectionShardKey",
    "reshardCollection": "_shardsvrReshardCollection",
    "shardCollection": "_shardsvrCreateCollection",
    "collMod": "_shardsvrCollMod",
    "drop": "_shardsvrDropCollection",
    "dropDatabase": "_shardsvrDropDatabase",
    "dropIndexes": "_shardsvrDropIndexes",
}


class Definitions:
    """Changes of definitions, of one client."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def handlers(self) -> dict[str, Handler]:
        """By the name of the command."""
        on_config = {name: self._on_config(internal) for name, internal in ON_CONFIG.items()}
        asked = {
            name: self._on_config(internal, concern=False)
            for name, internal in ON_CONFIG_WITHOUT_CONCERN.items()
        }
        on_primary = {name: self._on_primary(internal) for name, internal in ON_PRIMARY.items()}
        own: dict[str, Handler] = {
            "enableSharding": self._enable_sharding,
            "create": self._create,
            "createIndexes": self._create_indexes,
        }
        return {**on_config, **asked, **on_primary, **own}

    def _on_config(self, internal: str, *, concern: bool = True) -> Handler:
        """A command of the config server under its internal name."""

        async def run(database: str, command: Document) -> Document:
            name = next(iter(command))
            inner = {internal: command[name], **without(command, name, "writeConcern")}
            if concern:
                inner["writeConcern"] = MAJORITY
            return await self._cluster.ask(self._cluster.config, inner, "admin")

        return run

    def _on_primary(self, internal: str) -> Handler:
        """A change that the primary shard of the database coordinates."""

        async def run(database: str, command: Document) -> Document:
            name = next(iter(command))
            target, coordinated = command[name], without(command, name, "writeConcern")
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
        for last in [*[False] * STALE_TRIES, True]:
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
                if last or not is_stale(refused):
                    raise
        raise AssertionError("unreachable")

    async def _enable_sharding(self, database: str, command: Document) -> Document:
        await self._cluster.created_database(str(command["enableSharding"]), command.get("primaryShard"))
        return {"ok": 1.0}

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
        for last in [*[False] * STALE_TRIES, True]:
            collection = await self._cluster.collection(namespace)
            if collection is None:
                placed: Document = {"shardVersion": UNSHARDED, "databaseVersion": entry["version"]}
            else:
                placed = {"shardVersion": await self._cluster.version(collection, shard)}
            try:
                backend = await self._cluster.server(shard)
                return await self._cluster.ask(backend, {**command, **placed}, database)
            except CommandError as refused:
                if last or not is_stale(refused):
                    raise
        raise AssertionError("unreachable")
