"""Extended JSON in and out, and equality as servers see it."""

from decimal import Decimal
from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_storage.errors import Reason, ServerRefusedError
from lucid_storage.stores.documents import collation_equivalent, equivalent, to_bson, to_json, to_plain


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({"$oid": "65f000000000000000000001"}, bson.ObjectId("65f000000000000000000001")),
        ({"$numberLong": "9007199254740993"}, 9007199254740993),
        ({"$numberInt": "5"}, 5),
        ({"$numberDouble": "Infinity"}, float("inf")),
        ({"$numberDecimal": "1.10"}, bson.Decimal128(Decimal("1.10"))),
        ({"$date": "2026-01-02T03:04:05.678Z"}, bson.DatetimeMS(1767323045678)),
        ({"$date": {"$numberLong": "-99999999999999"}}, bson.DatetimeMS(-99999999999999)),
        ({"$timestamp": {"t": 5, "i": 1}}, bson.Timestamp(5, 1)),
        ({"$regularExpression": {"pattern": "^a", "options": "i"}}, bson.Regex("^a", "i")),
        ({"$binary": {"base64": "AAE=", "subType": "80"}}, bson.Binary(b"\x00\x01", 0x80)),
        ({"$minKey": 1}, bson.MinKey()),
        ({"$code": "f", "$scope": {"a": {"$numberInt": "1"}}}, bson.Code("f", {"a": 1})),
    ],
)
def test_wrapped_values_become_bson_and_come_back(written: Any, read: Any) -> None:
    assert to_bson({"v": written}) == {"v": read}
    again = to_json(to_bson({"v": written}))
    assert to_bson(again) == {"v": read}
    assert equivalent(again, {"v": written})


def test_a_uuid_is_written_as_a_binary() -> None:
    text = "00112233-4455-6677-8899-aabbccddeeff"
    parsed = to_bson({"v": {"$uuid": text}})
    assert to_json(parsed) == {"v": {"$binary": {"base64": "ABEiM0RVZneImaq7zN3u/w==", "subType": "04"}}}


def test_the_regex_operator_stays_an_operator() -> None:
    operator = {"name": {"$regex": "^a", "$options": "i"}}
    assert to_bson(operator) == operator
    assert to_json(to_bson(operator)) == operator


def test_a_type_operator_is_not_mistaken_for_a_wrapped_value() -> None:
    assert to_bson({"a": {"$type": "string"}}) == {"a": {"$type": "string"}}


@pytest.mark.parametrize(
    "bad",
    [
        {"a": {"b": [{"$oid": "not one"}]}},
        {"a": {"$date": "yesterday"}},
        {"a": {"$numberLong": "many"}},
        {"a": {"$numberInt": "3000000000"}},
        {"a": {"$numberDecimal": "a lot"}},
        {"a": {"$oid": "65f000000000000000000001", "b": 1}},
        {"a": {"$uuid": 5}},
        {"a": {"$binary": {"base64": "!", "subType": "zz"}}},
        {"a": {"$timestamp": {"t": -1, "i": 0}}},
        {"a": 2**63},
        {"a\x00": 1},
    ],
)
def test_bad_extended_json_is_an_invalid_spec_with_its_place(bad: Any) -> None:
    with pytest.raises(ServerRefusedError) as refused:
        to_bson(bad)
    assert refused.value.reason is Reason.INVALID_SPEC
    assert refused.value.message.endswith("correct it.")


def test_the_place_of_a_bad_value_is_named() -> None:
    with pytest.raises(ServerRefusedError, match=r"'\$or\[1\]\.a\.\$eq'"):
        to_bson({"$or": [{"a": 1}, {"a": {"$eq": {"$oid": "bad"}}}]})


def test_nesting_without_end_is_refused_and_does_not_break_us() -> None:
    deep: dict[str, Any] = {}
    for _ in range(5_000):
        deep = {"a": deep}
    with pytest.raises(ServerRefusedError, match="deeper than 100"):
        to_bson(deep)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"a": {"$numberLong": "1"}}, True),
        ({"a": 1}, {"a": {"$numberDecimal": "1.0"}}, True),
        ({"a": {"$numberDouble": "NaN"}}, {"a": {"$numberDouble": "NaN"}}, True),
        ({"a": 2**53 + 1}, {"a": float(2**53)}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": 0}, {"a": None}, False),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"a": [1, {"b": 1, "c": 2}]}, {"a": [1.0, {"c": 2, "b": 1}]}, True),
        ({"a": {}}, {"a": []}, False),
        ({"a": {"$date": "2026-01-01T00:00:00Z"}}, {"a": {"$date": "2026-01-01T01:00:00+01:00"}}, True),
        ({"a": {"$regularExpression": {"pattern": "x", "options": ""}}}, {"a": {"$regex": "x"}}, False),
        ({"a": {"$oid": "bad"}}, {"a": {"$oid": "bad"}}, True),
        ({"a": {"$oid": "bad"}}, {"a": {"$oid": "worse"}}, False),
        ({}, {}, True),
        ({}, None, False),
        (None, None, True),
        ({"a": 1}, {"a": 1, "b": None}, False),
    ],
)
def test_equality_ignores_key_order_and_number_types_alone(a: Any, b: Any, same: bool) -> None:
    assert equivalent(a, b) is same
    assert equivalent(b, a) is same


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text("abc._", min_size=1, max_size=5), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.text("xyz", min_size=1, max_size=3), VALUES, max_size=5))
def test_whatever_goes_through_the_server_comes_back_equivalent(document: dict[str, Any]) -> None:
    stored = bson.decode(bson.encode(to_bson(document)))
    assert equivalent(document, to_json(stored))


DEFAULTS = {
    "caseLevel": False,
    "caseFirst": "off",
    "strength": 3,
    "numericOrdering": False,
    "alternate": "non-ignorable",
    "maxVariable": "punct",
    "normalization": False,
    "backwards": False,
}


@pytest.mark.parametrize(
    ("wanted", "observed", "same"),
    [
        (None, None, True),
        ({"locale": "simple"}, None, True),
        (None, {"locale": "en", **DEFAULTS}, False),
        ({"locale": "en"}, None, False),
        ({"locale": "en"}, {"locale": "en", **DEFAULTS}, True),
        ({"locale": "en"}, {"locale": "de", **DEFAULTS}, False),
        ({"locale": "en", "strength": 2}, {"locale": "en", **DEFAULTS}, False),
        ({"locale": "en"}, {"locale": "en", **DEFAULTS, "strength": 2}, False),
        ({"locale": "en", "strength": 2.0}, {"locale": "en", **DEFAULTS, "strength": 2}, True),
        ({"locale": "fr_CA"}, {"locale": "fr_CA", **DEFAULTS, "backwards": True}, True),
        ({"locale": "fr_CA", "backwards": False}, {"locale": "fr_CA", **DEFAULTS, "backwards": True}, False),
        ({"locale": "da"}, {"locale": "da", **DEFAULTS, "caseFirst": "upper"}, True),
    ],
)
def test_a_collation_equals_what_the_server_expands_it_to(wanted: Any, observed: Any, same: bool) -> None:
    assert collation_equivalent(wanted, observed) is same


def test_plain_options_lose_the_number_types_that_carry_no_meaning() -> None:
    assert to_plain({"a": bson.Int64(3), "b": 2.0, "c": 1.5, "d": True}) == {
        "a": 3,
        "b": 2,
        "c": 1.5,
        "d": True,
    }
