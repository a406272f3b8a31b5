"""Equality of definitions, for adoption and drift, without a server."""

import pytest
from mongo_bed import index

from lucid_storage.stores.mongodb.definition import capped_size_matches, normal, same_definition
from lucid_storage.stores.mongodb.indexes import observed_index
from lucid_storage.stores.mongodb.types import IndexDefinition


@pytest.mark.parametrize(
    ("wanted", "observed", "differing"),
    [
        (index(("a", 1)), index(("a", 1)), []),
        (index(("a", 1), ("b", 1)), index(("b", 1), ("a", 1)), ["keys"]),
        (index(("a", 1)), index(("a", -1)), ["keys"]),
        (index(("a", 1), unique=True), index(("a", 1)), ["unique"]),
        (index(("a", 1)), index(("a", 1), sparse=True), ["sparse"]),
        (index(("a", 1)), index(("a", 1), expire_after_seconds=5), ["expire_after_seconds"]),
        (index(("a", 1)), index(("a", 1), hidden=True), []),
        (index(("a", 1), hidden=False), index(("a", 1), hidden=True), ["hidden"]),
        (index(("a", 1), hidden=False), index(("a", 1)), []),
        (index(("a", 1), partial_filter={"x": 1}), index(("a", 1)), ["partial_filter"]),
        (
            index(("a", 1), partial_filter={"x": 1}),
            index(("a", 1), partial_filter={"x": {"$numberInt": "1"}}),
            [],
        ),
        (
            index(("$**", 1), wildcard_projection={"a": True}),
            index(("$**", 1), wildcard_projection={"a": 1}),
            [],
        ),
        (
            index(("$**", 1), wildcard_projection={"a": {"b": 1}}),
            index(("$**", 1), wildcard_projection={"a.b": 1}),
            [],
        ),
        (index(("a", "text"), ("b", "text")), index(("b", "text"), ("a", "text")), []),
        (index(("a", "text"), weights={"a": 1}), index(("a", "text")), []),
        (index(("a", "text"), weights={"b": 2}), index(("a", "text"), ("b", "text"), weights={"b": 2}), []),
        (index(("a", "text"), default_language="english"), index(("a", "text")), []),
        (index(("a", "text"), default_language="german"), index(("a", "text")), ["default_language"]),
        (index(("a", "text")), index(("a", "text"), text_index_version=2), []),
        (index(("a", "text"), text_index_version=3), index(("a", "text")), []),
        (index(("a", "text"), text_index_version=2), index(("a", "text")), ["text_index_version"]),
        (index(("a", "2d"), bits=26, min=-180, max=180), index(("a", "2d")), []),
        (index(("a", "2d"), bits=20), index(("a", "2d")), ["bits"]),
        (index(("a", 1), unique=True, sparse=True), index(("b", 1)), ["keys", "sparse", "unique"]),
    ],
)
def test_the_differing_fields_are_named(
    wanted: IndexDefinition, observed: IndexDefinition, differing: list[str]
) -> None:
    assert same_definition(wanted, observed) == differing


def test_an_index_without_collation_takes_the_one_of_its_collection() -> None:
    observed = index(("a", 1), collation={"locale": "de", "strength": 3})
    assert same_definition(index(("a", 1)), observed) == ["collation"]
    assert same_definition(index(("a", 1)), observed, default_collation={"locale": "de"}) == []
    simple = index(("a", 1), collation={"locale": "simple"})
    assert same_definition(simple, index(("a", 1)), default_collation={"locale": "de"}) == []
    assert same_definition(simple, observed, default_collation={"locale": "de"}) == ["collation"]


def test_normalising_twice_changes_nothing_more() -> None:
    text = index(("c", 1), ("z", "text"), ("a", "text"), ("d", -1), weights={"z": 1, "q": 4})
    once = normal(text)
    assert once == normal(once)
    assert once.keys == (("c", 1), ("a", "text"), ("q", "text"), ("z", "text"), ("d", -1))


@pytest.mark.parametrize(
    ("stored", "seconds"),
    [(3600, 3600), (3600.0, 3600), (float("nan"), 2**31 - 1), (float("inf"), 2**31 - 1), (None, None)],
)
def test_odd_expiry_values_of_old_indexes_are_read(stored: object, seconds: int | None) -> None:
    entry = {"v": 1, "key": {"a": 1}, "name": "a_1", "background": True, "ns": "x.y"}
    if stored is not None:
        entry["expireAfterSeconds"] = stored
    assert observed_index(entry).definition == index(("a", 1), expire_after_seconds=seconds)


def test_odd_key_orders_of_old_indexes_equal_nothing_that_can_be_declared() -> None:
    entry = {"v": 1, "key": {"a": 0.5, "b": True, "c": 1.0}, "name": "odd"}
    assert observed_index(entry).definition.keys == (("a", "0.5"), ("b", "True"), ("c", 1))


def test_a_building_index_is_marked_in_both_forms_of_the_listing() -> None:
    spec = {"v": 2, "key": {"a": 1}, "name": "a_1"}
    assert observed_index({"spec": spec, "buildUUID": b"x" * 16}).building
    assert observed_index({"spec": spec, "indexBuildInfo": {"buildUUID": b"x" * 16}}).building
    assert not observed_index(spec).building


@pytest.mark.parametrize(
    ("wanted", "observed", "same"), [(5000, 5120, True), (5000, 5000, True), (5000, 5376, False)]
)
def test_a_capped_size_is_compared_as_the_server_rounds_it(wanted: int, observed: int, same: bool) -> None:
    assert capped_size_matches(wanted, observed) is same
