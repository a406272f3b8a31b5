"""What every ElasticPort promises: the adapter on a real server, and the fake that the engine's tests use."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import pytest

from lucid_storage.errors import LeadershipLostError, NotSupportedError, Reason, ServerRefusedError
from lucid_storage.stores.elasticsearch.adapter import ElasticCluster
from lucid_storage.stores.elasticsearch.compare import mapping_differences, settings_differences
from lucid_storage.stores.elasticsearch.port import ElasticPort
from lucid_storage.stores.elasticsearch.types import (
    AliasAction,
    AliasState,
    ElasticIndexState,
    LifecyclePolicyState,
    TemplateState,
)
from stores.elasticsearch.fake_elastic import FakeElastic

MAPPINGS = {
    "dynamic": False,
    "properties": {
        "session_id": {"type": "keyword"},
        "title": {"type": "text", "fields": {"raw": {"type": "keyword", "ignore_above": 256}}},
        "owner.id": {"type": "keyword"},
        "chunks": {"type": "nested", "properties": {"size": {"type": "long"}}},
    },
}


class Bench(Protocol):
    port: ElasticPort
    prefix: str
    may_write: bool


class FakeBench:
    prefix = "test-"

    def __init__(self) -> None:
        self.may_write = True
        self.port = FakeElastic(guard=guard_of(self))


class RealBench:
    def __init__(self, server: Any, prefix: str) -> None:
        self.may_write = True
        self.prefix = prefix
        self.port = ElasticCluster(server.url, label="test", guard=guard_of(self))


def guard_of(bench: Any) -> Callable[[], None]:
    def guard() -> None:
        if not bench.may_write:
            raise LeadershipLostError

    return guard


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.elasticsearch)])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "fake":
        yield FakeBench()
        return
    real = RealBench(request.getfixturevalue("elasticsearch_server"), request.getfixturevalue("index_prefix"))
    yield real
    await real.port.close()


def template(bench: Bench, name: str = "sessions", priority: int = 100) -> TemplateState:
    return TemplateState(
        name=f"{bench.prefix}{name}",
        patterns=(f"{bench.prefix}{name}-*",),
        priority=priority,
        mappings=MAPPINGS,
        settings={"index.number_of_replicas": 0, "index.refresh_interval": "5s"},
        aliases={f"{bench.prefix}{name}-all": {}},
        meta={"managed-by": "test"},
        other={"version": 3},
    )


async def only(bench: Bench, name: str) -> ElasticIndexState:
    (state,) = await bench.port.indices(bench.prefix + name)
    return state


async def test_info_names_the_cluster_its_version_and_abilities(bench: Bench) -> None:
    info = await bench.port.info()
    assert info.identity == (await bench.port.info()).identity != ""
    assert info.version >= (8, 11, 0)
    assert info.data_nodes == 1
    assert not info.has_ilm


async def test_a_template_reads_back_as_it_was_written(bench: Bench) -> None:
    wanted = template(bench)
    assert await bench.port.template(wanted.name) is None
    await bench.port.put_template(wanted)
    found = await bench.port.template(wanted.name)
    assert found is not None
    assert mapping_differences(wanted.mappings, found.mappings) == []
    assert settings_differences(wanted.settings, found.settings) == []
    assert all(isinstance(value, str) for value in found.settings.values())
    assert (found.patterns, found.priority, found.aliases, found.meta, found.other) == (
        wanted.patterns,
        wanted.priority,
        wanted.aliases,
        wanted.meta,
        wanted.other,
    )
    assert wanted.name in {state.name for state in await bench.port.templates()}


async def test_a_deleted_template_is_gone_and_deleting_it_again_says_so(bench: Bench) -> None:
    await bench.port.put_template(template(bench))
    assert await bench.port.delete_template(f"{bench.prefix}sessions") is True
    assert await bench.port.delete_template(f"{bench.prefix}sessions") is False
    assert await bench.port.template(f"{bench.prefix}sessions") is None


async def test_two_templates_of_one_priority_for_one_pattern_are_refused(bench: Bench) -> None:
    first = template(bench)
    await bench.port.put_template(first)
    second = TemplateState(f"{bench.prefix}second", first.patterns, first.priority, {}, {}, {})
    with pytest.raises(ServerRefusedError, match="same priority"):
        await bench.port.put_template(second)


async def test_a_new_index_takes_its_template_and_what_is_given_on_top(bench: Bench) -> None:
    await bench.port.put_template(template(bench))
    name = f"{bench.prefix}sessions-2026.11"
    write = f"{bench.prefix}sessions"
    extra = {"properties": {"extra": {"type": "boolean"}}}
    made = await bench.port.create_index(
        name, extra, {"index.refresh_interval": "9s"}, {f"{write}-write": AliasState(True)}
    )
    assert made is True
    state = await only(bench, "sessions-2026.11")
    assert (
        mapping_differences(
            {**MAPPINGS, "properties": {**MAPPINGS["properties"], **extra["properties"]}}, state.mappings
        )
        == []
    )
    assert settings_differences({"number_of_replicas": 0, "refresh_interval": "9s"}, state.settings) == []
    assert state.aliases == {f"{write}-all": AliasState(), f"{write}-write": AliasState(True)}
    assert (state.name, state.health, state.documents) == (name, "green", 0)
    assert state.uuid


async def test_settings_of_an_index_hold_only_what_was_set(bench: Bench) -> None:
    await bench.port.create_index(f"{bench.prefix}a", {}, {"number_of_replicas": 0}, {})
    assert (await only(bench, "a")).settings == {
        "index.number_of_shards": "1",
        "index.number_of_replicas": "0",
    }


async def test_creating_an_index_that_is_there_changes_nothing(bench: Bench) -> None:
    await bench.port.create_index(f"{bench.prefix}a", {}, {"number_of_replicas": 0}, {})
    before = await only(bench, "a")
    assert await bench.port.create_index(f"{bench.prefix}a", MAPPINGS, {}, {}) is False
    after = await only(bench, "a")
    assert (after.uuid, after.mappings, after.settings) == (before.uuid, before.mappings, before.settings)


async def test_an_index_name_that_the_server_does_not_take_is_refused(bench: Bench) -> None:
    with pytest.raises(ServerRefusedError, match="lowercase") as refused:
        await bench.port.create_index(f"{bench.prefix}A", {}, {}, {})
    assert refused.value.stalled


async def test_indices_are_found_by_pattern_sorted_and_aliases_are_not_names(bench: Bench) -> None:
    for month in ("2026.12", "2026.11"):
        await bench.port.create_index(
            f"{bench.prefix}a-{month}", {}, {}, {f"{bench.prefix}a-alias": AliasState()}
        )
    await bench.port.create_index(f"{bench.prefix}b-2026.11", {}, {}, {})
    found = await bench.port.indices(f"{bench.prefix}a-*")
    assert [state.name for state in found] == [f"{bench.prefix}a-2026.11", f"{bench.prefix}a-2026.12"]
    assert await bench.port.indices(f"{bench.prefix}nothing-*") == ()
    assert await bench.port.indices(f"{bench.prefix}a-alias") == ()


async def test_fields_can_be_added_to_a_mapping(bench: Bench) -> None:
    await bench.port.create_index(f"{bench.prefix}a", MAPPINGS, {}, {})
    more = {"properties": {"new": {"type": "date"}, "owner": {"properties": {"name": {"type": "text"}}}}}
    await bench.port.put_mapping(f"{bench.prefix}a", more)
    observed = (await only(bench, "a")).mappings
    assert mapping_differences(MAPPINGS, observed) == mapping_differences(more, observed) == []


@pytest.mark.parametrize(
    "change",
    [
        {"session_id": {"type": "long"}},
        {"session_id": {"properties": {"a": {"type": "keyword"}}}},
        {"chunks": {"type": "object", "properties": {}}},
        {"title": {"type": "text", "fields": {"raw": {"type": "long"}}}},
    ],
)
async def test_a_mapping_change_that_needs_a_reindex_is_a_mapping_conflict(bench: Bench, change: Any) -> None:
    await bench.port.create_index(f"{bench.prefix}a", MAPPINGS, {}, {})
    before = (await only(bench, "a")).mappings
    with pytest.raises(ServerRefusedError) as refused:
        await bench.port.put_mapping(
            f"{bench.prefix}a", {"properties": {"added": {"type": "long"}, **change}}
        )
    assert refused.value.reason is Reason.MAPPING_CONFLICT
    assert (await only(bench, "a")).mappings == before


async def test_dynamic_settings_change_and_reset(bench: Bench) -> None:
    await bench.port.create_index(f"{bench.prefix}a", {}, {}, {})
    await bench.port.put_settings(
        f"{bench.prefix}a", {"index.refresh_interval": "7s", "index.number_of_replicas": 0}
    )
    assert (await only(bench, "a")).settings["index.refresh_interval"] == "7s"
    await bench.port.put_settings(f"{bench.prefix}a", {"index.refresh_interval": None})
    assert "index.refresh_interval" not in (await only(bench, "a")).settings


@pytest.mark.parametrize("setting", ["index.number_of_shards", "index.codec"])
async def test_static_settings_are_not_changed_in_place(bench: Bench, setting: str) -> None:
    await bench.port.create_index(f"{bench.prefix}a", {}, {}, {})
    with pytest.raises(ServerRefusedError, match=setting) as refused:
        await bench.port.put_settings(f"{bench.prefix}a", {setting: "default" if "codec" in setting else 2})
    assert refused.value.reason is Reason.NOT_IN_PLACE


async def test_the_write_alias_moves_in_one_call(bench: Bench) -> None:
    old, new, alias = f"{bench.prefix}a-1", f"{bench.prefix}a-2", f"{bench.prefix}write"
    await bench.port.create_index(old, {}, {}, {alias: AliasState(True)})
    await bench.port.create_index(new, {}, {}, {alias: AliasState(False)})
    await bench.port.update_aliases(
        [AliasAction(old, alias, is_write_index=False), AliasAction(new, alias, is_write_index=True)]
    )
    assert (await only(bench, "a-1")).aliases == {alias: AliasState(False)}
    assert (await only(bench, "a-2")).aliases == {alias: AliasState(True)}
    await bench.port.update_aliases([AliasAction(old, alias, remove=True)])
    assert (await only(bench, "a-1")).aliases == {}


async def test_two_write_indices_for_one_alias_are_refused_and_nothing_changes(bench: Bench) -> None:
    alias = f"{bench.prefix}write"
    await bench.port.create_index(f"{bench.prefix}a-1", {}, {}, {alias: AliasState(True)})
    await bench.port.create_index(f"{bench.prefix}a-2", {}, {}, {})
    with pytest.raises(ServerRefusedError, match="more than one write index"):
        await bench.port.update_aliases([AliasAction(f"{bench.prefix}a-2", alias, is_write_index=True)])
    assert (await only(bench, "a-2")).aliases == {}


async def test_removing_an_alias_that_is_not_there_is_no_error(bench: Bench) -> None:
    await bench.port.create_index(f"{bench.prefix}a", {}, {}, {})
    gone = AliasAction(f"{bench.prefix}a", f"{bench.prefix}gone", remove=True)
    await bench.port.update_aliases([gone])
    filtered = AliasAction(f"{bench.prefix}a", f"{bench.prefix}b", other={"filter": {"term": {"x": "y"}}})
    await bench.port.update_aliases([gone, filtered])
    assert (await only(bench, "a")).aliases == {filtered.alias: AliasState(None, filtered.other)}
    await bench.port.update_aliases([])


async def test_writing_to_an_index_that_went_away_is_worth_another_look(bench: Bench) -> None:
    name = f"{bench.prefix}gone"
    for write in (
        bench.port.put_mapping(name, {"properties": {"a": {"type": "long"}}}),
        bench.port.put_settings(name, {"index.refresh_interval": "1s"}),
        bench.port.update_aliases([AliasAction(name, f"{name}-alias")]),
    ):
        with pytest.raises(ServerRefusedError, match="not there any more") as refused:
            await write
        assert not refused.value.stalled


async def test_an_index_is_deleted_only_under_its_uuid(bench: Bench) -> None:
    name = f"{bench.prefix}a"
    await bench.port.create_index(name, {}, {}, {})
    uuid = (await only(bench, "a")).uuid
    assert await bench.port.delete_index(name, "another-uuid") is False
    assert (await only(bench, "a")).uuid == uuid
    assert await bench.port.delete_index(name, uuid) is True
    assert await bench.port.delete_index(name, uuid) is False
    await bench.port.create_index(name, {}, {}, {})
    assert await bench.port.delete_index(name, uuid) is False


async def test_names_that_stand_for_several_objects_are_never_sent(bench: Bench) -> None:
    await bench.port.create_index(f"{bench.prefix}a", {}, {}, {})
    for name in (f"{bench.prefix}*", f"{bench.prefix}a,{bench.prefix}b", ""):
        for call in (
            bench.port.delete_index(name, "x"),
            bench.port.delete_template(name),
            bench.port.template(name),
            bench.port.put_mapping(name, {}),
        ):
            with pytest.raises(ServerRefusedError) as refused:
                await call
            assert refused.value.reason is Reason.INVALID_SPEC
    assert len(await bench.port.indices(f"{bench.prefix}a")) == 1


async def test_without_ilm_policies_are_not_supported(bench: Bench) -> None:
    policy = LifecyclePolicyState("p", {"phases": {}})
    for call in (bench.port.policy("p"), bench.port.put_policy(policy), bench.port.delete_policy("p")):
        with pytest.raises(NotSupportedError, match="no index lifecycle management"):
            await call


async def test_nothing_is_written_once_leadership_is_lost(bench: Bench) -> None:
    await bench.port.put_template(template(bench))
    await bench.port.create_index(f"{bench.prefix}a", {}, {}, {})
    before = await only(bench, "a")
    bench.may_write = False
    for call in (
        bench.port.put_template(template(bench, "other")),
        bench.port.delete_template(f"{bench.prefix}sessions"),
        bench.port.create_index(f"{bench.prefix}b", {}, {}, {}),
        bench.port.put_mapping(f"{bench.prefix}a", {"properties": {"a": {"type": "long"}}}),
        bench.port.put_settings(f"{bench.prefix}a", {"index.refresh_interval": "1s"}),
        bench.port.update_aliases([AliasAction(f"{bench.prefix}a", f"{bench.prefix}c")]),
        bench.port.delete_index(f"{bench.prefix}a", before.uuid),
    ):
        with pytest.raises(LeadershipLostError):
            await call
    assert await bench.port.indices(f"{bench.prefix}*") == (before,)
    assert await bench.port.template(f"{bench.prefix}sessions") is not None
    assert await bench.port.template(f"{bench.prefix}other") is None


async def test_closing_twice_is_harmless(bench: Bench) -> None:
    await bench.port.close()
    await bench.port.close()
