"""What can be done about a monthly series."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lucid_storage.stores.elasticsearch.types import (
    AliasAction,
    AliasState,
    LifecyclePolicyState,
    TemplateState,
)
from lucid_storage.stores.mongodb.types import JsonDoc, JsonValue


@dataclass(frozen=True, slots=True)
class PutTemplate:
    """Create or replace the index template."""

    template: TemplateState

    def describe(self) -> str:
        return f"put the index template {self.template.name}"


@dataclass(frozen=True, slots=True)
class PutPolicy:
    """Create or replace the lifecycle policy."""

    policy: LifecyclePolicyState

    def describe(self) -> str:
        return f"put the lifecycle policy {self.policy.name}"


@dataclass(frozen=True, slots=True)
class DeletePolicy:
    """Delete the lifecycle policy, which no index of the series follows any more."""

    name: str

    def describe(self) -> str:
        return f"delete the lifecycle policy {self.name}"


@dataclass(frozen=True, slots=True)
class CreateIndex:
    """Create the index of a month; everything is given, so that it is right whatever template matches."""

    name: str
    mappings: JsonDoc
    settings: Mapping[str, JsonValue]
    aliases: Mapping[str, AliasState]

    def describe(self) -> str:
        return f"create the index {self.name}"


@dataclass(frozen=True, slots=True)
class PutMapping:
    """Add to the mapping of an index."""

    index: str
    mappings: JsonDoc

    def describe(self) -> str:
        return f"add to the mapping of {self.index}"


@dataclass(frozen=True, slots=True)
class PutSettings:
    """Change dynamic settings of an index; None returns one to the server's default."""

    index: str
    settings: Mapping[str, JsonValue]

    def describe(self) -> str:
        return f"set {', '.join(sorted(self.settings))} of {self.index}"


@dataclass(frozen=True, slots=True)
class UpdateAliases:
    """Change aliases of the series in one atomic call."""

    stem: str
    changes: tuple[AliasAction, ...]

    def describe(self) -> str:
        write = next((c.index for c in self.changes if c.alias == self.stem and c.is_write_index), None)
        return f"point the write alias {self.stem} to {write}" if write else f"change aliases of {self.stem}"


@dataclass(frozen=True, slots=True)
class DeleteIndex:
    """Delete an index whose days are over, if it is still the one that was seen."""

    name: str
    uuid: str
    documents: int

    def describe(self) -> str:
        return f"delete the index {self.name}, whose days are over ({self.documents} documents)"
