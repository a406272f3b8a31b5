"""The hands of the swap: what `swapping` decides, one command at a time (rule 2.2)."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from bson import Binary
from bson.raw_bson import RawBSONDocument

from lucid_storage.errors import LucidError, Reason, RefusedError
from lucid_storage.stores.mongodb.connection import ExpectedAnswerError
from lucid_storage.stores.mongodb.errors import (
    INDEX_NOT_FOUND,
    NAMESPACE_EXISTS,
    NAMESPACE_NOT_FOUND,
    UUID_MISMATCH,
)
from lucid_storage.stores.mongodb.restore.catalog import View
from lucid_storage.stores.mongodb.restore.commands import Commands, uuid_of
from lucid_storage.stores.mongodb.restore.finishing import Expiry
from lucid_storage.stores.mongodb.restore.journal import JOURNALS, Journal, Pair
from lucid_storage.stores.mongodb.restore.merging_accounts import AccountMerge
from lucid_storage.stores.mongodb.restore.swapping import Lost, Rename, next_step

_STEPS = 10
"""Renames for one pair in one go: more only when an application makes the collection again and again."""


class Swap:
    """Of one journal. Every method may be called again from any point."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

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
                _check_view(view, entries.get(view.name), drop_existing=drop_existing)
        return live

    async def pair(self, run: str, pair: Pair) -> None:
        for _ in range(_STEPS):
            step = next_step(pair, run, await self._commands.uuids(pair.database))
            if step is None:
                return
            if isinstance(step, Lost):
                raise _lost(pair)
            if not step.uuid:
                raise LucidError(
                    f"{pair.database}.{pair.name} became a view or a time series during the swap and cannot be moved"
                    " aside; drop or rename it. The swap then goes on by itself.",
                    reason=Reason.RESTORE_BLOCKED,
                )
            await self._rename(step)
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

    async def complete(self, journal: Journal) -> None:
        """Views and expiry, after the last rename."""
        for view in journal.views:
            await self._make_view(view)
        for pair in journal.pairs:
            for expiry in pair.expiries:
                await self._expire(pair.database, pair.name, expiry)
        for direct in journal.direct:
            for expiry in direct.expiries:
                await self._expire(direct.database, direct.name, expiry)
            listed = (
                (await self._commands.uuids(direct.database)).get(direct.listed) if direct.listed else None
            )
            if direct.listed and listed:
                await self._commands.drop(direct.database, direct.listed, listed)
        if journal.accounts:
            await AccountMerge(self._commands).merge(journal.run)

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

    async def _make_view(self, view: View) -> None:
        attempt = self._commands.connection.attempt(f"make the view {view.database}.{view.name}")
        definition: dict[str, object] = {"viewOn": view.on, "pipeline": list(view.pipeline)}
        collation = {} if view.collation is None else {"collation": view.collation}
        try:
            await self._commands.connection.write(
                view.database,
                {"create": view.name, **definition, **collation},
                attempt,
                expected={NAMESPACE_EXISTS},
            )
        except ExpectedAnswerError:
            await self._commands.connection.write(
                view.database, {"collMod": view.name, **definition}, attempt
            )

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


def _check_view(view: View, entry: Mapping[str, object] | None, *, drop_existing: bool) -> None:
    """A view facing a collection of its name is refused (rule 2.6)."""
    if entry is None:
        return
    kind = str(entry.get("type", "collection"))
    if kind != "view":
        raise RefusedError(
            f"{view.database}.{view.name} is a {kind} now and a view in the backup; drop or rename it, or restore"
            " into another database.",
            reason=Reason.RESTORE_BLOCKED,
        )
    options = entry.get("options")
    same = isinstance(options, Mapping) and same_view(options, {"viewOn": view.on, "pipeline": view.pipeline})
    if not same and not drop_existing:
        raise RefusedError(
            f"The view {view.database}.{view.name} is another one than in the backup; set dropExisting to true to"
            " replace it.",
            reason=Reason.TARGET_NOT_EMPTY,
        )


def same_view(left: Mapping[str, object], right: Mapping[str, object]) -> bool:
    """By their definitions, viewOn and pipeline."""
    return all(_plain(left.get(field)) == _plain(right.get(field)) for field in ("viewOn", "pipeline"))


def _plain(value: object) -> object:
    if isinstance(value, RawBSONDocument | Mapping):
        return [(key, _plain(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _lost(pair: Pair) -> RefusedError:
    return RefusedError(
        f"The staged collection {pair.database}.{pair.staged} was dropped by somebody, so {pair.database}.{pair.name}"
        " cannot be restored by this run. Restore again.",
        reason=Reason.WORKER_LOST,
    )
