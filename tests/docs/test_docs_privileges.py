"""The logins that docs/privileges.md describes are enough, and each of their rights is needed."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from docs_pages import ROOT, blocks, rows

from lucid_storage.errors import AccessDeniedError, LoginFailedError, StoreUnavailableError
from lucid_storage.stores.elasticsearch.adapter import ElasticCluster
from lucid_storage.stores.elasticsearch.types import AliasAction, AliasState, TemplateState
from lucid_storage.stores.mongodb.adapter import MongoDeployment
from lucid_storage.stores.mongodb.types import (
    CollectionChange,
    CollectionOptions,
    IndexChange,
    IndexDefinition,
    Topology,
)
from lucid_storage.stores.redis.adapter import RedisDeployment
from lucid_storage.stores.redis.types import KeySpace
from testbed.stores.mongodb import MongoDB

PAGE = (ROOT / "docs" / "privileges.md").read_text()
PASSWORD = "a-secret"
EMAIL = IndexDefinition(keys=(("email", 1),))
TYPED: dict[str, Any] = {"$jsonSchema": {"properties": {"email": {"bsonType": "string"}}}}

Feature = Callable[[MongoDeployment], Awaitable[object]]


async def _look(shop: MongoDeployment) -> None:
    assert [state.name for state in await shop.collections("shop")] == ["users"]
    assert await shop.indexes("shop", "users") is not None


async def _drop_collection(shop: MongoDeployment) -> None:
    await shop.create_collection("shop", "old", CollectionOptions())
    state = await shop.collection("shop", "old")
    assert state is not None
    assert await shop.drop_collection("shop", "old", str(state.uuid))


async def _count(shop: MongoDeployment) -> None:
    assert (await shop.count_violations("shop", "users", TYPED, 5)).violating == 1
    assert await shop.count_expired("shop", "users", "at", 5, 5) == 0
    assert (await shop.duplicates("shop", "users", EMAIL, 5)).groups == 1


async def _change(shop: MongoDeployment) -> None:
    await shop.change_collection("shop", "users", CollectionChange(validator=TYPED))
    await shop.change_index("shop", "users", "kept", IndexChange(hidden=True))


async def _watch(shop: MongoDeployment) -> None:
    async with shop.watch_ddl(["shop"]):
        pass


async def _identity(shop: MongoDeployment) -> None:
    info = await shop.info()
    assert info.topology is Topology.REPLICA_SET
    if info.by_hosts:
        raise AccessDeniedError("replSetGetConfig is not allowed: the identity goes by hosts")


async def _compatibility(shop: MongoDeployment) -> None:
    if (await shop.info()).compatibility is None:
        raise AccessDeniedError("getParameter is not allowed: the feature compatibility version is not known")


async def _progress(shop: MongoDeployment) -> None:
    assert await shop.build_progress("shop", "users") == ()


async def _replace(shop: MongoDeployment) -> None:
    assert await shop.drop_index("shop", "users", "dropped")


FEATURES: dict[str, Feature] = {
    "look at collections": _look,
    "sizes in status": lambda shop: shop.collection_stats("shop", "users"),
    "create a collection": lambda shop: shop.create_collection("shop", "made", CollectionOptions()),
    "change a collection or index in place": _change,
    "build an index": lambda shop: shop.create_index("shop", "users", "email_1", EMAIL),
    "replace or drop an index": _replace,
    "drop a collection": _drop_collection,
    "count before a change, tell duplicates": _count,
    "drift at once": _watch,
    "identity of the replica set": _identity,
    "progress of index builds": _progress,
    "know the feature compatibility version": _compatibility,
}
QUIET = {"progress of index builds"}
"""What is left out without a word."""


def documented() -> dict[str, tuple[set[str], dict[str, object]]]:
    resources: dict[str, dict[str, object]] = {
        "database": {"db": "shop", "collection": ""},
        "cluster": {"cluster": True},
    }
    return {
        feature: (set(actions.split(", ")), resources[resource])
        for feature, actions, resource, _ in rows(PAGE, "MongoDB")
    }


def grant(server: MongoDB, actions: dict[str, set[str]]) -> None:
    """Give the login exactly these actions: `database` ones on shop, `cluster` ones on the cluster."""
    resources = {"database": {"db": "shop", "collection": ""}, "cluster": {"cluster": True}}
    privileges = [
        {"resource": resources[where], "actions": sorted(what)} for where, what in actions.items() if what
    ]
    with server.client() as client:
        client.admin.command("updateRole", "lucid", privileges=privileges, roles=[])


def prepare(server: MongoDB) -> None:
    """A collection with two equal documents, an invalid one, and two indexes, as every feature finds it."""
    with server.client() as client:
        client.drop_database("shop")
        client["shop"]["users"].insert_many([{"email": 1}, {"email": "same"}, {"email": "same"}])
        for name in ("kept", "dropped"):
            client["shop"]["users"].create_index([(name, 1)], name=name)


def by_resource(features: dict[str, tuple[set[str], dict[str, object]]]) -> dict[str, set[str]]:
    granted: dict[str, set[str]] = {"database": set(), "cluster": set()}
    for actions, resource in features.values():
        granted["cluster" if "cluster" in resource else "database"] |= actions
    return granted


@asynccontextmanager
async def logged_in(server: MongoDB, user: str) -> AsyncIterator[MongoDeployment]:
    deployment = MongoDeployment(
        server.uri_for(user, PASSWORD), label="test", app_name="lucid-test", guard=lambda: None
    )
    try:
        yield deployment
    finally:
        await deployment.close()


@pytest.fixture
def guarded(private_mongodb: Callable[..., MongoDB]) -> MongoDB:
    """A server with the login `lucid`, whose role of the same name has no right yet."""
    server = private_mongodb(auth=True)
    with server.client() as client:
        client.admin.command("createRole", "lucid", privileges=[], roles=[])
    server.create_user("lucid", PASSWORD, [("lucid", "admin")])
    return server


@pytest.mark.mongodb
async def test_the_actions_for_mongodb_are_enough_and_each_is_needed(guarded: MongoDB) -> None:
    features = documented()
    assert features.keys() == FEATURES.keys()
    prepare(guarded)
    grant(guarded, by_resource(features))
    async with logged_in(guarded, "lucid") as shop:
        for use in FEATURES.values():
            await use(shop)
    for feature, (actions, resource) in features.items():
        if feature in QUIET:
            continue
        where = "cluster" if "cluster" in resource else "database"
        for action in actions:
            granted = by_resource(features)
            granted[where] -= {action}
            prepare(guarded)
            grant(guarded, granted)
            async with logged_in(guarded, "lucid") as shop:
                with pytest.raises(AccessDeniedError, match="|".join(sorted(actions))):
                    await FEATURES[feature](shop)


@pytest.mark.mongodb
async def test_time_series_need_no_further_actions(guarded: MongoDB) -> None:
    assert "Time-series collections need nothing more" in PAGE
    grant(guarded, by_resource(documented()))
    async with logged_in(guarded, "lucid") as shop:
        series: dict[str, Any] = {"timeField": "at"}
        assert await shop.create_collection("shop", "series", CollectionOptions(time_series=series))
        await shop.change_collection("shop", "series", CollectionChange(expire_after_seconds=60))
        assert await shop.collection_stats("shop", "series") is not None
        assert await shop.count_expired("shop", "series", "at", 60, 5) == 0
        state = await shop.collection("shop", "series")
        assert state is not None
        assert await shop.drop_collection("shop", "series", str(state.uuid))


@pytest.mark.mongodb
async def test_one_stream_for_all_databases_needs_what_the_page_says(guarded: MongoDB) -> None:
    everywhere = re.findall(r"`find` and `changeStream` on all databases \(`(.*?)`\)", PAGE)
    assert everywhere == ['{db: "", collection: ""}']
    grant(guarded, by_resource(documented()))
    async with logged_in(guarded, "lucid") as shop:
        with pytest.raises(AccessDeniedError):
            async with shop.watch_ddl([]):
                pass
    streams = {"resource": {"db": "", "collection": ""}, "actions": ["changeStream", "find"]}
    with guarded.client() as client:
        client.admin.command("grantPrivilegesToRole", "lucid", privileges=[streams])
    async with logged_in(guarded, "lucid") as shop, shop.watch_ddl([]):
        pass


@pytest.mark.mongodb
async def test_the_built_in_roles_for_mongodb_are_enough(private_mongodb: Callable[..., MongoDB]) -> None:
    sentence = re.search(r"Built-in roles that are enough: (.*?)\. Or", PAGE, re.DOTALL)
    assert sentence is not None
    assert re.findall(r"`(\w+)`", sentence[1]) == ["read", "dbAdmin", "clusterMonitor", "admin"]
    server = private_mongodb(auth=True)
    server.create_user(
        "lucid", PASSWORD, [("read", "shop"), ("dbAdmin", "shop"), ("clusterMonitor", "admin")]
    )
    prepare(server)
    async with logged_in(server, "lucid") as shop:
        for use in FEATURES.values():
            await use(shop)


@pytest.mark.redis
async def test_the_acl_for_redis_is_enough(private_redis: Callable[..., Any]) -> None:
    server = private_redis()
    line = blocks(PAGE, "text")[0].strip().replace(">PASSWORD", f">{PASSWORD}")
    with server.client() as client:
        client.execute_command(*line.split())
        client.mset({"lucid:note:1": "x", "other:1": "x"})
    url = server.url.replace("redis://", f"redis://lucid:{PASSWORD}@")
    redis = RedisDeployment(url, label="test", guard=lambda: None)
    try:
        report = (await redis.scan([KeySpace("lucid:note:{id}", 60, enforce=True)]))["lucid:note:{id}"]
    finally:
        await redis.close()
    assert (report.keys, report.corrected, report.refused) == (1, 1, None)
    assert report.sampled_bytes > 0


@pytest.mark.elasticsearch
async def test_the_privileges_for_elasticsearch_are_enough(private_elasticsearch: Callable[..., Any]) -> None:
    server = private_elasticsearch(security=True)
    _add_operator(server)
    url = f"http://operator:{server.password}@{server.host}:{server.port}"
    elastic = ElasticCluster(url, label="test", guard=lambda: None)
    try:
        await _eventually(elastic.info)
        series = AliasState(is_write_index=True)
        assert await elastic.create_index("notes-2026.11", {}, {"number_of_replicas": 0}, {"notes": series})
        await elastic.put_template(TemplateState("notes", ("notes-20*.*",), 200, {}, {}, {}))
        await elastic.put_mapping("notes-2026.11", {"properties": {"title": {"type": "text"}}})
        await elastic.put_settings("notes-2026.11", {"index.number_of_replicas": 0})
        found = (await elastic.indices("notes-*"))[0]
        assert found.name == "notes-2026.11"
        await elastic.update_aliases([AliasAction("notes-2026.11", "notes", is_write_index=False)])
        assert await elastic.delete_index(found.name, found.uuid)
        assert await elastic.delete_template("notes")
    finally:
        await elastic.close()


def test_a_restore_is_said_to_read_the_lifecycle_policy() -> None:
    """What it asks of ILM, which no build here has: `stores/elasticsearch_backup` replays the answers."""
    asked = {row[0]: row[1] for row in rows(PAGE, "Elasticsearch")}["restore"]
    assert "`read_ilm`" in asked.partition("; the indices")[0]


def _add_operator(server: Any) -> None:
    """A user `operator` with the privileges on the page and the password of the server's own, in the files that a
    running server reads again. This build has no ILM and does not know its privilege.
    """
    templates = {row[0]: row[1] for row in rows(PAGE, "Elasticsearch")}["templates and series"]
    cluster, indices = templates.split("; indices")
    words = [", ".join(re.findall(r"`([a-z_]+)`", part)) for part in (cluster, indices.split(":", 1)[1])]
    files = server.folder / "config"
    names = "names: ['notes-*', 'notes']"
    role = f"operator: {{cluster: [{words[0]}], indices: [{{{names}, privileges: [{words[1]}]}}]}}"
    (files / "roles.yml").write_text(f"{role}\n")
    users = (files / "users").read_text()
    (files / "users").write_text(f"{users}operator:{users.strip().partition(':')[2]}\n")
    roles = (files / "users_roles").read_text()
    (files / "users_roles").write_text(f"{roles}operator:operator\n")


async def _eventually(ask: Callable[[], Awaitable[Any]], seconds: float = 60) -> Any:
    """The first answer; until then the server starts, or has not read its files again."""
    end = time.monotonic() + seconds
    while True:
        try:
            return await ask()
        except (AccessDeniedError, LoginFailedError, StoreUnavailableError):
            if time.monotonic() >= end:
                raise
            await asyncio.sleep(0.2)
