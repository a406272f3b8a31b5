"""Indexes on a real server: every type round trips, others' indexes are adopted, builds can be left and joined."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psutil
import pytest
from mongo_bed import Connect, eventually, index

from lucid_storage.errors import (
    DuplicateKeysError,
    IndexConflictError,
    NotSupportedError,
    Reason,
    ServerRefusedError,
    StoreUnavailableError,
)
from lucid_storage.stores.mongodb.adapter import MongoDeployment
from lucid_storage.stores.mongodb.definition import same_definition
from lucid_storage.stores.mongodb.types import (
    CollectionOptions,
    CollectionState,
    IndexChange,
    IndexDefinition,
    IndexState,
)
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb

EVERY_KIND = {
    "ascending": index(("a", 1)),
    "compound": index(("a", 1), ("b.c", -1)),
    "unique": index(("a", 1), unique=True),
    "sparse": index(("a", 1), sparse=True),
    "ttl": index(("a", 1), expire_after_seconds=3600),
    "ttl of zero": index(("a", 1), expire_after_seconds=0),
    "partial": index(("a", 1), partial_filter={"b": {"$gt": {"$numberLong": "5"}}, "c": {"$exists": True}}),
    "partial by date": index(("a", 1), partial_filter={"b": {"$lt": {"$date": "2026-01-01T00:00:00Z"}}}),
    "collation": index(("a", 1), collation={"locale": "de", "strength": 2}),
    "collation fr_CA": index(("a", 1), collation={"locale": "fr_CA"}),
    "collation da": index(("a", 1), collation={"locale": "da"}),
    "collation th": index(("a", 1), collation={"locale": "th"}),
    "simple collation": index(("a", 1), collation={"locale": "simple"}),
    "hidden": index(("a", 1), hidden=True),
    "wildcard": index(("$**", 1)),
    "wildcard of a field": index(("a.$**", 1)),
    "wildcard projection": index(("$**", 1), wildcard_projection={"a": True, "b.c": True}),
    "wildcard exclusion": index(("$**", 1), wildcard_projection={"a": 0}),
    "nested projection": index(("$**", 1), wildcard_projection={"a": {"b": 1}}),
    "text": index(("a", "text")),
    "text of fields": index(("b", "text"), ("a", "text")),
    "text of everything": index(("$**", "text")),
    "text between keys": index(("x", 1), ("b", "text"), ("a", "text"), ("y", -1)),
    "text weights": index(("a", "text"), ("b", "text"), weights={"a": 10, "b": 1}),
    "text by weights": index(("a", "text"), weights={"b": 3}),
    "text language": index(("a", "text"), default_language="german", language_override="lang"),
    "text default language": index(("a", "text"), default_language="english"),
    "text version": index(("a", "text"), text_index_version=2),
    "plane": index(("a", "2d")),
    "plane with bounds": index(("a", "2d"), ("b", 1), bits=20, min=-10, max=10.5),
    "sphere": index(("a", "2dsphere"), ("b", 1)),
    "hashed": index(("a", "hashed")),
    "compound hashed": index(("a", 1), ("b", "hashed")),
}


@pytest.mark.parametrize("definition", EVERY_KIND.values(), ids=EVERY_KIND.keys())
async def test_every_kind_of_index_is_listed_as_it_was_declared(
    deployment: MongoDeployment, database: str, definition: IndexDefinition
) -> None:
    await deployment.create_collection(database, "c", CollectionOptions())
    await deployment.create_index(database, "c", "made", definition)
    state = await one(deployment, database, "c", "made")
    assert same_definition(definition, state.definition) == []
    assert not state.building
    # What was read can be declared, and is then the same index again.
    assert same_definition(state.definition, state.definition) == []
    await deployment.create_index(database, "c", "made", state.definition)


@pytest.mark.parametrize("definition", EVERY_KIND.values(), ids=EVERY_KIND.keys())
async def test_two_kinds_are_equal_only_when_the_server_says_so(
    deployment: MongoDeployment, database: str, definition: IndexDefinition
) -> None:
    """The server refuses a second name for an equal index; where it does, we must say equal, and only there."""
    await deployment.create_collection(database, "c", CollectionOptions())
    await deployment.create_index(database, "c", "first", definition)
    first = await one(deployment, database, "c", "first")
    with pytest.raises(IndexConflictError):
        await deployment.create_index(database, "c", "second", first.definition)


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        ({"key": {"a": 1.0, "b": -1.0}, "name": "old", "background": True}, index(("a", 1), ("b", -1))),
        ({"key": {"a": 1}, "name": "a", "v": 1}, index(("a", 1))),
        (
            {"key": {"a": 1}, "name": "t", "expireAfterSeconds": 60.0},
            index(("a", 1), expire_after_seconds=60),
        ),
        ({"key": {"a": 1}, "name": "s", "sparse": False, "unique": 1}, index(("a", 1), unique=True)),
        (
            {"key": {"_fts": "text", "_ftsx": 1}, "name": "f", "weights": {"a": 1, "b": 5}},
            index(("b", "text"), ("a", "text"), weights={"b": 5}),
        ),
        ({"key": {"a": "2d"}, "name": "d", "bits": 26, "min": -180.0, "max": 180}, index(("a", "2d"))),
        ({"key": {"a": "2dsphere"}, "name": "g", "2dsphereIndexVersion": 2}, index(("a", "2dsphere"))),
        (
            {"key": {"a": 1}, "name": "c", "collation": {"locale": "en", "strength": 3, "caseLevel": False}},
            index(("a", 1), collation={"locale": "en"}),
        ),
        (
            {"key": {"a": 1}, "name": "p", "partialFilterExpression": {"b": {"$gt": 5.0}, "a": 1}},
            index(("a", 1), partial_filter={"a": 1, "b": {"$gt": 5}}),
        ),
    ],
)
async def test_an_index_made_by_hand_is_recognised(
    mongodb: MongoDB,
    deployment: MongoDeployment,
    database: str,
    made: dict[str, Any],
    wanted: IndexDefinition,
) -> None:
    with mongodb.client() as client:
        client[database].command("create", "c")
        client[database].command("createIndexes", "c", indexes=[made])
    state = await one(deployment, database, "c", made["name"])
    assert same_definition(wanted, state.definition) == []


async def test_an_index_inherits_the_collation_of_its_collection(
    deployment: MongoDeployment, database: str
) -> None:
    await deployment.create_collection(database, "c", CollectionOptions(collation={"locale": "fr_CA"}))
    await deployment.create_index(database, "c", "a_1", index(("a", 1)))
    collection = await deployment.collection(database, "c")
    assert collection is not None
    state = await one(deployment, database, "c", "a_1")
    inherited = collection.options.collation
    assert same_definition(index(("a", 1)), state.definition, default_collation=inherited) == []


async def test_an_index_on_a_view_is_refused(
    mongodb: MongoDB, deployment: MongoDeployment, database: str
) -> None:
    with mongodb.client() as client:
        client[database].command("create", "source")
        client[database].command("create", "view", viewOn="source", pipeline=[])
    assert await deployment.indexes(database, "view") == ()
    state = await deployment.collection(database, "view")
    assert state is not None
    assert (state.type, state.uuid) == ("view", None)
    assert await deployment.collection_stats(database, "view") is None
    with pytest.raises(ServerRefusedError) as refused:
        await deployment.create_index(database, "view", "a_1", index(("a", 1)))
    assert not isinstance(refused.value, NotSupportedError)
    assert "view" in refused.value.message


async def test_an_index_of_a_time_series_is_made_and_dropped(
    deployment: MongoDeployment, database: str
) -> None:
    series = {"timeField": "t", "metaField": "m"}
    await deployment.create_collection(database, "ticks", CollectionOptions(time_series=series))
    definition = index(("m.sensor", 1), ("t", -1))
    await deployment.create_index(database, "ticks", "by sensor", definition)
    state = await one(deployment, database, "ticks", "by sensor")
    assert same_definition(definition, state.definition) == []
    assert await deployment.drop_index(database, "ticks", "by sensor")


async def test_a_unique_index_over_duplicates_names_no_value(
    mongodb: MongoDB, deployment: MongoDeployment, database: str
) -> None:
    with mongodb.client() as client:
        client[database]["users"].insert_many([{"email": "secret@x"}, {"email": "secret@x"}])
    with pytest.raises(DuplicateKeysError) as refused:
        await deployment.create_index(database, "users", "email_1", index(("email", 1), unique=True))
    assert "secret" not in refused.value.message
    await deployment.create_index(database, "users", "email_1", index(("email", 1)))
    await deployment.change_index(database, "users", "email_1", IndexChange(prepare_unique=True))
    with pytest.raises(DuplicateKeysError) as refused:
        await deployment.change_index(database, "users", "email_1", IndexChange(unique=True))
    assert "secret" not in refused.value.message


@pytest.mark.parametrize(
    ("definition", "document"),
    [
        (index(("a", "2dsphere")), {"a": "secret"}),
        (index(("a", "2d")), {"a": [1000, 1000], "b": "secret"}),
        (index(("a", "hashed")), {"a": ["secret"]}),
        (index(("a", 1), ("b", 1)), {"a": ["secret"], "b": ["secret"]}),
        (index(("a", "text")), {"a": "x", "language": "secret"}),
    ],
)
async def test_a_document_that_cannot_be_indexed_is_not_quoted(
    mongodb: MongoDB, deployment: MongoDeployment, database: str, definition: Any, document: dict[str, Any]
) -> None:
    with mongodb.client() as client:
        client[database]["c"].insert_one(document)
    with pytest.raises(ServerRefusedError) as refused:
        await deployment.create_index(database, "c", "made", definition)
    assert "secret" not in refused.value.message
    assert "document" in refused.value.message


async def test_an_index_named_star_is_not_all_indexes(deployment: MongoDeployment, database: str) -> None:
    await deployment.create_collection(database, "c", CollectionOptions())
    await deployment.create_index(database, "c", "a_1", index(("a", 1)))
    with pytest.raises(ServerRefusedError):
        await deployment.drop_index(database, "c", "*")
    assert len(await deployment.indexes(database, "c") or ()) == 2


async def test_a_build_goes_on_without_its_waiter_and_can_be_waited_for_again(
    private_mongodb: Callable[..., MongoDB], connect: Connect
) -> None:
    server = private_mongodb(parameters={"enableTestCommands": "1"})
    deployment, database, definition = connect(server.uri), "shop", index(("a", 1))
    with server.client() as client:
        client[database]["c"].insert_many({"a": number} for number in range(1_000))
        # Holds every build at its start for as long as the test wants.
        hang = {"configureFailPoint": "hangAfterStartingIndexBuild", "mode": "alwaysOn"}
        client.admin.command(hang)
        try:
            waiter = asyncio.create_task(deployment.create_index(database, "c", "a_1", definition))
            await eventually(lambda: building(deployment, database, "a_1"), "The build in the listing")
            before = sockets(server)
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
            assert sockets(server) == before - 1
            assert await building(deployment, database, "a_1")
            again = asyncio.create_task(deployment.create_index(database, "c", "a_1", definition))
            # The server itself does not notice before the build ends that the first one has gone.
            await eventually(lambda: waiters(client, 2), "The second waiter at the server")
            assert not again.done()
        finally:
            client.admin.command({**hang, "mode": "off"})
        await again
    assert not (await one(deployment, database, "c", "a_1")).building


async def test_dropping_an_index_that_is_being_built_aborts_the_build(
    private_mongodb: Callable[..., MongoDB], connect: Connect
) -> None:
    server = private_mongodb(parameters={"enableTestCommands": "1"})
    deployment, database = connect(server.uri), "shop"
    with server.client() as client:
        client[database]["c"].insert_many({"a": number} for number in range(1_000))
        hang = {"configureFailPoint": "hangAfterStartingIndexBuildUnlocked", "mode": "alwaysOn"}
        client.admin.command(hang)
        waiter = asyncio.create_task(deployment.create_index(database, "c", "a_1", index(("a", 1))))
        await eventually(lambda: building(deployment, database, "a_1"), "The build in the listing")
        drop = asyncio.create_task(deployment.drop_index(database, "c", "a_1"))
        await eventually(lambda: dropping(client, drop), "The drop at the server")
        client.admin.command({**hang, "mode": "off"})
        assert await drop is True
        with pytest.raises(StoreUnavailableError, match="aborted"):
            await waiter
    assert [state.name for state in await deployment.indexes(database, "c") or ()] == ["_id_"]


async def test_progress_of_a_build_is_read_from_the_server(
    mongodb: MongoDB, deployment: MongoDeployment, database: str
) -> None:
    with mongodb.client() as client:
        documents = ({"a": number % 977, "b": "x" * 200} for number in range(150_000))
        client[database]["c"].insert_many(documents, ordered=False)
    build = asyncio.create_task(deployment.create_index(database, "c", "a_b", index(("a", 1), ("b", 1))))
    seen = await eventually(lambda: deployment.build_progress(database, "c"), "Progress", every=0.001)
    assert seen[0].index_names == ("a_b",)
    assert 0 <= seen[0].percent <= 99
    await build
    assert await deployment.build_progress(database, "c") == ()


async def test_many_builds_leave_connections_for_looks(
    mongodb: MongoDB, deployment: MongoDeployment, database: str
) -> None:
    await deployment.create_collection(database, "c", CollectionOptions())
    builds = [
        asyncio.create_task(deployment.create_index(database, "c", f"k{number}", index((f"k{number}", 1))))
        for number in range(60)
    ]
    for _ in range(20):
        assert await deployment.collection(database, "c") is not None
        assert (await deployment.collection_stats(database, "c")) is not None
    await asyncio.gather(*builds)
    assert len(await deployment.indexes(database, "c") or ()) == 61
    with mongodb.client() as client:
        used = client.admin.aggregate([{"$currentOp": {"idleConnections": True}}])
        ours = [operation for operation in used if operation.get("appName") == "lucid-test"]
    assert len(ours) <= 20  # 16 and the monitor's


async def building(deployment: MongoDeployment, database: str, name: str) -> bool:
    found = await deployment.indexes(database, "c")
    return any(state.name == name and state.building for state in found or ())


async def waiters(client: Any, wanted: int) -> bool:
    match = {"command.createIndexes": {"$exists": True}, "desc": {"$regex": "^conn"}}
    operations = client.admin.aggregate([{"$currentOp": {}}, {"$match": match}])
    return len(list(operations)) == wanted


def sockets(server: MongoDB) -> int:
    """Connections that this process has to the server."""
    ports = {int(address.rpartition(":")[2]) for address in server.addresses}
    ours = psutil.Process().net_connections("tcp")
    return sum(1 for socket in ours if socket.raddr and socket.raddr.port in ports)


async def dropping(client: Any, drop: asyncio.Task[bool]) -> bool:
    match = {"command.dropIndexes": {"$exists": True}}
    return drop.done() or bool(list(client.admin.aggregate([{"$currentOp": {}}, {"$match": match}])))


async def one(deployment: MongoDeployment, database: str, collection: str, name: str) -> IndexState:
    found = await deployment.indexes(database, collection)
    return next(state for state in found or () if state.name == name)


class TestACollectionThatIsDroppedWhileItsIndexBeginsToBeBuilt:
    """Servers before 6.0 and routers compare no UUID: there createIndexes makes the collection anew."""

    @pytest.fixture
    def gone(
        self, deployment: MongoDeployment, database: str, mongodb: MongoDB, monkeypatch: pytest.MonkeyPatch
    ) -> list[dict[str, Any]]:
        """The collection goes between the look and the write; the list is what somebody inserts right after it."""
        look, write = deployment._collections.one, deployment._connection.write
        inserted: list[dict[str, Any]] = []

        async def looked(database: str, name: str) -> CollectionState | None:
            found = await look(database, name)
            if found is None or not any(
                ix.name == "mine" for ix in await deployment.indexes(database, name) or ()
            ):
                with mongodb.client() as client:
                    client[database].drop_collection(name)
                return replace(found, uuid=None) if found is not None else None
            return found

        async def written(database: str, command: dict[str, Any], *rest: Any, **more: Any) -> Any:
            answer = await write(database, command, *rest, **more)
            if "createIndexes" in command and inserted:
                with mongodb.client() as client:
                    client[database].a.insert_many(inserted)
            return answer

        monkeypatch.setattr(deployment._collections, "one", looked)
        monkeypatch.setattr(deployment._connection, "write", written)
        return inserted

    @pytest.mark.usefixtures("gone")
    async def test_the_index_waits_and_the_empty_collection_is_not_dropped(
        self, deployment: MongoDeployment, database: str, mongodb: MongoDB
    ) -> None:
        await deployment.create_collection(database, "a", CollectionOptions())
        with pytest.raises(ServerRefusedError) as refused:
            await deployment.create_index(database, "a", "mine", index(("x", 1)))
        assert refused.value.reason is Reason.COLLECTION_NOT_READY
        with mongodb.client() as client:
            assert client[database].list_collection_names() == ["a"]

    async def test_one_that_somebody_fills_at_once_stays(
        self, deployment: MongoDeployment, database: str, mongodb: MongoDB, gone: list[dict[str, Any]]
    ) -> None:
        gone.append({"_id": 1})
        await deployment.create_collection(database, "a", CollectionOptions())
        with pytest.raises(ServerRefusedError):
            await deployment.create_index(database, "a", "mine", index(("x", 1)))
        with mongodb.client() as client:
            assert list(client[database].a.find()) == [{"_id": 1}]
