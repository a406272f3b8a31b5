"""When the server's lifecycle deletes an index. Pure.

Policies and ages: https://www.elastic.co/guide/en/elasticsearch/reference/8.19/ilm-index-lifecycle.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta

from lucid_storage.stores.elasticsearch.reading import moment
from lucid_storage.stores.mongodb.types import JsonDoc, JsonValue

POLICY_NAME = "index.lifecycle.name"
ORIGINATION_DATE = "index.lifecycle.origination_date"

_DURATION = re.compile(r"([0-9]{1,6}) ?(d|h|m|s|ms|micros|nanos)", re.ASCII)
_UNITS = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
    "micros": timedelta(microseconds=1),
    "nanos": timedelta(0),
}


def deletes(policy: JsonDoc) -> bool:
    """Whether a policy deletes at all."""
    return _last_phase(policy) is not None


def deletes_after(policy: JsonDoc) -> timedelta | None:
    """The age at which a policy deletes; None when it never does, or in a way that is not understood."""
    last = _last_phase(policy)
    found = _DURATION.fullmatch(str(last.get("min_age", "0ms"))) if last is not None else None
    return int(found[1]) * _UNITS[found[2]] if found else None


def origin(settings: Mapping[str, JsonValue], created: datetime | None) -> datetime | None:
    """What the age of an index is counted from."""
    return moment(settings.get(ORIGINATION_DATE)) or created


def _last_phase(policy: JsonDoc) -> JsonDoc | None:
    phases = policy.get("phases")
    last = phases.get("delete") if isinstance(phases, dict) else None
    return last if isinstance(last, dict) else None
