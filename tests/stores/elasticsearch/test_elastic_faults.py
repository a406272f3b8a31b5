"""The Elasticsearch adapter when the real server is down, frozen, protected or of another version."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lucid_storage.errors import (
    AccessDeniedError,
    LoginFailedError,
    LucidError,
    Reason,
    ServerRefusedError,
    StoreUnavailableError,
)
from lucid_storage.stores.elasticsearch.adapter import ElasticCluster
from lucid_storage.stores.elasticsearch.types import AliasState, TemplateState

pytestmark = pytest.mark.elasticsearch
PASSWORD = "do-not-print-me"


@asynccontextmanager
async def cluster(url: str) -> AsyncIterator[ElasticCluster]:
    elastic = ElasticCluster(url, label="test", guard=lambda: None)
    try:
        yield elastic
    finally:
        await elastic.close()


async def eventually(
    ask: Callable[[], Awaitable[Any]],
    seconds: float,
    passing: tuple[type[LucidError], ...] = (StoreUnavailableError,),
) -> Any:
    """The first answer that is none of the passing errors."""
    end = time.monotonic() + seconds
    while True:
        try:
            return await ask()
        except passing:
            if time.monotonic() >= end:
                raise
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:1", "refuses connections"),
        ("http://no-such-host.invalid:9200", "cannot be found"),
    ],
)
async def test_an_address_where_nobody_answers_is_said_in_a_sentence(url: str, words: str) -> None:
    async with cluster(url) as elastic:
        with pytest.raises(StoreUnavailableError, match=words):
            await elastic.info()


async def test_tls_asked_of_a_server_without_it_is_said(elasticsearch_server: Any) -> None:
    async with cluster(elasticsearch_server.url.replace("http:", "https:")) as elastic:
        with pytest.raises(StoreUnavailableError, match="does not speak TLS"):
            await elastic.info()


@pytest.mark.parametrize(
    "url", ["ftp://x", "http://", f"http://u:{PASSWORD}@[::1", f"http://u:{PASSWORD}@h:port"]
)
def test_an_url_that_is_none_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(LucidError) as refused:
        ElasticCluster(url, label="test", guard=lambda: None)
    assert refused.value.reason is Reason.SECRET_INVALID
    assert PASSWORD not in refused.value.message


def test_a_ca_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(LucidError, match="CA"):
        ElasticCluster("https://search:9200", label="test", guard=lambda: None, ca_path="/no/such/ca.pem")


async def test_a_stopped_or_frozen_server_is_unavailable_and_heals(private_elasticsearch: Any) -> None:
    server = private_elasticsearch()
    async with cluster(server.url) as elastic:
        before = await elastic.info()
        server.freeze()
        begun = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="does not answer in time"):
            await elastic.indices("*")
        assert time.monotonic() - begun < 21
        server.thaw()
        await eventually(lambda: elastic.indices("*"), 20)
        server.stop()
        with pytest.raises(StoreUnavailableError):
            await elastic.indices("*")
        with pytest.raises(StoreUnavailableError, match="refuses connections"):
            await elastic.info()
        server.start()
        assert await eventually(elastic.info, 20) == before


def add_reader(server: Any) -> None:
    """A user `reader` with the password of the server's own, by the files that a running server reads again
    (its build cannot hold users in an index)."""
    files = server.folder / "config"
    role = (
        "reader: {cluster: [monitor], indices: [{names: ['a*'], privileges: [view_index_metadata, monitor]}]}"
    )
    (files / "roles.yml").write_text(f"{role}\n")
    users = (files / "users").read_text()
    (files / "users").write_text(f"{users}reader:{users.strip().partition(':')[2]}\n")
    roles = (files / "users_roles").read_text()
    (files / "users_roles").write_text(f"{roles}reader:reader\n")


async def test_logins_and_rights_are_told_apart(private_elasticsearch: Any) -> None:
    server = private_elasticsearch(security=True)
    add_reader(server)
    host = f"{server.host}:{server.port}"
    for login in (f"reader:{PASSWORD}@", ""):
        async with cluster(f"http://{login}{host}") as elastic:
            with pytest.raises(LoginFailedError, match="check user and password") as failed:
                await elastic.info()
            assert PASSWORD not in failed.value.message
    async with cluster(server.url) as elastic:
        assert await elastic.create_index("a-1", {}, {"number_of_replicas": 0}, {}) is True
    async with cluster(f"http://reader:{server.password}@{host}") as elastic:
        await eventually(elastic.info, 30, (LoginFailedError, AccessDeniedError))
        assert [state.name for state in await elastic.indices("a*")] == ["a-1"]
        with pytest.raises(AccessDeniedError, match="index privilege create_index") as denied:
            await elastic.create_index("a-2", {}, {}, {})
        assert server.password not in denied.value.message
        with pytest.raises(AccessDeniedError, match="cluster privilege manage_index_templates"):
            await elastic.put_template(TemplateState("t", ("a-*",), 1, {}, {}, {}))


async def test_a_read_only_index_is_said_and_can_be_changed_when_it_is_writable_again(
    elasticsearch_server: Any, index_prefix: str
) -> None:
    name = f"{index_prefix}a"
    async with cluster(elasticsearch_server.url) as elastic:
        await elastic.create_index(name, {}, {"blocks.read_only": True}, {})
        with pytest.raises(StoreUnavailableError, match="blocks this by a setting"):
            await elastic.put_mapping(name, {"properties": {"a": {"type": "long"}}})
        await elastic.put_settings(name, {"index.blocks.read_only": None})
        await elastic.put_mapping(name, {"properties": {"a": {"type": "long"}}})


async def test_the_innermost_reason_of_a_refused_template_is_given(
    elasticsearch_server: Any, index_prefix: str
) -> None:
    bad = TemplateState(
        f"{index_prefix}t", (f"{index_prefix}*",), 1, {"properties": {"x": {"type": "nope"}}}, {}, {}
    )
    async with cluster(elasticsearch_server.url) as elastic:
        with pytest.raises(
            ServerRefusedError, match=r"mapper type \[nope\] declared on field \[x\] does not exist"
        ):
            await elastic.put_template(bad)


async def test_closed_indices_are_seen_with_their_documents_and_sizes(
    elasticsearch_server: Any, index_prefix: str
) -> None:
    name = f"{index_prefix}a"
    async with cluster(elasticsearch_server.url) as elastic:
        await elastic.create_index(name, {}, {"number_of_replicas": 0}, {})
        elasticsearch_server.request("POST", f"/{name}/_doc?refresh=true", {"a": 1})
        (state,) = await elastic.indices(name)
        assert (state.documents, state.health) == (1, "green")
        assert state.bytes > 0
        elasticsearch_server.request("POST", f"/{name}/_close")
        (closed,) = await elastic.indices(name)
        assert (closed.uuid, closed.settings) == (state.uuid, state.settings)


async def test_a_replica_without_a_node_makes_an_index_yellow(
    elasticsearch_server: Any, index_prefix: str
) -> None:
    async with cluster(elasticsearch_server.url) as elastic:
        await elastic.create_index(f"{index_prefix}a", {}, {"number_of_replicas": 1}, {})
        (state,) = await elastic.indices(f"{index_prefix}a")
    assert state.health == "yellow"


async def test_deleting_by_an_alias_deletes_nothing(elasticsearch_server: Any, index_prefix: str) -> None:
    name, alias = f"{index_prefix}a", f"{index_prefix}alias"
    async with cluster(elasticsearch_server.url) as elastic:
        await elastic.create_index(name, {}, {}, {alias: AliasState()})
        (state,) = await elastic.indices(name)
        assert await elastic.delete_index(alias, state.uuid) is False
        assert len(await elastic.indices(name)) == 1


async def test_the_oldest_supported_server_gives_the_same_answers(elasticsearch_oldest: Any) -> None:
    name = f"test-{uuid.uuid4().hex[:12]}"
    async with cluster(elasticsearch_oldest.url) as elastic:
        info = await elastic.info()
        assert (info.version, info.has_ilm, info.data_nodes) == ((8, 11, 0), False, 1)
        properties = {"properties": {"x": {"type": "keyword"}}}
        template = TemplateState(name, (f"{name}-*",), 1, properties, {}, {})
        await elastic.put_template(template)
        assert await elastic.template(name) == template
        index, aliases = f"{name}-1", {f"{name}-w": AliasState(True)}
        assert await elastic.create_index(index, {}, {"number_of_replicas": 0}, aliases) is True
        (state,) = await elastic.indices(f"{name}-*")
        assert (state.health, state.aliases) == ("green", aliases)
        with pytest.raises(ServerRefusedError) as refused:
            await elastic.put_mapping(index, {"properties": {"x": {"type": "long"}}})
        assert refused.value.reason is Reason.MAPPING_CONFLICT
        with pytest.raises(ServerRefusedError) as refused:
            await elastic.put_settings(index, {"index.codec": "best_compression"})
        assert refused.value.reason is Reason.NOT_IN_PLACE
        assert await elastic.delete_index(index, state.uuid) is True
        assert await elastic.delete_template(name) is True
