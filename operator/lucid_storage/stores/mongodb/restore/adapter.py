"""The operator's side of a restore over PyMongo's asyncio client: journal, swap, marker, space."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from lucid_storage.errors import LucidError, Reason, RefusedError
from lucid_storage.stores.mongodb.connection import Connection
from lucid_storage.stores.mongodb.restore import accounts, journal_scope
from lucid_storage.stores.mongodb.restore.catalog import OLD_PREFIX, STAGED_PREFIX
from lucid_storage.stores.mongodb.restore.commands import Commands
from lucid_storage.stores.mongodb.restore.handover import Handover
from lucid_storage.stores.mongodb.restore.journal import JOURNALS, MARKERS, Journal, SwapState, parsed
from lucid_storage.stores.mongodb.restore.merging_accounts import AccountMerge
from lucid_storage.stores.mongodb.restore.overdue import Overdue, OverdueRun
from lucid_storage.stores.mongodb.restore.port import Marker, MemberSpace, Occupant, Swapped, first
from lucid_storage.stores.mongodb.restore.rights import missing_rights
from lucid_storage.stores.mongodb.restore.space import member_space
from lucid_storage.stores.mongodb.restore.swap import Swap
from lucid_storage.stores.mongodb.restore.swapping import moved_aside
from lucid_storage.stores.mongodb.restore.undoing import Undoing


class MongoRestores:
    """Implements RestorePort."""

    def __init__(self, uri: str, *, label: str, app_name: str, guard: Callable[[], None]) -> None:
        self._uri = uri
        self._connection = Connection(uri, label=label, app_name=app_name, guard=guard)
        self._commands = Commands(self._connection)
        self._swap = Swap(self._commands)
        self._handover = Handover(self._commands)
        self._undoing = Undoing(self._commands)
        self._overdue = Overdue(self._commands)

    async def close(self) -> None:
        await self._connection.close()

    # Looking

    async def identity(self) -> str:
        return (await self._connection.info()).identity

    async def occupants(self, databases: Sequence[str], *, sizes: bool = False) -> tuple[Occupant, ...]:
        found = []
        for database in databases:
            for entry in await self._commands.entries(database):
                name, kind = str(entry["name"]), str(entry.get("type", "collection"))
                if name.startswith(("system.", STAGED_PREFIX, OLD_PREFIX)) and name != "system.js":
                    continue
                documents = 0 if kind == "view" else await self._commands.count(database, name, kind)
                stored = await self._commands.stored(database, name) if sizes and kind != "view" else 0
                options = entry.get("options")
                view = options if kind == "view" and isinstance(options, Mapping) else None
                found.append(Occupant(database, name, kind, documents, stored, view))
        return tuple(found)

    async def space(self, databases: Sequence[str]) -> tuple[MemberSpace, ...]:
        return await member_space(self._connection, self._uri, databases)

    async def missing_rights(self, databases: Sequence[str], *, users: bool = False) -> tuple[str, ...]:
        attempt = self._connection.attempt("ask what the login may do")
        status = await self._connection.read(
            "admin", {"connectionStatus": 1, "showPrivileges": True}, attempt
        )
        return missing_rights(status, databases, accounts.RIGHTS if users else ())

    async def journal(self, databases: Sequence[str], run: str) -> Journal | None:
        found = await self._found(databases, run)
        if found is not None:
            journal_scope.check(found, databases)
        return found

    async def _found(self, databases: Sequence[str], run: str) -> Journal | None:
        """As it lies there."""
        found = await self._commands.find(first(databases), JOURNALS, run)
        return None if found is None else parsed(found)

    async def marker(self, databases: Sequence[str], key: str) -> Marker | None:
        found = await self._commands.find(first(databases), MARKERS, key)
        if found is None:
            return None
        fields = ("cluster", "identity", "namespace", "name", "spec_hash", "run", "result", "run_again")
        return Marker(**{name: str(found.get(name, "")) for name in fields})

    async def put_marker(self, databases: Sequence[str], marker: Marker) -> None:
        fields = {name: getattr(marker, name) for name in marker.__slots__}
        await self._commands.put(
            first(databases), MARKERS, {"_id": marker.key, **fields}, "write the restore's marker"
        )

    # Swapping

    async def swap(
        self, run: str, databases: Sequence[str], *, drop_existing: bool, keep_minutes: int
    ) -> Swapped:
        home = first(databases)
        journal = await self.journal(databases, run)
        if journal is None or journal.state is SwapState.GIVEN_UP:
            raise _no_journal(run, home)
        if journal.state is SwapState.READY:
            await self._handover.renew(journal)
            journal = await self._swap.seal(home, journal, drop_existing=drop_existing)
        if journal.state is SwapState.SWAPPING:
            unplaced = await self._swap.pairs(journal)
            placed = journal.swapped(unplaced, ())
            await self._swap.check(placed)
            journal = journal.swapped(unplaced, await self._swap.complete(placed))
            await self._commands.put(home, JOURNALS, journal.document(), "close the swap's journal")
        await self._overdue.keep(home, run, keep_minutes)
        await self._handover.release(journal)
        listing = {database: await self._commands.uuids(database) for database in journal.databases}
        put = len(journal.pairs) + len(journal.direct) + journal.merged
        aside = moved_aside(journal.pairs, run, listing)
        return Swapped(put, (*aside, *await self._swap.filled(journal)), journal.left)

    async def discard(self, run: str, databases: Sequence[str]) -> bool:
        found = await self._found(databases, run)
        journal = None if found is None else journal_scope.within(found, databases)
        if journal is not None and journal.state in (SwapState.SWAPPING, SwapState.SWAPPED):
            return False
        home = first(databases)
        await self._handover.revoke(journal, home, run, list(databases))
        for direct in journal.direct if journal is not None else ():
            await self._undoing.undo(direct)
        if journal is not None and journal.accounts:
            await AccountMerge(self._commands).forget(run)
        prefix = f"{STAGED_PREFIX}{run}_"
        for database in databases:
            for name, uuid in (await self._commands.uuids(database)).items():
                if name.startswith(prefix):
                    await self._commands.drop(database, name, uuid)
        await self._handover.given_up(home, run)
        return True

    async def drop_old(self, run: str, databases: Sequence[str]) -> tuple[str, ...]:
        journal = await self.journal(databases, run)
        if journal is None or journal.state is not SwapState.SWAPPED:
            return ()
        stays = await self._swap.filled(journal)
        for pair in journal.pairs:
            old = pair.old(run)
            there = await self._commands.uuids(pair.database)
            if pair.live_uuid is None or there.get(old) != pair.live_uuid:
                continue
            if f"{pair.database}.{old}" not in stays:
                await self._commands.drop(pair.database, old, pair.live_uuid)
        await self._commands.forget(first(databases), run)
        return stays

    async def restorable_databases(self) -> tuple[str, ...]:
        return await self._overdue.databases()

    async def overdue(
        self, database: str, cluster: str, *, namespaces: Collection[str] = (), after: str = ""
    ) -> tuple[OverdueRun, ...]:
        return await self._overdue.runs(database, cluster, namespaces, after)

    async def unfit(self, run: str, databases: Sequence[str], *, drop_existing: bool) -> LucidError | None:
        try:
            journal = await self.journal(databases, run)
        except RefusedError as error:
            return error
        if journal is None or journal.state is SwapState.GIVEN_UP:
            return _no_journal(run, first(databases))
        if journal.state is not SwapState.READY:
            return None
        try:
            await self._handover.check(journal)
            await self._swap.live(journal, drop_existing=drop_existing)
        except RefusedError as error:
            return error
        return None


def _no_journal(run: str, home: str) -> RefusedError:
    return RefusedError(
        f"The journal of the run {run} is not in {home}.{JOURNALS}, so nothing is put in place; restore again.",
        reason=Reason.WORKER_LOST,
    )
