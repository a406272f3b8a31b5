"""A live collection as a Collection. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from lucid_storage.kinds.export.freeform import problem, relaxed
from lucid_storage.kinds.export.parts import Manifest, Skipped, beyond, given, manifest, misfit, resource_name
from lucid_storage.models.collection import CollectionSpec
from lucid_storage.models.meta import RESERVED_PREFIXES
from lucid_storage.stores.mongodb.types import Capped, CollectionOptions, CollectionState, JsonDoc, JsonValue

_DEFAULTS = {"validationLevel": "strict", "validationAction": "error"}
_DEFAULT_CLUSTERED_NAME = "_id_"
_ENCRYPTION_PREFIX = "enxcol_."


def collection_manifest(
    state: CollectionState, namespace: str | None
) -> tuple[Manifest | None, tuple[Skipped, ...]]:
    """The resource, or None where there can be none; and what it does not say."""
    target = f"{state.database}.{state.name}"
    if state.type == "view":
        return None, (Skipped(f"view {target}", "A Collection cannot describe a view."),)
    why = _bad_name(state.name)
    if why is not None:
        return None, (Skipped(f"collection {target}", why),)
    options, skipped = _options(target, state.options)
    spec: dict[str, JsonValue] = {"database": state.database, "name": state.name, **options}
    why = misfit(CollectionSpec, spec)
    if why is not None:
        return None, (Skipped(f"collection {target}", why),)
    made = manifest("Collection", resource_name(state.database, state.name), namespace, spec)
    return made, (*skipped, *beyond(f"collection {target}", state.beyond))


def _options(target: str, options: CollectionOptions) -> tuple[dict[str, JsonValue], tuple[Skipped, ...]]:
    skipped: tuple[Skipped, ...] = ()
    validator: JsonValue = None
    if options.validator is not None:
        why = problem(options.validator)
        if why is None:
            validator = relaxed(options.validator)
        else:
            skipped = (Skipped(f"validator of {target}", f"{why} It stays as it is, unmanaged."),)
    fields: dict[str, JsonValue] = {
        "capped": _capped(options.capped),
        "timeSeries": _time_series(options.time_series),
        "clusteredIndex": _clustered(options.clustered_index),
        "collation": _document(options.collation),
        "preAndPostImages": {"enabled": True} if options.pre_and_post_images else None,
        "validator": validator,
        "validationLevel": options.validation_level,
        "validationAction": options.validation_action,
    }
    usual = {name for name, value in _DEFAULTS.items() if fields[name] == value}
    return given({name: value for name, value in fields.items() if name not in usual}), skipped


def _capped(capped: Capped | None) -> JsonValue:
    if capped is None:
        return None
    return given({"sizeBytes": capped.size_bytes, "maxDocuments": capped.max_documents})


def _time_series(options: JsonDoc | None) -> JsonValue:
    """Without the bucket spans that the server derives from a granularity."""
    if options is None:
        return None
    derived = ("bucketMaxSpanSeconds", "bucketRoundingSeconds") if "granularity" in options else ()
    return {name: value for name, value in options.items() if name not in derived}


def _clustered(options: JsonDoc | None) -> JsonValue:
    if options is None:
        return None
    kept: dict[str, JsonValue] = {n: v for n, v in options.items() if n in ("name", "expireAfterSeconds")}
    if kept.get("name") == _DEFAULT_CLUSTERED_NAME:
        del kept["name"]
    return kept


def _document(options: Mapping[str, JsonValue] | None) -> JsonValue:
    return dict(options) if options is not None else None


def _bad_name(name: str) -> str | None:
    """The rules of CollectionName, which the API server checks."""
    if "$" in name or "\0" in name:
        return "A resource cannot name a collection with a $ or a NUL character; rename it first."
    if name.startswith((".", "system.")):
        return "A resource cannot name a collection that starts with a dot or with system."
    if name.startswith(_ENCRYPTION_PREFIX):
        return "It belongs to an encrypted collection, and whoever makes that one makes it too."
    if name.startswith(RESERVED_PREFIXES):
        return "The name is reserved for restores."
    return None
