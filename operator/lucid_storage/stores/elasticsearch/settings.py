"""Index settings, pure: flat names, which ones the server adds, which ones an open index cannot change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lucid_storage.stores.mongodb.types import JsonValue

CLOSED = "index.verified_before_close"
"""What the server writes into an index that is closed, and takes away when it is opened."""
_SERVER_ADDED = {
    "index.creation_date",
    "index.creation_date_string",
    "index.history.uuid",
    "index.provided_name",
    "index.replication.type",
    "index.uuid",
    CLOSED,
    "index.transport_version.created",
}
_SERVER_ADDED_UNDER = (
    "index.version.",
    "index.resize.",
    "index.shrink.source.",
    "index.routing.allocation.initial_recovery.",
)
DEFAULT_TIER = ("index.routing.allocation.include._tier_preference", "data_content")
"""What the server writes into a new index that names no data tier."""

REPLICAS, DEFAULT_REPLICAS = "index.number_of_replicas", "1"
"""What the server writes into every index that names no number, and again into one whose number is taken away."""
_AUTO_EXPAND = "index.auto_expand_replicas"

# Source: the static index settings of the index modules reference of Elasticsearch 8.
_STATIC = {
    "index.codec",
    "index.data_path",
    "index.load_fixed_bitset_filters_eagerly",
    "index.mapping.coerce",
    "index.mapping.ignore_malformed",
    "index.mapping.nested_parent_field",
    "index.mode",
    "index.number_of_routing_shards",
    "index.number_of_shards",
    "index.queries.cache.enabled",
    "index.routing_partition_size",
    "index.routing_path",
    "index.shard.check_on_startup",
    "index.soft_deletes.enabled",
    "index.store.preload",
    "index.store.type",
    "index.time_series.start_time",
}
_STATIC_UNDER = ("index.analysis.", "index.similarity.", "index.sort.", "index.store.fs.")


def flat(settings: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Settings with full dotted names that begin with "index.", given nested, dotted or without it."""
    found: dict[str, JsonValue] = {}
    _flatten("", settings, found)
    return {name if name.startswith("index.") else f"index.{name}": value for name, value in found.items()}


def _flatten(prefix: str, value: Mapping[str, JsonValue], found: dict[str, JsonValue]) -> None:
    for name, inner in value.items():
        if isinstance(inner, dict):
            _flatten(f"{prefix}{name}.", inner, found)
        else:
            found[prefix + name] = inner


def declared(settings: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """An index's settings as somebody set them: flat, without what the server adds to every index."""
    return {
        name: value
        for name, value in flat(settings).items()
        if name not in _SERVER_ADDED
        and not name.startswith(_SERVER_ADDED_UNDER)
        and (name, value) != DEFAULT_TIER
    }


def is_on(value: JsonValue) -> bool:
    """Whether a setting that is a boolean is true, however it is written."""
    return str(value).lower() == "true"


def left_to_server(name: str, wanted: JsonValue, settings: Mapping[str, JsonValue]) -> bool:
    """Whether an index's value is the server's own: the replicas, where it counts them or nobody declares them."""
    if name != REPLICAS:
        return False
    expands = str(settings.get(_AUTO_EXPAND, "false")).lower() != "false"
    return expands or (wanted is None and str(settings.get(REPLICAS)) == DEFAULT_REPLICAS)


def static_settings(names: Iterable[str]) -> tuple[str, ...]:
    """Those of the flat names that an existing open index cannot change; they need a new index."""
    full = (name if name.startswith("index.") else f"index.{name}" for name in names)
    return tuple(sorted(name for name in full if name in _STATIC or name.startswith(_STATIC_UNDER)))
