"""Differences between declaration and server: what counts, and what the server merely writes otherwise."""

from typing import Any

import pytest

from lucid_storage.stores.elasticsearch.compare import (
    mapping_differences,
    policy_differences,
    settings_differences,
)
from lucid_storage.stores.elasticsearch.settings import declared, flat, static_settings


def fields(**properties: Any) -> dict[str, Any]:
    return {"properties": properties}


@pytest.mark.parametrize(
    ("wanted", "observed"),
    [
        ({}, fields(any={"type": "keyword"})),
        (fields(a={"type": "keyword"}), fields(a={"type": "keyword"}, b={"type": "long"})),
        (fields(a={"type": "keyword"}), fields(a={"type": "keyword", "ignore_above": 256})),
        (fields(a={"type": "keyword", "index": True, "norms": False}), fields(a={"type": "keyword"})),
        (fields(a={"type": "text", "norms": True, "index_options": "positions"}), fields(a={"type": "text"})),
        (
            fields(a={"type": "date", "format": "strict_date_optional_time||epoch_millis"}),
            fields(a={"type": "date"}),
        ),
        (
            fields(a={"type": "scaled_float", "scaling_factor": 100}),
            fields(a={"type": "scaled_float", "scaling_factor": 100.0}),
        ),
        (fields(a={"type": "text", "copy_to": "all"}), fields(a={"type": "text", "copy_to": ["all"]})),
        (
            fields(a={"type": "text", "analyzer": "x", "search_analyzer": "x"}),
            fields(a={"type": "text", "analyzer": "x"}),
        ),
        (fields(a={"type": "object", "properties": {}}), fields(a={"type": "object"})),
        (fields(a={"type": "object", **fields(b={"type": "long"})}), fields(a=fields(b={"type": "long"}))),
        (
            fields(**{"a.b": {"type": "long"}, "a.c": {"type": "long"}}),
            fields(a=fields(b={"type": "long"}, c={"type": "long"})),
        ),
        ({"dynamic": False}, {"dynamic": "false"}),
        ({"dynamic": True, "date_detection": True, "numeric_detection": False}, {}),
        ({"_source": {"enabled": True}, "_routing": {"required": False}}, {}),
        (
            {"runtime": {"r": {"type": "long", "script": "emit(1)"}}},
            {"runtime": {"r": {"type": "long", "script": {"source": "emit(1)", "lang": "painless"}}}},
        ),
    ],
)
def test_what_the_server_adds_or_writes_otherwise_is_no_difference(wanted: Any, observed: Any) -> None:
    assert mapping_differences(wanted, observed) == []


@pytest.mark.parametrize(
    ("wanted", "observed", "paths"),
    [
        (fields(a={"type": "keyword"}), {}, ["properties.a"]),
        (fields(a={"type": "keyword"}), fields(a={"type": "text"}), ["properties.a.type"]),
        (
            fields(a=fields(b={"type": "long"})),
            fields(a={"type": "nested", **fields(b={"type": "long"})}),
            ["properties.a.type"],
        ),
        (
            fields(**{"a.b": {"type": "long"}}),
            fields(a=fields(b={"type": "date"})),
            ["properties.a.properties.b.type"],
        ),
        (
            fields(a={"type": "text", "fields": {"raw": {"type": "keyword"}}}),
            fields(a={"type": "text"}),
            ["properties.a.fields.raw"],
        ),
        (fields(a={"type": "text", "norms": False}), fields(a={"type": "text"}), ["properties.a.norms"]),
        (
            fields(a={"type": "keyword", "index": False}),
            fields(a={"type": "keyword"}),
            ["properties.a.index"],
        ),
        (
            fields(a={"type": "keyword", "ignore_above": 100}),
            fields(a={"type": "keyword", "ignore_above": 256}),
            ["properties.a.ignore_above"],
        ),
        ({"dynamic": "strict"}, {}, ["dynamic"]),
        ({"_meta": {"owner": "a"}}, {"_meta": {"owner": "b"}}, ["_meta"]),
        ({"_routing": {"required": True}}, {}, ["_routing.required"]),
        ({"runtime": {"r": {"type": "long"}}}, {}, ["runtime.r"]),
        (
            {"dynamic_templates": [{"a": {}}, {"b": {}}]},
            {"dynamic_templates": [{"b": {}}, {"a": {}}]},
            ["dynamic_templates"],
        ),
    ],
)
def test_a_difference_is_named_by_its_path(wanted: Any, observed: Any, paths: list[str]) -> None:
    assert mapping_differences(wanted, observed) == paths


@pytest.mark.parametrize(
    ("wanted", "observed"),
    [
        ({"number_of_shards": 3}, {"index.number_of_shards": "3"}),
        (
            {"index": {"number_of_replicas": 0, "blocks": {"write": False}}},
            {"index.number_of_replicas": "0", "index.blocks.write": "false"},
        ),
        ({"index.refresh_interval": "5s"}, {"refresh_interval": "5s", "index.codec": "default"}),
        ({"index.routing.allocation.include._tier_preference": "data_content"}, {}),
        (
            {"analysis": {"filter": {"f": {"stopwords": ["a", "b"]}}}},
            {"index.analysis.filter.f.stopwords": ["a", "b"]},
        ),
        ({"query.default_field": ["a", "b"]}, {"index.query.default_field": "a,b"}),
        ({"index.refresh_interval": None}, {}),
    ],
)
def test_settings_are_equal_however_they_are_written(wanted: Any, observed: Any) -> None:
    assert settings_differences(wanted, observed) == []


def test_different_settings_are_named_in_full() -> None:
    wanted = {"number_of_replicas": 2, "index": {"refresh_interval": None}, "index.codec": "best_compression"}
    observed = {"index.number_of_replicas": "1", "index.refresh_interval": "5s"}
    assert settings_differences(wanted, observed) == [
        "index.codec",
        "index.number_of_replicas",
        "index.refresh_interval",
    ]


def test_words_that_python_reads_as_numbers_stay_words() -> None:
    assert settings_differences({"a": "nan"}, {"index.a": "nan"}) == []
    assert settings_differences({"a": "1_0"}, {"index.a": "10"}) == ["index.a"]


def test_what_the_server_adds_to_every_index_is_not_declared() -> None:
    observed = {
        "index.uuid": "x",
        "index.creation_date": "1",
        "index.provided_name": "a",
        "index.version.created": "8",
        "index.resize.source.uuid": "y",
        "index.routing.allocation.include._tier_preference": "data_content",
        "index.number_of_shards": "1",
    }
    assert declared(observed) == {"index.number_of_shards": "1"}
    tier = {"index.routing.allocation.include._tier_preference": "data_hot"}
    assert declared(tier) == tier


def test_static_settings_are_known_nested_or_not() -> None:
    names = flat(
        {
            "number_of_shards": 3,
            "analysis": {"analyzer": {"x": {"type": "standard"}}},
            "refresh_interval": "1s",
        }
    )
    assert static_settings(names) == ("index.analysis.analyzer.x.type", "index.number_of_shards")
    assert static_settings(["index.number_of_replicas", "index.lifecycle.name", "index.hidden"]) == ()


def test_a_policy_equals_what_the_server_fills_in() -> None:
    wanted = {"phases": {"hot": {"actions": {}}, "delete": {"min_age": "90d", "actions": {"delete": {}}}}}
    observed = {
        "phases": {
            "hot": {"min_age": "0ms", "actions": {}},
            "delete": {"min_age": "90d", "actions": {"delete": {"delete_searchable_snapshot": True}}},
        }
    }
    assert policy_differences(wanted, observed) == []


def test_a_policy_that_has_more_or_other_phases_differs() -> None:
    wanted = {"phases": {"warm": {"min_age": "7d", "actions": {}}}}
    observed = {
        "phases": {"warm": {"min_age": "8d", "actions": {}}, "cold": {"min_age": "30d", "actions": {}}}
    }
    assert policy_differences(wanted, observed) == ["phases.cold", "phases.warm.min_age"]
