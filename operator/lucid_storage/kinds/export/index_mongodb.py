"""A live MongoDB index as an Index. Pure."""

from __future__ import annotations

import re

from lucid_storage.kinds.export.freeform import problem, relaxed
from lucid_storage.kinds.export.parts import Manifest, Skipped, beyond, given, manifest, misfit, resource_name
from lucid_storage.models.index import IndexSpec
from lucid_storage.stores.mongodb.types import IndexDefinition, IndexState, JsonDoc, JsonValue

ID_INDEX = "_id_"

# The parts that IndexKey allows: plain ones, a wildcard at the end, and those of a DBRef.
_PART = r"([^.$][^.]*|\$\*\*$)"
_FIELD = re.compile(rf"{_PART}(\.({_PART}|\$(id|ref|db)))*", re.DOTALL)


def index_manifest(
    database: str,
    collection: str,
    index: IndexState,
    namespace: str | None,
    *,
    default_collation: JsonDoc | None = None,
) -> tuple[Manifest | None, tuple[Skipped, ...]]:
    """The resource, or None where there can be none; and what is left out. The index on `_id` is nobody's."""
    if index.name == ID_INDEX or index.clustered:
        return None, ()
    what = f"index {index.name} of {database}.{collection}"
    why = _passing(index) or _inexpressible(index.name, index.definition)
    if why is not None:
        return None, (Skipped(what, why),)
    spec: dict[str, JsonValue] = {
        "engine": "mongodb",
        "name": index.name,
        "mongodb": {
            "database": database,
            "collection": collection,
            **_definition(index.definition, default_collation),
        },
    }
    why = misfit(IndexSpec, spec)
    if why is not None:
        return None, (Skipped(what, why),)
    return manifest("Index", resource_name(database, collection, index.name), namespace, spec), beyond(
        what, index.beyond
    )


def _definition(definition: IndexDefinition, default_collation: JsonDoc | None) -> dict[str, JsonValue]:
    collation: JsonValue = dict(definition.collation) if definition.collation is not None else None
    if collation is None and default_collation is not None:
        # Without this the index would be declared with the collection's collation.
        collation = {"locale": "simple"}
    partial, projection = definition.partial_filter, definition.wildcard_projection
    return given(
        {
            "keys": [{"field": field, "order": order} for field, order in definition.keys],
            "unique": definition.unique or None,
            "sparse": definition.sparse or None,
            "expireAfterSeconds": definition.expire_after_seconds,
            "partialFilterExpression": relaxed(partial) if partial is not None else None,
            "collation": collation,
            "hidden": definition.hidden or None,
            "wildcardProjection": dict(projection) if projection is not None else None,
            "weights": dict(definition.weights) if definition.weights else None,
            "defaultLanguage": definition.default_language,
            "languageOverride": definition.language_override,
            "textIndexVersion": definition.text_index_version,
            "bits": definition.bits,
            "min": _number(definition.min),
            "max": _number(definition.max),
        }
    )


def _number(value: float | None) -> JsonValue:
    return int(value) if value is not None and float(value).is_integer() else value


def _passing(index: IndexState) -> str | None:
    """States that do not last."""
    if index.building:
        return "It is still being built; export again when it is ready."
    if index.prepare_unique:
        return "It is being turned into a unique index (prepareUnique); export again when that is done."
    return None


def _inexpressible(name: str, definition: IndexDefinition) -> str | None:
    """What an Index cannot say: the rules of the CRD that old servers and old indexes may break."""
    fields = [field for field, _ in definition.keys]
    if "\0" in name or name == "*":
        return "A resource cannot have this index name."
    if fields == ["_id"] and definition.keys[0][1] in (1, -1):
        return "An index on _id alone cannot be declared."
    if not all(_FIELD.fullmatch(field) for field in fields):
        return "A field path has an empty part, or one that starts with $."
    if definition.expire_after_seconds is not None and (len(fields) > 1 or fields == ["_id"]):
        return "expireAfterSeconds has no effect on a compound index or on _id, and cannot be declared there."
    if definition.sparse and definition.partial_filter is not None:
        return "sparse and partialFilterExpression cannot be declared together."
    if definition.partial_filter is not None:
        return problem(definition.partial_filter)
    return None
