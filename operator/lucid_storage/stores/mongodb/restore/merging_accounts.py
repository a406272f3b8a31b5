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
            await self._spare(users, "user", "usersInfo")
            await self._spare(roles, "role", "rolesInfo")
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

    async def _spare(self, waiting: str, kind: str, question: str) -> None:
        connection = self._commands.connection
        attempt = connection.attempt(f"look for the {kind}s of the backup", action=question)
        async with connection.bounded(attempt):
            found = connection.database(accounts.ADMIN)[waiting].find({}, {kind: 1, "db": 1})
            asked = [{kind: one[kind], "db": one["db"]} async for one in found]
        if not asked:
            return
        answer = await connection.read(accounts.ADMIN, {question: asked}, attempt)
        listed = answer.get(f"{kind}s")
        there = [f"{one['db']}.{one[kind]}" for one in (listed if isinstance(listed, list) else ())]
        if there:
            change = {"q": {"_id": {"$in": there}}, "limit": 0}
            await connection.write(accounts.ADMIN, {"delete": waiting, "deletes": [change]}, attempt)
