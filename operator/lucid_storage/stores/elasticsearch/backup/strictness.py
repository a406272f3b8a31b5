"""What judges new documents only, and is kept away from an index while its old documents come back.

The server checks a mapping or limit that is tightened in place against no document that is there already.
"""

from __future__ import annotations

from collections.abc import Mapping

from lucid_storage.stores.elasticsearch.backup.rawjson import joined, members
from lucid_storage.stores.mongodb.types import JsonValue

RAISED = {
    f"index.mapping.{name}.limit": "1000000"
    for name in ("total_fields", "nested_fields", "nested_objects", "depth")
}
"""Settings of an index that is being loaded."""
LIMITS = (*RAISED, "index.mapping.field_name_length.limit")
"""Limits that come back at last; without a value the last one is none."""
_KEEPING = '"false"'
"""Of `dynamic`: unknown fields stay in the source, and are neither refused nor mapped."""
_BEYOND = "index.mapping.total_fields.ignore_dynamic_beyond_limit"


def loosened(mappings: str, settings: Mapping[str, JsonValue]) -> str:
    """The mapping (JSON text) that neither refuses nor maps unknown fields wherever it says what to do with them.

    It is as new as the newest document, so what it does not know is of a time when that was kept, and may be of any
    type. So it is where the server ignored fields beyond the limit, which loading raises.
    """
    found = _loosened(mappings)
    return joined({**members(found), "dynamic": _KEEPING}) if _ignores(settings) else found


def tightened(mappings: str, settings: Mapping[str, JsonValue]) -> str:
    """What puts the mapping back in place. A `dynamic` that it did not say has to be said then."""
    return joined({"dynamic": '"true"', **members(mappings)}) if _ignores(settings) else mappings


def _ignores(settings: Mapping[str, JsonValue]) -> bool:
    return str(settings.get(_BEYOND)).lower() == "true"


def _loosened(mappings: str) -> str:
    if '"dynamic"' not in mappings:
        return mappings
    parts = members(mappings)
    if "dynamic" in parts:
        parts["dynamic"] = _KEEPING
    if "properties" in parts:
        fields = members(parts["properties"])
        parts["properties"] = joined({name: _loosened(text) for name, text in fields.items()})
    return joined(parts)
