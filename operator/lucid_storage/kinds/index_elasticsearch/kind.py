"""Index on Elasticsearch: the hands. What to do is decided in `plan`."""

from __future__ import annotations

from collections.abc import Sequence

from lucid_storage.errors import LucidError, Reason, ServerRefusedError
from lucid_storage.kinds import figures, specs
from lucid_storage.kinds.connections import Connections
from lucid_storage.kinds.contract import Action, Disposal, Plan, Scope
from lucid_storage.kinds.index_elasticsearch import mappings
from lucid_storage.kinds.index_elasticsearch.actions import (
    CreateIndex,
    DeleteIndex,
    DeletePolicy,
    PutMapping,
    PutPolicy,
    PutSettings,
    PutTemplate,
    UpdateAliases,
)
from lucid_storage.kinds.index_elasticsearch.desired import ElasticDesired, resolve
from lucid_storage.kinds.index_elasticsearch.months import month_of, stem_of, wildcard
from lucid_storage.kinds.index_elasticsearch.plan import ElasticObserved, plan
from lucid_storage.kinds.index_elasticsearch.removal import removal, said
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.base import DeletionPolicy
from lucid_storage.models.index import ElasticStatus, IndexSpec, IndexStatus
from lucid_storage.models.kinds import KINDS, KindInfo
from lucid_storage.models.meta import CONFIRM_DELETE
from lucid_storage.models.schema_checks import free_form_problems
from lucid_storage.stores.elasticsearch.ages import ORIGINATION_DATE, POLICY_NAME
from lucid_storage.stores.elasticsearch.port import ElasticPort


class ElasticIndexKind:
    """Monthly series of Elasticsearch indices."""

    info: KindInfo = KINDS["Index"]
    status_type = IndexStatus

    def __init__(self, connections: Connections, sweep: specs.SweepSeconds) -> None:
        self._connections = connections
        self._sweep = sweep
        self._figures = figures.FigureClock()

    def guess_target(self, resource: Resource, default_database: str | None) -> str:
        block = resource.spec.get("elasticsearch")
        return stem_of(str(block.get("pattern"))) if isinstance(block, dict) else ""

    async def desired(self, resource: Resource) -> ElasticDesired:
        spec = specs.parse(IndexSpec, resource)
        index = spec.elasticsearch
        if index is None:
            raise LucidError("Fill the block spec.elasticsearch.", reason=Reason.INVALID_SPEC)
        specs.check_free_form("elasticsearch.mappings", index.mappings, free_form_problems)
        specs.check_free_form("elasticsearch.settings", index.settings, free_form_problems)
        desired = resolve(spec, index, resource.uid)
        for name in (desired.stem, *(desired.aliases or ())):
            self._connections.check_index(resource.key.namespace, desired.secret, name)
        return desired

    def same_object(self, mine: ElasticDesired, theirs: ElasticDesired) -> bool:
        return mine.stem == theirs.stem

    async def identity(self, resource: Resource, desired: ElasticDesired) -> str:
        deployment = await self._connections.elasticsearch(resource.key.namespace, desired.secret)
        async with self._connections.watching(deployment) as port:
            return (await port.info()).identity

    async def observe(
        self,
        resource: Resource,
        desired: ElasticDesired,
        status: IndexStatus,
        questions: Sequence[object],
        scope: Scope,
    ) -> ElasticObserved:
        deployment = await self._connections.elasticsearch(resource.key.namespace, desired.secret)
        due = self._figures.ask(resource.key, scope.now, known=status.documents is not None)
        async with self._connections.watching(deployment) as port:
            return await _look(port, desired, status, figures_due=due)

    def plan(
        self,
        resource: Resource,
        desired: ElasticDesired,
        observed: ElasticObserved,
        status: IndexStatus,
        scope: Scope,
    ) -> Plan[IndexStatus]:
        return plan(desired, observed, status, scope)

    async def apply(
        self, resource: Resource, desired: ElasticDesired, status: IndexStatus, action: Action
    ) -> None:
        deployment = await self._connections.elasticsearch(resource.key.namespace, desired.secret)
        async with self._connections.watching(deployment) as port:
            await _apply(port, action)

    async def explain(
        self, resource: Resource, desired: ElasticDesired, status: IndexStatus, error: LucidError
    ) -> LucidError:
        """For a mapping that the server refuses: the way to do it."""
        if error.reason is not Reason.MAPPING_CONFLICT:
            return error
        return ServerRefusedError(f"{error.message} {mappings.WAY_OUT}", reason=error.reason)

    def disposal(
        self, resource: Resource, desired: ElasticDesired, status: IndexStatus, scope: Scope
    ) -> Disposal:
        """Proof of ownership is on the server: `dispose` looks for it."""
        if desired.deletion_policy is not DeletionPolicy.DELETE:
            return Disposal(False, f"{desired.pattern} stays (deletionPolicy: Retain).")
        if scope.peers:
            other = scope.peers[0].key
            return Disposal(
                False, f"{desired.pattern} stays: {other.namespace}/{other.name} declares it too."
            )
        return Disposal(True, "")

    async def dispose(
        self, resource: Resource, desired: ElasticDesired, status: IndexStatus, scope: Scope
    ) -> str:
        """Indices go by name and uuid; what is adopted needs the annotation with the stem (or the pattern)."""
        deployment = await self._connections.elasticsearch(resource.key.namespace, desired.secret)
        confirmed = resource.annotations.get(CONFIRM_DELETE) in {desired.stem, desired.pattern}
        done: list[str] = []
        async with self._connections.watching(deployment) as port:
            observed = await _look(port, desired, status, figures_due=False)
            found = removal(desired, observed, status, confirmed=confirmed)
            for index in found.indices:
                if await port.delete_index(index.name, index.uuid):
                    done.append(index.name)
            if found.template and await port.delete_template(desired.stem):
                done.append("the index template")
            for index in found.released:
                await port.put_settings(index.name, {POLICY_NAME: None, ORIGINATION_DATE: None})
            if found.policy and await port.delete_policy(desired.stem):
                done.append("the lifecycle policy")
        return said(desired, done, found.kept, CONFIRM_DELETE)

    def forget(self, key: Key) -> None:
        self._figures.forget(key)

    def sweep_seconds(self, resource: Resource, desired: ElasticDesired) -> float:
        return self._sweep(resource, desired.secret)


async def _look(
    port: ElasticPort, desired: ElasticDesired, status: IndexStatus, *, figures_due: bool
) -> ElasticObserved:
    """Three requests where nothing is new: template, indices with their statistics, policy."""
    server = await port.info()
    template = await port.template(desired.stem)
    found = [ix for ix in await port.indices(wildcard(desired.stem)) if month_of(desired.stem, ix.name)]
    taken = False
    if not any(desired.stem in index.aliases for index in found):
        taken = any(index.name == desired.stem for index in await port.indices(desired.stem))
    return ElasticObserved(
        server=server,
        template=template,
        indices=tuple(sorted(found, key=lambda index: index.name)),
        policy=await port.policy(desired.stem) if _has_policy(desired, status) and server.has_ilm else None,
        name_taken=taken,
        figures_due=figures_due,
    )


def _has_policy(desired: ElasticDesired, status: IndexStatus) -> bool:
    """Whether there may be a policy of ours: one is declared, or was."""
    known = status.elasticsearch or ElasticStatus()
    was = known.policy is not None or "lifecycle" in (status.managed_fields or [])
    return desired.lifecycle is not None or was


async def _apply(port: ElasticPort, action: Action) -> None:
    match action:
        case PutTemplate(template=template):
            await port.put_template(template)
        case PutPolicy(policy=policy):
            await port.put_policy(policy)
        case DeletePolicy(name=name):
            await port.delete_policy(name)
        case CreateIndex(name=name, mappings=mapping, settings=settings, aliases=aliases):
            await port.create_index(name, mapping, settings, aliases)
        case PutMapping(index=index, mappings=mapping):
            await port.put_mapping(index, mapping)
        case PutSettings(index=index, settings=settings):
            await port.put_settings(index, settings)
        case UpdateAliases(changes=changes):
            await port.update_aliases(changes)
        case DeleteIndex(name=name, uuid=uuid):
            await port.delete_index(name, uuid)
        case _:
            raise TypeError(f"Index cannot do {type(action).__name__}")
