"""The leases of a run as the operator has them: gone on with for the swap, or taken away (rule 2.9)."""

from __future__ import annotations

from lucid_storage.errors import Reason, RefusedError
from lucid_storage.stores.mongodb.restore.commands import Commands
from lucid_storage.stores.mongodb.restore.journal import JOURNALS, Journal, SwapState, given_up, giving_up
from lucid_storage.stores.mongodb.restore.lease import (
    LEASE,
    SWAP_SECONDS,
    Command,
    number_in,
    releasing,
    renewing,
    revoking,
)


class Handover:
    """From the worker. Every method may be called again."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def check(self, journal: Journal) -> None:
        """Raises RefusedError where another restore wrote since this one was staged."""
        for database, number in sorted(journal.fence.items()):
            if number_in(await self._commands.find(database, JOURNALS, LEASE)) != number:
                raise _overtaken(database)

    async def renew(self, journal: Journal) -> None:
        """For the time of the swap, under the worker's numbers. Raises RefusedError."""
        for database, number in sorted(journal.fence.items()):
            if not await self._change(database, renewing(number, SWAP_SECONDS), "renew the restore's lease"):
                raise _overtaken(database)

    async def release(self, journal: Journal) -> None:
        """After the swap."""
        for database, number in sorted(journal.fence.items()):
            await self._change(database, releasing(number), "end the restore's lease")

    async def revoke(self, journal: Journal | None, home: str, run: str, databases: list[str]) -> None:
        """A worker of this run writes no further batch, and one that comes late does not begin."""
        await self._change(home, giving_up(run), "give the restore up")
        # A worker that wrote `ready` has nothing on its way.
        at_once = journal is not None and journal.state is SwapState.READY
        for database in sorted(databases):
            await self._change(database, revoking(run, at_once=at_once), "take the restore's lease away")

    async def given_up(self, home: str, run: str) -> None:
        """All that the run did was taken back."""
        await self._change(home, given_up(run), "close the restore's journal")

    async def _change(self, database: str, command: Command, task: str) -> bool:
        """Whether there was a record to change."""
        attempt = self._commands.connection.attempt(task, action="update")
        answer = await self._commands.connection.write(database, command, attempt)
        return bool(answer.get("n"))


def _overtaken(database: str) -> RefusedError:
    return RefusedError(
        f"Another restore wrote into {database} after this one was staged, so this one is not put in place; see which"
        " of them you want, then restore again.",
        reason=Reason.WORKER_LOST,
    )
