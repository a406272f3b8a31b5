"""Users and roles that wait are merged when everything else is in place (rule 2.11)."""

from __future__ import annotations

from lucid_storage.stores.mongodb.restore import accounts
from lucid_storage.stores.mongodb.restore.commands import Commands


class AccountMerge:
    """The last step of a swap; harmless to repeat."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def merge(self, run: str) -> None:
        """The last step. What came up since the worker looked stays as it is."""
        users, roles = accounts.names(run)
        there = await self._commands.uuids(accounts.ADMIN)
        if users in there and roles in there:
            for waiting, live in ((users, accounts.USERS[1]), (roles, accounts.ROLES[1])):
                await self._spare(waiting, live)
            attempt = self._commands.connection.attempt(
                "merge the users and roles of the backup", action="createUser"
            )
            await self._commands.connection.write(accounts.ADMIN, accounts.merge_command(run), attempt)
        await self.forget(run)

    async def forget(self, run: str) -> None:
        """Nothing waits any more."""
        there = await self._commands.uuids(accounts.ADMIN)
        for name in accounts.names(run):
            if there.get(name):
                await self._commands.drop(accounts.ADMIN, name, there[name])

    async def _spare(self, waiting: str, live: str) -> None:
        attempt = self._commands.connection.attempt(
            f"compare users and roles with admin.{live}", action="find"
        )
        scope = self._commands.connection.database(accounts.ADMIN)
        async with self._commands.connection.bounded(attempt):
            keys = [one["_id"] async for one in scope[waiting].find({}, {"_id": 1})]
            found = [one["_id"] async for one in scope[live].find({"_id": {"$in": keys}}, {"_id": 1})]
        if found:
            change = {"q": {"_id": {"$in": found}}, "limit": 0}
            await self._commands.connection.write(
                accounts.ADMIN, {"delete": waiting, "deletes": [change]}, attempt
            )
