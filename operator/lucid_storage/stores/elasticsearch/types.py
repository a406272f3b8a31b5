"""What the Elasticsearch adapter says and takes, in our words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from lucid_storage.stores.mongodb.types import JsonDoc, JsonValue


@dataclass(frozen=True, slots=True)
class ElasticInfo:
    identity: str
    """The cluster's uuid."""
    version: tuple[int, int, int]
    has_ilm: bool
    """Asked from the server, since builds without ILM exist."""
    data_nodes: int = 1


@dataclass(frozen=True, slots=True)
class TemplateState:
    """An index template. `settings` are flat ("index.number_of_shards": "3")."""

    name: str
    patterns: tuple[str, ...]
    priority: int | None
    mappings: JsonDoc
    settings: Mapping[str, JsonValue]
    aliases: Mapping[str, JsonDoc]
    meta: JsonDoc = field(default_factory=dict)
    other: JsonDoc = field(default_factory=dict)
    """Further fields of the body (composed_of, version...), kept so that a replacement loses none."""


@dataclass(frozen=True, slots=True)
class AliasState:
    is_write_index: bool | None = None
    other: JsonDoc = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ElasticIndexState:
    """A real index. `settings` are flat and hold only what was set (no server defaults)."""

    name: str
    uuid: str
    mappings: JsonDoc
    settings: Mapping[str, JsonValue]
    aliases: Mapping[str, AliasState]
    health: str
    documents: int
    """Of the primary shards."""
    bytes: int
    """On disk, replicas included."""
    created: datetime | None = None
    """When this index was made; one out of a snapshot keeps the date of the one that went into it."""
    closed: bool = False


@dataclass(frozen=True, slots=True)
class LifecyclePolicyState:
    name: str
    policy: JsonDoc
    """The body under "policy", without server-added fields."""


@dataclass(frozen=True, slots=True)
class AliasAction:
    """One part of an atomic _aliases call."""

    index: str
    alias: str
    remove: bool = False
    """Removing an alias that is not there is no error."""
    is_write_index: bool | None = None
    other: JsonDoc = field(default_factory=dict)
    """filter, index_routing, search_routing, is_hidden: an alias added again keeps nothing by itself."""
