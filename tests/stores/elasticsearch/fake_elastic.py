"""ElasticPort in memory, for tests of the engine; the same tests hold it to the real adapter's contract."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from fnmatch import fnmatchcase
from typing import cast

from lucid_storage.errors import LucidError, NotSupportedError, Reason, ServerRefusedError
from lucid_storage.stores.elasticsearch.compare import expand_dots
from lucid_storage.stores.elasticsearch.settings import (
    DEFAULT_REPLICAS,
    REPLICAS,
    declared,
    flat,
    static_settings,
)
from lucid_storage.stores.elasticsearch.types import (
    AliasAction,
    AliasState,
    ElasticIndexState,
    ElasticInfo,
    LifecyclePolicyState,
    TemplateState,
)
from lucid_storage.stores.mongodb.types import JsonDoc, JsonValue

Fields = dict[str, JsonValue]


@dataclass
class FakeIndex:
    uuid: str
    mappings: Fields
    settings: Fields
    aliases: dict[str, AliasState] = field(default_factory=dict)
    health: str = "green"
    documents: int = 0
    bytes: int = 227
    created: datetime | None = None


class FakeElastic:
    """One node without documents. `failure` is raised by every call while set; `writes` names what was written.

    It knows the mapping's `properties` and their types, static settings, and one write index an alias.
    """

    def __init__(
        self,
        *,
        identity: str = "fake-elastic",
        version: tuple[int, int, int] = (8, 19, 0),
        has_ilm: bool = False,
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        self.identity = identity
        self.version = version
        self.has_ilm = has_ilm
        self.stored_templates: dict[str, TemplateState] = {}
        self.stored_indices: dict[str, FakeIndex] = {}
        self.stored_policies: dict[str, LifecyclePolicyState] = {}
        self.failure: LucidError | None = None
        self.writes: list[str] = []
        self.closed = False
        self._guard = guard
        self._made = 0

    async def info(self) -> ElasticInfo:
        self._check()
        return ElasticInfo(self.identity, self.version, self.has_ilm, data_nodes=1)

    async def template(self, name: str) -> TemplateState | None:
        self._check(name)
        return self.stored_templates.get(name)

    async def templates(self) -> tuple[TemplateState, ...]:
        self._check()
        return tuple(state for name, state in self.stored_templates.items() if not name.startswith("."))

    async def put_template(self, template: TemplateState) -> None:
        self._write(f"put_template {template.name}", template.name)
        for other in self.stored_templates.values():
            shared = set(other.patterns) & set(template.patterns)
            if other.name != template.name and other.priority == template.priority and shared:
                raise ServerRefusedError(
                    f"The template {other.name} has the same priority for the same pattern."
                )
        settings = {name: _as_server_writes(value) for name, value in flat(template.settings).items()}
        self.stored_templates[template.name] = replace(template, settings=settings)

    async def delete_template(self, name: str) -> bool:
        self._write(f"delete_template {name}", name)
        return self.stored_templates.pop(name, None) is not None

    async def indices(self, pattern: str) -> tuple[ElasticIndexState, ...]:
        self._check()
        return tuple(
            self._state(name, index)
            for name, index in sorted(self.stored_indices.items())
            if fnmatchcase(name, pattern)
        )

    async def create_index(
        self,
        name: str,
        mappings: JsonDoc,
        settings: Mapping[str, JsonValue],
        aliases: Mapping[str, AliasState],
    ) -> bool:
        self._write(f"create_index {name}", name)
        if name in self.stored_indices:
            return False
        if name != name.lower():
            raise ServerRefusedError(f"Invalid index name [{name}], must be lowercase.")
        template = self._template_for(name)
        self._made += 1
        index = FakeIndex(
            f"uuid-{self._made}", {}, {"index.number_of_shards": "1", "index.number_of_replicas": "1"}
        )
        all_aliases = dict(aliases)
        if template is not None:
            _merge_mappings(index.mappings, template.mappings)
            _merge_settings(index.settings, template.settings)
            all_aliases = {name: _alias(body) for name, body in template.aliases.items()} | all_aliases
        _merge_mappings(index.mappings, mappings)
        _merge_settings(index.settings, settings)
        index.aliases = all_aliases
        self._commit({**self.stored_indices, name: index})
        return True

    async def put_mapping(self, index: str, mappings: JsonDoc) -> None:
        self._write(f"put_mapping {index}", index)
        draft = copy.deepcopy(self._present(index).mappings)
        _merge_mappings(draft, mappings)
        self._present(index).mappings = draft

    async def put_settings(self, index: str, settings: Mapping[str, JsonValue]) -> None:
        self._write(f"put_settings {index}", index)
        stored = self._present(index)
        if fixed := static_settings(flat(settings)):
            raise ServerRefusedError(
                f"The settings {', '.join(fixed)} are static.", reason=Reason.NOT_IN_PLACE
            )
        _merge_settings(stored.settings, settings)
        stored.settings.setdefault(REPLICAS, DEFAULT_REPLICAS)

    async def update_aliases(self, actions: Sequence[AliasAction]) -> None:
        if not actions:
            return
        self._write("update_aliases")
        draft = copy.deepcopy(self.stored_indices)
        for action in actions:
            self._present(action.index)
            aliases = draft[action.index].aliases
            if action.remove:
                aliases.pop(action.alias, None)
            else:
                aliases[action.alias] = AliasState(action.is_write_index, action.other)
        self._commit(draft)

    async def delete_index(self, name: str, uuid: str) -> bool:
        self._check(name)
        index = self.stored_indices.get(name)
        if index is None or index.uuid != uuid:
            return False
        self._write(f"delete_index {name}")
        del self.stored_indices[name]
        return True

    async def policy(self, name: str) -> LifecyclePolicyState | None:
        self._check_ilm()
        return self.stored_policies.get(name)

    async def put_policy(self, policy: LifecyclePolicyState) -> None:
        self._check_ilm()
        self._write(f"put_policy {policy.name}", policy.name)
        self.stored_policies[policy.name] = policy

    async def delete_policy(self, name: str) -> bool:
        self._check_ilm()
        self._write(f"delete_policy {name}", name)
        return self.stored_policies.pop(name, None) is not None

    async def close(self) -> None:
        self.closed = True

    def _check(self, name: str = "a-name") -> None:
        if self.failure is not None:
            raise self.failure
        if not name or set(name) & set("*?,"):
            raise ServerRefusedError("The name holds a wildcard.", reason=Reason.INVALID_SPEC)

    def _check_ilm(self) -> None:
        self._check()
        if not self.has_ilm:
            raise NotSupportedError("The server has no index lifecycle management.")

    def _write(self, what: str, name: str = "a-name") -> None:
        self._check(name)
        self._guard()
        self.writes.append(what)

    def _present(self, name: str) -> FakeIndex:
        if name not in self.stored_indices:
            gone = ServerRefusedError(f"Index {name} is not there any more; it is looked at again.")
            gone.stalled = False
            raise gone
        return self.stored_indices[name]

    def _template_for(self, name: str) -> TemplateState | None:
        matching = [
            t for t in self.stored_templates.values() if any(fnmatchcase(name, p) for p in t.patterns)
        ]
        return max(matching, key=lambda template: template.priority or 0, default=None)

    def _commit(self, draft: dict[str, FakeIndex]) -> None:
        writing = [
            alias
            for index in draft.values()
            for alias, state in index.aliases.items()
            if state.is_write_index
        ]
        if len(writing) != len(set(writing)):
            raise ServerRefusedError("An alias has more than one write index.")
        self.stored_indices = draft

    @staticmethod
    def _state(name: str, index: FakeIndex) -> ElasticIndexState:
        return ElasticIndexState(
            name=name,
            uuid=index.uuid,
            mappings=copy.deepcopy(index.mappings),
            settings=declared(index.settings),
            aliases=dict(index.aliases),
            health=index.health,
            documents=index.documents,
            bytes=index.bytes,
            created=index.created,
        )


def _alias(body: JsonDoc) -> AliasState:
    other = {key: value for key, value in body.items() if key != "is_write_index"}
    return AliasState(cast("bool | None", body.get("is_write_index")), other)


def _as_server_writes(value: JsonValue) -> JsonValue:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _merge_settings(into: Fields, settings: Mapping[str, JsonValue]) -> None:
    for name, value in flat(settings).items():
        if value is None:
            into.pop(name, None)
        else:
            into[name] = _as_server_writes(value)


def _merge_mappings(into: Fields, mappings: JsonDoc) -> None:
    for name, value in mappings.items():
        if name == "properties":
            _merge_fields(cast("Fields", into.setdefault("properties", {})), cast("Fields", value))
        else:
            into[name] = _as_server_writes(value)
    if not into.get("properties", True):
        del into["properties"]


def _merge_fields(into: Fields, fields: Fields) -> None:
    for name, value in expand_dots(fields).items():
        wanted = cast("Fields", value)
        if name not in into:
            into[name] = _new_field(wanted)
            continue
        there = cast("Fields", into[name])
        if there.get("type", "object") != wanted.get("type", "object"):
            raise ServerRefusedError(f"The type of {name} cannot be changed.", reason=Reason.MAPPING_CONFLICT)
        for inner in ("properties", "fields"):
            if inner in wanted:
                _merge_fields(cast("Fields", there.setdefault(inner, {})), cast("Fields", wanted[inner]))
        there.update({key: value for key, value in wanted.items() if key not in {"properties", "fields"}})


def _new_field(wanted: Fields) -> Fields:
    made = dict(wanted)
    for inner in ("properties", "fields"):
        if inner in made:
            made[inner] = {}
            _merge_fields(cast("Fields", made[inner]), cast("Fields", wanted[inner]))
    return made
