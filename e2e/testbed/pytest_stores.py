"""Fixtures for tests on real stores.

`mongodb`, `mongodb_rs3`, `redis_server`, `elasticsearch_server` and `elasticsearch_oldest` are shared by all
workers of a run: use a name of your own in them (`database`, `key_prefix`, `index_prefix`) and never stop or
freeze them. A test that breaks its server takes one for itself from `private_mongodb`, `private_redis` or
`private_elasticsearch`; each may be called several times. All are our own, whatever MONGODB_URI and the like say.
"""

import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

from testbed.paths import Instance
from testbed.stores.elasticsearch import OLDEST_VERSION, Elasticsearch
from testbed.stores.mongodb import MongoDB
from testbed.stores.redis import Redis
from testbed.testrun import TestRun

_RUN = pytest.StashKey[TestRun]()


class Store(Protocol):
    folder: Path

    def start(self) -> None: ...
    def kill(self) -> None: ...


StoreT = TypeVar("StoreT", bound=Store)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    worker = getattr(config, "workerinput", None)
    name = worker["testbed_run"] if worker else uuid.uuid4().hex[:8]
    config.stash[_RUN] = TestRun(name)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tells a worker of pytest-xdist which run it belongs to."""
    node.workerinput["testbed_run"] = node.config.stash[_RUN].instance.name


def pytest_unconfigure(config: pytest.Config) -> None:
    run = config.stash.get(_RUN, None)
    if run is None:
        return
    run.leave()
    if not hasattr(config, "workerinput"):
        run.wait_until_gone()


@pytest.fixture(scope="session")
def testbed_run(pytestconfig: pytest.Config) -> TestRun:
    """The servers of this run; whatever starts below its instance ends with the run."""
    run = pytestconfig.stash[_RUN]
    run.join()
    return run


@pytest.fixture(scope="session")
def testbed_instance(testbed_run: TestRun) -> Instance:
    return testbed_run.instance


@pytest.fixture(scope="session")
def mongodb(testbed_run: TestRun) -> MongoDB:
    """A replica set of one member, shared."""
    return shared(testbed_run, "mongodb", MongoDB(testbed_run.instance, "mongodb"))


@pytest.fixture(scope="session")
def mongodb_rs3(testbed_run: TestRun) -> MongoDB:
    """A replica set of three members, shared."""
    return shared(testbed_run, "mongodb-rs3", MongoDB(testbed_run.instance, "mongodb-rs3", members=3))


@pytest.fixture(scope="session")
def redis_server(testbed_run: TestRun) -> Redis:
    return shared(testbed_run, "redis", Redis(testbed_run.instance, "redis"))


@pytest.fixture(scope="session")
def elasticsearch_server(testbed_run: TestRun) -> Elasticsearch:
    return shared(testbed_run, "elasticsearch", Elasticsearch(testbed_run.instance, "elasticsearch"))


@pytest.fixture(scope="session")
def elasticsearch_oldest(testbed_run: TestRun) -> Elasticsearch:
    """The oldest version that is supported."""
    server = Elasticsearch(testbed_run.instance, "elasticsearch-oldest", version=OLDEST_VERSION)
    return shared(testbed_run, "elasticsearch-oldest", server)


@pytest.fixture
def database(mongodb: MongoDB) -> Iterator[str]:
    """A name in the shared MongoDB that no other test has; dropped afterwards."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield name
    with mongodb.client() as client:
        client.drop_database(name)


@pytest.fixture
def key_prefix(redis_server: Redis) -> Iterator[str]:
    """A prefix for keys in the shared Redis; they are deleted afterwards."""
    prefix = f"test:{uuid.uuid4().hex[:12]}:"
    yield prefix
    with redis_server.client() as client:
        for key in client.scan_iter(f"{prefix}*", count=1000):
            client.delete(key)


@pytest.fixture
def index_prefix(elasticsearch_server: Elasticsearch) -> Iterator[str]:
    """A prefix for indices and templates in the shared Elasticsearch; they are deleted afterwards."""
    prefix = f"test-{uuid.uuid4().hex[:12]}-"
    yield prefix
    elasticsearch_server.delete_with_prefix(prefix)


@pytest.fixture
def private_mongodb(testbed_run: TestRun) -> Iterator[Callable[..., MongoDB]]:
    """`private_mongodb(members=3, auth=True, ...)`: a started replica set that the test may break."""
    yield from private(testbed_run, MongoDB, "mongodb")


@pytest.fixture
def private_redis(testbed_run: TestRun) -> Iterator[Callable[..., Redis]]:
    """`private_redis(auth=True, replica_of=other)`: a started Redis that the test may break."""
    yield from private(testbed_run, Redis, "redis")


@pytest.fixture
def private_elasticsearch(testbed_run: TestRun) -> Iterator[Callable[..., Elasticsearch]]:
    """`private_elasticsearch(security=True, settings={...})`: a started server that the test may break."""
    yield from private(testbed_run, Elasticsearch, "elasticsearch")


def shared(run: TestRun, name: str, store: StoreT) -> StoreT:
    """Started by the first worker that asks."""
    with run.once(name):
        store.start()
    return store


def private(run: TestRun, kind: Callable[..., StoreT], name: str) -> Iterator[Callable[..., StoreT]]:
    """The body of a fixture: a function that starts stores, which are killed and removed after the test."""
    made: list[StoreT] = []

    def make(**options: Any) -> StoreT:
        store = kind(run.instance, f"{name}-{uuid.uuid4().hex[:8]}", **options)
        made.append(store)
        store.start()
        return store

    yield make
    for store in made:
        store.kill()
        shutil.rmtree(store.folder)
