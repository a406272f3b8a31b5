"""Index on MongoDB: the hands. What to do is decided in `plan`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lucid_storage.errors import DuplicateKeysError, LucidError, Reason, ServerRefusedError
from lucid_storage.kinds import specs
from lucid_storage.kinds.connections import Connections
from lucid_storage.kinds.contract import Action, Disposal, Plan, Scope
from lucid_storage.kinds.identity import surely_another
from lucid_storage.kinds.index_mongodb.actions import (
    BuildIndex,
    ChangeIndex,
    CheckDuplicates,
    ConvertToUnique,
    CountExpired,
    DropIndex,
    StopPreparingUnique,
)
from lucid_storage.kinds.index_mongodb.builds import IndexBuilds
from lucid_storage.kinds.index_mongodb.checks import Answer, duplicates_said
from lucid_storage.kinds.index_mongodb.desired import IndexDesired, resolve
from lucid_storage.kinds.index_mongodb.observed import IndexObserved
from lucid_storage.kinds.index_mongodb.plan import plan
from lucid_storage.kinds.index_mongodb.superseded import is_claimed, to_be_shown
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.base import DeletionPolicy, Origin
from lucid_storage.models.index import IndexSpec, IndexStatus
from lucid_storage.models.kinds import KINDS, KindInfo
from lucid_storage.models.meta import CONFIRM_DELETE
from lucid_storage.models.schema_checks import free_form_problems
from lucid_storage.stores.mongodb.definition import same_definition
from lucid_storage.stores.mongodb.port import MongoPort
from lucid_storage.stores.mongodb.types import (
    DuplicateReport,
    IndexChange,
    IndexDefinition,
    IndexState,
    JsonDoc,
)

COUNT_SECONDS = 30.0
ID_KEYS = (("_id", 1),)


class MongoIndexKind:
    """Indexes of MongoDB collections."""

    info: KindInfo = KINDS["Index"]
    status_type = IndexStatus

    def __init__(self, connections: Connections, builds: IndexBuilds, sweep: specs.SweepSeconds) -> None:
        self._connections = connections
        self._builds = builds
        self._sweep = sweep

    def guess_target(self, resource: Resource, default_database: str | None) -> str:
        index = resource.spec.get("mongodb") or {}
        database = index.get("database") or resource.status.get("database") or default_database
        return f"{database}.{index.get('collection')}"

    async def desired(self, resource: Resource) -> IndexDesired:
        spec = specs.parse(IndexSpec, resource)
        index = spec.mongodb
        if index is None:
            raise LucidError("Fill the block spec.mongodb.", reason=Reason.INVALID_SPEC)
        specs.check_free_form(
            "mongodb.partialFilterExpression", index.partial_filter_expression, free_form_problems
        )
        secret = spec.connection.secret_name if spec.connection else None
        database = await specs.resolve_database(self._connections, resource, secret, index.database)
        specs.check_namespace(database, index.collection)
        return resolve(spec, index, database)

    def same_object(self, mine: IndexDesired, theirs: IndexDesired) -> bool:
        if mine.target != theirs.target:
            return False
        return mine.name == theirs.name or not same_definition(_visible(mine), _visible(theirs))

    async def identity(self, resource: Resource, desired: IndexDesired) -> str:
        return await specs.mongodb_identity(self._connections, resource, desired.secret, desired.database)

    async def observe(
        self,
        resource: Resource,
        desired: IndexDesired,
        status: IndexStatus,
        questions: Sequence[object],
        scope: Scope,
    ) -> IndexObserved:
        error = self._builds.take_error(resource.key)
        if error is not None:
            _begun_in_vain(status, error)
            raise error
        deployment = await self._connections.mongodb(resource.key.namespace, desired.secret)
        running = self._builds.running(resource.key)
        async with self._connections.watching(deployment) as port:
            server = await port.info()
            indexes = await port.indexes(desired.database, desired.collection)
            default_collation = await _default_collation(port, desired, indexes or ())
            building = bool(running) or any(ix.building for ix in indexes or ())
            progress = await port.build_progress(desired.database, desired.collection) if building else ()
            answers = {q: await _answer(port, desired, q) for q in questions}
        return IndexObserved(
            server=server,
            indexes=indexes,
            default_collation=default_collation,
            progress=progress,
            running=running,
            claimed=await self._claimed(status, scope, default_collation),
            answers=answers,
        )

    def plan(
        self,
        resource: Resource,
        desired: IndexDesired,
        observed: IndexObserved,
        status: IndexStatus,
        scope: Scope,
    ) -> Plan[IndexStatus]:
        return plan(desired, observed, status, scope)

    async def apply(
        self, resource: Resource, desired: IndexDesired, status: IndexStatus, action: Action
    ) -> None:
        deployment = await self._connections.mongodb(resource.key.namespace, desired.secret)
        database, collection = desired.database, desired.collection
        if isinstance(action, BuildIndex):
            try:
                await self._builds.start(
                    resource.key,
                    action.name,
                    lambda: deployment.port.create_index(
                        database, collection, action.name, action.definition
                    ),
                )
            except LucidError as error:
                _begun_in_vain(status, error)
                raise
            status.origin = Origin.CREATED
            return
        async with self._connections.watching(deployment) as port:
            match action:
                case ChangeIndex(name=name, change=change):
                    await port.change_index(database, collection, name, change)
                case ConvertToUnique(name=name):
                    await _convert_to_unique(port, desired, name)
                case StopPreparingUnique(name=name):
                    await port.change_index(database, collection, name, IndexChange(prepare_unique=False))
                case DropIndex(name=name):
                    await port.drop_index(database, collection, name)
                case _:
                    raise TypeError(f"Index cannot do {type(action).__name__}")

    async def explain(
        self, resource: Resource, desired: IndexDesired, status: IndexStatus, error: LucidError
    ) -> LucidError:
        """For duplicates: count them and name some."""
        if not isinstance(error, DuplicateKeysError):
            return error
        deployment = await self._connections.mongodb(resource.key.namespace, desired.secret)
        async with self._connections.watching(deployment) as port:
            report = await port.duplicates(
                desired.database, desired.collection, desired.definition, COUNT_SECONDS
            )
        summary, said = duplicates_said(report)
        status.duplicates = summary
        return DuplicateKeysError(said)

    def disposal(
        self, resource: Resource, desired: IndexDesired, status: IndexStatus, scope: Scope
    ) -> Disposal:
        name = f"The index {status.index_name or desired.name} of {desired.target}"
        if desired.deletion_policy is not DeletionPolicy.DELETE:
            return Disposal(False, f"{name} stays (deletionPolicy: Retain).")
        if status.index_name is None and status.pending is None:
            return Disposal(False, f"{name} was not made by this resource; nothing is dropped.")
        if scope.peers:
            other = scope.peers[0].key
            return Disposal(False, f"{name} stays: {other.namespace}/{other.name} declares it too.")
        confirmed = resource.annotations.get(CONFIRM_DELETE) == desired.target
        if status.origin is not Origin.CREATED and not confirmed:
            return Disposal(
                False,
                f"{name} stays: it was there before this resource, and the annotation {CONFIRM_DELETE}:"
                f' "{desired.target}" that confirms its deletion is missing.',
            )
        return Disposal(True, "")

    async def dispose(
        self, resource: Resource, desired: IndexDesired, status: IndexStatus, scope: Scope
    ) -> str:
        await self._builds.forget(resource.key)
        deployment = await self._connections.mongodb(resource.key.namespace, desired.secret)
        hidden = {entry.index_name: entry for entry in status.superseded or ()}
        dropped, kept, different = [], [], []
        async with self._connections.watching(deployment) as port:
            present = await port.indexes(desired.database, desired.collection)
            default_collation = await _default_collation(port, desired, present or ())
            claimed = await self._claimed(status, scope, default_collation)
            for name in _recorded_names(status):
                index = next((ix for ix in present or () if ix.name == name), None)
                if index is None:
                    continue
                if not _still_ours(index.definition, desired, name, status):
                    different.append(name)
                    continue
                if is_claimed(index, claimed):
                    if name in hidden and to_be_shown(hidden[name], index, claimed):
                        await port.change_index(
                            desired.database, desired.collection, name, IndexChange(hidden=False)
                        )
                    kept.append(name)
                    continue
                await port.drop_index(desired.database, desired.collection, name)
                dropped.append(name)
        stays = f" Others declare {', '.join(kept)}, which stays." if kept else ""
        if different:
            stays += (
                f" {', '.join(different)} is not as this Index declared it last, so it stays; drop it by hand if nobody"
                " needs it."
            )
        if dropped:
            return f"Dropped from {desired.target}: {', '.join(dropped)} (deletionPolicy: Delete).{stays}"
        if stays:
            return f"Nothing was dropped from {desired.target}.{stays}"
        return f"The index was gone from {desired.target} already, or another one has its name; nothing was dropped."

    def forget(self, key: Key) -> None:
        """Builds are let go by the engine, which may wait for them."""

    def sweep_seconds(self, resource: Resource, desired: IndexDesired) -> float:
        return self._sweep(resource, desired.secret)

    async def _claimed(
        self, status: IndexStatus, scope: Scope, default_collation: JsonDoc | None
    ) -> tuple[tuple[str, IndexDefinition], ...]:
        """What others declare, with the collation that the server gives to what names none. It matters only when there
        is something to clear away.
        """
        if not scope.peers or (
            status.pending is None and not status.superseded and status.index_name is None
        ):
            return ()
        claimed = []
        for peer in scope.peers:
            if surely_another(status.server_identity, peer.status.get("serverIdentity")):
                continue
            try:
                theirs = await self.desired(peer)
            except LucidError:
                continue  # no valid declaration, so it claims nothing
            built = theirs.definition
            if built.collation is None:
                built = replace(built, collation=default_collation)
            claimed.append((theirs.name, built))
        return tuple(claimed)


def _begun_in_vain(status: IndexStatus, error: LucidError) -> None:
    """The server refused the first build, so nothing of that name is ours. A lost connection proves nothing."""
    if status.index_name is None and isinstance(error, ServerRefusedError):
        status.origin = status.pending = None


async def _default_collation(
    port: MongoPort, desired: IndexDesired, indexes: Sequence[IndexState]
) -> JsonDoc | None:
    """The collection's: the server demands that the index on _id has the same. A time series has no such index."""
    for index in indexes:
        if index.definition.keys == ID_KEYS:
            return index.definition.collation
    collection = await port.collection(desired.database, desired.collection) if indexes else None
    return collection.options.collation if collection is not None else None


async def _convert_to_unique(port: MongoPort, desired: IndexDesired, name: str) -> None:
    """PrepareUnique refuses new duplicates; unique then checks the old ones. A failure opens the index again."""
    database, collection = desired.database, desired.collection
    await port.change_index(database, collection, name, IndexChange(prepare_unique=True))
    try:
        await port.change_index(database, collection, name, IndexChange(unique=True))
    except DuplicateKeysError:
        await port.change_index(database, collection, name, IndexChange(prepare_unique=False))
        raise


async def _answer(port: MongoPort, desired: IndexDesired, question: object) -> Answer:
    match question:
        case CountExpired(date_field=field, seconds=seconds):
            return await port.count_expired(
                desired.database, desired.collection, field, seconds, COUNT_SECONDS
            )
        case CheckDuplicates():
            report: DuplicateReport = await port.duplicates(
                desired.database, desired.collection, desired.definition, COUNT_SECONDS
            )
            return report
    raise TypeError(f"Index cannot answer {type(question).__name__}")


def _recorded_names(status: IndexStatus) -> list[str]:
    names = [status.index_name, status.pending.index_name if status.pending else None]
    names += [s.index_name for s in status.superseded or ()]
    return [n for n in dict.fromkeys(names) if n is not None]


def _still_ours(found: IndexDefinition, desired: IndexDesired, name: str, status: IndexStatus) -> bool:
    """The serving index must still be what was declared; superseded and pending ones were recorded by name."""
    if name != status.index_name:
        return True
    return not [f for f in same_definition(_visible(desired), found) if f not in ("hidden", "collation")]


def _visible(desired: IndexDesired) -> IndexDefinition:
    """The definition without its visibility, which says nothing about what an index is."""
    return replace(desired.definition, hidden=None)
