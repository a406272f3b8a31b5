"""Each store of the test bed is real, keeps its data, and ends when it is told to."""

import time
import urllib.error
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from testbed.identity import marked
from testbed.process import wait_until
from testbed.stores.elasticsearch import DEFAULT_VERSION, OLDEST_VERSION, Elasticsearch
from testbed.stores.mongodb import MongoDB
from testbed.stores.redis import Redis


@pytest.mark.mongodb
def test_mongodb_keeps_documents_over_a_crash(private_mongodb: Callable[..., MongoDB]) -> None:
    store = private_mongodb()
    with store.client() as client:
        client["shop"]["orders"].insert_one({"number": 7})
    store.kill()
    store.start()
    with store.client() as client:
        assert client["shop"]["orders"].find_one({}, {"_id": 0}) == {"number": 7}


@pytest.mark.mongodb
def test_mongodb_frozen_does_not_answer_and_thawed_does(private_mongodb: Callable[..., MongoDB]) -> None:
    store = private_mongodb()
    store.freeze()
    with store.client(serverSelectionTimeoutMS=500) as client, pytest.raises(PyMongoError):
        client.admin.command("ping")
    store.thaw()
    with store.client() as client:
        assert client.admin.command("ping")["ok"] == 1


@pytest.mark.mongodb
def test_mongodb_start_and_stop_twice_are_harmless(private_mongodb: Callable[..., MongoDB]) -> None:
    store = private_mongodb()
    before = [member.process for member in store.members]
    store.start()
    assert [member.process for member in store.members] == before
    store.stop()
    store.stop()
    assert not store.running()


@pytest.mark.mongodb
def test_mongodb_steps_down_to_another_member(mongodb_rs3: MongoDB) -> None:
    before = mongodb_rs3.primary()
    mongodb_rs3.step_down()
    assert mongodb_rs3.primary() not in (None, before)


@pytest.mark.mongodb
def test_mongodb_survives_the_loss_of_its_primary(private_mongodb: Callable[..., MongoDB]) -> None:
    store = private_mongodb(members=3)
    lost = store.primary()
    store.kill(lost)
    wait_until(lambda: store.primary() not in (None, lost), 30, "Another primary")
    store.start()
    assert store.running()


@pytest.mark.mongodb
def test_mongodb_refuses_a_login_after_its_password_changed(private_mongodb: Callable[..., MongoDB]) -> None:
    store = private_mongodb(auth=True)
    store.create_user("reader", "old", [("read", "shop")])
    assert _reads(store.uri_for("reader", "old"))
    store.set_password("reader", "new")
    assert not _reads(store.uri_for("reader", "old"))
    assert _reads(store.uri_for("reader", "new"))


@pytest.mark.mongodb
def test_mongodb_finds_itself_again_at_another_address(private_mongodb: Callable[..., MongoDB]) -> None:
    store = private_mongodb()
    with store.client() as client:
        client["shop"]["orders"].insert_one({"number": 7})
    store.stop()
    moved = MongoDB(store.instance, store.name, host="127.0.0.2")
    moved.start()
    with moved.client() as client:
        assert client["shop"]["orders"].count_documents({}) == 1


@pytest.mark.mongodb
def test_databases_of_the_shared_mongodb_are_empty_at_first(mongodb: MongoDB, database: str) -> None:
    with mongodb.client() as client:
        assert client[database].list_collection_names() == []


@pytest.mark.redis
def test_redis_keeps_keys_over_a_crash_and_asks_for_its_password(private_redis: Callable[..., Redis]) -> None:
    store = private_redis(auth=True, options={"appendfsync": "always"})
    with store.client() as client:
        client.set("color", "blue")
    store.kill()
    store.start()
    with redis.Redis.from_url(store.url) as client:
        assert client.get("color") == b"blue"
    with redis.Redis(port=store.port) as client, pytest.raises(redis.AuthenticationError):
        client.get("color")


@pytest.mark.redis
def test_redis_replica_follows_its_primary(private_redis: Callable[..., Redis]) -> None:
    primary = private_redis(auth=True)
    replica = private_redis(replica_of=primary)
    with primary.client() as writer, replica.client() as reader:
        writer.set("color", "green")
        wait_until(lambda: reader.get("color") == b"green", 10, "The key on the replica")


@pytest.mark.redis
def test_redis_frozen_does_not_answer_and_thawed_does(private_redis: Callable[..., Redis]) -> None:
    store = private_redis()
    store.freeze()
    with (
        redis.Redis(port=store.port, socket_timeout=0.3) as client,
        pytest.raises(redis.TimeoutError),
    ):
        client.ping()
    store.thaw()
    with store.client() as client:
        assert client.ping()
    store.stop()
    store.stop()
    assert not store.running()


@pytest.mark.redis
def test_redis_refuses_a_login_after_its_password_changed(private_redis: Callable[..., Redis]) -> None:
    store = private_redis(auth=True)
    old = store.url
    store.set_password("another")
    store.restart()
    with redis.Redis.from_url(old) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    with redis.Redis.from_url(store.url) as client:
        assert client.ping()


@pytest.mark.elasticsearch
def test_elasticsearch_keeps_documents_refuses_old_passwords_and_stops_when_frozen(
    private_elasticsearch: Callable[..., Elasticsearch],
) -> None:
    store = private_elasticsearch(security=True)
    store.request("PUT", "/orders/_doc/1", {"number": 7})
    store.kill()
    store.start()
    assert store.request("GET", "/orders/_doc/1")["_source"] == {"number": 7}
    old = store.password
    store.set_password("another")
    wait_until(lambda: _status(store) == 200, 20, "The new password")
    store.password = old
    assert _status(store) == 401
    _frozen_it_stops(store)


@pytest.mark.elasticsearch
def test_elasticsearch_is_of_the_version_that_was_asked_for(
    elasticsearch_server: Elasticsearch, elasticsearch_oldest: Elasticsearch
) -> None:
    for store, version in ((elasticsearch_server, DEFAULT_VERSION), (elasticsearch_oldest, OLDEST_VERSION)):
        nodes = store.request("GET", "/_nodes/_local")["nodes"]
        assert [node["version"] for node in nodes.values()] == [version]


def _frozen_it_stops(store: Elasticsearch) -> None:
    store.freeze()
    began = time.monotonic()
    store.stop()
    store.stop()
    assert not store.running()
    assert time.monotonic() - began < 20  # in good order, and not by the deadline of 30 s
    assert str(store.folder) not in " ".join(_commands(store))


@pytest.mark.elasticsearch
def test_shared_elasticsearch_takes_snapshots(elasticsearch_server: Elasticsearch, index_prefix: str) -> None:
    name = f"{index_prefix}repository"
    elasticsearch_server.request("PUT", f"/{index_prefix}orders/_doc/1?refresh=true", {"number": 7})
    elasticsearch_server.request("PUT", f"/_snapshot/{name}", {"type": "fs", "settings": {"location": name}})
    done = elasticsearch_server.request(
        "PUT", f"/_snapshot/{name}/one?wait_for_completion=true", {"indices": f"{index_prefix}*"}
    )
    assert done["snapshot"]["state"] == "SUCCESS"
    elasticsearch_server.request("DELETE", f"/_snapshot/{name}")


def _reads(uri: str) -> bool:
    with MongoClient[dict[str, object]](uri, serverSelectionTimeoutMS=10_000) as client:
        try:
            client["shop"]["orders"].find_one()
        except OperationFailure as error:
            assert error.code == 18, error
            return False
    return True


def _status(store: Elasticsearch) -> int:
    try:
        store.request("GET", "/_cluster/health")
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    return 200


def _commands(store: Elasticsearch) -> list[str]:
    """What still runs for the instance, as pid and name."""
    return [
        Path(f"/proc/{process.pid}/cmdline").read_text().replace("\0", " ")
        for process in marked(store.instance)
    ]
