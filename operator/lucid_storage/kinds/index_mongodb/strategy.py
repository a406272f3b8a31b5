"""How an existing index becomes the declared one: in place, built first beside the old, or dropped first. Pure.

What the server lets live side by side: indexes whose keys, collation, partial filter and, from 5.0, unique, sparse
and wildcard projection differ
(https://www.mongodb.com/docs/manual/core/indexes/index-constraints/). One collection has at most one text index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from lucid_storage.stores.mongodb.definition import is_text
from lucid_storage.stores.mongodb.types import IndexChange, IndexDefinition, ServerInfo

_SIGNATURE = {"keys", "collation", "partial_filter"}
_SIGNATURE_5_0 = {"unique", "sparse", "wildcard_projection"}

FIELD_NAMES = {
    "partial_filter": "partialFilterExpression",
    "expire_after_seconds": "expireAfterSeconds",
    "wildcard_projection": "wildcardProjection",
    "default_language": "defaultLanguage",
    "language_override": "languageOverride",
    "text_index_version": "textIndexVersion",
}
"""Definition fields by the names people write, where those differ."""


class Way(StrEnum):
    IN_PLACE = "in place"
    BUILD_FIRST = "build first"
    DROP_FIRST = "drop first"


@dataclass(frozen=True, slots=True)
class Strategy:
    way: Way
    change: IndexChange = field(default_factory=IndexChange)
    """For IN_PLACE. `unique` asks for the two steps of prepareUnique and unique."""


def choose(
    differing: Sequence[str], wanted: IndexDefinition, old: IndexDefinition, server: ServerInfo
) -> Strategy:
    """The gentlest way that the server's version allows."""
    change = _in_place(differing, wanted, old, server)
    if change is not None:
        return Strategy(Way.IN_PLACE, change)
    return Strategy(Way.BUILD_FIRST if side_by_side(differing, wanted, old, server) else Way.DROP_FIRST)


def _in_place(
    differing: Sequence[str], wanted: IndexDefinition, old: IndexDefinition, server: ServerInfo
) -> IndexChange | None:
    hidden = expire = unique = None
    for name in differing:
        if name == "hidden":
            hidden = wanted.hidden
        elif name == "expire_after_seconds" and wanted.expire_after_seconds is not None:
            if old.expire_after_seconds is None and not server.runs(5, 1):
                return None
            expire = wanted.expire_after_seconds
        elif name == "unique" and wanted.unique and server.at_least(6):
            unique = True
        else:
            return None
    return IndexChange(hidden=hidden, expire_after_seconds=expire, unique=unique)


def side_by_side(
    differing: Sequence[str], wanted: IndexDefinition, old: IndexDefinition, server: ServerInfo
) -> bool:
    """Whether the server lets both live, once they have different names."""
    if is_text(wanted) and is_text(old):
        return False
    distinct = _SIGNATURE | (_SIGNATURE_5_0 if server.at_least(5) else set())
    return bool(distinct & set(differing))


def shown_fields(differing: Sequence[str]) -> str:
    """Field names as people write them."""
    return ", ".join(FIELD_NAMES.get(f, f) for f in differing)
