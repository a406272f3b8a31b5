"""Elasticsearch series as resources: what is declared equals the server's, what would change it is left out."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lucid_storage.kinds.export.index_elasticsearch import SeriesFound, series, series_manifest
from lucid_storage.kinds.index_elasticsearch.lifecycle import policy_body
from lucid_storage.models.elasticindex import Lifecycle
from lucid_storage.models.index import IndexSpec
from lucid_storage.stores.elasticsearch.compare import policy_differences
from lucid_storage.stores.elasticsearch.types import (
    AliasState,
    ElasticIndexState,
    LifecyclePolicyState,
    TemplateState,
)

NOW = datetime(2026, 11, 21, tzinfo=UTC)
MAPPINGS: dict[str, Any] = {"dynamic": "false", "properties": {"title": {"type": "text"}}}


def template(**changes: Any) -> TemplateState:
    made = TemplateState(
        name="lucid-notes",
        patterns=("lucid-notes-20*.*",),
        priority=200,
        mappings=MAPPINGS,
        settings={"index.number_of_shards": "1", "index.refresh_interval": "5s"},
        aliases={"lucid-all": {}},
    )
    return replace(made, **changes)


def index(month: str = "2026.11", **changes: Any) -> ElasticIndexState:
    made = ElasticIndexState(
        name=f"lucid-notes-{month}",
        uuid="u",
        mappings=MAPPINGS,
        settings={"index.number_of_shards": "1", "index.refresh_interval": "5s"},
        aliases={"lucid-notes": AliasState(is_write_index=True), "lucid-all": AliasState()},
        health="green",
        documents=1,
        bytes=1,
    )
    return replace(made, **changes)


def exported(found: SeriesFound) -> tuple[dict[str, Any], list[str]]:
    resource, skipped = series_manifest(found, None, NOW)
    assert resource is not None
    spec = IndexSpec.model_validate(resource["spec"])
    assert spec.elasticsearch is not None
    body: dict[str, Any] = resource["spec"]["elasticsearch"]  # type: ignore[index,call-overload,assignment]
    return body, [entry.what for entry in skipped]


def test_what_template_and_indices_share_is_declared() -> None:
    assert exported(SeriesFound(template(), (index(),))) == (
        {
            "pattern": "lucid-notes-{YYYY.MM}",
            "settings": {"number_of_shards": "1", "refresh_interval": "5s"},
            "mappings": MAPPINGS,
            "aliases": ["lucid-all"],
            "priority": 200,
        },
        [],
    )


def test_what_would_change_the_indices_is_left_out_and_said() -> None:
    other = index(settings={"index.number_of_shards": "1"}, mappings={"properties": {}}, aliases={})
    body, skipped = exported(SeriesFound(template(), (other,)))
    assert body == {
        "pattern": "lucid-notes-{YYYY.MM}",
        "settings": {"number_of_shards": "1"},
        "priority": 200,
    }
    assert [what.split(" of ")[0] for what in skipped] == [
        "setting index.refresh_interval",
        "mappings",
        "alias lucid-all",
    ]


def test_old_indices_say_nothing_about_mappings_and_settings() -> None:
    old = index("2026.01", settings={}, mappings={})
    assert exported(SeriesFound(template(), (old, index())))[1] == []


def test_an_alias_with_a_filter_is_left_out() -> None:
    filtered = template(aliases={"lucid-all": {"filter": {"term": {"n": 1}}}})
    assert exported(SeriesFound(filtered, (index(),)))[1] == [
        "alias lucid-all of series lucid-notes-{YYYY.MM}"
    ]


days = st.integers(1, 400)


@settings(max_examples=100, deadline=None)
@given(st.tuples(days, days, days, days).map(sorted))
def test_a_lifecycle_that_was_made_here_is_found_again(four: list[int]) -> None:
    hot, warm, cold, delete = four
    made = policy_body(
        Lifecycle(hot_days=hot, warm_days=warm, cold_days=cold, delete_days=delete), {"uid": "x"}
    )
    named = template(settings={"index.lifecycle.name": "lucid-notes"}, mappings={}, aliases={}, priority=None)
    body, skipped = exported(SeriesFound(named, (), LifecyclePolicyState("lucid-notes", made)))
    assert skipped == []
    assert "settings" not in body
    again = policy_body(Lifecycle.model_validate(body["lifecycle"]), {"uid": "x"})
    assert policy_differences(again, made) == []


@pytest.mark.parametrize(
    "policy",
    [
        None,
        {"phases": {"hot": {"actions": {"rollover": {"max_age": "1d"}}}}},
        {"phases": {"delete": {"min_age": "90d", "actions": {"delete": {}}}}},
        {"phases": {"delete": {"min_age": "0ms", "actions": {"delete": {}}}}},
    ],
    ids=["none", "rollover", "no hot phase", "at once"],
)
def test_a_lifecycle_that_no_resource_makes_is_left_alone(policy: Any) -> None:
    named = template(settings={"index.lifecycle.name": "lucid-notes"})
    state = LifecyclePolicyState("lucid-notes", policy) if policy is not None else None
    body, skipped = exported(SeriesFound(named, (), state))
    assert "lifecycle" not in body
    assert body["settings"] == {"lifecycle.name": "lucid-notes"}
    assert skipped == ["lifecycle of series lucid-notes-{YYYY.MM}"]


def test_series_are_templates_with_monthly_indices() -> None:
    indices = [
        index(),
        index("2026.10"),
        replace(index(), name="other-2026.11"),
        replace(index(), name="plain"),
    ]
    found, skipped = series([template(), replace(template(), name="unused")], indices)
    assert [(one.template.name, [ix.name for ix in one.indices]) for one in found] == [
        ("lucid-notes", ["lucid-notes-2026.10", "lucid-notes-2026.11"])
    ]
    assert [entry.what for entry in skipped] == ["series other-{YYYY.MM}"]
