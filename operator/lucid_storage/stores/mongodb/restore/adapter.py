"""The operator's side of a restore over PyMongo's asyncio client: journal, swap, marker, space."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from bson import Binary
from bson.raw_bson import RawBSONDocument

from lucid_storage.errors import LucidError, Reason, RefusedError
from lucid_storage.stores.mongodb.connection import Connection, ExpectedAnswerError
from lucid_storage.stores.mongodb.errors import (
    INDEX_NOT_FOUND,
    NAMESPACE_EXISTS,
    NAMESPACE_NOT_FOUND,
    UUID_MISMATCH,
)
from lucid_storage.stores.mongodb.restore import accounts
from lucid_storage.stores.mongodb.restore.catalog import BUCKETS_PREFIX, OLD_PREFIX, STAGED_PREFIX, View
from lucid_storage.stores.mongodb.restore.finishing import Expiry
from lucid_storage.stores.mongodb.restore.inserted import keys_in, next_keys, removals
from lucid_storage.stores.mongodb.restore.journal import (
    JOURNALS,
    MARKERS,
    Direct,
    Journal,
    Pair,
    SwapState,
    parsed,
)
from lucid_storage.stores.mongodb.restore.lease import revocation
from lucid_storage.stores.mongodb.restore.port import Marker, MemberSpace, Occupant, Swapped, first
from lucid_storage.stores.mongodb.restore.rights import missing_rights
from lucid_storage.stores.mongodb.restore.swapping import Lost, Rename, moved_aside, next_step

_STEPS = 10
"""Renames for one pair in one go: more only when an application makes the collection again and again."""


class MongoRestores:
    """Implements RestorePort."""

    def __init__(self, uri: str, *, label: str, app_name: str, guard: Callable[[], None]) -> None:
        self._uri = uri
        self._connection = Connection(uri, label=label, app_name=app_name, guard=guard)

    async def close(self) -> None:
        await self._connection.close()

    # Looking

    async def occupants(self, databases: Sequence[str], *, sizes: bool = False) -> tuple[Occupant, ...]:
        found = []
        for database in databases:
            for entry in await self._entries(database):
                name, kind = str(entry["name"]), str(entry.get("type", "collection"))
                if name.startswith(("system.", STAGED_PREFIX, OLD_PREFIX)) and name != "system.js":
                    continue
                documents = 0 if kind == "view" else await self._count(database, name, kind)
                stored = await self._stored(database, name) if sizes and kind != "view" else 0
                found.append(Occupant(database, name, kind, documents, stored))
        return tuple(found)

    async def space(self, databases: Sequence[str]) -> tuple[MemberSpace, ...]:
        hosts = await self._hosts()
        return tuple([MemberSpace(host, await self._free(host, first(databases))) for host in hosts])

    async def missing_rights(self, databases: Sequence[str], *, users: bool = False) -> tuple[str, ...]:
        attempt = self._connection.attempt("ask what the login may do")
        status = await self._connection.read(
            "admin", {"connectionStatus": 1, "showPrivileges": True}, attempt
        )
        return missing_rights(status, databases, accounts.RIGHTS if users else ())

    async def journal(self, databases: Sequence[str], run: str) -> Journal | None:
        found = await self._find(first(databases), JOURNALS, run)
        return None if found is None else parsed(found)

    async def marker(self, databases: Sequence[str], key: str) -> Marker | None:
        found = await self._find(first(databases), MARKERS, key)
        if found is None:
            return None
        fields = ("cluster", "identity", "namespace", "name", "spec_hash", "run", "result", "run_again")
        return Marker(**{name: str(found.get(name, "")) for name in fields})

    async def put_marker(self, databases: Sequence[str], marker: Marker) -> None:
        fields = {name: getattr(marker, name) for name in marker.__slots__}
        await self._put(
            first(databases), MARKERS, {"_id": marker.key, **fields}, "write the restore's marker"
        )

    # Swapping

    async def swap(self, run: str, databases: Sequence[str], *, drop_existing: bool) -> Swapped:
        home = first(databases)
        journal = await self.journal(databases, run)
        if journal is None:
            raise _no_journal(run, home)
        if journal.state is SwapState.READY:
            journal = await self._seal(home, journal, drop_existing=drop_existing)
        if journal.state is SwapState.SWAPPING:
            for pair in journal.pairs:
                await self._swap_pair(run, pair)
            await self._check(journal)
            await self._complete(journal)
            journal = replace(journal, state=SwapState.SWAPPED)
            await self._put(home, JOURNALS, journal.document(), "close the swap's journal")
        listing = {database: await self._uuids(database) for database in journal.databases}
        return Swapped(len(journal.pairs) + len(journal.direct), moved_aside(journal.pairs, run, listing))

    async def discard(self, run: str, databases: Sequence[str]) -> bool:
        journal = await self.journal(databases, run)
        if journal is not None and journal.state in (SwapState.SWAPPING, SwapState.SWAPPED):
            return False
        for direct in journal.direct if journal is not None else ():
            await self._undo(direct)
        if journal is not None and journal.accounts:
            await self._forget_accounts(run)
        prefix = f"{STAGED_PREFIX}{run}_"
        for database in databases:
            for name, uuid in (await self._uuids(database)).items():
                if name.startswith(prefix):
                    await self._drop(database, name, uuid)
        await self._forget(first(databases), run)
        return True

    async def drop_old(self, run: str, databases: Sequence[str]) -> int:
        journal = await self.journal(databases, run)
        if journal is None or journal.state is not SwapState.SWAPPED:
            return 0
        dropped = 0
        for pair in journal.pairs:
            there = await self._uuids(pair.database)
            if pair.live_uuid is not None and there.get(pair.old(run)) == pair.live_uuid:
                await self._drop(pair.database, pair.old(run), pair.live_uuid)
                dropped += 1
        await self._forget(first(databases), run)
        return dropped

    async def unfit(self, run: str, databases: Sequence[str], *, drop_existing: bool) -> LucidError | None:
        journal = await self.journal(databases, run)
        if journal is None:
            return _no_journal(run, first(databases))
        if journal.state is not SwapState.READY:
            return None
        try:
            await self._live(journal, drop_existing=drop_existing)
        except RefusedError as error:
            return error
        return None

    async def _seal(self, home: str, journal: Journal, *, drop_existing: bool) -> Journal:
        """The last look at the targets, and the journal that makes the swap irrevocable."""
        sealed = journal.sealed(await self._live(journal, drop_existing=drop_existing))
        await self._put(home, JOURNALS, sealed.document(), "write the swap's journal")
        return sealed

    async def _live(self, journal: Journal, *, drop_existing: bool) -> dict[tuple[str, str], str]:
        """The UUIDs of what has the names of the targets now. Raises RefusedError for what may not be replaced."""
        live: dict[tuple[str, str], str] = {}
        for database in journal.databases:
            entries = {str(entry["name"]): entry for entry in await self._entries(database)}
            for pair in (pair for pair in journal.pairs if pair.database == database):
                if _uuid(entries.get(pair.staged)) != pair.staged_uuid:
                    raise _lost(pair)
                occupant = entries.get(pair.name)
                if occupant is not None:
                    await self._check_occupant(database, pair.name, occupant, drop_existing=drop_existing)
                    live[(database, pair.name)] = _uuid(occupant) or ""
            for view in (view for view in journal.views if view.database == database):
                _check_view(view, entries.get(view.name), drop_existing=drop_existing)
        return live

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
        if not drop_existing and await self._count(database, name, kind):
            raise RefusedError(
                f"{database}.{name} is not empty; set dropExisting to true to replace it, or restore into another"
                " database.",
                reason=Reason.TARGET_NOT_EMPTY,
            )

    async def _swap_pair(self, run: str, pair: Pair) -> None:
        for _ in range(_STEPS):
            step = next_step(pair, run, await self._uuids(pair.database))
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

    async def _rename(self, step: Rename) -> None:
        command: dict[str, object] = {
            "renameCollection": f"{step.database}.{step.old}",
            "to": f"{step.database}.{step.new}",
        }
        if (await self._connection.info()).at_least(6):
            command["collectionUUID"] = Binary(UUID(hex=step.uuid).bytes, 4)
        attempt = self._connection.attempt(step.describe(), action="renameCollectionSameDB")
        # What changed in between shows in the next look.
        try:
            await self._connection.write(
                "admin", command, attempt, expected={NAMESPACE_EXISTS, NAMESPACE_NOT_FOUND, UUID_MISMATCH}
            )
        except ExpectedAnswerError:
            return

    async def _check(self, journal: Journal) -> None:
        """Every pair is swapped, as the server shows it."""
        for database in {pair.database for pair in journal.pairs}:
            there = await self._uuids(database)
            for pair in journal.pairs:
                if pair.database == database and there.get(pair.name) != pair.staged_uuid:
                    raise LucidError(
                        f"{database}.{pair.name} was renamed or dropped by somebody during the swap; the swap goes on"
                        " by itself.",
                        reason=Reason.RUNNING,
                    )

    async def _complete(self, journal: Journal) -> None:
        """Views and expiry, after the last rename."""
        for view in journal.views:
            await self._make_view(view)
        for pair in journal.pairs:
            for expiry in pair.expiries:
                await self._expire(pair.database, pair.name, expiry)
        for direct in journal.direct:
            for expiry in direct.expiries:
                await self._expire(direct.database, direct.name, expiry)
            listed = (await self._uuids(direct.database)).get(direct.listed) if direct.listed else None
            if direct.listed and listed:
                await self._drop(direct.database, direct.listed, listed)
        if journal.accounts:
            await self._merge_accounts(journal.run)

    async def _merge_accounts(self, run: str) -> None:
        """The last step. What came up since the worker looked stays as it is."""
        users, roles = accounts.names(run)
        there = await self._uuids(accounts.ADMIN)
        if users in there and roles in there:
            for waiting, live in ((users, accounts.USERS[1]), (roles, accounts.ROLES[1])):
                await self._spare(waiting, live)
            attempt = self._connection.attempt("merge the users and roles of the backup", action="createUser")
            await self._connection.write(accounts.ADMIN, accounts.merge_command(run), attempt)
        await self._forget_accounts(run)

    async def _spare(self, waiting: str, live: str) -> None:
        attempt = self._connection.attempt(f"compare users and roles with admin.{live}", action="find")
        scope = self._connection.database(accounts.ADMIN)
        async with self._connection.bounded(attempt):
            keys = [one["_id"] async for one in scope[waiting].find({}, {"_id": 1})]
            found = [one["_id"] async for one in scope[live].find({"_id": {"$in": keys}}, {"_id": 1})]
        if found:
            change = {"q": {"_id": {"$in": found}}, "limit": 0}
            await self._connection.write(accounts.ADMIN, {"delete": waiting, "deletes": [change]}, attempt)

    async def _forget_accounts(self, run: str) -> None:
        there = await self._uuids(accounts.ADMIN)
        for name in accounts.names(run):
            if there.get(name):
                await self._drop(accounts.ADMIN, name, there[name])

    async def _make_view(self, view: View) -> None:
        attempt = self._connection.attempt(f"make the view {view.database}.{view.name}")
        definition: dict[str, object] = {"viewOn": view.on, "pipeline": list(view.pipeline)}
        collation = {} if view.collation is None else {"collation": view.collation}
        try:
            await self._connection.write(
                view.database,
                {"create": view.name, **definition, **collation},
                attempt,
                expected={NAMESPACE_EXISTS},
            )
        except ExpectedAnswerError:
            await self._connection.write(view.database, {"collMod": view.name, **definition}, attempt)

    async def _expire(self, database: str, name: str, expiry: Expiry) -> None:
        attempt = self._connection.attempt(f"set the expiry of {database}.{name}")
        change: dict[str, object] = {"expireAfterSeconds": expiry.seconds}
        if expiry.index is not None:
            change = {"index": {"name": expiry.index, **change}}
        # Where the application dropped the index or the collection meanwhile, nothing is left to expire.
        gone = {INDEX_NOT_FOUND, NAMESPACE_NOT_FOUND}
        try:
            await self._connection.write(database, {"collMod": name, **change}, attempt, expected=gone)
        except ExpectedAnswerError:
            return

    # Commands

    async def _entries(self, database: str) -> list[Mapping[str, object]]:
        attempt = self._connection.attempt(f"list the collections of {database}", action="listCollections")
        async with self._connection.bounded(attempt):
            scope = self._connection.database(database)
            cursor = await scope.cursor_command(
                {"listCollections": 1, "cursor": {}}, codec_options=scope.codec_options
            )
            return [dict(entry) async for entry in cursor]

    async def _uuids(self, database: str) -> dict[str, str]:
        """Views have none, and stand there by an empty one, since they take a name too."""
        return {str(entry["name"]): _uuid(entry) or "" for entry in await self._entries(database)}

    async def _count(self, database: str, name: str, kind: str) -> int:
        """Whether there is anything matters, and the server's own figure is right about that but after a crash."""
        counted = f"system.buckets.{name}" if kind == "timeseries" else name
        attempt = self._connection.attempt(f"count {database}.{name}", action="find")
        answer = await self._connection.read(database, {"count": counted}, attempt)
        found = answer.get("n")
        return int(found) if isinstance(found, int | float) else 0

    async def _stored(self, database: str, name: str) -> int:
        """0 where the login may not read it: then nothing is counted on."""
        attempt = self._connection.attempt(f"read the size of {database}.{name}", action="collStats")
        try:
            answer = await self._connection.read(database, {"collStats": name}, attempt)
        except LucidError:
            return 0
        sizes = (answer.get("storageSize"), answer.get("totalIndexSize"))
        return sum(int(size) for size in sizes if isinstance(size, int | float))

    async def _find(self, database: str, collection: str, key: str) -> Mapping[str, object] | None:
        attempt = self._connection.attempt(f"read {database}.{collection}", action="find")
        command = {
            "find": collection,
            "filter": {"_id": key},
            "limit": 1,
            "readConcern": {"level": "majority"},
        }
        answer = await self._connection.read(database, command, attempt)
        cursor = answer["cursor"]
        assert isinstance(cursor, Mapping)
        batch = cursor["firstBatch"]
        return batch[0] if batch else None

    async def _put(self, database: str, collection: str, document: Mapping[str, object], task: str) -> None:
        attempt = self._connection.attempt(task, action="update")
        change = {"q": {"_id": document["_id"]}, "u": dict(document), "upsert": True}
        answer = await self._connection.write(database, {"update": collection, "updates": [change]}, attempt)
        if answer.get("writeErrors"):
            raise LucidError(
                f"{attempt.label}: cannot {task}: the server refused the document; see that {database} can be written."
            )

    async def _forget(self, database: str, run: str) -> None:
        attempt = self._connection.attempt("remove the swap's journal", action="remove")
        # A worker that nobody hears of may still hold a lease: it must find it revoked, and the next run the time.
        await self._connection.write(database, {"update": JOURNALS, "updates": [revocation(run)]}, attempt)
        change = {"q": {"_id": run, "leaseUntil": {"$exists": False}}, "limit": 1}
        await self._connection.write(database, {"delete": JOURNALS, "deletes": [change]}, attempt)

    async def _drop(self, database: str, name: str, uuid: str) -> None:
        command: dict[str, object] = {"drop": name}
        if (await self._connection.info()).at_least(6):
            command["collectionUUID"] = Binary(UUID(hex=uuid).bytes, 4)
        attempt = self._connection.attempt(f"drop {database}.{name}")
        try:
            await self._connection.write(
                database, command, attempt, expected={NAMESPACE_NOT_FOUND, UUID_MISMATCH}
            )
        except ExpectedAnswerError:
            return

    async def _undo(self, direct: Direct) -> None:
        """What lies under its own name before the swap: dropped where the run made it, else emptied of what it put."""
        there = await self._uuids(direct.database)
        buckets = f"{BUCKETS_PREFIX}{direct.name}"
        holder = buckets if buckets in there else direct.name
        uuid = there.get(holder)
        if direct.made_uuid is None or uuid != direct.made_uuid:
            if direct.listed and uuid and uuid == direct.found_uuid:
                await self._take_back(direct.database, holder, direct.listed)
            return
        if buckets in there:
            # The server compares no UUID where it drops a time series.
            attempt = self._connection.attempt(f"drop {direct.database}.{direct.name}")
            await self._connection.write(direct.database, {"drop": direct.name}, attempt)
        else:
            await self._drop(direct.database, direct.name, direct.made_uuid)

    async def _take_back(self, database: str, collection: str, listed: str) -> None:
        """Remove what a list of `_id`s names. Harmless to repeat."""
        attempt = self._connection.attempt(f"take back what was loaded into {database}.{collection}")
        while keys := keys_in(await self._connection.read(database, next_keys(listed), attempt)):
            for command in removals(collection, listed, keys):
                await self._connection.write(database, command, attempt)

    async def _hosts(self) -> list[str]:
        attempt = self._connection.attempt("ask which members there are")
        hello = await self._connection.read("admin", {"hello": 1}, attempt)
        hosts, passives = hello.get("hosts"), hello.get("passives")
        found = [
            *(hosts if isinstance(hosts, list) else ()),
            *(passives if isinstance(passives, list) else ()),
        ]
        return [str(host) for host in found] or [str(hello.get("me", ""))]

    async def _free(self, host: str, database: str) -> int | None:
        """Each member is asked by a connection of its own, since a replica set's answers for one of them."""
        uri = direct_uri(self._uri, host)
        if uri is None:
            return None
        member = Connection(uri, label=host, app_name="lucid-storage-restore", guard=lambda: None)
        try:
            # A member says it only for a database that it has.
            for name in (database, "admin", "local"):
                free = await _free_bytes(member, name)
                if free is not None:
                    return free
        finally:
            await member.close()
        return None


async def _free_bytes(member: Connection, database: str) -> int | None:
    attempt = member.attempt("read the free space", action="dbStats")
    try:
        answer = await member.read(database, {"dbStats": 1}, attempt)
    except LucidError:
        return None
    total, used = answer.get("fsTotalSize"), answer.get("fsUsedSize")
    if not isinstance(total, int | float) or not isinstance(used, int | float) or total <= 0:
        return None
    return int(total - used)


def direct_uri(uri: str, host: str) -> str | None:
    """The same login at one member alone; None for addresses by DNS, whose options lie in records."""
    scheme, found, rest = uri.partition("://")
    if scheme != "mongodb" or not found:
        return None
    address, _, tail = rest.partition("/")
    database, _, options = tail.partition("?")
    login = f"{address.rpartition('@')[0]}@" if "@" in address else ""
    gone = ("replicaset=", "directconnection=", "loadbalanced=", "readpreference")
    kept = [option for option in options.split("&") if option and not option.lower().startswith(gone)]
    return f"mongodb://{login}{host}/{database}?{'&'.join([*kept, 'directConnection=true'])}"


def _uuid(entry: Mapping[str, object] | None) -> str | None:
    info = entry.get("info") if entry is not None else None
    found = info.get("uuid") if isinstance(info, Mapping) else None
    return bytes(found).hex() if isinstance(found, bytes) else None


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
    same = isinstance(options, Mapping) and (options.get("viewOn"), _plain(options.get("pipeline"))) == (
        view.on,
        _plain(list(view.pipeline)),
    )
    if not same and not drop_existing:
        raise RefusedError(
            f"The view {view.database}.{view.name} is another one than in the backup; set dropExisting to true to"
            " replace it.",
            reason=Reason.TARGET_NOT_EMPTY,
        )


def _plain(value: object) -> object:
    if isinstance(value, RawBSONDocument | Mapping):
        return [(key, _plain(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _no_journal(run: str, home: str) -> RefusedError:
    return RefusedError(
        f"The journal of the run {run} is not in {home}.{JOURNALS}; nothing was swapped. Restore again.",
        reason=Reason.WORKER_LOST,
    )


def _lost(pair: Pair) -> RefusedError:
    return RefusedError(
        f"The staged collection {pair.database}.{pair.staged} was dropped by somebody, so {pair.database}.{pair.name}"
        " cannot be restored by this run. Restore again.",
        reason=Reason.WORKER_LOST,
    )


__all__ = ["MongoRestores"]
