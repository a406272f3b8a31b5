"""MongoPort in memory, for tests of the engine. test_mongo_contract.py holds it to what the adapter promises.

A test can look into `writes`, put results into `violations`, `expired`, `duplicate_report`, `progress`, make
the next calls fail through `failures`, and hold index builds by clearing `builds_may_end`.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from lucid_storage.errors import (
    DuplicateKeysError,
    IndexConflictError,
    LucidError,
    Reason,
    ServerRefusedError,
)
from lucid_storage.stores.documents import to_bson, to_json
from lucid_storage.stores.mongodb.definition import normal, repeated_field, same_definition
from lucid_storage.stores.mongodb.types import (
    BuildProgress,
    Capped,
    CollectionChange,
    CollectionOptions,
    CollectionState,
    CollectionStats,
    DdlEvent,
    DuplicateReport,
    IndexChange,
    IndexDefinition,
    IndexState,
    JsonDoc,
    JsonValue,
    ServerInfo,
    Topology,
    Violations,
)

PLUGINS = frozenset({"2d", "2dsphere", "text", "hashed"})


@dataclass
class Stored:
    state: CollectionState
    indexes: dict[str, IndexState] = field(default_factory=dict)
    documents: int = 0


class FakeMongo:
    def __init__(self, guard: Callable[[], None] = lambda: None) -> None:
        self._guard = guard
        self._stored: dict[tuple[str, str], Stored] = {}
        self._watchers: list[asyncio.Queue[DdlEvent]] = []
        self.server = ServerInfo("fake-deployment", (6, 0, 5), Topology.REPLICA_SET)
        self.writes: list[tuple[str, ...]] = []
        self.failures: list[LucidError] = []
        self.violations = Violations(checked=0, violating=0, complete=True)
        self.expired: int | None = 0
        self.duplicate_report: DuplicateReport | None = None
        self.progress: tuple[BuildProgress, ...] = ()
        self.builds_may_end = asyncio.Event()
        self.builds_may_end.set()
        self.closed = False

    async def info(self) -> ServerInfo:
        self._fail()
        return self.server

    async def databases(self) -> tuple[str, ...]:
        self._fail()
        return tuple(sorted({database for database, _ in self._stored}))

    async def collections(self, database: str) -> tuple[CollectionState, ...]:
        self._fail()
        found = (stored.state for (name, _), stored in self._stored.items() if name == database)
        return tuple(sorted(found, key=lambda state: state.name))

    async def collection(self, database: str, name: str) -> CollectionState | None:
        self._fail()
        stored = self._stored.get((database, name))
        return None if stored is None else stored.state

    async def create_collection(self, database: str, name: str, options: CollectionOptions) -> bool:
        if not name or name.startswith(("system.", "lucid_stg_", "lucid_old_")):
            raise ServerRefusedError("fake: a reserved name", reason=Reason.INVALID_SPEC)
        observed = _observed_options(options)
        if (database, name) in self._stored:
            return False
        self._write("create", database, name)
        kind = "timeseries" if options.time_series is not None else "collection"
        state = CollectionState(database, name, kind, uuid.uuid4().hex, observed)
        own = IndexDefinition(keys=(("_id", 1),), collation=observed.collation)
        indexes = {} if kind == "timeseries" else {"_id_": IndexState("_id_", own)}
        if options.clustered_index is not None:
            given = str(options.clustered_index.get("name", "_id_"))
            indexes = {given: IndexState(given, replace(own, unique=True), clustered=True)}
        self._stored[database, name] = Stored(state, indexes)
        self._tell(DdlEvent("create", database, name))
        return True

    async def change_collection(self, database: str, name: str, change: CollectionChange) -> None:
        if change == CollectionChange():
            return
        stored = self._existing(database, name)
        changed = _changed_options(stored.state.options, change)
        self._write("collMod", database, name)
        stored.state = replace(stored.state, options=changed)
        self._tell(DdlEvent("modify", database, name))

    async def drop_collection(self, database: str, name: str, uuid: str) -> bool:
        stored = self._stored.get((database, name))
        if stored is None or stored.state.uuid != uuid:
            return False
        self._write("drop", database, name)
        del self._stored[database, name]
        self._tell(DdlEvent("drop", database, name))
        return True

    async def collection_stats(self, database: str, name: str) -> CollectionStats | None:
        self._fail()
        stored = self._stored.get((database, name))
        if stored is None:
            return None
        capped = stored.state.options.capped
        return CollectionStats(
            stored.documents,
            stored.documents * 100,
            4096,
            index_count=len(stored.indexes),
            index_bytes=4096 * len(stored.indexes),
            capped_max_bytes=None if capped is None else capped.size_bytes,
        )

    async def count_violations(
        self, database: str, name: str, validator: JsonDoc, budget_seconds: float
    ) -> Violations:
        self._fail()
        return self.violations

    async def count_expired(
        self, database: str, name: str, field: str, seconds: int, budget_seconds: float
    ) -> int | None:
        self._fail()
        return self.expired

    async def indexes(self, database: str, collection: str) -> tuple[IndexState, ...] | None:
        self._fail()
        stored = self._stored.get((database, collection))
        return None if stored is None else tuple(stored.indexes.values())

    async def create_index(
        self, database: str, collection: str, name: str, definition: IndexDefinition
    ) -> None:
        _check_index(definition)
        stored = self._existing(database, collection)
        wanted = _observed_index(definition, stored.state.options.collation)
        self._refuse_conflicts(stored, name, wanted)
        known = stored.indexes.get(name)
        if known is None:
            self._write("createIndexes", database, collection, name)
            stored.indexes[name] = IndexState(name, wanted, building=True)
        await self.builds_may_end.wait()
        self._end_build(database, collection, name)

    async def change_index(self, database: str, collection: str, name: str, change: IndexChange) -> None:
        if change == IndexChange():
            return
        stored = self._existing(database, collection)
        state = stored.indexes.get(name)
        if state is None:
            raise _retried(ServerRefusedError("fake: no such index"))
        self._write("collMod", database, collection, name)
        definition = state.definition
        if change.hidden is not None:
            definition = replace(definition, hidden=change.hidden or None)
        if change.expire_after_seconds is not None:
            if len(definition.keys) > 1:
                raise ServerRefusedError("fake: TTL on a compound key")
            definition = replace(definition, expire_after_seconds=change.expire_after_seconds)
        prepared = state.prepare_unique if change.prepare_unique is None else change.prepare_unique
        if change.unique:
            if not prepared:
                raise ServerRefusedError("fake: prepareUnique is not set")
            if self.duplicate_report is not None and self.duplicate_report.groups:
                raise DuplicateKeysError("fake: duplicates")
            definition, prepared = replace(definition, unique=True), False
        stored.indexes[name] = replace(state, definition=definition, prepare_unique=prepared)
        self._tell(DdlEvent("modify", database, collection))

    async def drop_index(self, database: str, collection: str, name: str) -> bool:
        stored = self._stored.get((database, collection))
        if stored is None or name not in stored.indexes:
            return False
        if name == "_id_":
            raise ServerRefusedError("fake: cannot drop _id index")
        self._write("dropIndexes", database, collection, name)
        del stored.indexes[name]
        self._tell(DdlEvent("dropIndexes", database, collection, index_names=(name,)))
        return True

    async def build_progress(self, database: str, collection: str) -> tuple[BuildProgress, ...]:
        self._fail()
        return self.progress

    async def duplicates(
        self, database: str, collection: str, definition: IndexDefinition, budget_seconds: float
    ) -> DuplicateReport:
        self._fail()
        return self.duplicate_report or DuplicateReport("{}", groups=0, documents=0, complete=True)

    @asynccontextmanager
    async def watch_ddl(self, databases: Sequence[str]) -> AsyncIterator[AsyncIterator[DdlEvent]]:
        self._fail()
        queue: asyncio.Queue[DdlEvent] = asyncio.Queue()
        self._watchers.append(queue)
        try:
            yield _drained(queue)
        finally:
            self._watchers.remove(queue)

    async def close(self) -> None:
        self.closed = True

    # For tests: what somebody else does to the database.

    def put_documents(self, database: str, name: str, count: int) -> None:
        self._stored[database, name].documents = count

    def drop_index_outside(self, database: str, collection: str, name: str) -> None:
        del self._stored[database, collection].indexes[name]
        self._tell(DdlEvent("dropIndexes", database, collection, index_names=(name,)))

    def change_outside(self, database: str, name: str, options: CollectionOptions) -> None:
        stored = self._stored[database, name]
        stored.state = replace(stored.state, options=_observed_options(options))
        self._tell(DdlEvent("modify", database, name))

    def _existing(self, database: str, name: str) -> Stored:
        stored = self._stored.get((database, name))
        if stored is None:
            raise _retried(ServerRefusedError("fake: no collection", reason=Reason.COLLECTION_NOT_READY))
        return stored

    def _refuse_conflicts(self, stored: Stored, name: str, wanted: IndexDefinition) -> None:
        for other in stored.indexes.values():
            same = not set(same_definition(wanted, other.definition)) - {"hidden"}
            if other.name == name and not same:
                raise IndexConflictError("fake: the name is taken by another definition")
            if other.name != name and (same or (_is_text(wanted) and _is_text(other.definition))):
                raise IndexConflictError("fake: an equal index has another name")
        repeated = self.duplicate_report is not None and self.duplicate_report.groups
        if wanted.unique and repeated and name not in stored.indexes:
            raise DuplicateKeysError("fake: duplicates")

    def _end_build(self, database: str, collection: str, name: str) -> None:
        stored = self._stored.get((database, collection))
        state = None if stored is None else stored.indexes.get(name)
        if stored is None or state is None or not state.building:
            return
        stored.indexes[name] = replace(state, building=False)
        self._tell(DdlEvent("createIndexes", database, collection, index_names=(name,)))

    def _write(self, *what: str) -> None:
        self._fail()
        self._guard()
        self.writes.append(what)

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)

    def _tell(self, event: DdlEvent) -> None:
        for queue in self._watchers:
            queue.put_nowait(event)


async def _drained(queue: asyncio.Queue[DdlEvent]) -> AsyncIterator[DdlEvent]:
    while True:
        yield await queue.get()


def _retried(error: ServerRefusedError) -> ServerRefusedError:
    error.stalled = False
    return error


def _is_text(definition: IndexDefinition) -> bool:
    return any(order == "text" for _, order in definition.keys)


def _canonical(document: JsonDoc | None) -> JsonDoc | None:
    return None if document is None else to_json(to_bson(document))


def _expanded(collation: JsonDoc | None) -> JsonDoc | None:
    if collation is None or collation.get("locale") == "simple":
        return None
    defaults: dict[str, JsonValue] = {
        "caseLevel": False,
        "caseFirst": "off",
        "strength": 3,
        "numericOrdering": False,
        "alternate": "non-ignorable",
        "maxVariable": "punct",
        "normalization": False,
        "backwards": False,
    }
    return {**defaults, **collation}


def _observed_options(options: CollectionOptions) -> CollectionOptions:
    capped = options.capped
    if capped is not None:
        capped = Capped(-(-capped.size_bytes // 256) * 256, capped.max_documents)
    return replace(
        options,
        capped=capped,
        collation=_expanded(options.collation),
        pre_and_post_images=options.pre_and_post_images or None,
        validator=_canonical(options.validator) or None,
    )


def _changed_options(options: CollectionOptions, change: CollectionChange) -> CollectionOptions:
    if change.validator is not None:
        options = replace(options, validator=_canonical(change.validator) or None)
    if change.validator is not None or change.validation_level or change.validation_action:
        options = replace(
            options,
            validation_level=change.validation_level or options.validation_level or "strict",
            validation_action=change.validation_action or options.validation_action or "error",
        )
    if change.pre_and_post_images is not None:
        options = replace(options, pre_and_post_images=change.pre_and_post_images or None)
    if options.capped is not None:
        size = change.capped_size_bytes or options.capped.size_bytes
        limit = options.capped.max_documents
        if change.capped_max_documents is not None:
            limit = change.capped_max_documents or None
        options = replace(options, capped=Capped(-(-size // 256) * 256, limit))
    if options.time_series is not None:
        series = dict(options.time_series)
        if change.granularity is not None:
            series["granularity"] = change.granularity
        if change.expire_after_seconds is not None:
            series.pop("expireAfterSeconds", None)
            if change.expire_after_seconds >= 0:
                series["expireAfterSeconds"] = change.expire_after_seconds
        options = replace(options, time_series=series)
    return options


def _check_index(definition: IndexDefinition) -> None:
    if repeated_field(definition) is not None:
        raise ServerRefusedError("fake: a field twice", reason=Reason.INVALID_SPEC)
    if definition.expire_after_seconds is not None and len(definition.keys) > 1:
        raise ServerRefusedError("fake: TTL on a compound key")
    for _, order in definition.keys:
        if order == 0 or (isinstance(order, str) and order not in PLUGINS):
            raise ServerRefusedError("fake: unknown index plugin")


def _observed_index(definition: IndexDefinition, collation: JsonDoc | None) -> IndexDefinition:
    own = definition.collation
    return normal(
        replace(
            definition,
            hidden=definition.hidden or None,
            partial_filter=_canonical(definition.partial_filter),
            collation=collation if own is None else _expanded(own),
        )
    )
