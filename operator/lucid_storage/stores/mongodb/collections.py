"""Collections: listing, creating, changing in place, dropping, sizes."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from bson import Binary

from lucid_storage.errors import Reason, ServerRefusedError
from lucid_storage.stores.documents import to_bson, to_json, to_plain
from lucid_storage.stores.mongodb.batches import Batches
from lucid_storage.stores.mongodb.connection import Connection, Document, ExpectedAnswerError
from lucid_storage.stores.mongodb.errors import (
    NAMESPACE_EXISTS,
    NAMESPACE_NOT_FOUND,
    NOT_SUPPORTED_ON_VIEW,
    UUID_MISMATCH,
)
from lucid_storage.stores.mongodb.names import BUCKETS_PREFIX
from lucid_storage.stores.mongodb.own import CREATE, MODIFY, Change, OwnChanges
from lucid_storage.stores.mongodb.snapshots import Snapshots
from lucid_storage.stores.mongodb.types import (
    Capped,
    CollectionChange,
    CollectionOptions,
    CollectionState,
    CollectionStats,
    JsonDoc,
    Topology,
)

RESERVED_PREFIXES = ("system.", "lucid_stg_", "lucid_old_")
SYSTEM_DATABASES = frozenset({"admin", "local", "config"})
RESERVED_DATABASE_PREFIXES = ("lucid_stg_", "lucid_old_")

_READ = frozenset(
    {
        *(
            "capped",
            "size",
            "max",
            "timeseries",
            "clusteredIndex",
            "expireAfterSeconds",
            "collation",
            "validator",
        ),
        *("changeStreamPreAndPostImages", "validationLevel", "validationAction"),
        # Without effect on today's servers.
        *("autoIndexId", "flags", "temp", "uuid", "writeConcern"),
    }
)
"""Options that are read, or that say nothing."""
LISTING_MS = 20_000
_NO_LIMIT = 2**31 - 1
"""What the server reports once a limit on documents was removed, or anything above it."""


class Collections:
    """Collections of one deployment. Callers at the same time share listings, and questions about single names."""

    def __init__(self, connection: Connection, own: OwnChanges) -> None:
        self._connection = connection
        self._own = own
        self.snapshots: Snapshots[str, dict[str, CollectionState]] = Snapshots(self._list)
        self._named: Batches[str, CollectionState] = Batches(self._list)

    async def close(self) -> None:
        await self.snapshots.close()
        await self._named.close()

    async def databases(self) -> tuple[str, ...]:
        attempt = self._connection.attempt("list the databases")
        command = {"listDatabases": 1, "nameOnly": True, "authorizedDatabases": True}
        answer = await self._connection.read("admin", command, attempt)
        listed = answer["databases"]
        assert isinstance(listed, list)
        names = (str(entry["name"]) for entry in listed)
        return tuple(sorted(name for name in names if is_user_database(name)))

    async def all(self, database: str) -> tuple[CollectionState, ...]:
        states = await self.snapshots.get(database)
        return tuple(states[name] for name in sorted(states))

    async def one(self, database: str, name: str) -> CollectionState | None:
        """As it is now, past the shared listing: for decisions right before a write."""
        return await self._named.get(database, name)

    async def create(self, database: str, name: str, options: CollectionOptions) -> bool:
        attempt = self._connection.attempt(f"create the collection {database}.{name}")
        if name.startswith(RESERVED_PREFIXES) or not name:
            raise ServerRefusedError(
                f"{attempt.label}: {name[:80]!r} is a reserved collection name; choose another one.",
                reason=Reason.INVALID_SPEC,
            )
        command = {"create": name, **create_options(options)}
        if await self._must_ask_first() and await self.one(database, name) is not None:
            return False
        try:
            with self._own.making(Change(CREATE, database, name)) as made:
                made(await self._connection.write(database, command, attempt, expected={NAMESPACE_EXISTS}))
        except ExpectedAnswerError:
            return False
        finally:
            self.snapshots.forget(database)
        return True

    async def _must_ask_first(self) -> bool:
        """A mongos, and since 7.0 each server, answers the creation of an equal collection with success
        (SERVER-60064): it would count as made by us.
        """
        info = await self._connection.info()
        return info.runs(7) or info.topology is Topology.SHARDED

    async def change(self, database: str, name: str, change: CollectionChange) -> None:
        command = change_command(change)
        if not command:
            return
        attempt = self._connection.attempt(f"change the collection {database}.{name}")
        try:
            with self._own.making(Change(MODIFY, database, name)) as made:
                made(await self._connection.write(database, {"collMod": name, **command}, attempt))
        finally:
            self.snapshots.forget(database)

    async def drop(self, database: str, name: str, uuid: str) -> bool:
        attempt = self._connection.attempt(f"drop the collection {database}.{name}")
        found = await self.one(database, name)
        if found is None or found.uuid != uuid:
            return False
        command: Document = {"drop": name}
        # The server itself compares the UUID where it can: since 6.0, and not for time series.
        if found.type == "collection" and (await self._connection.info()).at_least(6):
            command["collectionUUID"] = Binary(UUID(hex=uuid).bytes, 4)
        try:
            await self._connection.write(
                database, command, attempt, expected={NAMESPACE_NOT_FOUND, UUID_MISMATCH}
            )
        except ExpectedAnswerError:
            return False
        finally:
            self.snapshots.forget(database)
        return True

    async def stats(self, database: str, name: str) -> CollectionStats | None:
        attempt = self._connection.attempt(f"read the sizes of {database}.{name}", action="collStats")
        fields = ("count", "size", "storageSize", "nindexes", "totalIndexSize", "maxSize")
        pipeline: list[Document] = [
            {"$collStats": {"storageStats": {}}},
            # Without this the server's answer holds hundreds of internal counters.
            {"$project": {f"storageStats.{field}": 1 for field in fields}},
        ]
        try:
            shards = await self._connection.aggregate(
                database, name, pipeline, attempt, expected={NAMESPACE_NOT_FOUND, NOT_SUPPORTED_ON_VIEW}
            )
        except ExpectedAnswerError:
            return None
        figures = [
            entry["storageStats"] for entry in shards if isinstance(entry.get("storageStats"), Mapping)
        ]
        return _stats([figure for figure in figures if isinstance(figure, Mapping)])

    async def _list(self, database: str, only: frozenset[str] | None = None) -> dict[str, CollectionState]:
        attempt = self._connection.attempt(f"list the collections of {database}", action="listCollections")
        listing = None
        if only is not None:
            # A time series has its UUID at its buckets.
            listing = {"name": {"$in": [*only, *(f"{BUCKETS_PREFIX}{name}" for name in only)]}}
        async with self._connection.bounded(attempt):
            scope = self._connection.database(database)
            # The driver's own list_collections decodes with its defaults, and fails on a date after the year 9999.
            command: Document = {"listCollections": 1, "cursor": {}, "maxTimeMS": LISTING_MS}
            if listing is not None:
                command["filter"] = listing
            cursor = await scope.cursor_command(command, codec_options=scope.codec_options)
            entries: list[Document] = [dict(entry) async for entry in cursor]
        uuids = {str(entry["name"]): _uuid(entry) for entry in entries}
        states = {}
        for entry in entries:
            name = str(entry["name"])
            if not name.startswith(RESERVED_PREFIXES):
                uuid = uuids[name] or uuids.get(f"{BUCKETS_PREFIX}{name}")
                states[name] = _state(database, entry, uuid)
        return states


def is_user_database(name: str) -> bool:
    return name not in SYSTEM_DATABASES and not name.startswith(RESERVED_DATABASE_PREFIXES)


def create_options(options: CollectionOptions) -> Document:
    """Options of the create command. Raises ServerRefusedError (InvalidSpec) for bad Extended JSON."""
    command: Document = {}
    if options.capped is not None:
        command.update(capped=True, size=options.capped.size_bytes)
        if options.capped.max_documents:
            command["max"] = options.capped.max_documents
    if options.time_series is not None:
        command.update(_with_expiry("timeseries", to_bson(options.time_series)))
    if options.clustered_index is not None:
        index = {"unique": True, **to_bson(options.clustered_index), "key": {"_id": 1}}
        command.update(_with_expiry("clusteredIndex", index))
    if options.collation is not None:
        command["collation"] = to_bson(options.collation)
    if options.pre_and_post_images is not None:
        command["changeStreamPreAndPostImages"] = {"enabled": options.pre_and_post_images}
    if options.validator:
        command["validator"] = to_bson(options.validator)
    if options.validation_level is not None:
        command["validationLevel"] = options.validation_level
    if options.validation_action is not None:
        command["validationAction"] = options.validation_action
    return command


def change_command(change: CollectionChange) -> Document:
    """All changes in one collMod, which the server applies as a whole; empty when nothing changes."""
    command: Document = {}
    if change.validator is not None:
        command["validator"] = to_bson(change.validator)
    if change.validation_level is not None:
        command["validationLevel"] = change.validation_level
    if change.validation_action is not None:
        command["validationAction"] = change.validation_action
    if change.pre_and_post_images is not None:
        command["changeStreamPreAndPostImages"] = {"enabled": change.pre_and_post_images}
    if change.expire_after_seconds is not None:
        seconds = change.expire_after_seconds
        command["expireAfterSeconds"] = "off" if seconds < 0 else seconds
    if change.granularity is not None:
        command["timeseries"] = {"granularity": change.granularity}
    if change.capped_size_bytes is not None:
        command["cappedSize"] = change.capped_size_bytes
    if change.capped_max_documents is not None:
        command["cappedMax"] = change.capped_max_documents
    return command


def _with_expiry(option: str, document: Document) -> Document:
    # Both kinds take their expiry beside the option, while it is declared inside.
    seconds = document.pop("expireAfterSeconds", None)
    return {option: document} if seconds is None else {option: document, "expireAfterSeconds": seconds}


def _uuid(entry: Document) -> str | None:
    info = entry.get("info")
    found = info.get("uuid") if isinstance(info, Mapping) else None
    return bytes(found).hex() if isinstance(found, bytes) else None


def _state(database: str, entry: Document, uuid: str | None) -> CollectionState:
    options = entry.get("options")
    kind = str(entry.get("type", "collection"))
    assert isinstance(options, Mapping)
    if kind == "view":
        return CollectionState(database, str(entry["name"]), kind, uuid, CollectionOptions())
    beyond = tuple(sorted(name for name, value in options.items() if value and name not in _READ))
    return CollectionState(database, str(entry["name"]), kind, uuid, observed_options(options), beyond)


def observed_options(options: Mapping[str, object]) -> CollectionOptions:
    """What listCollections reports; None where nothing is set, an empty validator included."""
    validator = options.get("validator")
    images = options.get("changeStreamPreAndPostImages")
    collation = options.get("collation")
    return CollectionOptions(
        capped=_capped(options),
        time_series=_expiring(options, "timeseries"),
        clustered_index=_clustered(options),
        collation=observed_collation(collation),
        pre_and_post_images=bool(images.get("enabled")) if isinstance(images, Mapping) else None,
        validator=to_json(validator) if isinstance(validator, Mapping) and validator else None,
        validation_level=_text(options.get("validationLevel")),
        validation_action=_text(options.get("validationAction")),
    )


def observed_collation(collation: object) -> JsonDoc | None:
    """A collation without the version of the ICU library, which nobody declares."""
    if not isinstance(collation, Mapping) or collation.get("locale") == "simple":
        return None
    return to_plain({key: value for key, value in collation.items() if key != "version"})


def _capped(options: Mapping[str, object]) -> Capped | None:
    if not options.get("capped"):
        return None
    size, limit = options.get("size"), options.get("max")
    assert isinstance(size, int | float)
    limited = isinstance(limit, int | float) and 0 < limit < _NO_LIMIT
    return Capped(int(size), int(limit) if limited and isinstance(limit, int | float) else None)


def _expiring(options: Mapping[str, object], option: str) -> JsonDoc | None:
    document = options.get(option)
    if not isinstance(document, Mapping):
        return None
    plain = to_plain(document)
    if "expireAfterSeconds" in options:
        plain.update(to_plain({"expireAfterSeconds": options["expireAfterSeconds"]}))
    return plain


def _clustered(options: Mapping[str, object]) -> JsonDoc | None:
    plain = _expiring(options, "clusteredIndex")
    if plain is None:
        return None
    return {key: value for key, value in plain.items() if key not in ("v", "key")}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _stats(shards: list[Mapping[str, object]]) -> CollectionStats | None:
    if not shards:
        return None

    def total(field: str) -> int:
        return sum(_whole(shard.get(field)) for shard in shards)

    return CollectionStats(
        documents=total("count"),
        size_bytes=total("size"),
        storage_bytes=total("storageSize"),
        index_count=max(_whole(shard.get("nindexes")) for shard in shards),
        index_bytes=total("totalIndexSize"),
        capped_max_bytes=_whole(shards[0]["maxSize"]) if "maxSize" in shards[0] else None,
    )


def _whole(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0
