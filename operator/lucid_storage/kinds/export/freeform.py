"""Free-form documents as a person would write them: relaxed Extended JSON wherever that says exactly the same."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from lucid_storage.errors import ServerRefusedError
from lucid_storage.models.schema_checks import free_form_problems
from lucid_storage.stores.documents import to_bson
from lucid_storage.stores.mongodb.types import JsonDoc, JsonValue

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = 253_402_300_799_999
"""The end of the year 9999 in milliseconds: relaxed dates go no further."""


def relaxed(document: JsonDoc) -> dict[str, JsonValue]:
    """From canonical Extended JSON, with every value of the same BSON type as before.

    A long and a whole double stay wrapped: without their wrappers they would come back as int.
    """
    return {key: _relaxed(value) for key, value in document.items()}


def problem(document: JsonDoc) -> str | None:
    """Why the document cannot be declared, or None."""
    try:
        to_bson(document)
    except ServerRefusedError as refused:
        return refused.message
    found = free_form_problems(document)
    return found[0] if found else None


def _relaxed(value: JsonValue) -> JsonValue:
    if isinstance(value, list):
        return [_relaxed(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((name, inner),) = value.items()
        shorter = _unwrapped(name, inner)
        if shorter is not None:
            return shorter
        if name in ("$numberLong", "$numberDouble", "$date"):
            return value
    return {key: _relaxed(item) for key, item in value.items()}


def _unwrapped(name: str, inner: JsonValue) -> JsonValue:
    if name == "$numberInt" and isinstance(inner, str):
        return int(inner)
    if name == "$numberDouble" and isinstance(inner, str):
        number = float(inner)
        return number if math.isfinite(number) and not number.is_integer() else None
    if name == "$date" and isinstance(inner, dict):
        milliseconds = int(str(inner.get("$numberLong")))
        return _date(milliseconds) if 0 <= milliseconds <= _LAST else None
    return None


def _date(milliseconds: int) -> JsonValue:
    moment = _EPOCH + timedelta(milliseconds=milliseconds)
    unit = "milliseconds" if milliseconds % 1000 else "seconds"
    return {"$date": moment.isoformat(timespec=unit).replace("+00:00", "Z")}
