"""Fixtures for tests on a real sharded cluster.

`sharded` is shared by all workers of a run: use a database of your own in it (`sharded_database`), never stop its
servers, and leave the deployment's balancer as it was. A test that breaks servers takes `private_sharded`. With
MONGODB_ROUTER_URI `sharded` is that cluster instead; without it, the router is a real mongos where the machine has one,
else a stand-in.
"""

import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pymongo import MongoClient, uri_parser

from testbed.pytest_stores import private, shared
from testbed.stores.sharded import Client, Document, Sharded
from testbed.testrun import TestRun


class Foreign:
    """A sharded cluster that is not ours, by its router: what tests need of it. It is neither started nor stopped."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        with self.client() as client:
            found = client.admin.command("listShards")["shards"]
            self._stand_in = "standIn" in client.admin.command("buildInfo")
        self._hosts = {str(shard["_id"]): str(shard["host"]) for shard in found}
        self.shard_names = sorted(self._hosts)

    def client(self, **options: Any) -> Client:
        """A client of the router that the caller closes."""
        return MongoClient(self.uri, **{"serverSelectionTimeoutMS": 15_000, **options})

    def shard_client(self, shard: str, **options: Any) -> Client:
        """A client of one shard, past the router, with the router's login; the caller closes it."""
        replica_set_name, _, hosts = self._hosts[shard].partition("/")
        login = uri_parser.parse_uri(self.uri)
        chosen: Document = {"serverSelectionTimeoutMS": 15_000, **options}
        if login["username"]:
            chosen |= {"username": login["username"], "password": login["password"]}
            chosen["authSource"] = login["options"].get("authSource", "admin")
        return MongoClient(hosts.split(","), replicaSet=replica_set_name, **chosen)

    def is_stand_in(self) -> bool:
        """Whether the router is not a real mongos."""
        return self._stand_in

    def fail_point(self, part: str, name: str, *, on: bool, data: Document | None = None) -> None:
        """Skips the test: a server that is not ours does not take test commands."""
        pytest.skip(f"needs the fail point {name}, which only servers of the test bed have")


@pytest.fixture(scope="session")
def sharded(testbed_run: TestRun) -> Sharded | Foreign:
    """A cluster of two shards, shared."""
    uri = os.environ.get("MONGODB_ROUTER_URI")
    if uri:
        return Foreign(uri)
    return shared(testbed_run, "sharded", Sharded(testbed_run.instance, "sharded"))


@pytest.fixture
def sharded_database(sharded: Sharded | Foreign) -> Iterator[str]:
    """A name in the shared cluster that no other test has; dropped afterwards."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield name
    with sharded.client() as client:
        client.drop_database(name)


@pytest.fixture
def resharding_alone(testbed_run: TestRun) -> Iterator[None]:
    """For each test that reshards in the shared cluster: they take turns. A cluster does one resharding at a time, and
    a fail point that holds one holds all.
    """
    with testbed_run.once("resharding"):
        yield


@pytest.fixture
def private_sharded(testbed_run: TestRun) -> Iterator[Callable[..., Sharded]]:
    """`private_sharded(shards=3)`: a started cluster of our own that the test may break."""
    yield from private(testbed_run, Sharded, "sharded")
