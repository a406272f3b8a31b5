"""Changes of how a cluster is sharded. None takes a write concern: the config servers confirm by a majority always."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from bson import Binary
from bson.son import SON

from lucid_storage.errors import NotSupportedError, Reason, ServerRefusedError
from lucid_storage.stores.documents import to_bson
from lucid_storage.stores.mongodb.connection import Connection, Document, ExpectedAnswerError
from lucid_storage.stores.mongodb.errors import not_ready
from lucid_storage.stores.mongodb.sharding.bounds import full_range
from lucid_storage.stores.mongodb.sharding.catalogue import CONFIG, Catalogue, whole
from lucid_storage.stores.mongodb.sharding.occupancy import occupancy
from lucid_storage.stores.mongodb.sharding.preflight import SIMPLE
from lucid_storage.stores.mongodb.sharding.types import BalancerWindow, KeyRange, ShardedState, ShardKey
from lucid_storage.stores.mongodb.types import ServerInfo

LONG_SECONDS = 600.0
"""For what may create chunks by the thousand, or look through an index for uniqueness."""
RESHARDING_SINCE = 5
BALANCING_COMMAND_SINCE = 8
UUID_COMPARED_SINCE = 6
"""From this version on the server itself compares the UUID that a command names."""
UNKNOWN_FIELD = 40415


class Actions:
    def __init__(self, connection: Connection, catalogue: Catalogue) -> None:
        self._connection = connection
        self._catalogue = catalogue

    async def enable_sharding(self, database: str) -> None:
        await self._run({"enableSharding": database}, f"enable sharding for {database}")

    async def shard(
        self,
        database: str,
        name: str,
        key: ShardKey,
        *,
        unique: bool = False,
        num_initial_chunks: int | None = None,
        simple_collation: bool = False,
        uuid: str | None = None,
        empty: bool = False,
    ) -> None:
        command = key_command("shardCollection", database, name, key)
        if unique:
            command["unique"] = True
        command.update(_options(num_initial_chunks, simple_collation=simple_collation))
        command.update(await self._only(uuid))
        if empty and not (await occupancy(self._connection, database, name)).empty:
            raise _filled(f"{self._connection.label}: {database}.{name}")
        await self._run(command, f"shard {database}.{name}", seconds=LONG_SECONDS)

    async def refine(self, database: str, name: str, key: ShardKey, *, uuid: str | None = None) -> None:
        await self._no_time_series(database, name)
        command = key_command("refineCollectionShardKey", database, name, key)
        command.update(await self._only(uuid))
        await self._run(command, f"refine the shard key of {database}.{name}", seconds=LONG_SECONDS)

    async def reshard(
        self,
        database: str,
        name: str,
        key: ShardKey,
        *,
        num_initial_chunks: int | None = None,
        simple_collation: bool = False,
        uuid: str | None = None,
    ) -> None:
        await self._catalogue.require()
        require_resharding(await self._connection.info(), f"{self._connection.label}: {database}.{name}")
        await self._no_time_series(database, name)
        command = key_command("reshardCollection", database, name, key)
        command.update(_options(num_initial_chunks, simple_collation=simple_collation))
        command.update(await self._only(uuid))
        await self._run(command, f"reshard {database}.{name}", seconds=None)

    async def set_balancing(self, database: str, name: str, *, enabled: bool) -> None:
        await self._catalogue.require()
        namespace, task = f"{database}.{name}", f"switch the balancing of {database}.{name}"
        if (await self._connection.info()).at_least(BALANCING_COMMAND_SINCE):
            command = {"configureCollectionBalancing": namespace, "enableBalancing": enabled}
            attempt = self._connection.attempt(task, action="splitChunk and moveChunk")
            try:
                await self._connection.write(
                    "admin", command, attempt, expected={UNKNOWN_FIELD}, concern=False
                )
            except ExpectedAnswerError:
                pass  # the first releases of 8 do not have it yet
            else:
                return
        # As the shells of those versions do it: there is no command.
        entry = await self._catalogue.entry(database, name)
        change: Document = {"$set": {"noBalance": not enabled}}
        if entry is None or not await self._update("collections", {"_id": entry["_id"]}, change, task):
            raise not_ready(self._connection.attempt(task))

    async def add_shard_to_zone(self, shard: str, zone: str) -> None:
        await self._run({"addShardToZone": shard, "zone": zone}, f"add {shard} to the zone {zone}")

    async def remove_shard_from_zone(self, shard: str, zone: str) -> None:
        await self._run({"removeShardFromZone": shard, "zone": zone}, f"take {shard} out of the zone {zone}")

    async def assign_range(self, database: str, name: str, bounds: KeyRange, zone: str) -> None:
        task = f"put a range of {database}.{name} into the zone {zone}"
        await self._run(await self._range(database, name, bounds, zone), task)

    async def clear_range(self, database: str, name: str, bounds: KeyRange) -> None:
        task = f"take a range of {database}.{name} out of its zone"
        await self._run(await self._range(database, name, bounds, None), task)

    async def set_balancer_window(self, window: BalancerWindow | None) -> None:
        change: Document = {"$unset": {"activeWindow": True}}
        if window is not None:
            change = {"$set": {"activeWindow": {"start": window.start, "stop": window.stop}}}
        await self._update("settings", {"_id": "balancer"}, change, "set the balancer's window", upsert=True)

    async def _only(self, uuid: str | None) -> Document:
        """Lets the server refuse a collection that was made anew since it was looked at."""
        if uuid is None or not (await self._connection.info()).at_least(UUID_COMPARED_SINCE):
            return {}
        return {"collectionUUID": Binary(UUID(hex=uuid).bytes, 4)}

    async def _range(self, database: str, name: str, bounds: KeyRange, zone: str | None) -> Document:
        state = await self._no_time_series(database, name)
        full = bounds if state is None else full_range(bounds, state.key)
        return {
            "updateZoneKeyRange": f"{database}.{name}",
            "min": to_bson(full.minimum),
            "max": to_bson(full.maximum),
            "zone": zone,
        }

    async def _no_time_series(self, database: str, name: str) -> ShardedState | None:
        """The collection in the catalogue. Of a time series, servers differ in what they change, and in how."""
        state = await self._catalogue.sharded(database, name)
        if state is not None and state.time_series:
            raise NotSupportedError(
                f"{self._connection.label}: {database}.{name} is a time series: it can be sharded, but its key and its"
                " zones are not changed; declare the key that it has, and no zones."
            )
        return state

    async def _update(
        self, collection: str, match: Document, change: Document, task: str, *, upsert: bool = False
    ) -> bool:
        """Whether a document of `config` was there to be changed, or was made."""
        await self._catalogue.require()
        attempt = self._connection.attempt(task, action=f"update on config.{collection}")
        command: Document = {"update": collection, "updates": [{"q": match, "u": change, "upsert": upsert}]}
        return whole((await self._connection.write(CONFIG, command, attempt)).get("n")) > 0

    async def _run(self, command: Document, task: str, *, seconds: float | None = 20.0) -> None:
        await self._catalogue.require()
        attempt = self._connection.attempt(task, action=_ACTIONS.get(next(iter(command))))
        await self._connection.write("admin", command, attempt, seconds=seconds, concern=False)


_ACTIONS: Mapping[str, str] = {
    "shardCollection": "enableSharding",
    "addShardToZone": "update on config.shards",
    "removeShardFromZone": "update on config.shards",
    "updateZoneKeyRange": "update on config.tags",
}


def _filled(what: str) -> ServerRefusedError:
    """Tried again with back-off: the next look examines the documents."""
    said = f"{what} was empty when it was looked at and holds documents now; they are examined before it is sharded."
    error = ServerRefusedError(said, reason=Reason.PROGRESSING)
    error.stalled = False
    return error


def require_resharding(info: ServerInfo, what: str) -> None:
    """Raises NotSupportedError for a version that cannot."""
    if not info.at_least(RESHARDING_SINCE):
        raise NotSupportedError(
            f"{what} cannot be resharded before MongoDB 5.0; upgrade the cluster, or leave the key as it is."
        )


def key_command(name: str, database: str, collection: str, key: ShardKey) -> Document:
    return {name: f"{database}.{collection}", "key": SON(key)}


def _options(num_initial_chunks: int | None, *, simple_collation: bool) -> Document:
    options: Document = {}
    if num_initial_chunks is not None:
        options["numInitialChunks"] = num_initial_chunks
    if simple_collation:
        options["collation"] = dict(SIMPLE)
    return options
