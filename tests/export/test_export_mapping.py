"""Observed definitions as resources and back: parse(resource) resolves to an equal definition."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lucid_storage.kinds.collection import desired as collections
from lucid_storage.kinds.collection.differences import differences
from lucid_storage.kinds.export.collection import collection_manifest
from lucid_storage.kinds.export.freeform import relaxed
from lucid_storage.kinds.export.index_mongodb import index_manifest
from lucid_storage.kinds.export.parts import Skipped, resource_name
from lucid_storage.kinds.export.render import (
    kustomization_text,
    listed_files,
    manifests_text,
    skipped_text,
)
from lucid_storage.kinds.index_mongodb import desired as indexes
from lucid_storage.models.collection import CollectionSpec
from lucid_storage.models.index import IndexSpec
from lucid_storage.stores.documents import equivalent, to_bson, to_json
from lucid_storage.stores.mongodb.definition import normal, same_definition
from lucid_storage.stores.mongodb.types import (
    Capped,
    CollectionOptions,
    CollectionState,
    IndexDefinition,
    IndexState,
    JsonDoc,
    ServerInfo,
    Topology,
)

SERVER = ServerInfo("id", (6, 0, 5), Topology.REPLICA_SET)
EXPANDED = {
    "locale": "da",
    "caseLevel": False,
    "caseFirst": "upper",
    "strength": 2,
    "numericOrdering": False,
    "alternate": "non-ignorable",
    "maxVariable": "punct",
    "normalization": False,
    "backwards": False,
}

paths = st.from_regex(r"[A-Za-z_][A-Za-z0-9_ é-]{0,8}(\.[a-z0-9]{1,4}){0,2}", fullmatch=True)
keys = st.lists(
    st.tuples(paths, st.sampled_from([1, -1])), min_size=1, max_size=4, unique_by=lambda pair: pair[0]
)
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)
numbers = st.one_of(
    st.integers(-(2**31), 2**31 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**63), 2**63 - 1).map(lambda n: {"$numberLong": str(n)}),
)
values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        numbers,
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
        st.integers(-(10**14), 10**14).map(lambda ms: {"$date": {"$numberLong": str(ms)}}),
        st.just({"$oid": "65f0c0ffee65f0c0ffee65f0"}),
        st.just({"$numberDecimal": "1.50"}),
        st.just({"$numberDouble": "NaN"}),
        st.just({"$numberDouble": "3.0"}),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.from_regex(r"[a-z][A-Za-z0-9_.]{0,8}", fullmatch=True), inner, max_size=3),
    ),
    max_leaves=5,
)
documents = st.dictionaries(
    st.from_regex(r"[a-z][A-Za-z0-9_.]{0,8}", fullmatch=True), values, min_size=1, max_size=4
)


def canonical(document: JsonDoc) -> JsonDoc:
    return to_json(to_bson(document))


def reread(resource: Any) -> Any:
    """The resource as kubectl would read it from the file."""
    (read,) = yaml.safe_load_all(manifests_text([resource]))
    assert read == resource
    return read


def of_index(definition: IndexDefinition, name: str = "i", default_collation: Any = None) -> IndexDefinition:
    """Exported, read again and resolved."""
    state = IndexState(name, normal(definition))
    resource, skipped = index_manifest("db", "c", state, None, default_collation=default_collation)
    assert resource is not None, skipped
    spec = IndexSpec.model_validate(reread(resource)["spec"])
    assert spec.mongodb is not None
    desired = indexes.resolve(spec, spec.mongodb, spec.mongodb.database or "")
    assert (desired.database, desired.collection, desired.name) == ("db", "c", name)
    return desired.definition


def assert_kept(definition: IndexDefinition, default_collation: Any = None) -> None:
    back = of_index(definition, default_collation=default_collation)
    assert same_definition(back, normal(definition), default_collation=default_collation) == []
    assert normal(back).text_index_version == normal(definition).text_index_version
    assert bool(back.hidden) == bool(definition.hidden)


@settings(max_examples=50, deadline=None)
@given(keys, st.booleans(), st.booleans(), st.booleans())
def test_plain_indexes_are_kept(
    pattern: list[tuple[str, int]], unique: bool, sparse: bool, hidden: bool
) -> None:
    assert_kept(IndexDefinition(tuple(pattern), unique=unique, sparse=sparse, hidden=hidden or None))


@settings(max_examples=50, deadline=None)
@given(paths, st.integers(0, 2**31 - 1))
def test_ttl_indexes_are_kept(field: str, seconds: int) -> None:
    if field != "_id":
        assert_kept(IndexDefinition(((field, 1),), expire_after_seconds=seconds))


@settings(max_examples=50, deadline=None)
@given(keys, documents)
def test_partial_indexes_are_kept(pattern: list[tuple[str, int]], expression: dict[str, Any]) -> None:
    if [field for field, _ in pattern] != ["_id"]:
        assert_kept(IndexDefinition(tuple(pattern), partial_filter=canonical(expression)))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(paths, min_size=1, max_size=4, unique=True),
    st.integers(1, 99_999),
    st.sampled_from([None, "none", "german"]),
    st.sampled_from([None, "sprache"]),
    st.sampled_from([None, 1, 2, 3]),
)
def test_text_indexes_are_kept(
    fields: list[str], weight: int, language: str | None, override: str | None, version: int | None
) -> None:
    assert_kept(
        IndexDefinition(
            tuple((field, "text") for field in fields),
            weights={fields[0]: weight},
            default_language=language,
            language_override=override,
            text_index_version=version,
        )
    )


@pytest.mark.parametrize(
    "definition",
    [
        IndexDefinition((("a", "hashed"),)),
        IndexDefinition((("place", "2dsphere"), ("kind", 1))),
        IndexDefinition((("place", "2d"),), bits=20, min=-10.5, max=10),
        IndexDefinition((("$**", 1),), wildcard_projection={"a": 1, "b.c": 1}),
        IndexDefinition((("data.$**", 1),)),
        IndexDefinition((("$**", "text"),)),
        IndexDefinition((("a", 1),), collation=EXPANDED),
        IndexDefinition((("y", 1), ("on", -1), ("1e3", 1), ("0x10", 1), ("2026-11-21", 1), ("~", 1))),
    ],
    ids=lambda definition: str(definition.keys),
)
def test_special_indexes_are_kept(definition: IndexDefinition) -> None:
    assert_kept(definition)


def test_an_index_without_collation_keeps_none_in_a_collection_that_has_one() -> None:
    assert_kept(IndexDefinition((("a", 1),)), default_collation=EXPANDED)
    assert of_index(IndexDefinition((("a", 1),)), default_collation=EXPANDED).collation == {
        "locale": "simple"
    }


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (IndexState("half", IndexDefinition((("a", "0.5"),))), "order"),
        (IndexState("m5", IndexDefinition((("a", -5),))), "order"),
        (IndexState("hay", IndexDefinition((("a", "geoHaystack"),))), "order"),
        (IndexState("b", IndexDefinition((("a", 1),)), building=True), "still being built"),
        (IndexState("p", IndexDefinition((("a", 1),)), prepare_unique=True), "prepareUnique"),
        (IndexState("t", IndexDefinition((("a", 1), ("b", 1)), expire_after_seconds=5)), "no effect"),
        (IndexState("i", IndexDefinition((("_id", -1),))), "_id"),
        (IndexState("e", IndexDefinition((("a..b", 1),))), "empty part"),
        (IndexState("d", IndexDefinition((("a.$b", 1),))), "starts with $"),
        (IndexState("*", IndexDefinition((("a", 1),))), "name"),
        (IndexState("s", IndexDefinition((("a", 1),), sparse=True, partial_filter={"a": 1})), "together"),
        (IndexState("f", IndexDefinition((("a", 1),), partial_filter={"$where": "1"})), "$where"),
    ],
    ids=lambda value: value.name if isinstance(value, IndexState) else "",
)
def test_an_index_that_cannot_be_declared_is_left_out_and_said(state: IndexState, said: str) -> None:
    resource, (skipped,) = index_manifest("db", "c", state, None)
    assert resource is None
    assert state.name in skipped.what
    assert said in skipped.why


def test_the_index_on_id_is_left_out_without_a_word() -> None:
    by_id = IndexDefinition((("_id", 1),))
    assert index_manifest("db", "c", IndexState("_id_", by_id), None) == (None, ())
    assert index_manifest("db", "c", IndexState("own", by_id, clustered=True), None) == (None, ())


OPTIONS = {
    "nothing": CollectionOptions(),
    "capped": CollectionOptions(capped=Capped(1024)),
    "capped by documents": CollectionOptions(capped=Capped(1024, 5)),
    "time series": CollectionOptions(
        time_series={
            "timeField": "t",
            "metaField": "m",
            "granularity": "minutes",
            "bucketMaxSpanSeconds": 86400,
            "expireAfterSeconds": 60,
        }
    ),
    "time series by span": CollectionOptions(
        time_series={"timeField": "t", "bucketMaxSpanSeconds": 300, "bucketRoundingSeconds": 300}
    ),
    "clustered": CollectionOptions(clustered_index={"name": "_id_", "unique": True}),
    "clustered, named": CollectionOptions(
        clustered_index={"name": "k", "unique": True, "expireAfterSeconds": 9}
    ),
    "collation": CollectionOptions(collation=EXPANDED),
    "images": CollectionOptions(pre_and_post_images=True),
    "images off": CollectionOptions(pre_and_post_images=False),
    "defaults": CollectionOptions(validation_level="strict", validation_action="error"),
    "validation": CollectionOptions(
        validator={"a": {"$type": "string"}}, validation_level="moderate", validation_action="warn"
    ),
}


def of_collection(options: CollectionOptions) -> CollectionOptions:
    state = CollectionState("db", "c", "timeseries" if options.time_series else "collection", "u", options)
    resource, skipped = collection_manifest(state, "ns")
    assert resource is not None
    assert skipped == ()
    assert resource["metadata"] == {"name": "db-c", "namespace": "ns"}
    spec = CollectionSpec.model_validate(reread(resource)["spec"])
    return collections.resolve(spec, "other", spec.database or "").options


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options_of_a_collection_are_kept(options: CollectionOptions) -> None:
    assert differences(of_collection(options), options, SERVER) == []
    bare = CollectionOptions(validation_level="strict", validation_action="error", pre_and_post_images=False)
    assert (of_collection(options) == CollectionOptions()) == (
        differences(options, CollectionOptions(), SERVER) == [] or options == bare
    )


@settings(max_examples=50, deadline=None)
@given(documents)
def test_a_validator_is_kept(document: dict[str, Any]) -> None:
    options = CollectionOptions(validator=canonical(document))
    assert differences(of_collection(options), options, SERVER) == []


def test_a_view_is_left_out_and_said() -> None:
    state = CollectionState("db", "v", "view", None, CollectionOptions())
    assert collection_manifest(state, None)[1] == (
        Skipped("view db.v", "A Collection cannot describe a view."),
    )


@pytest.mark.parametrize("name", ["a$b", ".a", "lucid_old_a", "enxcol_.secret.esc", "x" * 300])
def test_a_collection_whose_name_cannot_be_declared_is_left_out(name: str) -> None:
    state = CollectionState("db", name, "collection", "u", CollectionOptions())
    resource, (skipped,) = collection_manifest(state, None)
    assert resource is None
    assert name in skipped.what


def test_a_validator_that_cannot_be_declared_is_left_unmanaged_and_said() -> None:
    validator: JsonDoc = {"$expr": {"$function": {"body": "f", "args": [], "lang": "js"}}}
    state = CollectionState("db", "c", "collection", "u", CollectionOptions(validator=validator))
    resource, (skipped,) = collection_manifest(state, None)
    assert resource is not None
    assert resource["spec"] == {"database": "db", "name": "c"}
    assert "$function" in skipped.why


@settings(max_examples=50, deadline=None)
@given(documents)
def test_relaxed_documents_have_the_same_types_as_before(document: dict[str, Any]) -> None:
    before = canonical(document)
    after = relaxed(before)
    assert equivalent(before, after)
    assert canonical(after) == before or _has_nan(before)


def _has_nan(value: Any) -> bool:
    return "NaN" in str(value)


def test_numbers_and_dates_are_written_as_people_write_them() -> None:
    bson = {
        "n": 5,
        "d": 2.5,
        "whole": 2.0,
        "long": 2**40,
        "inf": math.inf,
        "at": datetime(2026, 11, 21, tzinfo=UTC),
    }
    assert relaxed(to_json(bson)) == {
        "n": 5,
        "d": 2.5,
        "whole": {"$numberDouble": "2.0"},
        "long": {"$numberLong": str(2**40)},
        "inf": {"$numberDouble": "Infinity"},
        "at": {"$date": "2026-11-21T00:00:00Z"},
    }


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(names, names, names), min_size=2, max_size=2, unique=True))
def test_different_objects_have_different_names_and_all_are_dns_names(
    two: list[tuple[str, str, str]],
) -> None:
    made = [resource_name(*parts) for parts in two]
    assert made[0] != made[1]
    for name in made:
        _assert_dns(name)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("ab_-.A1", min_size=1, max_size=5), min_size=1, max_size=4))
def test_names_of_few_signs_are_dns_names(parts: list[str]) -> None:
    _assert_dns(resource_name(*parts))


def _assert_dns(name: str) -> None:
    assert len(name) <= 253
    for label in name.split("."):
        assert label
        assert label.strip("-") == label
        assert all(sign in "abcdefghijklmnopqrstuvwxyz0123456789-" for sign in label)


def test_names_say_what_they_name() -> None:
    assert resource_name("shop", "orders") == "shop-orders"
    assert (
        resource_name("lucid_blockchain", "users", "users_email_1") == "lucid.blockchain-users-users.email.1"
    )
    assert resource_name("shop", "a_b") != resource_name("shop", "a-b") != resource_name("shop", "a.b")
    assert resource_name("Shop", "Orders").startswith("shop-orders-")
    assert resource_name("shop", "-1").startswith("shop-")
    assert len(resource_name("d" * 63, "c" * 190, "i" * 500)) <= 253


def test_the_kustomization_of_an_earlier_export_is_known_and_no_other() -> None:
    assert listed_files(kustomization_text(["a.yaml", "b.yaml"])) == ("a.yaml", "b.yaml")
    assert listed_files("resources: [a.yaml]\n") is None
    assert listed_files(kustomization_text(["../a.yaml"])) == ()


def test_names_cannot_act_on_a_terminal() -> None:
    assert "\x1b" not in skipped_text([Skipped("view db.\x1b[2J\nfoo", "why")])
    assert len(skipped_text([Skipped("a\nb", "why")]).splitlines()) == 3
