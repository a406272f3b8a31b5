"""Bounds of zones. Pure."""

from __future__ import annotations

from lucid_storage.stores.documents import equivalent
from lucid_storage.stores.mongodb.sharding.types import KeyRange, ShardKey
from lucid_storage.stores.mongodb.types import JsonDoc, JsonValue

MIN_KEY: dict[str, JsonValue] = {"$minKey": 1}
MAX_KEY: dict[str, JsonValue] = {"$maxKey": 1}


def full_bound(bound: JsonDoc, key: ShardKey) -> dict[str, JsonValue]:
    """The bound with all fields of the key in their order, as the server keeps it.

    `{"$minKey": 1}` and `{"$maxKey": 1}` alone stand for every field. Fields left out at the end are MinKey, or
    MaxKey after a MaxKey, which is what the server fills in. Fields that the key does not have stay, for the server
    to refuse.
    """
    for end in (MIN_KEY, MAX_KEY):
        if equivalent(dict(bound), end):
            return {field: dict(end) for field, _ in key}
    fields = [field for field, _ in key]
    given: dict[str, JsonValue] = {field: bound[field] for field in fields if field in bound}
    rest = {field: value for field, value in bound.items() if field not in given}
    missing = fields[len(given) :] if list(given) == fields[: len(given)] and not rest else []
    filled = MAX_KEY if given and all(_is_max(value) for value in given.values()) else MIN_KEY
    return {**given, **rest, **{field: dict(filled) for field in missing}}


def full_range(bounds: KeyRange, key: ShardKey) -> KeyRange:
    return KeyRange(full_bound(bounds.minimum, key), full_bound(bounds.maximum, key))


def same_range(a: KeyRange, b: KeyRange) -> bool:
    """Of two ranges with full bounds."""
    return equivalent(a.minimum, b.minimum) and equivalent(a.maximum, b.maximum)


def _is_max(value: JsonValue) -> bool:
    return isinstance(value, dict) and set(value) == {"$maxKey"}
