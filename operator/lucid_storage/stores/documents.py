"""Free-form documents: MongoDB Extended JSON v2 in, its canonical form out, and equality as servers see it.

Pure. `bson` is imported for the value types alone; nothing here speaks to a server.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from types import NoneType

from bson import encode
from bson.codec_options import DatetimeConversion
from bson.decimal128 import Decimal128
from bson.errors import BSONError
from bson.json_util import CANONICAL_JSON_OPTIONS, JSONOptions, default, object_hook
from bson.regex import Regex

from lucid_storage.errors import Reason, ServerRefusedError
from lucid_storage.stores.mongodb.types import JsonDoc, JsonValue

MAX_DEPTH = 100
"""BSON's own limit of nesting."""

_OPTIONS: JSONOptions = CANONICAL_JSON_OPTIONS.with_options(
    datetime_conversion=DatetimeConversion.DATETIME_MS
)

# The key sets that make an object a wrapped value and not a document. `$regex` with `$options` is left out on
# purpose: in a validator it is the query operator, and the server keeps it as it was written.
_WRAPPERS = frozenset(
    frozenset(keys)
    for keys in (
        {"$oid"},
        {"$date"},
        {"$binary"},
        {"$binary", "$type"},
        {"$uuid"},
        {"$code"},
        {"$code", "$scope"},
        {"$symbol"},
        {"$timestamp"},
        {"$regularExpression"},
        {"$numberInt"},
        {"$numberLong"},
        {"$numberDouble"},
        {"$numberDecimal"},
        {"$minKey"},
        {"$maxKey"},
        {"$undefined"},
        {"$dbPointer"},
    )
)
_PLAIN = (str, bool, NoneType, float)
"""Types of values that stand for themselves, told apart first: most of a document's values are of them."""
_WRAPPER_NAMES = frozenset(name for keys in _WRAPPERS for name in keys) - {"$type", "$scope"}
_HOLD_WRAPPED = frozenset({"$date", "$scope"})
"""Wrappers whose own value may be wrapped again: a date in milliseconds, the variables of a script."""

_NOT_VALID = (BSONError, ValueError, TypeError, KeyError, ArithmeticError, AttributeError)

_COLLATION_DEFAULTS: Mapping[str, JsonValue] = {
    "caseLevel": False,
    "caseFirst": "off",
    "strength": 3,
    "numericOrdering": False,
    "alternate": "non-ignorable",
    "maxVariable": "punct",
    "normalization": False,
    "backwards": False,
}

# Where a locale itself sets another default (ICU: fr_CA sorts accents backwards, da and mt put upper case
# first, th ignores punctuation, several normalise), the server expands to that one.
_LOCALE_DEPENDENT = frozenset({"caseFirst", "alternate", "normalization", "backwards"})


def to_bson(document: JsonDoc) -> dict[str, object]:
    """The document with its wrapped values as BSON types.

    Raises ServerRefusedError (InvalidSpec) with the path of the value that is not Extended JSON v2.
    """
    parsed = _parse(document, "", 0)
    if not isinstance(parsed, dict):
        raise _invalid("", "is not a document")
    try:
        encode(parsed)
    except _NOT_VALID as error:
        raise _invalid(
            "", "cannot be encoded: a key holds a null character or a number is out of range"
        ) from error
    return parsed


def to_json(document: Mapping[str, object]) -> dict[str, JsonValue]:
    """A document from the server in canonical Extended JSON."""
    return {key: _render(value) for key, value in document.items()}


def to_plain(document: Mapping[str, object]) -> dict[str, JsonValue]:
    """A structured option from the server as plain JSON: numbers and booleans stay what they are.

    For collations, weights and projections, whose number types carry no meaning.
    """
    return {key: _plain(value) for key, value in document.items()}


def equivalent(a: JsonDoc | None, b: JsonDoc | None) -> bool:
    """Whether two documents say the same: key order and the type of a number make no difference.

    Lists keep their order; an empty document and None are different. A document that is not valid Extended
    JSON equals only itself.
    """
    if a is None or b is None:
        return a is b
    try:
        return _same(_parse(a, "", 0), _parse(b, "", 0))
    except ServerRefusedError:
        return a == b


def collation_equivalent(wanted: JsonDoc | None, observed: JsonDoc | None) -> bool:
    """Whether the server would expand `wanted` to `observed`. The simple locale is the same as none."""
    declared, expanded = _explicit(wanted), _explicit(observed)
    if declared is None or expanded is None:
        return declared is expanded
    if declared.get("locale") != expanded.get("locale"):
        return False
    for option, usual in _COLLATION_DEFAULTS.items():
        if option in declared:
            if not _same(declared[option], expanded.get(option, usual)):
                return False
        elif option not in _LOCALE_DEPENDENT and not _same(expanded.get(option, usual), usual):
            return False
    return True


def _explicit(collation: JsonDoc | None) -> dict[str, object] | None:
    if collation is None:
        return None
    try:
        parsed = _parse(collation, "", 0)
    except ServerRefusedError:
        return dict(collation)
    assert isinstance(parsed, dict)
    return None if not parsed or parsed.get("locale") == "simple" else parsed


def _parse(value: object, path: str, depth: int) -> object:
    if depth > MAX_DEPTH:
        raise _invalid("", f"is nested deeper than {MAX_DEPTH} levels")
    if type(value) in _PLAIN:
        return value
    if type(value) is dict or isinstance(value, Mapping):
        return _parse_mapping(value, path, depth)
    if isinstance(value, list | tuple):
        return [_parse(item, f"{path}[{place}]", depth + 1) for place, item in enumerate(value)]
    if isinstance(value, int) and not isinstance(value, bool):
        if not -(2**63) <= value < 2**63:
            raise _invalid(path, "holds a whole number beyond 64 bits")
        return value
    return value


def _parse_mapping(value: Mapping[str, object], path: str, depth: int) -> object:
    keys = frozenset(value)
    if keys not in _WRAPPERS:
        stray = sorted(keys & _WRAPPER_NAMES)
        if stray:
            raise _invalid(path, f"mixes {stray[0]} with other keys, which Extended JSON v2 does not allow")
        return {key: _parse(item, f"{path}.{key}" if path else key, depth + 1) for key, item in value.items()}
    inner = {key: dict(item) if isinstance(item, Mapping) else item for key, item in value.items()}
    for nested in inner.keys() & _HOLD_WRAPPED:
        inner[nested] = _parse(inner[nested], f"{path}.{nested}", depth + 1)
    try:
        parsed: object = object_hook(inner, _OPTIONS)
        encode({"value": parsed})
        if "$numberInt" in inner and not -(2**31) <= int(str(inner["$numberInt"])) < 2**31:
            raise ValueError("beyond 32 bits")
    except _NOT_VALID as error:
        raise _invalid(path, f"holds a {min(keys)} that is not valid Extended JSON v2") from error
    return parsed


def _invalid(path: str, what: str) -> ServerRefusedError:
    subject = f"The document's field {path[:200]!r}" if path else "The document"
    return ServerRefusedError(f"{subject} {what}; correct it.", reason=Reason.INVALID_SPEC)


def _render(value: object) -> JsonValue:
    if value is None or isinstance(value, bool) or type(value) is str:
        return value
    if type(value) is dict or isinstance(value, Mapping):
        return {str(key): _render(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_render(item) for item in value]
    rendered: JsonValue = default(value, _OPTIONS)
    return rendered


def _plain(value: object) -> JsonValue:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    return _render(value)


def _same(a: object, b: object) -> bool:
    if type(a) is str and type(b) is str:
        return a == b
    if type(a) is dict and type(b) is dict:
        return _same_fields(a, b)
    if isinstance(a, Mapping) or isinstance(b, Mapping):
        return isinstance(a, Mapping) and isinstance(b, Mapping) and _same_fields(a, b)
    if isinstance(a, list) or isinstance(b, list):
        if not (isinstance(a, list) and isinstance(b, list)):
            return False
        return len(a) == len(b) and all(_same(left, right) for left, right in zip(a, b, strict=True))
    left, right = _number(a), _number(b)
    if left is not None and right is not None:
        return left == right or (left.is_nan() and right.is_nan())
    if isinstance(a, Regex) and isinstance(b, Regex):
        return bool(a.pattern == b.pattern and a.flags == b.flags)
    return type(a) is type(b) and a == b


def _same_fields(a: Mapping[str, object], b: Mapping[str, object]) -> bool:
    return a.keys() == b.keys() and all(_same(item, b[key]) for key, item in a.items())


def _number(value: object) -> Decimal | None:
    if isinstance(value, Decimal128):
        return value.to_decimal()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return Decimal("NaN") if isinstance(value, float) and math.isnan(value) else Decimal(value)
