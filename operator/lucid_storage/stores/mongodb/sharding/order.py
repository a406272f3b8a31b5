"""Which of two bounds comes first, as the server sorts them. Pure.

Order of types: https://www.mongodb.com/docs/manual/reference/bson-type-comparison-order/
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from functools import cmp_to_key
from itertools import pairwise
from typing import Any

from bson import Code, MaxKey, MinKey, ObjectId, Timestamp
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128

from lucid_storage.errors import ServerRefusedError
from lucid_storage.stores.documents import to_bson
from lucid_storage.stores.mongodb.sharding.types import KeyRange, ShardKey
from lucid_storage.stores.mongodb.types import JsonDoc

_LOWEST, _NULL, _NUMBER, _TEXT, _DOCUMENT, _LIST, _BINARY, _ID, _BOOL, _DATE, _TIME, _HIGHEST = range(12)
_UNSORTED = (_DOCUMENT, _LIST, _BINARY)
"""Kinds whose values are left to the server to compare."""


class UnknownOrderError(Exception):
    """Only the server can tell, for example of two documents."""


def in_order(bounds: KeyRange, key: ShardKey) -> bool:
    """Whether the range holds anything: its minimum comes before its maximum. Raises UnknownOrderError."""
    return _compared(_values(bounds.minimum, key), _values(bounds.maximum, key)) < 0


def overlapping(ranges: Sequence[KeyRange], key: ShardKey) -> tuple[int, int] | None:
    """Places of two ranges that have a value in common. Raises UnknownOrderError."""
    ends = [(_values(one.minimum, key), _values(one.maximum, key)) for one in ranges]

    def by_minimum(a: int, b: int) -> int:
        return _compared(ends[a][0], ends[b][0])

    places = sorted(range(len(ends)), key=cmp_to_key(by_minimum))
    for before, after in pairwise(places):
        if _compared(ends[before][1], ends[after][0]) > 0:
            return min(before, after), max(before, after)
    return None


def _values(bound: JsonDoc, key: ShardKey) -> list[object]:
    """Of a bound with all fields. Raises UnknownOrderError."""
    try:
        read = to_bson(bound)
    except ServerRefusedError:
        raise UnknownOrderError from None
    if read.keys() != {field for field, _ in key}:
        raise UnknownOrderError
    return [read[field] for field, _ in key]


def _compared(a: Sequence[object], b: Sequence[object]) -> int:
    for left, right in zip(a, b, strict=True):
        found = _order(left, right)
        if found:
            return found
    return 0


def _order(a: object, b: object) -> int:
    kind, other = _kind(a), _kind(b)
    if kind is None or other is None:
        # A kind that is not known here comes after the lowest value and before the highest all the same.
        if kind == _LOWEST or other == _HIGHEST:
            return -1
        if kind == _HIGHEST or other == _LOWEST:
            return 1
        raise UnknownOrderError
    if kind != other:
        return -1 if kind < other else 1
    if kind in _UNSORTED:
        raise UnknownOrderError
    if kind in (_LOWEST, _NULL, _HIGHEST):
        return 0
    left, right = _sortable(a), _sortable(b)
    return int(left > right) - int(left < right)


def _kind(value: object) -> int | None:
    if isinstance(value, Code):
        return None  # a str to Python
    return next((kind for types, kind in _KINDS if isinstance(value, types)), None)


_KINDS: tuple[tuple[type | tuple[type, ...], int], ...] = (
    (MinKey, _LOWEST),
    (MaxKey, _HIGHEST),
    (type(None), _NULL),
    (bool, _BOOL),
    ((int, float, Decimal128), _NUMBER),
    (str, _TEXT),
    (dict, _DOCUMENT),
    (list, _LIST),
    (bytes, _BINARY),
    (ObjectId, _ID),
    (DatetimeMS, _DATE),
    (Timestamp, _TIME),
)


def _sortable(value: Any) -> Any:
    """The server sorts text by its bytes, and NaN before all numbers."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, Decimal128):
        value = value.to_decimal()
    if isinstance(value, float | Decimal) and math.isnan(value):
        return Decimal("-Infinity")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Decimal(value)
    return value
