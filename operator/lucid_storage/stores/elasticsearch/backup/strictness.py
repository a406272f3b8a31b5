"""What judges new documents only, and is kept away from an index while its old documents come back.

The server checks a mapping or limit that is tightened in place against no document that is there already.
"""

from __future__ import annotations

import json

from lucid_storage.stores.elasticsearch.backup.rawjson import joined, members

RAISED = {
    f"index.mapping.{name}.limit": "1000000"
    for name in ("total_fields", "nested_fields", "nested_objects", "depth")
}
"""Settings of an index that is being loaded."""
LIMITS = (*RAISED, "index.mapping.field_name_length.limit")
"""Limits that come back at last; without a value the last one is none."""
_STRICT = {"strict", "strict_allow_templates"}


def loosened(mappings: str) -> str:
    """The mapping (JSON text) that ignores unknown fields wherever it refuses them."""
    if '"strict' not in mappings:
        return mappings
    parts = members(mappings)
    if "dynamic" in parts and str(json.loads(parts["dynamic"])) in _STRICT:
        parts["dynamic"] = '"false"'
    if "properties" in parts:
        fields = members(parts["properties"])
        parts["properties"] = joined({name: loosened(text) for name, text in fields.items()})
    return joined(parts)
