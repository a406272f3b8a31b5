"""Mappings: what a declaration adds, what cannot be added to documents that exist. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from lucid_storage.kinds.index_elasticsearch.steps import Difference
from lucid_storage.stores.elasticsearch.compare import expand_dots, mapping_differences
from lucid_storage.stores.mongodb.types import JsonDoc, JsonValue

WAY_OUT = (
    "Elasticsearch cannot change how existing documents are indexed. Add a field with a new name, or declare a new"
    " series with this mapping and reindex into it, or set the field back."
)


def differences(wanted: JsonDoc, observed: JsonDoc, prefix: str) -> tuple[Difference, ...]:
    """The declared paths in which the server differs, named below `prefix`."""
    return tuple(
        Difference(f"{prefix}.{path}", value_at(wanted, path), value_at(observed, path))
        for path in mapping_differences(wanted, observed)
    )


def retyped(found: Iterable[Difference]) -> tuple[Difference, ...]:
    """Those that ask for another type of an existing field: the server would surely refuse them."""
    return tuple(d for d in found if d.field.endswith(".type") and d.actual is not None)


def merged(observed: JsonDoc, declared: JsonDoc) -> dict[str, JsonValue]:
    """The observed mapping with the declaration on top; a field of another type is replaced whole."""
    result: dict[str, JsonValue] = dict(observed)
    for name, value in declared.items():
        if name in {"properties", "fields"} and isinstance(value, dict):
            result[name] = _merged_fields(_object(observed.get(name)), value)
        else:
            result[name] = value
    return result


def value_at(document: JsonDoc, path: str) -> JsonValue:
    """The value under a dotted path such as `properties.title.type`; an absent type is `object`."""
    here: JsonValue = dict(document)
    parts = path.split(".")
    for position, part in enumerate(parts):
        if not isinstance(here, dict):
            return None
        if part not in here and position == len(parts) - 1 and part == "type":
            return "object"
        fields = position > 0 and parts[position - 1] in {"properties", "fields"}
        here = (expand_dots(here) if fields else here).get(part)
    return here


def _merged_fields(observed: JsonDoc, declared: JsonDoc) -> dict[str, JsonValue]:
    result: dict[str, JsonValue] = expand_dots(observed)
    for name, value in expand_dots(declared).items():
        old, new = _object(result.get(name)), _object(value)
        same_type = name in result and old.get("type", "object") == new.get("type", "object")
        result[name] = merged(old, new) if same_type else value
    return result


def _object(value: JsonValue) -> dict[str, JsonValue]:
    return value if isinstance(value, dict) else {}
