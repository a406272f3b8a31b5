"""What a restore writes into the mapping of an index that it makes, and how to tell that it has not finished with it.

Whoever may use an index can write such a mark too, so that one of another form is none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from lucid_storage.stores.elasticsearch.backup.names import MARK
from lucid_storage.stores.elasticsearch.backup.rawjson import joined, member, members
from lucid_storage.stores.elasticsearch.backup.strictness import RAISED
from lucid_storage.stores.mongodb.types import JsonValue

HIDDEN = "index.hidden"


def mark_of(mappings: str) -> dict[str, JsonValue] | None:
    """What a restore wrote into the mapping (a JSON text), or None."""
    try:
        text = members(member(mappings, "_meta")).get(MARK)
        mark = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None
    whole = isinstance(mark, dict) and all(isinstance(mark.get(key), str) for key in ("target", "run"))
    return mark if whole else None


def with_meta(mappings: str, mark: str | None) -> str:
    """The mapping with our mark (a JSON text) in its `_meta`, or without it."""
    meta = {name: text for name, text in members(member(mappings, "_meta")).items() if name != MARK}
    rest = {name: text for name, text in members(mappings).items() if name != "_meta"}
    if mark is not None:
        meta[MARK] = mark
    return joined({**rest, **({"_meta": joined(meta)} if meta else {})})


def is_time(until: object) -> bool:
    """Whether it is a number of seconds, as a run writes it."""
    return isinstance(until, int) and not isinstance(until, bool)


def unfinished(mark: Mapping[str, JsonValue], settings: Mapping[str, JsonValue]) -> bool:
    """Whether the index (its settings, flat) is without the last settings that its mark tells.

    One call sets them all. Blocks may be among them, which keep the mark from being changed; so it stays as it is, and
    what loading needs is the sign: hidden, and a limit that only loading raises.
    """
    last = mark.get("last")
    if not is_time(mark.get("until")) or not isinstance(last, dict):
        return False
    raised = (settings.get(key) == most != last.get(key) for key, most in RAISED.items())
    return str(settings.get(HIDDEN)).lower() == "true" and any(raised)
