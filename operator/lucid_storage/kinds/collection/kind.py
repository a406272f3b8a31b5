"""Collection: the hands. What to do is decided in `plan`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from lucid_storage.errors import LucidError
from lucid_storage.kinds import figures, specs
from lucid_storage.kinds.collection import keyspaces
from lucid_storage.kinds.collection.actions import (
    Answer,
    ChangeCollection,
    CountExpired,
    CountViolations,
    CreateCollection,
    MeasureCollection,
)
from lucid_storage.kinds.collection.desired import CollectionDesired, resolve
from lucid_storage.kinds.collection.keyspaces import EnforceKeySpaces
from lucid_storage.kinds.collection.observed import CollectionObserved
from lucid_storage.kinds.collection.plan import plan
from lucid_storage.kinds.connections import Connections
from lucid_storage.kinds.contract import Action, Disposal, Plan, Scope
from lucid_storage.kinds.scanner import KeySpaceScanner
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.base import DeletionPolicy, Origin
from lucid_storage.models.collection import CollectionSpec, CollectionStatus
from lucid_storage.models.index import Engine
from lucid_storage.models.kinds import KINDS, KindInfo
from lucid_storage.models.meta import CONFIRM_DELETE
from lucid_storage.models.schema_checks import free_form_problems
from lucid_storage.stores.mongodb.port import MongoPort
from lucid_storage.stores.mongodb.types import CollectionStats
from lucid_storage.stores.redis.types import KeySpaceReport, RedisInfo

COUNT_SECONDS = 30.0
"""How long counting before a change may take, on a secondary."""


EMPTY = CollectionStats(documents=0, size_bytes=0, storage_bytes=0, index_count=0, index_bytes=0)
"""Of a collection that this look has made: nobody needs to be asked."""


class CollectionKind:
    """MongoDB collections with their options, and the Redis key spaces of the same entity."""

    info: KindInfo = KINDS["Collection"]
    status_type = CollectionStatus

    def __init__(self, connections: Connections, scanner: KeySpaceScanner, sweep: specs.SweepSeconds) -> None:
        self._connections = connections
        self._scanner = scanner
        self._sweep = sweep
        self._figures = figures.FigureClock()

    def guess_target(self, resource: Resource, default_database: str | None) -> str:
        database = resource.spec.get("database") or resource.status.get("database") or default_database
        return f"{database}.{resource.spec.get('name') or resource.key.name}"

    async def desired(self, resource: Resource) -> CollectionDesired:
        spec = specs.parse(CollectionSpec, resource)
        specs.check_free_form("validator", spec.validator, free_form_problems)
        secret = spec.connection.secret_name if spec.connection else None
        database = await specs.resolve_database(self._connections, resource, secret, spec.database)
        desired = resolve(spec, resource.key.name, database)
        for space in desired.cache:
            self._connections.check_keys(resource.key.namespace, secret, space.pattern)
        specs.check_namespace(desired.database, desired.name)
        return desired

    def same_object(self, mine: CollectionDesired, theirs: CollectionDesired) -> bool:
        return mine.target == theirs.target

    async def identity(self, resource: Resource, desired: CollectionDesired) -> str:
        return await specs.mongodb_identity(self._connections, resource, desired.secret, desired.database)

    async def observe(
        self,
        resource: Resource,
        desired: CollectionDesired,
        status: CollectionStatus,
        questions: Sequence[object],
        scope: Scope,
    ) -> CollectionObserved:
        deployment = await self._connections.mongodb(resource.key.namespace, desired.secret)
        async with self._connections.watching(deployment) as port:
            server = await port.info()
            state = await port.collection(desired.database, desired.name)
            stats = None
            if state is not None and state.type != "view" and self._stats_due(resource, status, scope):
                made_now = status.origin is Origin.CREATED and status.uuid is None
                stats = EMPTY if made_now else await port.collection_stats(desired.database, desired.name)
            answers = {q: await _answer(port, desired, q) for q in questions}
        reports, trouble, redis = await self._keyspaces(resource, desired, status)
        return CollectionObserved(server, state, stats, answers, reports, trouble, redis)

    def plan(
        self,
        resource: Resource,
        desired: CollectionDesired,
        observed: CollectionObserved,
        status: CollectionStatus,
        scope: Scope,
    ) -> Plan[CollectionStatus]:
        return plan(desired, observed, status, scope)

    async def apply(
        self, resource: Resource, desired: CollectionDesired, status: CollectionStatus, action: Action
    ) -> None:
        if isinstance(action, EnforceKeySpaces):
            redis = await self._connections.redis(resource.key.namespace, desired.secret)
            self._scanner.declare(resource.key, redis, action.spaces, action.place)
            return
        deployment = await self._connections.mongodb(resource.key.namespace, desired.secret)
        async with self._connections.watching(deployment) as port:
            if isinstance(action, CreateCollection):
                created = await port.create_collection(desired.database, desired.name, action.options)
                status.origin = Origin.CREATED if created else Origin.ADOPTED
            elif isinstance(action, ChangeCollection):
                await port.change_collection(desired.database, desired.name, action.change)
            else:
                raise TypeError(f"Collection cannot do {type(action).__name__}")

    async def explain(
        self, resource: Resource, desired: CollectionDesired, status: CollectionStatus, error: LucidError
    ) -> LucidError:
        return error

    def disposal(
        self, resource: Resource, desired: CollectionDesired, status: CollectionStatus, scope: Scope
    ) -> Disposal:
        target = desired.target
        if desired.deletion_policy is not DeletionPolicy.DELETE or status.uuid is None:
            return Disposal(False, f"{target} stays (deletionPolicy: Retain).")
        if scope.peers:
            other = scope.peers[0].key
            return Disposal(False, f"{target} stays: {other.namespace}/{other.name} declares it too.")
        for resting in filter(_rests_on, scope.others):
            named = f"{resting.key.namespace}/{resting.key.name}"
            kind = next(info.kind for info in KINDS.values() if info.plural == resting.key.plural)
            return Disposal(False, f"{target} stays: the {kind} {named} declares it too.", passing=True)
        confirmed = resource.annotations.get(CONFIRM_DELETE) == target
        if status.origin is not Origin.CREATED and not confirmed:
            return Disposal(
                False,
                f"{target} stays: it was there before this resource, and the annotation {CONFIRM_DELETE}:"
                f' "{target}" that confirms its deletion is missing.',
            )
        return Disposal(True, "")

    async def dispose(
        self, resource: Resource, desired: CollectionDesired, status: CollectionStatus, scope: Scope
    ) -> str:
        deployment = await self._connections.mongodb(resource.key.namespace, desired.secret)
        async with self._connections.watching(deployment) as port:
            dropped = await port.drop_collection(desired.database, desired.name, status.uuid or "")
        if dropped:
            return f"{desired.target} was dropped (deletionPolicy: Delete)."
        return f"{desired.target} was gone already, or another collection has its name; nothing was dropped."

    def forget(self, key: Key) -> None:
        self._figures.forget(key)
        self._scanner.forget(key)

    def sweep_seconds(self, resource: Resource, desired: CollectionDesired) -> float:
        return self._sweep(resource, desired.secret)

    def _stats_due(self, resource: Resource, status: CollectionStatus, scope: Scope) -> bool:
        if not figures.due(status.stats_time, scope.now):
            return False
        return self._figures.ask(resource.key, scope.now, known=status.stats_time is not None)

    async def _keyspaces(
        self, resource: Resource, desired: CollectionDesired, status: CollectionStatus
    ) -> tuple[Mapping[str, KeySpaceReport] | None, LucidError | None, RedisInfo | None]:
        if not desired.cache:
            self._scanner.forget(resource.key)
            return None, None, None
        try:
            redis = await self._connections.redis(resource.key.namespace, desired.secret)
            async with self._connections.watching(redis) as port:
                server = await port.info()
        except LucidError as error:
            return None, error, None
        agreed = [] if resource.paused else status.cache or []
        spaces = keyspaces.effective(desired.cache, agreed, server)
        return self._scanner.declare(resource.key, redis, spaces, server.place), None, server


def _rests_on(other: Resource) -> bool:
    """Whether a resource of another kind means the collection to stay. An Index that is to be dropped does not."""
    if other.key.plural == KINDS["Index"].plural:
        return (
            other.spec.get("engine") == Engine.MONGODB
            and other.spec.get("deletionPolicy") != DeletionPolicy.DELETE
        )
    return other.key.plural == KINDS["ShardedCollection"].plural


async def _answer(port: MongoPort, desired: CollectionDesired, question: object) -> Answer:
    match question:
        case CountViolations(validator=text):
            return await port.count_violations(
                desired.database, desired.name, json.loads(text), COUNT_SECONDS
            )
        case CountExpired(date_field=field, seconds=seconds):
            return await port.count_expired(desired.database, desired.name, field, seconds, COUNT_SECONDS)
        case MeasureCollection():
            return await port.collection_stats(desired.database, desired.name)
    raise TypeError(f"Collection cannot answer {type(question).__name__}")
