"""The life of a monthly index: hot, warm, cold, deleted; counted in days from the end of its month. Pure.

Policy format: https://www.elastic.co/guide/en/elasticsearch/reference/8.19/ilm-put-lifecycle.html
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from lucid_storage.kinds.index_elasticsearch.months import Month
from lucid_storage.models.elasticindex import Lifecycle
from lucid_storage.stores.mongodb.types import JsonDoc, JsonValue


class Phase(StrEnum):
    """Where an index stands in its life."""

    HOT = "hot"
    WARM = "warm"
    COLD = "cold"
    DELETE = "delete"


def phase(lifecycle: Lifecycle, month: Month, now: datetime) -> Phase:
    """The days are "until": warm from hotDays, cold from warmDays, gone from deleteDays."""
    age = now - month.end
    if age >= timedelta(days=lifecycle.delete_days):
        return Phase.DELETE
    reached = [name for name, days in _starts(lifecycle) if age >= timedelta(days=days)]
    return reached[-1] if reached else Phase.HOT


def policy_body(lifecycle: Lifecycle, meta: JsonDoc) -> JsonDoc:
    """The policy in Elasticsearch's terms.

    Warm and cold move an index to the data tiers of that name where there are some, and lower its priority of
    recovery. They do not merge segments, since that makes an index read-only, and late documents still arrive.
    """
    phases: dict[str, JsonValue] = {
        "hot": {"min_age": "0ms", "actions": {"set_priority": {"priority": 100}}},
    }
    for name, days in _starts(lifecycle):
        priority = 50 if name is Phase.WARM else 0
        phases[str(name)] = {"min_age": f"{days}d", "actions": {"set_priority": {"priority": priority}}}
    phases["delete"] = {"min_age": f"{lifecycle.delete_days}d", "actions": {"delete": {}}}
    return {"_meta": dict(meta), "phases": phases} if meta else {"phases": phases}


def _starts(lifecycle: Lifecycle) -> list[tuple[Phase, int]]:
    """The phases between hot and delete that last at least a day, with the day they begin."""
    bounds = (
        (Phase.WARM, lifecycle.hot_days, lifecycle.warm_days),
        (Phase.COLD, lifecycle.warm_days, lifecycle.delete_days),
    )
    return [(name, start) for name, start, end in bounds if start < min(end, lifecycle.delete_days)]
