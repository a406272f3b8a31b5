"""Elasticsearch's answers as our types, pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from lucid_storage.stores.elasticsearch.settings import CLOSED, declared, flat, is_on
from lucid_storage.stores.elasticsearch.types import (
    AliasAction,
    AliasState,
    ElasticIndexState,
    LifecyclePolicyState,
    TemplateState,
)
from lucid_storage.stores.mongodb.types import JsonDoc, JsonValue

_MILLISECOND_DIGITS = 14
"""Those of dates until the year 5138; what is beyond is no date of an index."""
_TEMPLATE_FIELDS = {"index_patterns", "priority", "template", "_meta"}
_TEMPLATE_SERVER_ADDED = {
    "created_date",
    "created_date_millis",
    "modified_date",
    "modified_date_millis",
}


def document(value: object) -> dict[str, JsonValue]:
    """`value` as a JSON object; an absent one is empty."""
    return dict(cast("Mapping[str, JsonValue]", value)) if isinstance(value, Mapping) else {}


def template_state(name: str, body: JsonDoc) -> TemplateState:
    """One entry of GET _index_template."""
    template = document(body.get("template"))
    patterns = body.get("index_patterns")
    priority = body.get("priority")
    return TemplateState(
        name=name,
        patterns=tuple(str(p) for p in patterns) if isinstance(patterns, list) else (str(patterns),),
        priority=priority if isinstance(priority, int) else None,
        mappings=document(template.get("mappings")),
        settings=flat(document(template.get("settings"))),
        aliases={alias: document(inner) for alias, inner in document(template.get("aliases")).items()},
        meta=document(body.get("_meta")),
        other={
            key: value
            for key, value in body.items()
            if key not in _TEMPLATE_FIELDS | _TEMPLATE_SERVER_ADDED and value not in (None, [])
        },
    )


def template_states(body: Mapping[str, Any]) -> tuple[TemplateState, ...]:
    """All entries of GET _index_template."""
    return tuple(
        template_state(str(e["name"]), document(e["index_template"])) for e in body["index_templates"]
    )


def template_body(template: TemplateState) -> dict[str, JsonValue]:
    """The body of PUT _index_template."""
    inner: dict[str, JsonValue] = {
        key: dict(value)
        for key, value in (
            ("settings", template.settings),
            ("mappings", template.mappings),
            ("aliases", cast("JsonDoc", {name: dict(value) for name, value in template.aliases.items()})),
        )
        if value
    }
    body: dict[str, JsonValue] = {
        **template.other,
        "index_patterns": list(template.patterns),
        "template": inner,
    }
    if template.priority is not None:
        body["priority"] = template.priority
    if template.meta:
        body["_meta"] = dict(template.meta)
    return body


def is_servers_own(template: TemplateState) -> bool:
    """Templates that Elasticsearch brings along and puts back when they are changed."""
    return template.name.startswith(".") or template.meta.get("managed") is True


def index_state(name: str, body: JsonDoc, statistics: JsonDoc) -> ElasticIndexState:
    """One entry of GET <index>, with its entry of GET <index>/_stats (empty when it has none)."""
    settings = flat(document(body.get("settings")))
    primaries = document(statistics.get("primaries"))
    total = document(statistics.get("total"))
    return ElasticIndexState(
        name=name,
        uuid=str(settings.get("index.uuid", "")),
        mappings=document(body.get("mappings")),
        settings=declared(settings),
        aliases={
            alias: alias_state(document(inner)) for alias, inner in document(body.get("aliases")).items()
        },
        health=str(statistics.get("health") or "red").lower(),
        documents=_number(document(primaries.get("docs")).get("count")),
        bytes=_number(document(total.get("store")).get("size_in_bytes")),
        created=moment(settings.get("index.creation_date")),
        closed=is_on(settings.get(CLOSED)),
    )


def moment(milliseconds: object) -> datetime | None:
    """Milliseconds since the epoch, as settings hold them: as text. None for anything else."""
    text = str(milliseconds)
    if not (text.isascii() and text.isdecimal()) or len(text) > _MILLISECOND_DIGITS:
        return None
    return datetime.fromtimestamp(int(text) / 1000, UTC)


def alias_state(body: JsonDoc) -> AliasState:
    write = body.get("is_write_index")
    return AliasState(
        is_write_index=write if isinstance(write, bool) else None,
        other={key: value for key, value in body.items() if key != "is_write_index"},
    )


def alias_body(alias: AliasState) -> dict[str, JsonValue]:
    write: dict[str, JsonValue] = (
        {} if alias.is_write_index is None else {"is_write_index": alias.is_write_index}
    )
    return {**alias.other, **write}


def alias_action(action: AliasAction) -> dict[str, JsonValue]:
    """One entry of POST _aliases."""
    target: dict[str, JsonValue] = {"index": action.index, "alias": action.alias}
    if action.remove:
        return {"remove": {**target, "must_exist": False}}
    return {"add": {**target, **alias_body(AliasState(action.is_write_index, action.other))}}


def policy_state(name: str, body: JsonDoc) -> LifecyclePolicyState:
    """One entry of GET _ilm/policy; version, modification date and users of the policy lie outside of it."""
    return LifecyclePolicyState(name=name, policy=document(body.get("policy")))


def _number(value: JsonValue) -> int:
    return int(value) if isinstance(value, int | float) else 0
