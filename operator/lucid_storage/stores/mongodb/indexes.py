"""Indexes: listing with the building ones, creating, changing in place, dropping."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from uuid import UUID

from bson import Binary
from bson.son import SON

from lucid_storage.errors import Reason, ServerRefusedError
from lucid_storage.stores.documents import to_bson, to_json, to_plain
from lucid_storage.stores.mongodb.collections import Collections, observed_collation
from lucid_storage.stores.mongodb.connection import Connection, Document, ExpectedAnswerError
from lucid_storage.stores.mongodb.definition import TEXT, normal, repeated_field
from lucid_storage.stores.mongodb.errors import (
    INDEX_NOT_FOUND,
    NAMESPACE_NOT_FOUND,
    NOT_SUPPORTED_ON_VIEW,
    UUID_MISMATCH,
    not_ready,
)
from lucid_storage.stores.mongodb.own import CREATE_INDEXES, MODIFY, Change, OwnChanges
from lucid_storage.stores.mongodb.snapshots import Snapshots
from lucid_storage.stores.mongodb.types import IndexChange, IndexDefinition, IndexState, KeyOrder, Topology

Namespace = tuple[str, str]

WAITING_BUILDS = 8
"""Builds waited for at the same time: each holds a connection, and looks need some too."""

_TTL_NEVER = 2**31 - 1
"""What the server makes of a TTL that is not a number."""


_SPHERE_VERSION, _SPHERE_VERSION_NOW = "2dsphereIndexVersion", 3
_READ = frozenset(
    {
        *(
            "key",
            "name",
            "unique",
            "sparse",
            "expireAfterSeconds",
            "partialFilterExpression",
            "collation",
            "hidden",
        ),
        *("wildcardProjection", "weights", "default_language", "language_override", "textIndexVersion"),
        *("bits", "min", "max", "prepareUnique", "clustered"),
        # Of the server itself, or without effect on today's servers.
        *("v", "ns", "background", "dropDups", "safe", "originalSpec", "buildUUID"),
    }
)
"""Options that are read, or that say nothing."""


class Indexes:
    """Indexes of one deployment. Listings are shared by callers at the same time."""

    def __init__(self, connection: Connection, collections: Collections, own: OwnChanges) -> None:
        self._connection = connection
        self._own = own
        self._collections = collections
        self._slots = asyncio.Semaphore(WAITING_BUILDS)
        self.snapshots: Snapshots[Namespace, tuple[IndexState, ...] | None] = Snapshots(self._list)

    async def all(self, database: str, collection: str) -> tuple[IndexState, ...] | None:
        return await self.snapshots.get((database, collection))

    async def create(self, database: str, collection: str, name: str, definition: IndexDefinition) -> None:
        attempt = self._connection.attempt(f"create the index {database}.{collection}/{name[:120]}")
        specification = index_specification(name, definition)
        async with self._slots:
            found = await self._collections.one(database, collection)
            if found is None:
                raise not_ready(attempt)
            command: Document = {"createIndexes": collection, "indexes": [specification]}
            info = await self._connection.info()
            # With the UUID the server never makes the collection anew, should it be dropped right now.
            if (
                found.type == "collection"
                and found.uuid
                and info.at_least(6)
                and info.topology is not Topology.SHARDED
            ):
                command["collectionUUID"] = Binary(UUID(hex=found.uuid).bytes, 4)
            self.snapshots.forget((database, collection))
            try:
                with self._own.making(Change(CREATE_INDEXES, database, collection, name)) as made:
                    answer = await self._connection.write(database, command, attempt, seconds=None)
                    made(answer)
            finally:
                self.snapshots.forget((database, collection))
            if made_the_collection(answer):
                # The one that was looked at is gone. What came in its place stays: between a look into it and a drop
                # somebody could write documents.
                raise not_ready(attempt)

    async def change(self, database: str, collection: str, name: str, change: IndexChange) -> None:
        options: Document = {}
        if change.hidden is not None:
            options["hidden"] = change.hidden
        if change.expire_after_seconds is not None:
            options["expireAfterSeconds"] = change.expire_after_seconds
        if change.prepare_unique is not None:
            options["prepareUnique"] = change.prepare_unique
        if change.unique is not None:
            options["unique"] = change.unique
        if not options:
            return
        attempt = self._connection.attempt(f"change the index {database}.{collection}/{name[:120]}")
        command = {"collMod": collection, "index": {"name": name, **options}}
        # Converting to unique reads the whole index.
        seconds = 600.0 if change.unique else 20.0
        try:
            with self._own.making(Change(MODIFY, database, collection)) as made:
                made(await self._connection.write(database, command, attempt, seconds=seconds))
        finally:
            self.snapshots.forget((database, collection))

    async def drop(self, database: str, collection: str, name: str) -> bool:
        attempt = self._connection.attempt(f"drop the index {database}.{collection}/{name[:120]}")
        if name == "*":
            # To the server this name means every index.
            raise ServerRefusedError(
                f"{attempt.label}: an index cannot be named '*'; name one.", reason=Reason.INVALID_SPEC
            )
        gone = {INDEX_NOT_FOUND, NAMESPACE_NOT_FOUND, UUID_MISMATCH}
        try:
            command = {"dropIndexes": collection, "index": name}
            await self._connection.write(database, command, attempt, expected=gone)
        except ExpectedAnswerError:
            return False
        finally:
            self.snapshots.forget((database, collection))
        return True

    async def _list(self, namespace: Namespace) -> tuple[IndexState, ...] | None:
        database, collection = namespace
        attempt = self._connection.attempt(
            f"list the indexes of {database}.{collection}", action="listIndexes"
        )
        # A hundred entries fit into the first batch by far; the limit of a collection is 64.
        command = {"listIndexes": collection, "includeBuildUUIDs": True, "cursor": {"batchSize": 1000}}
        try:
            answer = await self._connection.read(
                database, command, attempt, expected={NAMESPACE_NOT_FOUND, NOT_SUPPORTED_ON_VIEW}
            )
        except ExpectedAnswerError as absent:
            return () if absent.code == NOT_SUPPORTED_ON_VIEW else None
        cursor = answer["cursor"]
        assert isinstance(cursor, Mapping)
        return tuple(observed_index(entry) for entry in cursor["firstBatch"])


def made_the_collection(answer: Mapping[str, object]) -> bool:
    """Whether createIndexes made its collection; a mongos tells it for each shard."""
    shards = answer.get("raw")
    told = [answer, *(shards.values() if isinstance(shards, Mapping) else ())]
    return any(isinstance(one, Mapping) and bool(one.get("createdCollectionAutomatically")) for one in told)


def index_specification(name: str, definition: IndexDefinition) -> Document:
    """One entry of createIndexes. Raises ServerRefusedError (InvalidSpec) for what cannot be sent."""
    twice = repeated_field(definition)
    if twice is not None:
        raise ServerRefusedError(
            f"The index {name[:120]!r} names the field {twice[:120]!r} twice; name it once.",
            reason=Reason.INVALID_SPEC,
        )
    specification: Document = {"name": name, "key": SON(definition.keys)}
    plain = {
        "unique": definition.unique or None,
        "sparse": definition.sparse or None,
        "expireAfterSeconds": definition.expire_after_seconds,
        "hidden": definition.hidden or None,
        "default_language": definition.default_language,
        "language_override": definition.language_override,
        "textIndexVersion": definition.text_index_version,
        "bits": definition.bits,
        "min": definition.min,
        "max": definition.max,
    }
    documents = {
        "partialFilterExpression": definition.partial_filter,
        "collation": definition.collation,
        "wildcardProjection": definition.wildcard_projection,
        "weights": definition.weights,
    }
    specification.update({option: value for option, value in plain.items() if value is not None})
    specification.update({option: to_bson(value) for option, value in documents.items() if value is not None})
    return specification


def observed_index(entry: Mapping[str, object]) -> IndexState:
    """An entry of listIndexes. A building one stands under `spec` beside its build's UUID."""
    inner = entry.get("spec")
    building = isinstance(inner, Mapping)
    spec: Mapping[str, object] = inner if isinstance(inner, Mapping) else entry
    if "indexBuildInfo" in entry:
        building = True
    return IndexState(
        name=str(spec["name"]),
        definition=observed_definition(spec),
        building=building,
        prepare_unique=bool(spec.get("prepareUnique")),
        clustered=bool(spec.get("clustered")),
        beyond=tuple(sorted(name for name, value in spec.items() if _says_more(name, value))),
    )


def _says_more(name: str, value: object) -> bool:
    """Whether an option of an index changes it, and nobody can declare it."""
    if name == _SPHERE_VERSION:
        return value != _SPHERE_VERSION_NOW
    return bool(value) and name not in _READ


def observed_definition(spec: Mapping[str, object]) -> IndexDefinition:
    """The definition in the user's form, without what the server added."""
    weights = spec.get("weights")
    partial, projection = spec.get("partialFilterExpression"), spec.get("wildcardProjection")
    keys = spec["key"]
    assert isinstance(keys, Mapping)
    is_text = "_fts" in keys
    return normal(
        IndexDefinition(
            keys=_keys(keys, weights if isinstance(weights, Mapping) else {}),
            unique=bool(spec.get("unique")),
            sparse=bool(spec.get("sparse")),
            expire_after_seconds=_seconds(spec.get("expireAfterSeconds")),
            partial_filter=to_json(partial) if isinstance(partial, Mapping) else None,
            collation=observed_collation(spec.get("collation")),
            hidden=True if spec.get("hidden") else None,
            wildcard_projection=to_plain(projection) if isinstance(projection, Mapping) else None,
            weights=to_plain(weights) if is_text and isinstance(weights, Mapping) else None,
            default_language=_text(spec.get("default_language")) if is_text else None,
            language_override=_text(spec.get("language_override")) if is_text else None,
            text_index_version=_version(spec.get("textIndexVersion")),
            bits=_whole(spec.get("bits")),
            min=_real(spec.get("min")),
            max=_real(spec.get("max")),
        )
    )


def _keys(keys: Mapping[str, object], weights: Mapping[str, object]) -> tuple[tuple[str, KeyOrder], ...]:
    pairs: list[tuple[str, KeyOrder]] = []
    for field, order in keys.items():
        if field == "_fts":
            pairs.extend((name, TEXT) for name in sorted(weights))
        elif field != "_ftsx":
            pairs.append((field, _order(order)))
    return tuple(pairs)


def _order(order: object) -> KeyOrder:
    if isinstance(order, bool) or not isinstance(order, int | float):
        return str(order)
    # Other numbers are legal in old indexes; as text they equal nothing that can be declared.
    return int(order) if float(order).is_integer() else str(order)


def _seconds(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if math.isfinite(value) else _TTL_NEVER


def _version(value: object) -> int | None:
    number = _whole(value)
    return None if number == 3 else number


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _real(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
