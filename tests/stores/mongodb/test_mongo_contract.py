"""What every MongoPort promises: the adapter on a real server, on a sharded cluster, and the fake of engine tests."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_mongo import FakeMongo
from mongo_bed import index

from lucid_storage.errors import (
    IndexConflictError,
    LeadershipLostError,
    Reason,
    ServerRefusedError,
)
from lucid_storage.stores.documents import collation_equivalent, equivalent
from lucid_storage.stores.mongodb.definition import same_definition
from lucid_storage.stores.mongodb.port import MongoPort
from lucid_storage.stores.mongodb.types import (
    Capped,
    CollectionChange,
    CollectionOptions,
    IndexChange,
    JsonDoc,
    Topology,
)

pytestmark = pytest.mark.mongodb
PLAIN = CollectionOptions()
Make = Callable[..., MongoPort]


@pytest.fixture(params=["fake", "mongodb", "sharded"])
def kind_of_server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make_port(kind_of_server: str, request: pytest.FixtureRequest) -> Make:
    if kind_of_server == "fake":
        return FakeMongo
    server, connect = request.getfixturevalue(kind_of_server), request.getfixturevalue("connect")
    return lambda **options: connect(server.uri, **options)


@pytest.fixture
def database(kind_of_server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A name that no other test has; dropped afterwards."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield name
    if kind_of_server != "fake":
        with request.getfixturevalue(kind_of_server).client() as client:
            client.drop_database(name)


@pytest.fixture
def port(make_port: Make) -> MongoPort:
    return make_port()


async def test_info_names_a_deployment_by_its_id(port: MongoPort, kind_of_server: str) -> None:
    info = await port.info()
    assert info.topology is (Topology.SHARDED if kind_of_server == "sharded" else Topology.REPLICA_SET)
    assert info.identity
    assert not info.by_hosts
    assert info.at_least(6)


async def test_an_absent_collection_is_a_value(port: MongoPort, database: str) -> None:
    assert await port.collection(database, "absent") is None
    assert await port.collections(database) == ()
    assert await port.indexes(database, "absent") is None
    assert await port.collection_stats(database, "absent") is None
    assert await port.drop_index(database, "absent", "name_1") is False
    assert await port.drop_collection(database, "absent", "0" * 32) is False


async def test_creating_twice_says_so_and_changes_nothing(port: MongoPort, database: str) -> None:
    assert await port.create_collection(database, "users", CollectionOptions(validator={"a": 1})) is True
    before = await port.collection(database, "users")
    assert await port.create_collection(database, "users", PLAIN) is False
    assert await port.collection(database, "users") == before
    assert before is not None
    assert (before.type, len(before.uuid or "")) == ("collection", 32)
    assert equivalent(before.options.validator, {"a": 1})
    assert database in await port.databases()


async def test_own_writes_are_seen_at_once(port: MongoPort, database: str) -> None:
    assert await port.collection(database, "users") is None
    await port.create_collection(database, "users", PLAIN)
    assert await port.collection(database, "users") is not None
    await port.create_index(database, "users", "name_1", index(("name", 1)))
    assert await names(port, database, "users") == {"_id_", "name_1"}
    await port.drop_index(database, "users", "name_1")
    assert await names(port, database, "users") == {"_id_"}


@pytest.mark.parametrize("name", ["system.users", "lucid_stg_users", "lucid_old_users", ""])
async def test_reserved_collection_names_are_refused(port: MongoPort, database: str, name: str) -> None:
    with pytest.raises(ServerRefusedError) as refused:
        await port.create_collection(database, name, PLAIN)
    assert refused.value.reason is Reason.INVALID_SPEC


SERIES = {"timeField": "t", "metaField": "m", "granularity": "minutes"}
CLUSTERED = {"unique": True, "name": "by id", "expireAfterSeconds": 60}
BEYOND_INT = {"a": {"$gt": {"$numberLong": "5"}}}


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (CollectionOptions(capped=Capped(4096, 10)), "collection"),
        (CollectionOptions(capped=Capped(4096)), "collection"),
        (CollectionOptions(time_series=SERIES), "timeseries"),
        (CollectionOptions(time_series={"timeField": "t", "expireAfterSeconds": 60}), "timeseries"),
        (CollectionOptions(clustered_index=CLUSTERED), "collection"),
        (CollectionOptions(collation={"locale": "de", "strength": 2}), "collection"),
        (CollectionOptions(pre_and_post_images=True), "collection"),
        (CollectionOptions(validator=BEYOND_INT, validation_level="moderate"), "collection"),
        (CollectionOptions(validator={"a": {"$exists": True}}, validation_action="warn"), "collection"),
    ],
)
async def test_options_are_reported_as_they_were_declared(
    port: MongoPort, database: str, options: CollectionOptions, kind: str
) -> None:
    assert await port.create_collection(database, "made", options)
    state = await port.collection(database, "made")
    assert state is not None
    assert (state.type, state.uuid is not None) == (kind, True)
    found = state.options
    assert found.capped == options.capped
    assert found.pre_and_post_images == options.pre_and_post_images
    assert equivalent(found.validator, options.validator)
    assert collation_equivalent(options.collation, found.collation)
    assert subset(options.time_series, found.time_series)
    assert subset(options.clustered_index, found.clustered_index)
    for name in ("validation_level", "validation_action"):
        assert getattr(options, name) in (None, getattr(found, name))


async def test_all_changes_of_a_collection_are_made_together(port: MongoPort, database: str) -> None:
    await port.create_collection(database, "log", CollectionOptions(capped=Capped(4096, 10)))
    await port.change_collection(
        database,
        "log",
        CollectionChange(
            validator={"a": 1},
            validation_level="moderate",
            validation_action="warn",
            pre_and_post_images=True,
            capped_size_bytes=8192,
            capped_max_documents=20,
        ),
    )
    state = await port.collection(database, "log")
    assert state is not None
    assert equivalent(state.options.validator, {"a": 1})
    assert state.options.capped == Capped(8192, 20)
    assert (state.options.validation_level, state.options.validation_action) == ("moderate", "warn")
    assert state.options.pre_and_post_images is True


async def test_an_empty_validator_and_a_zero_limit_remove_them(port: MongoPort, database: str) -> None:
    await port.create_collection(
        database, "log", CollectionOptions(capped=Capped(4096, 10), validator={"a": 1})
    )
    await port.change_collection(database, "log", CollectionChange(validator={}, capped_max_documents=0))
    state = await port.collection(database, "log")
    assert state is not None
    assert state.options.validator is None
    assert state.options.capped == Capped(4096)


async def test_a_time_series_changes_its_granularity_and_expiry(port: MongoPort, database: str) -> None:
    series = {"timeField": "t", "granularity": "seconds", "expireAfterSeconds": 60}
    await port.create_collection(database, "ticks", CollectionOptions(time_series=series))
    await port.change_collection(
        database, "ticks", CollectionChange(expire_after_seconds=-1, granularity="minutes")
    )
    state = await port.collection(database, "ticks")
    assert state is not None
    assert state.options.time_series is not None
    assert state.options.time_series["granularity"] == "minutes"
    assert "expireAfterSeconds" not in state.options.time_series


async def test_changing_an_absent_collection_says_not_ready_and_is_tried_again(
    port: MongoPort, database: str
) -> None:
    with pytest.raises(ServerRefusedError) as refused:
        await port.change_collection(database, "absent", CollectionChange(validator={"a": 1}))
    assert refused.value.reason is Reason.COLLECTION_NOT_READY
    assert refused.value.stalled is False


async def test_only_the_collection_with_that_uuid_is_dropped(port: MongoPort, database: str) -> None:
    await port.create_collection(database, "users", PLAIN)
    state = await port.collection(database, "users")
    assert state is not None
    assert await port.drop_collection(database, "users", "0" * 32) is False
    assert await port.collection(database, "users") == state
    assert await port.drop_collection(database, "users", str(state.uuid)) is True
    assert await port.collection(database, "users") is None


async def test_stats_count_indexes_and_know_the_cap(port: MongoPort, database: str) -> None:
    await port.create_collection(database, "log", CollectionOptions(capped=Capped(4096)))
    await port.create_index(database, "log", "a_1", index(("a", 1)))
    stats = await port.collection_stats(database, "log")
    assert stats is not None
    assert (stats.documents, stats.index_count, stats.capped_max_bytes) == (0, 2, 4096)


async def test_an_index_never_makes_its_collection(port: MongoPort, database: str) -> None:
    with pytest.raises(ServerRefusedError) as refused:
        await port.create_index(database, "absent", "a_1", index(("a", 1)))
    assert refused.value.reason is Reason.COLLECTION_NOT_READY
    assert refused.value.stalled is False
    assert await port.collection(database, "absent") is None


async def test_creating_an_equal_index_again_is_no_error(port: MongoPort, database: str) -> None:
    await port.create_collection(database, "users", PLAIN)
    for _ in range(2):
        await port.create_index(database, "users", "a_1", index(("a", 1), unique=True))
    assert await names(port, database, "users") == {"_id_", "a_1"}


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        (index(("a", 1)), index(("a", 1)), "other"),
        (index(("a", 1)), index(("b", 1)), "first"),
        (index(("a", "text")), index(("b", "text")), "other"),
    ],
)
async def test_an_index_in_the_way_is_a_conflict(
    port: MongoPort, database: str, first: Any, second: Any, name: str
) -> None:
    await port.create_collection(database, "users", PLAIN)
    await port.create_index(database, "users", "first", first)
    with pytest.raises(IndexConflictError) as conflict:
        await port.create_index(database, "users", name, second)
    assert conflict.value.reason is Reason.INDEX_CONFLICT


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        (index(("a", 1), ("a", -1)), Reason.INVALID_SPEC),
        (index(("a", 1), ("b", 1), expire_after_seconds=5), Reason.SERVER_REFUSED),
        (index(("a", "nonsense")), Reason.SERVER_REFUSED),
        (index(("a", 0)), Reason.SERVER_REFUSED),
    ],
)
async def test_an_impossible_index_is_refused_for_good(
    port: MongoPort, database: str, definition: Any, reason: Reason
) -> None:
    await port.create_collection(database, "users", PLAIN)
    with pytest.raises(ServerRefusedError) as refused:
        await port.create_index(database, "users", "bad", definition)
    assert (refused.value.reason, refused.value.stalled) == (reason, True)
    assert await names(port, database, "users") == {"_id_"}


async def test_an_index_changes_in_place(port: MongoPort, database: str) -> None:
    await port.create_collection(database, "users", PLAIN)
    await port.create_index(database, "users", "a_1", index(("a", 1)))
    await port.change_index(database, "users", "a_1", IndexChange(hidden=True, expire_after_seconds=60))
    state = await one(port, database, "users", "a_1")
    assert (state.definition.hidden, state.definition.expire_after_seconds) == (True, 60)
    await port.change_index(database, "users", "a_1", IndexChange(hidden=False, expire_after_seconds=90))
    state = await one(port, database, "users", "a_1")
    assert (bool(state.definition.hidden), state.definition.expire_after_seconds) == (False, 90)


async def test_an_index_becomes_unique_once_it_is_prepared(port: MongoPort, database: str) -> None:
    await port.create_collection(database, "users", PLAIN)
    await port.create_index(database, "users", "a_1", index(("a", 1)))
    with pytest.raises(ServerRefusedError):
        await port.change_index(database, "users", "a_1", IndexChange(unique=True))
    await port.change_index(database, "users", "a_1", IndexChange(prepare_unique=True))
    assert (await one(port, database, "users", "a_1")).prepare_unique
    await port.change_index(database, "users", "a_1", IndexChange(unique=True))
    state = await one(port, database, "users", "a_1")
    assert same_definition(index(("a", 1), unique=True), state.definition) == []
    assert not state.prepare_unique


async def test_changing_an_index_that_is_gone_is_tried_again(port: MongoPort, database: str) -> None:
    await port.create_collection(database, "users", PLAIN)
    with pytest.raises(ServerRefusedError) as refused:
        await port.change_index(database, "users", "gone", IndexChange(hidden=True))
    assert refused.value.stalled is False


async def test_the_id_index_is_never_dropped(port: MongoPort, database: str) -> None:
    await port.create_collection(database, "users", PLAIN)
    with pytest.raises(ServerRefusedError):
        await port.drop_index(database, "users", "_id_")


async def test_a_clustered_index_is_marked(port: MongoPort, database: str) -> None:
    await port.create_collection(database, "events", CollectionOptions(clustered_index={"name": "by id"}))
    found = await port.indexes(database, "events")
    assert found is not None
    assert [(state.name, state.clustered) for state in found] == [("by id", True)]


@pytest.mark.parametrize("clustered", [None, {"name": "by id"}])
async def test_the_index_on_id_has_the_default_collation(
    port: MongoPort, database: str, clustered: JsonDoc | None
) -> None:
    options = CollectionOptions(collation={"locale": "fr"}, clustered_index=clustered)
    await port.create_collection(database, "users", options)
    state, found = await port.collection(database, "users"), await port.indexes(database, "users")
    assert state is not None
    assert found is not None
    (own,) = found
    assert own.definition.keys == (("_id", 1),)
    assert own.definition.collation == state.options.collation is not None


async def test_nothing_is_written_without_leadership(make_port: Make, database: str) -> None:
    def lost() -> None:
        raise LeadershipLostError

    acting, frozen = make_port(), make_port(guard=lost)
    with pytest.raises(LeadershipLostError):
        await frozen.create_collection(database, "users", PLAIN)
    assert await acting.collection(database, "users") is None


async def test_changes_are_seen_in_the_stream_in_their_order(port: MongoPort, database: str) -> None:
    async with port.watch_ddl([database]) as events:
        await port.create_collection(database, "users", PLAIN)
        await port.create_index(database, "users", "a_1", index(("a", 1)))
        await port.change_collection(database, "users", CollectionChange(validator={"a": 1}))
        await port.drop_index(database, "users", "a_1")
        state = await port.collection(database, "users")
        assert state is not None
        await port.drop_collection(database, "users", str(state.uuid))
        seen = []
        async for event in events:
            if event.database == database:
                seen.append((event.operation, event.collection, event.index_names))
            if event.operation == "drop" and event.database == database:
                break
    assert seen == [
        ("create", "users", ()),
        ("createIndexes", "users", ("a_1",)),
        ("modify", "users", ()),
        ("dropIndexes", "users", ("a_1",)),
        ("drop", "users", ()),
    ]


async def test_closing_twice_is_harmless(port: MongoPort) -> None:
    await port.info()
    await port.close()
    await port.close()


async def names(port: MongoPort, database: str, collection: str) -> set[str]:
    found = await port.indexes(database, collection)
    assert found is not None
    return {state.name for state in found}


async def one(port: MongoPort, database: str, collection: str, name: str) -> Any:
    found = await port.indexes(database, collection)
    assert found is not None
    return next(state for state in found if state.name == name)


def subset(declared: Any, found: Any) -> bool:
    if declared is None:
        return found is None
    return {key: found.get(key) for key in declared} == dict(declared)
