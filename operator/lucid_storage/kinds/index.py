"""Index: one kind for two stores. Each call goes to the half that spec.engine names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lucid_storage.errors import LucidError
from lucid_storage.kinds.contract import Action, Disposal, Kind, Plan, Scope
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.index import Engine, IndexStatus
from lucid_storage.models.kinds import KINDS, KindInfo

Half = Kind[Any, Any, IndexStatus]


class IndexKind:
    """Chooses the half; the halves do not know each other. `engine` is immutable, so the choice never changes."""

    info: KindInfo = KINDS["Index"]
    status_type = IndexStatus

    def __init__(self, mongodb: Half, elasticsearch: Half) -> None:
        self._halves = {Engine.MONGODB: mongodb, Engine.ELASTICSEARCH: elasticsearch}

    def _half(self, resource: Resource) -> Half:
        named = resource.spec.get("engine")
        return self._halves[Engine.ELASTICSEARCH if named == Engine.ELASTICSEARCH else Engine.MONGODB]

    def guess_target(self, resource: Resource, default_database: str | None) -> str:
        return self._half(resource).guess_target(resource, default_database)

    async def desired(self, resource: Resource) -> Any:
        return await self._half(resource).desired(resource)

    def same_object(self, mine: Any, theirs: Any) -> bool:
        if type(mine) is not type(theirs):
            return False
        half = self._halves[Engine.ELASTICSEARCH if mine.database is None else Engine.MONGODB]
        return half.same_object(mine, theirs)

    async def identity(self, resource: Resource, desired: Any) -> str:
        return await self._half(resource).identity(resource, desired)

    async def observe(
        self, resource: Resource, desired: Any, status: IndexStatus, questions: Sequence[object], scope: Scope
    ) -> Any:
        return await self._half(resource).observe(resource, desired, status, questions, scope)

    def plan(
        self, resource: Resource, desired: Any, observed: Any, status: IndexStatus, scope: Scope
    ) -> Plan[IndexStatus]:
        return self._half(resource).plan(resource, desired, observed, status, scope)

    async def apply(self, resource: Resource, desired: Any, status: IndexStatus, action: Action) -> None:
        await self._half(resource).apply(resource, desired, status, action)

    async def explain(
        self, resource: Resource, desired: Any, status: IndexStatus, error: LucidError
    ) -> LucidError:
        return await self._half(resource).explain(resource, desired, status, error)

    def disposal(self, resource: Resource, desired: Any, status: IndexStatus, scope: Scope) -> Disposal:
        return self._half(resource).disposal(resource, desired, status, scope)

    async def dispose(self, resource: Resource, desired: Any, status: IndexStatus, scope: Scope) -> str:
        return await self._half(resource).dispose(resource, desired, status, scope)

    def forget(self, key: Key) -> None:
        for half in self._halves.values():
            half.forget(key)

    def sweep_seconds(self, resource: Resource, desired: Any) -> float:
        return self._half(resource).sweep_seconds(resource, desired)
