"""The hands of the swap: what `swapping` decides, one command at a time (rule 2.2)."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from bson import Binary

from lucid_storage.errors import LucidError, NotSupportedError, Reason, RefusedError, StoreUnavailableError
from lucid_storage.stores.mongodb.connection import ExpectedAnswerError
from lucid_storage.stores.mongodb.errors import (
    INDEX_NOT_FOUND,
    NAMESPACE_EXISTS,
    NAMESPACE_NOT_FOUND,
    UUID_MISMATCH,
)
from lucid_storage.stores.mongodb.restore.commands import Commands, uuid_of
from lucid_storage.stores.mongodb.restore.finishing import Expiry
from lucid_storage.stores.mongodb.restore.journal import JOURNALS, Journal, Pair
from lucid_storage.stores.mongodb.restore.merging_accounts import AccountMerge
from lucid_storage.stores.mongodb.restore.swapping import Lost, Rename, next_step
from lucid_storage.stores.mongodb.restore.unplaced import lost, refused
from lucid_storage.stores.mongodb.restore.views import REFUSALS, Views, check_view

_STEPS = 10
"""Renames for one pair in one go: more only when an application makes the collection again and again."""


class Swap:
    """Of one journal. Every method may be called again from any point."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._views = Views(commands)

    async def seal(self, home: str, journal: Journal, *, drop_existing: bool) -> Journal:
        """The last look at the targets, and the journal that makes the swap irrevocable."""
        live = await self.live(journal, drop_existing=drop_existing)
        sealed = journal.sealed(live, consent=drop_existing)
        await self._commands.put(home, JOURNALS, sealed.document(), "write the swap's journal")
        return sealed

    async def live(self, journal: Journal, *, drop_existing: bool) -> dict[tuple[str, str], str]:
        """The UUIDs of what has the names of the targets now. Raises RefusedError for what may not be replaced."""
        live: dict[tuple[str, str], str] = {}
        for database in journal.databases:
            entries = {str(entry["name"]): entry for entry in await self._commands.entries(database)}
            for pair in (pair for pair in journal.pairs if pair.database == database):
                if uuid_of(entries.get(pair.staged)) != pair.staged_uuid:
                    raise _lost(pair)
                occupant = entries.get(pair.name)
                if occupant is not None:
                    await self._check_occupant(database, pair.name, occupant, drop_existing=drop_existing)
                    live[(database, pair.name)] = uuid_of(occupant) or ""
            for view in (view for view in journal.views if view.database == database):
                check_view(view, entries.get(view.name), drop_existing=drop_existing)
        return live

    async def pairs(self, journal: Journal) -> dict[int, str]:
        """Every pair as far as it goes: one that is lost or in trouble keeps no other from its place. Returns by
        number, in words, those that never get there. Raises LucidError for what is worth another attempt.
        """
        unplaced, trouble = dict[int, str](), list[LucidError]()
        for pair in journal.pairs:
            try:
                said = await self._pair(journal.run, pair)
            except StoreUnavailableError:
                raise
            except LucidError as error:
                trouble.append(error)
            else:
                if said is not None:
                    unplaced[pair.number] = said
        if trouble:
            raise trouble[0]
        return unplaced

    async def _pair(self, run: str, pair: Pair) -> str | None:
        """None when it is in place."""
        for _ in range(_STEPS):
            there = await self._commands.uuids(pair.database)
            step = next_step(pair, run, there)
            if step is None:
                return None
            if isinstance(step, Lost):
                return lost(pair, run, there)
            if not step.uuid:
                raise LucidError(
                    f"{pair.database}.{pair.name} became a view or a time series during the swap and cannot be moved"
                    " aside; drop or rename it. The swap then goes on by itself.",
                    reason=Reason.RESTORE_BLOCKED,
                )
            try:
                await self._rename(step)
            except NotSupportedError as error:
                return refused(pair, run, there, error)
        raise LucidError(
            f"{pair.database}.{pair.name} is made again by an application as soon as it is moved aside; stop the"
            " application. The swap goes on by itself.",
            reason=Reason.RUNNING,
        )

    async def filled(self, journal: Journal) -> tuple[str, ...]:
        """Replaced collections that nobody consented to lose, and that hold documents: an application wrote into them
        after they had been found empty.
        """
        if journal.consent:
            return ()
        found = []
        for pair in journal.pairs:
            old = pair.old(journal.run)
            there = await self._commands.uuids(pair.database) if pair.live_uuid else {}
            if pair.live_uuid is None or there.get(old) != pair.live_uuid:
                continue
            if await self._commands.count(pair.database, old, "collection"):
                found.append(f"{pair.database}.{old}")
        return tuple(found)

    async def check(self, journal: Journal) -> None:
        """Every pair is swapped, as the server shows it."""
        for database in {pair.database for pair in journal.pairs}:
            there = await self._commands.uuids(database)
            for pair in journal.pairs:
                if pair.database == database and there.get(pair.name) != pair.staged_uuid:
                    raise LucidError(
                        f"{database}.{pair.name} was renamed or dropped by somebody during the swap; the swap goes on"
                        " by itself.",
                        reason=Reason.RUNNING,
                    )

    async def complete(self, journal: Journal) -> tuple[str, ...]:
        """Views, expiry and users, after the last rename; returns, in words, what the server refuses."""
        left = [*await self._views.put(journal.run, journal.views, consent=journal.consent)]
        expiries = [(pair.database, pair.name, one) for pair in journal.pairs for one in pair.expiries]
        expiries += [
            (direct.database, direct.name, one) for direct in journal.direct for one in direct.expiries
        ]
        for database, name, expiry in expiries:
            try:
                await self._expire(database, name, expiry)
            except REFUSALS as error:
                left.append(f"an expiry of {database}.{name} is off ({error.message.rstrip('.')})")
        for direct in journal.direct:
            listed = (
                (await self._commands.uuids(direct.database)).get(direct.listed) if direct.listed else None
            )
            if direct.listed and listed:
                await self._commands.drop(direct.database, direct.listed, listed)
        if journal.accounts:
            accounts = AccountMerge(self._commands)
            try:
                await accounts.merge(journal.run)
            except REFUSALS as error:
                left.append(f"users and roles are not merged ({error.message.rstrip('.')})")
                await accounts.forget(journal.run)
        return tuple(left)

    async def _check_occupant(
        self, database: str, name: str, entry: Mapping[str, object], *, drop_existing: bool
    ) -> None:
        kind = str(entry.get("type", "collection"))
        if kind != "collection":
            raise RefusedError(
                f"{database}.{name} is a {kind} now and a collection in the backup; drop it, or restore into another"
                " database.",
                reason=Reason.RESTORE_BLOCKED,
            )
        if not drop_existing and await self._commands.count(database, name, kind):
            raise RefusedError(
                f"{database}.{name} is not empty; set dropExisting to true to replace it, or restore into another"
                " database.",
                reason=Reason.TARGET_NOT_EMPTY,
            )

    async def _rename(self, step: Rename) -> None:
        command: dict[str, object] = {
            "renameCollection": f"{step.database}.{step.old}",
            "to": f"{step.database}.{step.new}",
        }
        if (await self._commands.connection.info()).at_least(6):
            command["collectionUUID"] = Binary(UUID(hex=step.uuid).bytes, 4)
        attempt = self._commands.connection.attempt(step.describe(), action="renameCollectionSameDB")
        # What changed in between shows in the next look.
        try:
            await self._commands.connection.write(
                "admin", command, attempt, expected={NAMESPACE_EXISTS, NAMESPACE_NOT_FOUND, UUID_MISMATCH}
            )
        except ExpectedAnswerError:
            return

    async def _expire(self, database: str, name: str, expiry: Expiry) -> None:
        attempt = self._commands.connection.attempt(f"set the expiry of {database}.{name}")
        change: dict[str, object] = {"expireAfterSeconds": expiry.seconds}
        if expiry.index is not None:
            change = {"index": {"name": expiry.index, **change}}
        # Where the application dropped the index or the collection meanwhile, nothing is left to expire.
        gone = {INDEX_NOT_FOUND, NAMESPACE_NOT_FOUND}
        try:
            await self._commands.connection.write(
                database, {"collMod": name, **change}, attempt, expected=gone
            )
        except ExpectedAnswerError:
            return


def _lost(pair: Pair) -> RefusedError:
    return RefusedError(
        f"The staged collection {pair.database}.{pair.staged} was dropped by somebody, so {pair.database}.{pair.name}"
        " cannot be restored by this run. Restore again.",
        reason=Reason.WORKER_LOST,
    )
