"""Collections that MongoDB cannot shard, or not by every key. Pure.

Source of the rules: https://www.mongodb.com/docs/manual/core/timeseries/timeseries-shard-collection/ and
https://www.mongodb.com/docs/manual/reference/method/sh.shardCollection/
"""

from __future__ import annotations

from collections.abc import Mapping

from lucid_storage.errors import Reason
from lucid_storage.kinds.contract import Verdict
from lucid_storage.kinds.shardedcollection.desired import ShardedDesired
from lucid_storage.kinds.shardedcollection.observed import ShardedObserved


def unshardable(desired: ShardedDesired, observed: ShardedObserved) -> Verdict | None:
    """Why the collection, there or declared by a Collection, cannot be sharded as asked; or None."""
    said = _said(desired, observed)
    return None if said is None else Verdict(Reason.NOT_SHARDABLE, said, stalled=True)


def _said(desired: ShardedDesired, observed: ShardedObserved) -> str | None:
    target, collection = desired.target, observed.collection
    declared = observed.neighbours.collection
    if collection is not None and collection.type == "view":
        return f"{target} is a view, which cannot be sharded: shard the collection that it reads."
    capped_by = declared.declared_by if declared is not None and declared.capped else None
    if collection is not None and collection.options.capped is not None:
        if capped_by is None:
            said = "a capped collection cannot be sharded: use an ordinary one with a TTL index"
            return f"{target} is capped, and {said}."
        return (
            f"{target} is capped, as the Collection {capped_by} declares, and a capped collection cannot be sharded:"
            " delete this resource, or shard an ordinary collection with a TTL index."
        )
    if observed.state is None and capped_by is not None:
        return (
            f"The Collection {capped_by} declares {target} as capped, and a capped collection cannot be sharded: remove"
            " capped there, or delete this resource."
        )
    time_series: Mapping[str, object] | None = None
    if collection is not None:
        time_series = collection.options.time_series
    elif declared is not None:
        time_series = declared.time_series
    return None if time_series is None else _time_series(desired, observed, time_series)


def _time_series(
    desired: ShardedDesired, observed: ShardedObserved, options: Mapping[str, object]
) -> str | None:
    target = desired.target
    if not observed.server.at_least(5, 1):
        return f"{target} is a time series, which can be sharded from MongoDB 5.1 on: upgrade, or delete this resource."
    if desired.unique:
        return f"{target} is a time series, whose shard key cannot be unique: remove unique."
    if desired.zones:
        return (
            f"{target} is a time series, whose zones are not set, since servers differ in how: remove zones."
        )
    time, meta = str(options.get("timeField")), options.get("metaField")
    for place, (path, order) in enumerate(desired.key):
        if path == time:
            if place == len(desired.key) - 1 and order == 1:
                continue
            return f"{target} is a time series: its timeField {time} can only stand last in the key, with order 1."
        if meta is None or (path != meta and not path.startswith(f"{meta}.")):
            fields = f"its metaField {meta}, fields in that, and last" if meta is not None else "only"
            return (
                f"{target} is a time series: a shard key has {fields} its timeField {time}; take {path} out of"
                " the key."
            )
    return None
