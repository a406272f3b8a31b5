"""The Elasticsearch cluster as kinds see it. Implemented by `adapter.ElasticCluster`, by a fake in tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from lucid_storage.stores.elasticsearch.types import (
    AliasAction,
    AliasState,
    ElasticIndexState,
    ElasticInfo,
    LifecyclePolicyState,
    TemplateState,
)
from lucid_storage.stores.mongodb.types import JsonDoc, JsonValue


class ElasticPort(Protocol):
    """One cluster behind one set of credentials. Errors as in MongoPort; each call is bounded (20 s)."""

    async def info(self) -> ElasticInfo:
        """Cluster uuid, version, abilities. Works on servers whose `GET /` is not served. Cached for 30 s."""

    async def template(self, name: str) -> TemplateState | None:
        """A composable index template, or None."""

    async def templates(self) -> tuple[TemplateState, ...]:
        """All composable templates but the server's own (managed ones, names with a leading dot)."""

    async def put_template(self, template: TemplateState) -> None:
        """Create or replace. Raises ServerRefusedError with the server's sentence."""

    async def delete_template(self, name: str) -> bool:
        """False when it was not there."""

    async def indices(self, pattern: str) -> tuple[ElasticIndexState, ...]:
        """Indices whose names match a wildcard pattern; empty when none."""

    async def create_index(
        self,
        name: str,
        mappings: JsonDoc,
        settings: Mapping[str, JsonValue],
        aliases: Mapping[str, AliasState],
    ) -> bool:
        """Create it; False when it exists. What is given here comes on top of a matching template."""

    async def put_mapping(self, index: str, mappings: JsonDoc) -> None:
        """Add to a mapping. Raises ServerRefusedError(MappingConflict) when a reindex would be needed."""

    async def put_settings(self, index: str, settings: Mapping[str, JsonValue]) -> None:
        """Change dynamic settings. Raises ServerRefusedError(NotInPlace) for static ones."""

    async def update_aliases(self, actions: Sequence[AliasAction]) -> None:
        """One atomic call."""

    async def delete_index(self, name: str, uuid: str) -> bool:
        """Delete it if its uuid is still `uuid`; never by wildcard. False when gone or replaced."""

    async def policy(self, name: str) -> LifecyclePolicyState | None:
        """An ILM policy, or None. Raises NotSupportedError where the server has no ILM."""

    async def put_policy(self, policy: LifecyclePolicyState) -> None:
        """Create or replace an ILM policy."""

    async def delete_policy(self, name: str) -> bool:
        """False when it was not there."""

    async def close(self) -> None:
        """Close all connections. Idempotent."""
