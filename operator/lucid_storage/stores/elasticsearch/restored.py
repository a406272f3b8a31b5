"""Indices that a restore made, as all others see them: under the name that they stand for. Pure.

Elasticsearch cannot rename an index, so a restored one is reached by an alias, which some requests may not use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lucid_storage.stores.elasticsearch.backup.names import MARK, staged_name
from lucid_storage.stores.mongodb.types import JsonDoc, JsonValue


@dataclass(frozen=True, slots=True)
class Restored:
    """One of them."""

    name: str
    target: str
    """The name that it is known by: an alias of it."""
    mark: Mapping[str, JsonValue]

    def marked(self, mappings: JsonDoc) -> JsonDoc:
        """Mappings to be put: `_meta` is replaced whole, and the mark must stay."""
        meta = mappings.get("_meta")
        return {**mappings, "_meta": {**meta, MARK: dict(self.mark)}} if isinstance(meta, dict) else mappings


def restored(name: str, mappings: JsonDoc, aliases: JsonDoc) -> Restored | None:
    """None for every other index. A mark that somebody copied or made up gives no index another name."""
    meta = mappings.get("_meta")
    mark = meta.get(MARK) if isinstance(meta, dict) else None
    if not isinstance(mark, dict):
        return None
    target = str(mark.get("target"))
    if target not in aliases or staged_name(target, str(mark.get("run"))) != name:
        return None
    return Restored(name, target, mark)


def without_mark(mappings: JsonDoc) -> JsonDoc:
    """As they were before the restore."""
    meta = mappings.get("_meta")
    if not isinstance(meta, dict) or MARK not in meta:
        return mappings
    rest: dict[str, JsonValue] = {name: value for name, value in mappings.items() if name != "_meta"}
    kept = {name: value for name, value in meta.items() if name != MARK}
    return {**rest, "_meta": kept} if kept else rest
