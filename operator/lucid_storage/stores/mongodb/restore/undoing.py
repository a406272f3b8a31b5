"""What a run put under live names before its swap is taken back, when it is given up."""

from __future__ import annotations

from lucid_storage.stores.mongodb.names import BUCKETS_PREFIX
from lucid_storage.stores.mongodb.restore.commands import Commands
from lucid_storage.stores.mongodb.restore.inserted import keys_in, next_keys, removals
from lucid_storage.stores.mongodb.restore.journal import Direct


class Undoing:
    """Harmless to repeat."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def undo(self, direct: Direct) -> None:
        """What lies under its own name before the swap: dropped where the run made it, else emptied of what it put."""
        there = await self._commands.uuids(direct.database)
        buckets = f"{BUCKETS_PREFIX}{direct.name}"
        holder = buckets if buckets in there else direct.name
        uuid = there.get(holder)
        made = (
            uuid
            if uuid and direct.making and await self._empty(direct.database, holder)
            else direct.made_uuid
        )
        if made is None or uuid != made:
            if direct.listed and uuid and uuid == direct.found_uuid:
                await self._take_back(direct.database, holder, direct.listed)
            return
        if buckets in there:
            # The server compares no UUID where it drops a time series.
            attempt = self._commands.connection.attempt(f"drop {direct.database}.{direct.name}")
            await self._commands.connection.write(direct.database, {"drop": direct.name}, attempt)
        else:
            await self._commands.drop(direct.database, direct.name, made)

    async def _empty(self, database: str, collection: str) -> bool:
        return not await self._commands.count(database, collection, "collection")

    async def _take_back(self, database: str, collection: str, listed: str) -> None:
        """Remove what a list of `_id`s names. Harmless to repeat."""
        attempt = self._commands.connection.attempt(f"take back what was loaded into {database}.{collection}")
        while keys := keys_in(await self._commands.connection.read(database, next_keys(listed), attempt)):
            for command in removals(collection, listed, keys):
                await self._commands.connection.write(database, command, attempt)
