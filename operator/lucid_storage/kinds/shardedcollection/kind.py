"""ShardedCollection: the hands. What to do is decided in `plan`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lucid_storage.errors import LucidError, NotAllowedError, NotSupportedError, ServerRefusedError
from lucid_storage.kinds import figures, specs
from lucid_storage.kinds.connections import Connections
from lucid_storage.kinds.contract import Action, Disposal, Plan, Scope
from lucid_storage.kinds.longcalls import LongCalls
from lucid_storage.kinds.shardedcollection import neighbours, zones
from lucid_storage.kinds.shardedcollection.actions import ExamineKey
from lucid_storage.kinds.shardedcollection.changing import REFINING, RESHARDING
from lucid_storage.kinds.shardedcollection.desired import ShardedDesired, resolve
from lucid_storage.kinds.shardedcollection.hands import answer, long_call, step
from lucid_storage.kinds.shardedcollection.metrics import ShardMetrics
from lucid_storage.kinds.shardedcollection.observed import ShardedObserved
from lucid_storage.kinds.shardedcollection.plan import plan
from lucid_storage.kinds.shardedcollection.spread import Spread, balanced
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.base import DeletionPolicy
from lucid_storage.models.kinds import KINDS, KindInfo
from lucid_storage.models.meta import ACCEPT_SHARD_KEY, BACKED_UP_AT
from lucid_storage.models.shardedcollection import (
    ChangeFailure,
    ShardedCollectionSpec,
    ShardedCollectionStatus,
)
from lucid_storage.stores.mongodb.port import MongoPort
from lucid_storage.stores.mongodb.sharding.port import ShardingPort
from lucid_storage.stores.mongodb.sharding.types import BalancerState, BalancerWindow, ShardedState
from lucid_storage.stores.mongodb.types import Topology

FIGURES_SECONDS = 10.0
LINE = 1000


class ShardedCollectionKind:
    """Shard keys, zones and balancing of MongoDB collections. `known` and `about` find other resources."""

    info: KindInfo = KINDS["ShardedCollection"]
    status_type = ShardedCollectionStatus

    def __init__(
        self,
        connections: Connections,
        calls: LongCalls,
        sweep: specs.SweepSeconds,
        metrics: ShardMetrics,
        *,
        known: Callable[[str], Sequence[Resource]],
        about: Callable[[str, str], Sequence[Resource]],
        window: BalancerWindow | None = None,
    ) -> None:
        self._connections = connections
        self._calls = calls
        self._sweep = sweep
        self._metrics = metrics
        self._known = known
        self._about = about
        self._window = window
        self._figures = figures.FigureClock()

    def guess_target(self, resource: Resource, default_database: str | None) -> str:
        database = resource.spec.get("database") or resource.status.get("database") or default_database
        return f"{database}.{resource.spec.get('collection')}"

    async def desired(self, resource: Resource) -> ShardedDesired:
        spec = specs.parse(ShardedCollectionSpec, resource)
        secret = spec.connection.secret_name if spec.connection else None
        database = await specs.resolve_database(self._connections, resource, secret, spec.database)
        specs.check_namespace(database, spec.collection)
        accepted = resource.annotations.get(ACCEPT_SHARD_KEY)
        return resolve(spec, database, accepted_key=accepted, window=self._window)

    def same_object(self, mine: ShardedDesired, theirs: ShardedDesired) -> bool:
        return mine.target == theirs.target

    async def identity(self, resource: Resource, desired: ShardedDesired) -> str:
        return await specs.mongodb_identity(self._connections, resource, desired.secret, desired.database)

    async def observe(
        self,
        resource: Resource,
        desired: ShardedDesired,
        status: ShardedCollectionStatus,
        questions: Sequence[object],
        scope: Scope,
    ) -> ShardedObserved:
        error = self._calls.take_error(resource.key)
        if error is not None:
            _note_failure(status, error)
            raise error
        deployment = await self._connections.mongodb(resource.key.namespace, desired.secret)
        async with self._connections.watching(deployment) as port:
            server = await port.info()
            if server.topology is not Topology.SHARDED:
                self._metrics.forget(resource.key)
                return ShardedObserved(server)
            return await self._observe_cluster(port, resource, desired, status, questions, scope)

    async def _observe_cluster(
        self,
        port: MongoPort,
        resource: Resource,
        desired: ShardedDesired,
        status: ShardedCollectionStatus,
        questions: Sequence[object],
        scope: Scope,
    ) -> ShardedObserved:
        database, name, sharding = desired.database, desired.collection, port.sharding
        state = await sharding.sharded(database, name)
        balancer = await sharding.balancer() if state is not None or desired.window is not None else None
        spread = None
        if state is not None and balancer is not None:
            spread = await self._spread(sharding, resource, state, balancer, status, scope)
            needed = status.backup_needed_since is not None
            self._metrics.tell(resource.key, state, spread, backup_needed=needed)
        else:
            self._metrics.forget(resource.key)
        examining = state is None or state.key != desired.key
        return ShardedObserved(
            server=await port.info(),
            cluster=await sharding.cluster(),
            collection=await port.collection(database, name),
            state=state,
            indexes=await port.indexes(database, name) if examining else None,
            zones=await sharding.zones(database, name) if state is not None else (),
            zone_users=await sharding.zone_users([z.name for z in desired.zones]) if desired.zones else {},
            resharding=await sharding.resharding(database, name) if state and state.resharding else None,
            balancer=balancer,
            spread=spread,
            running=self._calls.running(resource.key),
            neighbours=neighbours.find(
                resource,
                desired,
                status.server_identity,
                known=self._known,
                about=self._about,
                reaches=lambda other: self._reaches(other, desired.database),
            ),
            backed_up_at=resource.annotations.get(BACKED_UP_AT),
            paused=resource.paused,
            answers={q: await answer(port, desired, q) for q in questions if isinstance(q, ExamineKey)},
        )

    def plan(
        self,
        resource: Resource,
        desired: ShardedDesired,
        observed: ShardedObserved,
        status: ShardedCollectionStatus,
        scope: Scope,
    ) -> Plan[ShardedCollectionStatus]:
        return plan(desired, observed, status, scope)

    async def apply(
        self, resource: Resource, desired: ShardedDesired, status: ShardedCollectionStatus, action: Action
    ) -> None:
        deployment = await self._connections.mongodb(resource.key.namespace, desired.secret)
        long = long_call(deployment.port, desired, action)
        if long is not None:
            name, call = long
            try:
                await self._calls.start(resource.key, name, call)
            except LucidError as error:
                _note_failure(status, error)
                raise
            return
        async with self._connections.watching(deployment) as port:
            await step(port.sharding, desired, action)

    async def explain(
        self,
        resource: Resource,
        desired: ShardedDesired,
        status: ShardedCollectionStatus,
        error: LucidError,
    ) -> LucidError:
        return error

    def disposal(
        self, resource: Resource, desired: ShardedDesired, status: ShardedCollectionStatus, scope: Scope
    ) -> Disposal:
        stays = f"{desired.target} stays sharded by {status.key}, which cannot be undone"
        if desired.deletion_policy is not DeletionPolicy.DELETE or status.key is None:
            return Disposal(False, f"{desired.target} stays as it is.")
        if scope.peers:
            other = scope.peers[0].key
            return Disposal(False, f"{stays}; {other.namespace}/{other.name} declares it too.")
        if "zones" not in (status.managed_fields or []):
            return Disposal(False, f"{stays}.")
        return Disposal(True, "")

    async def dispose(
        self, resource: Resource, desired: ShardedDesired, status: ShardedCollectionStatus, scope: Scope
    ) -> str:
        """Take the declared zones away. Shards stay in their zones, which other collections may use."""
        await self._calls.forget(resource.key)
        deployment = await self._connections.mongodb(resource.key.namespace, desired.secret)
        stays = f"{desired.target} stays sharded by {status.key}, which cannot be undone"
        async with self._connections.watching(deployment) as port:
            state = await port.sharding.sharded(desired.database, desired.collection)
            if state is None or state.uuid != status.uuid:
                return f"{desired.target} is gone, or another collection has its name; nothing was changed."
            observed = await port.sharding.zones(desired.database, desired.collection)
            clearing = zones.clear_all(desired.target, observed)
            for action in clearing:
                await step(port.sharding, desired, action)
        return f"{stays}; its {len(clearing)} zone ranges were removed (deletionPolicy: Delete)."

    def forget(self, key: Key) -> None:
        """Calls under way are let go by the engine, which may wait for them."""
        self._figures.forget(key)

    def sweep_seconds(self, resource: Resource, desired: ShardedDesired) -> float:
        return self._sweep(resource, desired.secret)

    def _reaches(self, resource: Resource, database: str) -> bool:
        try:
            self._connections.check_database(resource.key.namespace, resource.secret, database)
        except NotAllowedError:
            return False
        return True

    async def _spread(
        self,
        sharding: ShardingPort,
        resource: Resource,
        state: ShardedState,
        balancer: BalancerState,
        status: ShardedCollectionStatus,
        scope: Scope,
    ) -> Spread:
        """Chunks at every look; documents and bytes when the figures are due or the state has changed."""
        database, name = state.database, state.name
        balance = await sharding.balance(database, name)
        chunks = await sharding.chunks(state)
        changed = status.balanced != balanced(state, balance, balancer) or status.operation is not None
        asked = None
        if changed or self._figures_due(resource, status, scope):
            asked = await sharding.figures(database, name, FIGURES_SECONDS)
        return Spread(chunks, balance, balancer, asked)

    def _figures_due(self, resource: Resource, status: ShardedCollectionStatus, scope: Scope) -> bool:
        if not figures.due(status.stats_time, scope.now):
            return False
        return self._figures.ask(resource.key, scope.now, known=status.stats_time is not None)


def _note_failure(status: ShardedCollectionStatus, error: LucidError) -> None:
    """A change of the key that the server refused is not begun again by itself. A lost connection proves nothing."""
    refused = isinstance(error, ServerRefusedError | NotSupportedError) and error.stalled
    if status.operation in (REFINING, RESHARDING) and refused:
        status.failure = ChangeFailure(
            generation=status.observed_generation or 0, message=error.message[:LINE]
        )
        status.operation = status.progress = None
