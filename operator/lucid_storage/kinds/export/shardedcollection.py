"""How a live collection is sharded, as a ShardedCollection. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from lucid_storage.kinds.export.freeform import relaxed
from lucid_storage.kinds.export.parts import Manifest, Skipped, given, manifest, misfit, resource_name
from lucid_storage.models.shardedcollection import ShardedCollectionSpec
from lucid_storage.stores.mongodb.sharding.types import ShardedState, ZoneState
from lucid_storage.stores.mongodb.types import JsonDoc, JsonValue


def sharded_manifest(
    state: ShardedState, zones: Sequence[ZoneState], namespace: str | None
) -> tuple[Manifest | None, tuple[Skipped, ...]]:
    """The resource, or None where there can be none; and what is left out.

    Balancing is told only where it is off, which is not the server's default. The number of first chunks is nowhere.
    """
    declared: list[JsonValue] = [{"field": field, "order": order} for field, order in state.key]
    spec: dict[str, JsonValue] = {
        "database": state.database,
        "collection": state.name,
        **given(
            {
                "shardKey": declared,
                "unique": state.unique or None,
                "zones": [_zone(zone) for zone in zones] or None,
                "balancing": None if state.balancing else {"enabled": False},
            }
        ),
    }
    why = misfit(ShardedCollectionSpec, spec)
    if why is not None:
        return None, (Skipped(f"shard key of {state.database}.{state.name}", why),)
    name = resource_name(state.database, state.name)
    return manifest("ShardedCollection", name, namespace, spec), ()


def _zone(zone: ZoneState) -> JsonValue:
    ranges: list[JsonValue] = [
        {"min": _bound(bounds.minimum), "max": _bound(bounds.maximum)} for bounds in zone.ranges
    ]
    shards: list[JsonValue] = [*zone.shards]
    return {"name": zone.name, "shards": shards, "ranges": ranges}


def _bound(bound: JsonDoc) -> JsonValue:
    return relaxed(bound)
