"""Changes of definitions in change streams of real servers: at once, without documents, and never silently lost."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from mongo_bed import Connect, eventually
from mongo_proxy import proxied

from lucid_storage.errors import AccessDeniedError, StoreUnavailableError
from lucid_storage.stores.mongodb.adapter import MongoDeployment
from lucid_storage.stores.mongodb.types import CollectionChange, CollectionOptions, DdlEvent, IndexDefinition
from lucid_storage.stores.mongodb.watch import ddl_event
from testbed.stores.mongodb import MongoDB

pytestmark = [
    pytest.mark.mongodb,
    # Of the driver's own sockets, when a server dies or freezes while it connects.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


async def until(
    events: AsyncIterator[DdlEvent], last: str, seconds: float = 30, *, database: str | None = None
) -> list[DdlEvent]:
    """What comes up to the creation of the collection `last`; of `database` alone where it is given.

    A stream is one over the whole deployment, so it tells what other tests do on the shared server too.
    """
    seen = []
    async with asyncio.timeout(seconds):
        async for event in events:
            if database not in (None, event.database):
                continue
            seen.append(event)
            if event.operation == "create" and event.collection == last:
                break
    return seen


def mark() -> str:
    return f"mark_{uuid.uuid4().hex[:8]}"


async def test_a_change_by_others_is_seen_at_once(
    mongodb: MongoDB, deployment: MongoDeployment, database: str
) -> None:
    with mongodb.client() as client:
        async with deployment.watch_ddl([database]) as events:
            client[database].command("create", "users")
            began = time.monotonic()
            await until(events, "users", database=database)
    assert time.monotonic() - began < 3


async def test_what_is_looked_at_after_an_event_is_not_older_than_it(
    mongodb: MongoDB, deployment: MongoDeployment, database: str
) -> None:
    with mongodb.client() as client:
        async with deployment.watch_ddl([database]) as events:
            for number in range(20):
                name = f"c{number}"
                assert await deployment.collection(database, name) is None
                assert await deployment.indexes(database, name) is None
                client[database].command("create", name)
                await until(events, name, database=database)
                assert await deployment.collection(database, name) is not None
                assert await deployment.indexes(database, name) is not None


async def test_every_operation_is_told_with_its_names(
    mongodb: MongoDB, deployment: MongoDeployment, database: str
) -> None:
    last = mark()
    with mongodb.client() as client:
        db = client[database]
        async with deployment.watch_ddl([database]) as events:
            db.command("create", "a")
            db.command("createIndexes", "a", indexes=[{"key": {"x": 1}, "name": "x"}])
            db.command("collMod", "a", index={"name": "x", "hidden": True})
            db.command("dropIndexes", "a", index="x")
            db["a"].rename("b")
            db.command("create", "lucid_stg_c")
            db["lucid_stg_c"].rename("c")
            client.drop_database(database)
            db.command("create", last)
            seen = await until(events, last, database=database)
    assert seen[:5] == [
        DdlEvent("create", database, "a"),
        DdlEvent("createIndexes", database, "a", index_names=("x",)),
        DdlEvent("modify", database, "a"),
        DdlEvent("dropIndexes", database, "a", index_names=("x",)),
        DdlEvent("rename", database, "a", database, "b"),
    ]
    assert seen[5] == DdlEvent("rename", database, "lucid_stg_c", database, "c")
    assert {(event.operation, event.collection) for event in seen[6:]} == {
        ("drop", "b"),
        ("drop", "c"),
        ("dropDatabase", None),
        ("create", last),
    }


async def test_only_our_own_changes_are_marked_as_such(
    mongodb: MongoDB, deployment: MongoDeployment, database: str
) -> None:
    """Others do the same to the same collections, right before and right after us."""
    last = mark()
    names = [f"c{number}" for number in range(24)]

    async def change(name: str) -> None:
        assert await deployment.create_collection(database, name, CollectionOptions())
        await deployment.create_index(database, name, "x", IndexDefinition(keys=(("x", 1),)))
        await asyncio.to_thread(client[database].command, "collMod", name, validationLevel="off")
        await deployment.change_collection(database, name, CollectionChange(validation_level="moderate"))
        await asyncio.to_thread(client[database].command, "collMod", name, validationLevel="strict")
        await deployment.drop_index(database, name, "x")
        definition = [{"key": {"x": -1}, "name": "x"}]
        await asyncio.to_thread(client[database].command, "createIndexes", name, indexes=definition)

    with mongodb.client() as client:
        async with deployment.watch_ddl([database]) as events:
            seen = asyncio.create_task(until(events, last, database=database))
            await asyncio.gather(*(change(name) for name in names))
            client[database].command("create", last)
            told = [event for event in await seen if event.collection in names]
    assert [(e.operation, e.own) for e in told if e.collection == "c0"] == [
        ("create", True),
        ("createIndexes", True),
        ("modify", False),
        ("modify", True),
        ("modify", False),
        ("dropIndexes", False),
        ("createIndexes", False),
    ]
    assert sum(not event.own for event in told) == 4 * len(names)


async def test_a_change_that_changed_nothing_hides_none_of_others(
    mongodb: MongoDB, deployment: MongoDeployment, database: str
) -> None:
    last = mark()
    with mongodb.client() as client:
        async with deployment.watch_ddl([database]) as events:
            client[database].command("create", "users")
            assert not await deployment.create_collection(database, "users", CollectionOptions())
            await deployment.create_index(database, "users", "x", IndexDefinition(keys=(("x", 1),)))
            await deployment.create_index(database, "users", "x", IndexDefinition(keys=(("x", 1),)))
            client[database].command("drop", "users")
            client[database].command("create", "users")
            client[database].command("createIndexes", "users", indexes=[{"key": {"x": 1}, "name": "x"}])
            client[database].command("create", last)
            seen = await until(events, last, database=database)
            told = [event for event in seen if event.collection == "users"]
    assert [(event.operation, event.own) for event in told] == [
        ("create", False),
        ("createIndexes", True),
        ("drop", False),
        ("create", False),
        ("createIndexes", False),
    ]


async def test_documents_do_not_cross_the_wire(mongodb: MongoDB, connect: Connect, database: str) -> None:
    last = mark()
    async with proxied(mongodb.addresses[0]) as proxy:
        deployment = connect(proxy.uri)
        async with deployment.watch_ddl([database]) as events:
            before = proxy.bytes_from_server

            def write() -> None:
                with mongodb.client() as client:
                    for _ in range(20):
                        client[database]["c"].insert_many({"text": "x" * 1_000} for _ in range(500))
                    client[database].command("create", last)

            await asyncio.to_thread(write)
            seen = await until(events, last, database=database)
            received = proxy.bytes_from_server - before
    assert [event.operation for event in seen] == ["create", "create"]
    assert received < 100_000  # of 10 MB written


@pytest.mark.parametrize("databases", [["shop"], ["shop", "stock"]])
async def test_a_login_for_some_databases_gets_their_streams(
    private_mongodb: Callable[..., MongoDB], connect: Connect, databases: list[str]
) -> None:
    server = private_mongodb(auth=True)
    server.create_user("team", "pass word", [("readWrite", name) for name in databases])
    deployment = connect(server.uri_for("team", "pass word"))
    with pytest.raises(AccessDeniedError, match="changeStream"):
        async with deployment.watch_ddl([]):
            pass
    with pytest.raises(AccessDeniedError, match="changeStream"):
        async with deployment.watch_ddl([*databases, "foreign"]):
            pass
    with server.client() as client:
        async with deployment.watch_ddl(databases) as events:
            for name in ["foreign", *databases]:
                client[name].command("create", "a")
            # A dropped database ends its stream at the server; ours goes on.
            client.drop_database(databases[0])
            last = mark()
            client[databases[-1]].command("create", last)
            seen = await until(events, last)
            again = mark()
            client[databases[0]].command("create", again)
            seen += await until(events, again)
    assert {event.database for event in seen} == set(databases)
    assert ("dropDatabase", databases[0]) in {(event.operation, event.database) for event in seen}
    assert all(DdlEvent("create", name, "a") in seen for name in databases)


async def test_a_frozen_server_is_noticed(private_mongodb: Callable[..., MongoDB], connect: Connect) -> None:
    server = private_mongodb()
    deployment = connect(server.uri)
    async with deployment.watch_ddl([]) as events:
        server.freeze()
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            await until(events, "never", seconds=60)
        assert time.monotonic() - began < 60
    server.thaw()
    await reopened(server, deployment)


@pytest.mark.parametrize("cut", ["all connections", "the stream's connection"])
async def test_after_a_cut_without_a_reset_the_next_change_is_seen(
    mongodb: MongoDB, connect: Connect, database: str, cut: str
) -> None:
    """Either the stream goes on from its token, or it is said to be lost; never silence."""
    last = mark()
    async with proxied(mongodb.addresses[0]) as proxy:
        deployment = connect(proxy.uri)
        lost = False
        async with deployment.watch_ddl([database]) as events:
            waiting = asyncio.create_task(until(events, last, seconds=90))
            await eventually(proxy.sees_stream, "The stream's wait for more")
            if cut == "all connections":
                proxy.swallow()
            else:
                proxy.swallow_streams()
            began = time.monotonic()
            await asyncio.to_thread(create, mongodb, database, last)
            try:
                await waiting
            except StoreUnavailableError:
                lost = True
        if lost:
            await reopened(mongodb, deployment, database)
        assert time.monotonic() - began < 60


async def test_a_killed_server_is_noticed_at_once(
    private_mongodb: Callable[..., MongoDB], connect: Connect
) -> None:
    server = private_mongodb()
    deployment = connect(server.uri)
    async with deployment.watch_ddl([]) as events:
        waiting = asyncio.create_task(until(events, "never"))
        server.kill()
        with pytest.raises(StoreUnavailableError):
            await waiting
    server.start()
    await reopened(server, deployment)


async def test_a_step_down_loses_no_change(private_mongodb: Callable[..., MongoDB], connect: Connect) -> None:
    server = private_mongodb(members=3)
    deployment = connect(server.uri)
    last = mark()

    def act() -> None:
        with server.client() as client:
            client["shop"].command("create", "before")
            server.step_down()
            client["shop"].command("create", last)

    seen: list[DdlEvent] = []
    async with deployment.watch_ddl([]) as events:
        acting = asyncio.create_task(asyncio.to_thread(act))
        try:
            seen = await until(events, last, seconds=90)
        except StoreUnavailableError:
            # Allowed: whoever watches opens a new stream and looks at everything.
            seen = []
        await acting
    if seen:
        assert DdlEvent("create", "shop", "before") in seen
    await reopened(server, deployment)
    assert {state.name for state in await deployment.collections("shop")} >= {"before", last}


async def test_leaving_a_stream_leaves_no_cursor(
    private_mongodb: Callable[..., MongoDB], connect: Connect
) -> None:
    server = private_mongodb()
    deployment = connect(server.uri)
    with server.client() as client:
        async with deployment.watch_ddl([]) as events:
            client["shop"].command("create", "a")
            await until(events, "a")
            assert streams(client) == 1
        assert streams(client) == 0
        async with deployment.watch_ddl([]):
            assert streams(client) == 1
        assert streams(client) == 0


def test_events_of_reserved_names_alone_are_dropped() -> None:
    assert ddl_event({"operationType": "create", "ns": {"db": "shop", "coll": "lucid_stg_a"}}) is None
    assert ddl_event({"operationType": "create", "ns": {"db": "lucid_stg_1", "coll": "a"}}) is None
    assert ddl_event({"operationType": "drop", "ns": {"db": "shop", "coll": "system.views"}}) is None


async def reopened(server: MongoDB, deployment: MongoDeployment, database: str | None = None) -> None:
    """A new stream can be opened and works."""
    name, last = database or f"test_{uuid.uuid4().hex[:8]}", mark()
    async with asyncio.timeout(60):
        while True:
            try:
                async with deployment.watch_ddl([]) as events:
                    await asyncio.to_thread(create, server, name, last)
                    await until(events, last)
                    return
            except StoreUnavailableError:
                await asyncio.sleep(0.2)


def create(server: MongoDB, database: str, collection: str) -> None:
    with server.client() as client:
        client[database].command("create", collection)


def streams(client: Any) -> int:
    """Change streams that the server holds."""
    operations = client.admin.aggregate([{"$currentOp": {"idleCursors": True, "allUsers": True}}])
    commands = [str(operation.get("cursor", {}).get("originatingCommand")) for operation in operations]
    return sum("$changeStream" in command for command in commands)
