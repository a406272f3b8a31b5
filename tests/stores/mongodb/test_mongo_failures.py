"""Stopped, frozen, stepping down, refusing: every failure of a real server is named, bounded, and heals."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from mongo_bed import Connect, eventually, index

from lucid_storage.errors import (
    AccessDeniedError,
    LoginFailedError,
    NotSupportedError,
    StoreUnavailableError,
)
from lucid_storage.stores.mongodb.adapter import MongoDeployment
from lucid_storage.stores.mongodb.types import (
    CollectionChange,
    CollectionOptions,
    IndexChange,
    Topology,
)
from testbed import ports
from testbed.paths import Instance
from testbed.process import Daemon
from testbed.progress import Silent
from testbed.stores import mongod
from testbed.stores.mongodb import MongoDB

pytestmark = [
    pytest.mark.mongodb,
    # Of the driver's own sockets, when a server dies or freezes while it connects.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
Private = Callable[..., MongoDB]
Call = Callable[[MongoDeployment], Awaitable[Any]]
PLAIN = CollectionOptions()

EVERY_CALL: dict[str, Call] = {
    "info": lambda m: m.info(),
    "databases": lambda m: m.databases(),
    "collections": lambda m: m.collections("shop"),
    "collection": lambda m: m.collection("shop", "users"),
    "create_collection": lambda m: m.create_collection("shop", "new", PLAIN),
    "change_collection": lambda m: m.change_collection("shop", "users", CollectionChange(validator={"a": 1})),
    "drop_collection": lambda m: m.drop_collection("shop", "users", "0" * 32),
    "collection_stats": lambda m: m.collection_stats("shop", "users"),
    "count_violations": lambda m: m.count_violations("shop", "users", {"a": 1}, 5),
    "count_expired": lambda m: m.count_expired("shop", "users", "at", 5, 5),
    "indexes": lambda m: m.indexes("shop", "users"),
    "create_index": lambda m: m.create_index("shop", "users", "b_1", index(("b", 1))),
    "change_index": lambda m: m.change_index("shop", "users", "a_1", IndexChange(hidden=True)),
    "drop_index": lambda m: m.drop_index("shop", "users", "gone"),
    "build_progress": lambda m: m.build_progress("shop", "users"),
    "duplicates": lambda m: m.duplicates("shop", "users", index(("a", 1)), 5),
    "watch_ddl": lambda m: opened(m),
}


async def opened(deployment: MongoDeployment) -> None:
    async with deployment.watch_ddl(["shop"]):
        pass


async def outcomes(deployment: MongoDeployment) -> dict[str, BaseException | None]:
    """What every call does at the same time; each within 30 s."""

    async def one(call: Call) -> BaseException | None:
        try:
            async with asyncio.timeout(30):
                await call(deployment)
        except Exception as error:  # noqa: BLE001 - the kind of error is what the tests look at
            return error
        return None

    results = await asyncio.gather(*map(one, EVERY_CALL.values()))
    return dict(zip(EVERY_CALL, results, strict=True))


async def prepare(deployment: MongoDeployment) -> None:
    await deployment.create_collection("shop", "users", PLAIN)
    await deployment.create_index("shop", "users", "a_1", index(("a", 1)))


async def heals(deployment: MongoDeployment) -> None:
    async def works() -> bool:
        results = await outcomes(deployment)
        return all(error is None for error in results.values())

    await eventually(works, "Every call works again", seconds=90)


def kinds(results: dict[str, BaseException | None]) -> set[type[BaseException] | None]:
    return {None if error is None else type(error) for error in results.values()}


def without_cached(results: dict[str, BaseException | None]) -> dict[str, BaseException | None]:
    """All but `info`, which may be answered from what was known a moment ago."""
    return {call: error for call, error in results.items() if call != "info"}


async def test_every_call_works_on_a_server_that_is_well(private_mongodb: Private, connect: Connect) -> None:
    deployment = connect(private_mongodb().uri)
    await prepare(deployment)
    assert kinds(await outcomes(deployment)) == {None}


async def test_a_stopped_server_is_named_with_the_reason_and_heals(
    private_mongodb: Private, connect: Connect
) -> None:
    server = private_mongodb()
    deployment = connect(server.uri)
    await prepare(deployment)
    server.stop()
    began = time.monotonic()
    results = await outcomes(deployment)
    assert time.monotonic() - began < 20
    assert kinds(without_cached(results)) == {StoreUnavailableError}
    results = await outcomes(deployment)
    for error in results.values():
        assert server.addresses[0] in str(error)
        assert "connection refused" in str(error)
    server.start()
    await heals(deployment)


async def test_a_frozen_server_holds_no_call_for_long_and_heals(
    private_mongodb: Private, connect: Connect
) -> None:
    server = private_mongodb()
    deployment = connect(server.uri)
    await prepare(deployment)
    server.freeze()
    results = await outcomes(deployment)
    assert kinds(without_cached(results)) == {StoreUnavailableError}
    server.thaw()
    await heals(deployment)


async def test_a_step_down_is_unavailable_at_most_and_heals(
    private_mongodb: Private, connect: Connect
) -> None:
    server = private_mongodb(members=3)
    deployment = connect(server.uri)
    await prepare(deployment)
    stepping = asyncio.create_task(asyncio.to_thread(server.step_down))
    while not stepping.done():
        assert kinds(await outcomes(deployment)) <= {None, StoreUnavailableError}
    await stepping
    await heals(deployment)


async def test_a_server_without_primary_says_so(private_mongodb: Private, connect: Connect) -> None:
    server = private_mongodb()
    deployment = connect(server.uri)
    await prepare(deployment)
    stepping = asyncio.create_task(asyncio.to_thread(server.step_down, 12))

    async def refused() -> StoreUnavailableError | None:
        try:
            await deployment.change_collection("shop", "users", CollectionChange(validation_level="off"))
        except StoreUnavailableError as error:
            return error
        return None

    error = await eventually(refused, "A refusal without primary")
    assert "primary" in error.message or "stepping down" in error.message
    await stepping
    await heals(deployment)


async def test_a_wrong_password_is_a_failed_login_and_heals_when_it_is_set(
    private_mongodb: Private, connect: Connect
) -> None:
    server = private_mongodb(auth=True)
    server.create_user("lucid", "old-secret", [("root", "admin")])
    deployment = connect(server.uri_for("lucid", "new-secret"))
    results = await outcomes(deployment)
    assert kinds(results) == {LoginFailedError}, results
    for error in results.values():
        assert "secret" not in str(error)
        assert "check user name" in str(error)
    server.set_password("lucid", "new-secret")
    await prepare(deployment)
    await heals(deployment)


async def test_a_missing_privilege_is_named(private_mongodb: Private, connect: Connect) -> None:
    server = private_mongodb(auth=True)
    with server.client() as client:
        client["shop"].command("create", "users")
        client["shop"].command("createIndexes", "users", indexes=[{"key": {"a": 1}, "name": "a_1"}])
    server.create_user("reader", "a-secret", [("read", "shop")])
    deployment = connect(server.uri_for("reader", "a-secret"))
    expected = {
        "create_collection": "createCollection",
        "change_collection": "collMod",
        "create_index": "createIndex",
        "change_index": "collMod",
        "drop_index": "dropIndex",
    }
    results = await outcomes(deployment)
    for call, action in expected.items():
        error = results.pop(call)
        assert isinstance(error, AccessDeniedError), (call, error)
        assert f"action {action} on database shop" in error.message
    assert kinds(results) == {None}
    state = await deployment.collection("shop", "users")
    assert state is not None
    with pytest.raises(AccessDeniedError, match="dropCollection on database shop"):
        await deployment.drop_collection("shop", "users", str(state.uuid))
    with pytest.raises(AccessDeniedError, match="listCollections on database foreign"):
        await deployment.collections("foreign")
    assert await deployment.databases() == ("shop",)
    info = await deployment.info()
    assert (info.topology, info.by_hosts) == (Topology.REPLICA_SET, True)
    assert info.identity == f"replicaSet/rs0/{server.addresses[0]}"


async def test_identity_does_not_hang_on_the_address(private_mongodb: Private, connect: Connect) -> None:
    server = private_mongodb(members=3)
    port = server.addresses[1].rpartition(":")[2]
    first, second = connect(server.uri), connect(f"mongodb://localhost:{port}/?replicaSet=rs0")
    one, two = await first.info(), await second.info()
    assert one == two
    assert not one.by_hosts


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("mongodb://nowhere.invalid:27017/?replicaSet=rs0", "host name not found"),
        ("mongodb://127.0.0.1:1/", "connection refused"),
        ("mongodb://user:a-secret@127.0.0.1:1/", "connection refused"),
    ],
)
async def test_an_address_that_does_not_answer_is_named(connect: Connect, uri: str, reason: str) -> None:
    with pytest.raises(StoreUnavailableError, match=reason) as unavailable:
        await connect(uri).info()
    assert "secret" not in unavailable.value.message


async def test_a_server_without_tls_is_told_apart(mongodb: MongoDB, connect: Connect) -> None:
    with pytest.raises(StoreUnavailableError, match=r"TLS|connection closed"):
        await connect(f"{mongodb.uri}&tls=true").info()


async def test_a_wrong_replica_set_name_is_named(mongodb: MongoDB, connect: Connect) -> None:
    with pytest.raises(StoreUnavailableError) as unavailable:
        await connect(f"mongodb://{mongodb.addresses[0]}/?replicaSet=other").info()
    assert "replica set" in unavailable.value.message


async def test_a_killed_server_ends_the_wait_for_a_build(private_mongodb: Private, connect: Connect) -> None:
    server = private_mongodb(parameters={"enableTestCommands": "1"})
    deployment = connect(server.uri)
    await deployment.create_collection("shop", "users", PLAIN)
    with server.client() as client:
        client["shop"]["users"].insert_many({"a": number} for number in range(100))
        client.admin.command("configureFailPoint", "hangAfterStartingIndexBuild", mode="alwaysOn")
    build = asyncio.create_task(deployment.create_index("shop", "users", "a_1", index(("a", 1))))

    async def building() -> bool:
        return any(state.building for state in await deployment.indexes("shop", "users") or ())

    await eventually(building, "The build in the listing")
    server.kill()
    with pytest.raises(StoreUnavailableError):
        await build
    server.start()
    # Whether or not the build survived, asking for it again ends with the index.
    await deployment.create_index("shop", "users", "a_1", index(("a", 1)))
    assert {state.name for state in await deployment.indexes("shop", "users") or ()} == {"_id_", "a_1"}


async def test_the_guard_is_asked_before_each_writing_command_and_no_other(
    mongodb: MongoDB, connect: Connect, database: str
) -> None:
    asked: list[float] = []
    deployment = connect(mongodb.uri, guard=lambda: asked.append(time.monotonic()))
    await deployment.create_collection(database, "users", PLAIN)
    await deployment.change_collection(database, "users", CollectionChange(validator={"a": 1}))
    await deployment.create_index(database, "users", "a_1", index(("a", 1)))
    await deployment.change_index(database, "users", "a_1", IndexChange(hidden=True))
    await deployment.drop_index(database, "users", "a_1")
    state = await deployment.collection(database, "users")
    assert state is not None
    assert len(asked) == 5
    await deployment.collection_stats(database, "users")
    await deployment.count_violations(database, "users", {"a": 1}, 5)
    await deployment.duplicates(database, "users", index(("a", 1)), 5)
    await opened(deployment)
    assert len(asked) == 5
    await deployment.drop_collection(database, "users", str(state.uuid))
    assert len(asked) == 6


@pytest.fixture
def standalone(testbed_instance: Instance) -> Iterator[str]:
    name = f"standalone-{uuid.uuid4().hex[:8]}"
    port = ports.reserve(testbed_instance, name)
    data = testbed_instance.data / name
    data.mkdir()
    command = [
        str(mongod.ensure(Silent())),
        "--port",
        str(port),
        "--bind_ip",
        "127.0.0.1",
        "--dbpath",
        str(data),
    ]
    daemon = Daemon(testbed_instance, name, [*command, "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"])
    daemon.start()
    yield f"mongodb://127.0.0.1:{port}/"
    daemon.kill()


async def test_a_standalone_server_has_collections_but_no_stream(standalone: str, connect: Connect) -> None:
    deployment = connect(standalone)

    async def answers() -> bool:
        try:
            await deployment.info()
        except StoreUnavailableError:
            return False
        return True

    await eventually(answers, "The standalone server")
    info = await deployment.info()
    assert (info.topology, info.by_hosts) == (Topology.STANDALONE, True)
    await prepare(deployment)
    with pytest.raises(NotSupportedError, match="replica set"):
        await opened(deployment)


async def test_a_look_at_a_thousand_objects_is_one_listing(
    mongodb: MongoDB, deployment: MongoDeployment, database: str
) -> None:
    await deployment.create_collection(database, "c", PLAIN)

    def listings() -> int:
        with mongodb.client() as client:
            commands = client.admin.command("serverStatus")["metrics"]["commands"]
            return int(commands["listCollections"]["total"]) + int(commands["listIndexes"]["total"])

    before = listings()
    looks = [deployment.collection(database, "c") for _ in range(1_000)]
    await asyncio.gather(*looks, *(deployment.indexes(database, "c") for _ in range(1_000)))
    # Other tests may use the shared server at the same time.
    assert listings() - before < 100
