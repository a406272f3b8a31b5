"""What a changed declaration does to a series, what it refuses, and what it adopts."""

from dataclasses import replace
from typing import Any

import pytest

from kinds.index_elasticsearch.elastic_bed import Series, real_series
from lucid_storage.stores.elasticsearch.types import AliasState, TemplateState
from testbed.stores.elasticsearch import Elasticsearch

MAPPINGS: dict[str, Any] = {"properties": {"id": {"type": "keyword"}}}
SETTINGS: dict[str, Any] = {"number_of_shards": 1, "number_of_replicas": 0}


def template(name: str, **fields: Any) -> TemplateState:
    """A template that somebody else made."""
    whole: dict[str, Any] = {
        "patterns": (f"{name}-*",),
        "priority": 150,
        "mappings": {},
        "settings": {},
        "aliases": {},
        **fields,
    }
    return TemplateState(name, **whole)


async def test_new_fields_reach_template_and_live_indices_but_no_older_one(sessions: Series) -> None:
    await sessions.occupy("2026.09")
    await sessions.declare(mappings=MAPPINGS, settings=SETTINGS)
    await sessions.declare(
        mappings={"properties": {**MAPPINGS["properties"], "user": {"type": "keyword"}}}, settings=SETTINGS
    )
    assert sessions.is_ready(), sessions.shown()
    indices = await sessions.indices()
    assert "user" in indices["2026.11"].mappings["properties"]
    assert "user" in indices["2026.12"].mappings["properties"]
    assert "properties" not in indices["2026.09"].mappings
    assert "user" in (await sessions.template()).mappings["properties"]
    assert indices["2026.11"].mappings["_meta"] == {"lucid-storage": sessions.resource.uid}


async def test_another_type_is_refused_with_the_way_to_do_it(sessions: Series) -> None:
    await sessions.declare(mappings=MAPPINGS, settings=SETTINGS)
    before = await sessions.indices(), await sessions.template()
    await sessions.declare(
        mappings={"properties": {"id": {"type": "long"}, "user": {"type": "keyword"}}}, settings=SETTINGS
    )
    stalled = sessions.condition("Stalled")
    assert stalled["status"] == "True"
    assert stalled["reason"] == "MappingConflict"
    assert "mappings.properties.id.type is keyword and should be long" in stalled["message"]
    assert "reindex" in stalled["message"]
    assert (await sessions.indices(), await sessions.template()) == before


@pytest.mark.elasticsearch
async def test_a_parameter_that_the_server_cannot_change_is_refused_too(
    elasticsearch_server: Elasticsearch, index_prefix: str
) -> None:
    async with real_series(elasticsearch_server, f"{index_prefix}sessions") as sessions:
        await sessions.declare(mappings=MAPPINGS, settings=SETTINGS)
        before = await sessions.template()
        changed = {"properties": {"id": {"type": "keyword", "doc_values": False}}}
        await sessions.declare(mappings=changed, settings=SETTINGS)
        stalled = sessions.condition("Stalled")
        assert stalled["reason"] == "MappingConflict"
        assert "reindex" in stalled["message"]
        assert await sessions.template() == before


async def test_a_field_that_is_no_longer_declared_leaves_the_template(sessions: Series) -> None:
    await sessions.declare(mappings={"properties": {"a": {"type": "long"}, "b": {"type": "long"}}})
    await sessions.declare(mappings={"properties": {"a": {"type": "long"}}})
    assert set((await sessions.template()).mappings["properties"]) == {"a"}
    assert "b" in (await sessions.indices())["2026.11"].mappings["properties"], "an index keeps its fields"
    await sessions.declare()
    assert (await sessions.template()).mappings == {}
    assert sessions.is_ready()


async def test_settings_and_aliases_that_are_no_longer_declared_return_to_the_default(
    sessions: Series,
) -> None:
    await sessions.declare(
        settings={**SETTINGS, "refresh_interval": "5s"}, aliases=["old", "kept"], priority=300
    )
    await sessions.port.put_settings(sessions.month("2026.11"), {"index.max_result_window": 5})
    status = await sessions.declare(
        settings={"number_of_shards": 1, "number_of_replicas": 0}, aliases=["kept"]
    )
    assert sessions.is_ready(), sessions.shown()
    for index in (await sessions.indices()).values():
        assert "index.refresh_interval" not in index.settings
        assert set(index.aliases) == {sessions.stem, "kept"}
    assert (await sessions.indices())["2026.11"].settings["index.max_result_window"] == "5"
    found = await sessions.template()
    assert "index.refresh_interval" not in found.settings
    assert set(found.aliases) == {"kept"}
    assert found.priority == 200
    assert status["managedFields"] == [
        "aliases.kept",
        "settings.index.number_of_replicas",
        "settings.index.number_of_shards",
    ]


async def test_a_number_of_replicas_that_is_no_longer_declared_is_the_servers_default_again(
    sessions: Series,
) -> None:
    await sessions.declare(settings={"number_of_replicas": 2})
    await sessions.declare()
    assert sessions.is_ready(), sessions.shown()
    for index in (await sessions.indices()).values():
        assert index.settings["index.number_of_replicas"] == "1"


@pytest.mark.elasticsearch
async def test_replicas_that_the_server_counts_are_left_to_it(
    elasticsearch_server: Elasticsearch, index_prefix: str
) -> None:
    async with real_series(elasticsearch_server, f"{index_prefix}sessions") as sessions:
        await sessions.declare(settings={"number_of_replicas": 2})
        for both in ({"number_of_replicas": 2}, {}):
            await sessions.declare(settings={"auto_expand_replicas": "0-1", **both})
            assert sessions.is_ready(), sessions.shown()
            for index in (await sessions.indices()).values():
                assert index.settings["index.number_of_replicas"] == "0", "there is one node"


async def test_a_static_setting_is_for_later_months_and_says_so(sessions: Series) -> None:
    await sessions.declare(settings=SETTINGS)
    status = await sessions.declare(settings={**SETTINGS, "number_of_shards": 2})
    assert sessions.is_ready()
    assert "index.number_of_shards cannot change on an existing index" in status["message"]
    assert (await sessions.template()).settings["index.number_of_shards"] == "2"
    assert (await sessions.indices())["2026.11"].settings["index.number_of_shards"] == "1"


async def test_what_is_not_declared_in_a_template_is_left_and_is_no_drift(sessions: Series) -> None:
    foreign = template(sessions.stem, settings={"index.codec": "best_compression"}, meta={"team": "search"})
    await sessions.port.put_template(foreign)
    status = await sessions.declare()
    assert sessions.is_ready(), sessions.shown()
    assert status["origin"] == "Adopted"
    found = await sessions.template()
    assert (found.patterns, found.priority, found.meta) == (foreign.patterns, 150, {"team": "search"})
    await sessions.declare(settings={"number_of_replicas": 0})
    found = await sessions.template()
    assert found.settings == {"index.codec": "best_compression", "index.number_of_replicas": "0"}
    assert found.meta == {"team": "search"}


async def test_an_equal_template_is_adopted_without_a_write(sessions: Series) -> None:
    await sessions.port.put_template(
        template(sessions.stem, mappings=MAPPINGS, settings={"index.number_of_replicas": "0"})
    )
    before = await sessions.template()
    await sessions.declare(mappings=MAPPINGS, settings={"number_of_replicas": 0}, priority=150)
    assert sessions.is_ready(), sessions.shown()
    assert await sessions.template() == before


async def test_parameters_of_an_adopted_template_that_nobody_declares_survive_a_change(
    sessions: Series,
) -> None:
    fields: Any = {"id": {"type": "keyword", "ignore_above": 64}, "more": {"type": "long"}}
    await sessions.port.put_template(template(sessions.stem, mappings={"properties": fields}))
    await sessions.declare(mappings=MAPPINGS)
    assert sessions.is_ready(), sessions.shown()
    await sessions.declare(mappings={"properties": {**MAPPINGS["properties"], "user": {"type": "keyword"}}})
    assert sessions.is_ready(), sessions.shown()
    assert (await sessions.template()).mappings["properties"] == {**fields, "user": {"type": "keyword"}}


async def test_a_resource_made_again_adopts_what_it_once_made(sessions: Series) -> None:
    await sessions.declare(mappings=MAPPINGS, settings=SETTINGS)
    again = Series(sessions.port, sessions.stem)
    again.resource = replace(again.resource, uid="uid-of-the-second")
    status = await again.declare(mappings=MAPPINGS, settings=SETTINGS, spec={"deletionPolicy": "Delete"})
    assert again.is_ready(), again.shown()
    assert status["origin"] == "Adopted"
    assert "stay" in await again.delete()
    assert sorted(await again.indices()) == ["2026.11", "2026.12"]
    assert await again.port.template(again.stem) is not None


async def test_a_template_of_that_name_that_differs_is_a_conflict(sessions: Series) -> None:
    foreign = template(sessions.stem, mappings={"properties": {"id": {"type": "long"}}})
    await sessions.port.put_template(foreign)
    await sessions.declare(mappings=MAPPINGS, settings={"number_of_replicas": 0}, priority=150)
    message = sessions.condition("Stalled")["message"]
    assert sessions.condition("Stalled")["reason"] == "IndexConflict"
    assert "mappings.properties.id.type, settings.index.number_of_replicas" in message
    assert await sessions.indices() == {}
    assert (await sessions.template()).mappings == foreign.mappings


async def test_a_template_that_does_not_match_the_series_is_a_conflict(sessions: Series) -> None:
    await sessions.port.put_template(template(sessions.stem, patterns=("something-else-*",)))
    await sessions.declare()
    assert "index_patterns" in sessions.condition("Stalled")["message"]


async def test_a_paused_series_is_not_touched(sessions: Series) -> None:
    sessions.resource = replace(
        sessions.resource, annotations={"storage.lucid-blockchain.org/paused": "true"}
    )
    await sessions.declare(settings=SETTINGS)
    assert sessions.condition("Ready")["reason"] == "Paused"
    assert await sessions.indices() == {}


# Deletion


async def test_retain_leaves_everything(sessions: Series) -> None:
    await sessions.declare(settings=SETTINGS)
    before = await sessions.indices(), await sessions.template()
    assert "stays" in await sessions.delete()
    assert (await sessions.indices(), await sessions.template()) == before


async def test_delete_drops_what_was_made_here_and_nothing_of_a_neighbour(sessions: Series) -> None:
    archive = Series(sessions.port, f"{sessions.stem}-archive")
    await archive.declare(settings=SETTINGS)
    await sessions.declare(settings=SETTINGS, spec={"deletionPolicy": "Delete"})
    said = await sessions.delete()
    assert sorted(await sessions.indices()) == ["archive-2026.11", "archive-2026.12"]
    assert await sessions.port.template(sessions.stem) is None
    assert await sessions.port.template(archive.stem) is not None
    assert sessions.month("2026.11") in said
    assert "template" in said


async def test_delete_leaves_what_was_there_before_and_says_so(sessions: Series) -> None:
    await sessions.occupy("2026.10", documents=3)
    await sessions.port.put_template(template(sessions.stem))
    await sessions.declare(spec={"deletionPolicy": "Delete"})
    said = await sessions.delete()
    assert list(await sessions.indices()) == ["2026.10"]
    assert await sessions.port.template(sessions.stem) is not None
    assert f"{sessions.month('2026.10')}, the index template {sessions.stem} stay" in said
    assert f'confirm-delete: "{sessions.stem}"' in said


async def test_the_annotation_confirms_the_deletion_of_what_was_adopted(sessions: Series) -> None:
    await sessions.occupy("2026.10", documents=3)
    await sessions.port.put_template(template(sessions.stem))
    await sessions.declare(spec={"deletionPolicy": "Delete"})
    await sessions.delete(confirm_delete=sessions.stem)
    assert await sessions.indices() == {}
    assert await sessions.port.template(sessions.stem) is None


async def test_the_annotation_confirms_nothing_that_was_refused(sessions: Series) -> None:
    await sessions.occupy("2026.10", documents=3)
    await sessions.port.put_template(template(sessions.stem))
    await sessions.declare(mappings=MAPPINGS, spec={"deletionPolicy": "Delete"})
    assert sessions.condition("Ready")["reason"] == "IndexConflict"
    await sessions.delete(confirm_delete=sessions.stem)
    assert list(await sessions.indices()) == ["2026.10"]
    assert await sessions.port.template(sessions.stem) is not None


async def test_delete_leaves_a_series_that_another_resource_declares(sessions: Series) -> None:
    await sessions.declare(settings=SETTINGS, spec={"deletionPolicy": "Delete"})
    sessions.peers = [sessions.other("younger", "uid-2", "2026-11-20T00:00:00Z")]
    assert "lucid/younger declares it too" in await sessions.delete()
    assert sorted(await sessions.indices()) == ["2026.11", "2026.12"]


async def test_an_index_that_took_the_name_of_ours_is_not_dropped(sessions: Series) -> None:
    await sessions.declare(settings=SETTINGS, spec={"deletionPolicy": "Delete", "driftPolicy": "Ignore"})
    ours = (await sessions.indices())["2026.11"]
    await sessions.port.delete_index(ours.name, ours.uuid)
    await sessions.occupy("2026.11", documents=1, aliases={sessions.stem: AliasState()})
    await sessions.delete()
    assert list(await sessions.indices()) == ["2026.11"]
