"""A monthly series: made, carried over the turn of a month, kept as declared."""

from datetime import UTC, datetime
from typing import Any

import pytest

from kinds.index_elasticsearch.elastic_bed import NOVEMBER, SWEEP, UID, Series, real_series
from lucid_storage.stores.elasticsearch.types import AliasAction, AliasState
from stores.elasticsearch.fake_elastic import FakeElastic
from testbed.stores.elasticsearch import Elasticsearch

MAPPINGS: dict[str, Any] = {"properties": {"id": {"type": "keyword"}, "at": {"type": "date"}}}
SETTINGS: dict[str, Any] = {"number_of_shards": 1, "number_of_replicas": 0}
RICH_MAPPINGS: dict[str, Any] = {
    "dynamic": False,
    "date_detection": False,
    "_meta": {"owner": "search"},
    "_source": {"excludes": ["secret"]},
    "properties": {
        "title": {"type": "text", "fields": {"raw": {"type": "keyword", "ignore_above": 256}}},
        "owner.id": {"type": "keyword", "index": True},
        "chunks": {"type": "nested", "properties": {"size": {"type": "long", "doc_values": True}}},
        "at": {"type": "date", "format": "strict_date_optional_time||epoch_millis"},
    },
}
FIRST_OF_DECEMBER = datetime(2026, 12, 1, 0, 0, 1, tzinfo=UTC)


async def test_a_series_is_made_of_template_two_indices_and_a_write_alias(sessions: Series) -> None:
    status = await sessions.declare(mappings=MAPPINGS, settings=SETTINGS, aliases=["all-sessions"])
    assert sessions.is_ready(), sessions.shown()
    indices = await sessions.indices()
    assert sorted(indices) == ["2026.11", "2026.12"]
    assert await sessions.writes_to() == ["2026.11"]
    for index in indices.values():
        assert set(index.aliases) == {sessions.stem, "all-sessions"}
        assert index.mappings["properties"]["at"] == {"type": "date"}
        assert index.settings["index.number_of_replicas"] == "0"
        assert index.mappings["_meta"] == {"lucid-storage": UID}
    template = await sessions.template()
    assert template.patterns == (f"{sessions.stem}-20*.*",)
    assert template.priority == 200
    assert template.meta == {"managed-by": "lucid-storage", "uid": UID}
    assert set(template.aliases) == {"all-sessions"}
    assert status["origin"] == "Created"
    assert status["target"] == status["keys"] == sessions.stem
    assert status["elasticsearch"] == {
        "template": sessions.stem,
        "writeAlias": sessions.stem,
        "writeIndex": sessions.month("2026.11"),
        "nextIndex": sessions.month("2026.12"),
        "indices": 2,
        "health": "green",
    }


async def test_a_series_that_is_right_is_not_written_to(sessions: Series) -> None:
    await sessions.declare(mappings=RICH_MAPPINGS, settings=SETTINGS, aliases=["all-sessions"], priority=210)
    assert sessions.is_ready(), sessions.shown()
    assert len(sessions.status_writer.writes) == 2
    before = await sessions.indices(), await sessions.template(), sessions.reasons()
    await sessions.look()
    assert (await sessions.indices(), await sessions.template(), sessions.reasons()) == before
    assert len(sessions.status_writer.writes) == 2


async def test_writes_move_to_the_new_month_and_the_one_after_is_made(sessions: Series) -> None:
    await sessions.declare(settings=SETTINGS, mappings=MAPPINGS, spec={"driftPolicy": "Report"})
    sessions.fill("2026.11", 2)
    outcome = await sessions.run(datetime(2026, 11, 30, 23, 59, 30, tzinfo=UTC))
    assert outcome.again_seconds == 31
    assert await sessions.writes_to() == ["2026.11"]
    status = await sessions.look(FIRST_OF_DECEMBER)
    assert await sessions.writes_to() == ["2026.12"]
    indices = await sessions.indices()
    assert sorted(indices) == ["2026.11", "2026.12", "2027.01"]
    assert sessions.stem in indices["2026.11"].aliases
    assert status["elasticsearch"]["writeIndex"] == sessions.month("2026.12")
    assert status["elasticsearch"]["nextIndex"] == sessions.month("2027.01")
    assert not sessions.drift()
    assert "DriftCorrected" not in sessions.reasons()


async def test_the_turn_is_one_call_for_the_aliases_and_one_for_the_index() -> None:
    fake = FakeElastic()
    sessions = Series(fake, "lucid-sessions")
    await sessions.declare(settings=SETTINGS, mappings=MAPPINGS)
    fake.writes.clear()
    await sessions.look(FIRST_OF_DECEMBER)
    assert fake.writes == ["update_aliases", "create_index lucid-sessions-2027.01"]


async def test_writes_have_a_place_to_go_until_the_index_of_the_month_is_made() -> None:
    fake = FakeElastic()
    sessions = Series(fake, "lucid-sessions")
    await sessions.declare(settings=SETTINGS)
    fake.writes.clear()
    await sessions.look(datetime(2027, 3, 5, tzinfo=UTC))
    assert fake.writes == [
        "create_index lucid-sessions-2027.03",
        "create_index lucid-sessions-2027.04",
        "update_aliases",
    ]


@pytest.mark.elasticsearch
async def test_a_closed_index_of_an_old_month_does_not_stand_in_the_way(
    elasticsearch_server: Elasticsearch, index_prefix: str
) -> None:
    async with real_series(elasticsearch_server, f"{index_prefix}sessions") as sessions:
        await sessions.occupy("2026.09", documents=1)
        await sessions.port.put_settings(sessions.month("2026.09"), {"index.number_of_replicas": 0})
        elasticsearch_server.request("POST", f"/{sessions.month('2026.09')}/_close")
        await sessions.declare(settings=SETTINGS, mappings=MAPPINGS)
        assert sessions.is_ready(), sessions.shown()
        assert sessions.resource.status["elasticsearch"]["indices"] == 3


async def test_months_that_were_slept_through_are_left_out(sessions: Series) -> None:
    await sessions.declare(settings=SETTINGS)
    await sessions.look(datetime(2027, 3, 5, tzinfo=UTC))
    assert sorted(await sessions.indices()) == ["2026.11", "2026.12", "2027.03", "2027.04"]
    assert await sessions.writes_to() == ["2027.03"]
    assert sessions.is_ready()


async def test_the_next_look_is_the_sweep_or_the_turn_of_the_month(sessions: Series) -> None:
    await sessions.declare(settings=SETTINGS)
    assert (await sessions.run()).again_seconds == SWEEP
    turn = await sessions.run(datetime(2026, 11, 30, 23, 58, tzinfo=UTC))
    assert turn.again_seconds == 121


async def test_series_with_a_common_prefix_leave_each_other_alone(sessions: Series) -> None:
    archive = Series(sessions.port, f"{sessions.stem}-archive")
    await sessions.declare(settings=SETTINGS, aliases=["all-sessions"])
    await archive.declare(settings=SETTINGS)
    await sessions.look()
    assert archive.is_ready(), archive.shown()
    assert sessions.is_ready(), sessions.shown()
    assert sessions.resource.status["elasticsearch"]["indices"] == 2
    assert set((await archive.indices())["2026.11"].aliases) == {archive.stem}


async def test_a_name_that_is_no_month_is_not_of_the_series(sessions: Series) -> None:
    for name in ("2026.11.bak", "2026.13", "2026.1", "20-copy-2026.11"):
        await sessions.occupy(name)
    await sessions.declare(settings=SETTINGS, aliases=["all-sessions"], spec={"deletionPolicy": "Delete"})
    assert sessions.resource.status["elasticsearch"]["indices"] == 2
    await sessions.delete(confirm_delete=sessions.stem)
    left = await sessions.indices()
    assert sorted(left) == ["20-copy-2026.11", "2026.1", "2026.11.bak", "2026.13"]
    assert not any(index.aliases for index in left.values())


async def test_an_index_that_an_application_made_anew_takes_the_writes(sessions: Series) -> None:
    await sessions.declare(settings=SETTINGS, spec={"driftPolicy": "Report"})
    november = (await sessions.indices())["2026.11"]
    await sessions.port.delete_index(november.name, november.uuid)
    await sessions.port.update_aliases(
        [AliasAction(sessions.month("2026.12"), sessions.stem, is_write_index=True)]
    )
    await sessions.occupy("2026.11", documents=1)
    await sessions.look()
    assert await sessions.writes_to() == ["2026.11"]


async def test_an_index_of_the_series_that_others_made_joins_it(sessions: Series) -> None:
    await sessions.occupy("2026.08", documents=1)
    uuid = (await sessions.indices())["2026.08"].uuid
    await sessions.declare(settings=SETTINGS, aliases=["all-sessions"], spec={"driftPolicy": "Report"})
    await sessions.occupy("2026.09")
    status = await sessions.look()
    indices = await sessions.indices()
    assert indices["2026.08"].uuid == uuid
    for month in ("2026.08", "2026.09"):
        assert set(indices[month].aliases) == {sessions.stem, "all-sessions"}
    assert status["elasticsearch"]["indices"] == 4
    assert not sessions.drift()


async def test_a_hand_made_write_index_hands_over(sessions: Series) -> None:
    await sessions.occupy("2026.10", aliases={sessions.stem: AliasState(is_write_index=True)})
    await sessions.declare(settings=SETTINGS)
    assert sessions.is_ready(), sessions.shown()
    assert await sessions.writes_to() == ["2026.11"]


async def test_an_index_with_the_name_of_the_write_alias_is_a_conflict(sessions: Series) -> None:
    assert await sessions.port.create_index(sessions.stem, {}, {}, {})
    await sessions.declare(settings=SETTINGS)
    assert sessions.condition("Stalled")["reason"] == "IndexConflict"
    assert sessions.month("2026.11") in sessions.condition("Ready")["message"]
    assert list(await sessions.indices()) == [""]


async def test_documents_and_bytes_are_told_and_move_rarely(sessions: Series) -> None:
    status = await sessions.declare(settings=SETTINGS)
    assert status["documents"] == 0
    sessions.fill("2026.11", 5)
    assert (await sessions.look(NOVEMBER.replace(minute=10)))["documents"] == 0
    assert (await sessions.look(NOVEMBER.replace(minute=20)))["documents"] == 5


async def test_figures_that_move_by_less_than_a_tenth_stay() -> None:
    sessions = Series(FakeElastic(), "lucid-sessions")
    await sessions.declare(settings=SETTINGS)
    sessions.fill("2026.11", 100)
    await sessions.look(NOVEMBER.replace(minute=20))
    sessions.fill("2026.11", 105)
    assert (await sessions.look(NOVEMBER.replace(minute=40)))["documents"] == 100
    sessions.fill("2026.11", 110)
    assert (await sessions.look(NOVEMBER.replace(minute=41)))["documents"] == 100, "asked a minute ago"
    assert (await sessions.look(NOVEMBER.replace(minute=55)))["documents"] == 110


async def test_yellow_on_one_node_is_ready_with_what_to_do(sessions: Series) -> None:
    await sessions.declare(settings={"number_of_replicas": 1})
    fake = getattr(sessions.port, "stored_indices", {})
    for index in fake.values():
        index.health = "yellow"
    status = await sessions.look()
    assert sessions.is_ready()
    assert status["elasticsearch"]["health"] == "yellow"
    assert "second data node" in status["message"]


async def test_a_dropped_index_comes_back_with_all_it_had(sessions: Series) -> None:
    await sessions.declare(mappings=MAPPINGS, settings=SETTINGS, aliases=["all-sessions"])
    before = (await sessions.indices())["2026.11"]
    await sessions.port.delete_index(before.name, before.uuid)
    await sessions.look()
    after = (await sessions.indices())["2026.11"]
    assert (after.mappings, after.settings, after.aliases) == (
        before.mappings,
        before.settings,
        before.aliases,
    )
    assert sessions.reasons()[-1] == "DriftCorrected"


async def test_aliases_that_were_moved_are_put_back(sessions: Series) -> None:
    await sessions.declare(settings=SETTINGS, aliases=["all-sessions"])
    november, december = sessions.month("2026.11"), sessions.month("2026.12")
    await sessions.port.update_aliases(
        [
            AliasAction(november, sessions.stem, is_write_index=False),
            AliasAction(december, sessions.stem, is_write_index=True),
            AliasAction(november, "all-sessions", remove=True),
        ]
    )
    await sessions.look()
    assert await sessions.writes_to() == ["2026.11"]
    assert "all-sessions" in (await sessions.indices())["2026.11"].aliases
    assert "DriftCorrected" in sessions.reasons()


async def test_a_filter_that_somebody_put_on_an_alias_stays(sessions: Series) -> None:
    await sessions.declare(settings=SETTINGS, aliases=["all-sessions"])
    term = {"filter": {"term": {"id": "a"}}}
    await sessions.port.update_aliases(
        [AliasAction(sessions.month("2026.11"), sessions.stem, is_write_index=True, other=term)]
    )
    await sessions.look(FIRST_OF_DECEMBER)
    november = (await sessions.indices())["2026.11"]
    assert november.aliases[sessions.stem] == AliasState(is_write_index=False, other=term)


async def test_a_changed_setting_and_a_changed_template_are_put_back(sessions: Series) -> None:
    await sessions.declare(settings={**SETTINGS, "refresh_interval": "5s"}, mappings=MAPPINGS)
    await sessions.port.put_settings(sessions.month("2026.12"), {"index.refresh_interval": "1m"})
    await sessions.port.delete_template(sessions.stem)
    await sessions.look()
    assert (await sessions.indices())["2026.12"].settings["index.refresh_interval"] == "5s"
    assert (await sessions.template()).settings["index.refresh_interval"] == "5s"


async def test_report_tells_each_field_and_touches_nothing(sessions: Series) -> None:
    await sessions.declare(
        settings={**SETTINGS, "refresh_interval": "5s"},
        mappings=MAPPINGS,
        aliases=["all-sessions"],
        spec={"driftPolicy": "Report"},
    )
    november = sessions.month("2026.11")
    await sessions.port.put_settings(november, {"index.refresh_interval": "1m"})
    await sessions.port.update_aliases([AliasAction(november, "all-sessions", remove=True)])
    await sessions.port.delete_template(sessions.stem)
    status = await sessions.look()
    assert sessions.drift() == {
        f"{november}.settings.index.refresh_interval": ("5s", "1m"),
        f"{november}.aliases.all-sessions": ("present", "absent"),
        "template": ("present", "absent"),
    }
    assert sessions.is_ready()
    assert status["driftSummary"] == "3 fields"
    assert sessions.condition("Drifted")["status"] == "True"
    assert await sessions.port.template(sessions.stem) is None


async def test_ignore_says_nothing_and_touches_nothing(sessions: Series) -> None:
    await sessions.declare(settings=SETTINGS, spec={"driftPolicy": "Ignore"})
    await sessions.port.delete_template(sessions.stem)
    status = await sessions.look()
    assert not sessions.drift()
    assert status["driftSummary"] == "ignored"
    assert await sessions.port.template(sessions.stem) is None


async def test_two_resources_for_one_series_conflict(sessions: Series) -> None:
    await sessions.declare(settings=SETTINGS)
    sessions.peers = [sessions.other("older", "uid-2", "2026-10-01T00:00:00Z")]
    await sessions.look()
    assert sessions.condition("Ready")["reason"] == "Conflict"


async def test_a_pattern_without_its_month_is_refused(sessions: Series) -> None:
    await sessions.declare({"elasticsearch": {"pattern": "lucid-sessions-daily"}})
    assert sessions.condition("Stalled")["reason"] == "InvalidSpec"
    assert await sessions.indices() == {}
