"""Equality of definitions as the server sees it. Pure: no driver, no clock."""

from __future__ import annotations

from dataclasses import replace

from lucid_storage.stores.documents import collation_equivalent, equivalent
from lucid_storage.stores.mongodb.types import IndexDefinition, JsonDoc, JsonValue, KeyOrder

TEXT = "text"
CAPPED_ROUNDING = 256
"""MongoDB rounds the size of a capped collection up to a multiple of this many bytes."""

_TEXT_DEFAULTS = {"default_language": "english", "language_override": "language", "text_index_version": 3}
_PLANE_DEFAULTS: dict[str, float] = {"bits": 26, "min": -180, "max": 180}


def same_definition(
    wanted: IndexDefinition, observed: IndexDefinition, *, default_collation: JsonDoc | None = None
) -> list[str]:
    """Names of the fields in which an existing index differs from a wanted one; empty when it can be adopted.

    `hidden=None` and `text_index_version=None` in `wanted` leave those to the server. An index without a
    collation of its own takes the collection's: pass that as `default_collation`.
    """
    wanted, observed = normal(wanted), normal(observed)
    differing = [
        name
        for name in ("unique", "sparse", "expire_after_seconds", "default_language", "language_override")
        if getattr(wanted, name) != getattr(observed, name)
    ]
    differing += [name for name in ("bits", "min", "max") if getattr(wanted, name) != getattr(observed, name)]
    if wanted.keys != observed.keys:
        differing.append("keys")
    if not equivalent(wanted.partial_filter, observed.partial_filter):
        differing.append("partial_filter")
    if not equivalent(_projection(wanted.wildcard_projection), _projection(observed.wildcard_projection)):
        differing.append("wildcard_projection")
    if not equivalent(wanted.weights, observed.weights):
        differing.append("weights")
    collation = wanted.collation if wanted.collation is not None else default_collation
    if not collation_equivalent(collation, observed.collation):
        differing.append("collation")
    if wanted.hidden is not None and wanted.hidden != bool(observed.hidden):
        differing.append("hidden")
    version = wanted.text_index_version
    if version is not None and version != (
        observed.text_index_version or _TEXT_DEFAULTS["text_index_version"]
    ):
        differing.append("text_index_version")
    return sorted(differing)


def normal(definition: IndexDefinition) -> IndexDefinition:
    """The same index with every default that the server would add left out.

    Text keys are sorted, and fields that only `weights` names become keys, as the server makes them.
    """
    keys = tuple((field, _order(order)) for field, order in definition.keys)
    changes: dict[str, object] = {"keys": keys}
    if is_text(definition):
        keys = _sorted_text(keys, definition.weights or {})
        weights = {field: weight for field, weight in (definition.weights or {}).items() if not _one(weight)}
        changes.update(keys=keys, weights=weights or None)
        for name in ("default_language", "language_override"):
            if getattr(definition, name) == _TEXT_DEFAULTS[name]:
                changes[name] = None
    for name, usual in _PLANE_DEFAULTS.items():
        value = getattr(definition, name)
        if value is not None:
            changes[name] = None if value == usual or not _is_plane(keys) else value
    return replace(definition, **changes)  # type: ignore[arg-type]


def is_text(definition: IndexDefinition) -> bool:
    return any(order == TEXT for _, order in definition.keys)


def repeated_field(definition: IndexDefinition) -> str | None:
    """A field that the key pattern names twice; a server keeps only one of them, and not the one meant."""
    seen: set[str] = set()
    for field, _ in definition.keys:
        if field in seen:
            return field
        seen.add(field)
    return None


def capped_size_matches(wanted: int, observed: int) -> bool:
    """Whether a capped collection of `observed` bytes is what the server makes of `wanted` bytes."""
    return observed in (wanted, -(-wanted // CAPPED_ROUNDING) * CAPPED_ROUNDING)


def _sorted_text(
    keys: tuple[tuple[str, KeyOrder], ...], weights: JsonDoc
) -> tuple[tuple[str, KeyOrder], ...]:
    """All text fields stand at the place of the first one: the server keeps them as one entry."""
    texts = sorted({field for field, order in keys if order == TEXT} | set(weights))
    first = next(place for place, (_, order) in enumerate(keys) if order == TEXT)
    before = keys[:first]
    after = tuple((field, order) for field, order in keys[first:] if order != TEXT)
    return (*before, *((field, TEXT) for field in texts), *after)


def _order(order: KeyOrder) -> KeyOrder:
    return int(order) if isinstance(order, int | float) else order


def _one(weight: JsonValue) -> bool:
    return equivalent({"weight": weight}, {"weight": 1})


def _is_plane(keys: tuple[tuple[str, KeyOrder], ...]) -> bool:
    return any(order == "2d" for _, order in keys)


def _projection(projection: JsonDoc | None) -> JsonDoc | None:
    """Nested projections as dotted paths, true as 1: the two ways to write the same."""
    if projection is None:
        return None
    flat: dict[str, JsonValue] = {}
    for field, value in projection.items():
        if isinstance(value, dict) and value and not any(key.startswith("$") for key in value):
            for inner, kept in (_projection(value) or {}).items():
                flat[f"{field}.{inner}"] = kept
        else:
            flat[field] = int(value) if isinstance(value, bool) else value
    return flat
