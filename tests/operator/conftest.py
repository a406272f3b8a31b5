import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from backup_bed import IMAGE, BackupBed, fake_command, make_claim
from pymongo.database import Database
from sharded_bed import QUICK, Cluster
from tcp_relay import Relay

from testbed import leftovers
from testbed.cluster.controlplane import LOOPBACK, ControlPlane
from testbed.job_runner import JobRunner, worker_command
from testbed.pytest_operator import World
from testbed.stores.mongodb import MongoDB


@pytest.fixture
def db(mongo_world: World, mongodb: MongoDB) -> Iterator[Database[Any]]:
    """The world's database in the shared MongoDB."""
    with mongodb.client() as client:
        yield client[mongo_world.environment["MONGODB_DATABASE"]]


@pytest.fixture
def held_db(private_mongodb: Callable[..., MongoDB], world: World) -> Iterator[Database[Any]]:
    """The world's database in a MongoDB of its own, whose fail points hold what a test wants held."""
    server = private_mongodb(parameters={"enableTestCommands": "1"})
    world.environment["MONGODB_URI"] = server.uri
    with server.client() as client:
        yield client[world.environment["MONGODB_DATABASE"]]


@pytest.fixture
def sharded_world(world: World, sharded: Cluster) -> Iterator[World]:
    """A world whose operators use the shared sharded cluster; its database is dropped afterwards."""
    world.environment.update({"MONGODB_URI": sharded.uri, **QUICK})
    yield world
    for operator in world.operators:
        operator.stop()
    with sharded.client() as client:
        client.drop_database(world.environment["MONGODB_DATABASE"])


@pytest.fixture
def sharded_db(sharded_world: World, sharded: Cluster) -> Iterator[Database[Any]]:
    """The world's database, through the router."""
    with sharded.client() as client:
        yield client[sharded_world.environment["MONGODB_DATABASE"]]


@pytest.fixture
async def bed(mongo_world: World, tmp_path: Path) -> AsyncIterator[BackupBed]:
    """Backups whose workers wait for the test."""
    fake = tmp_path / "fake"
    fake.mkdir()
    await make_claim(mongo_world)
    mongo_world.environment.update(IMAGE)
    runner = JobRunner(mongo_world.kube, [mongo_world.namespace], tmp_path / "node", fake_command(fake))
    async with runner.running():
        yield BackupBed(mongo_world, runner, fake)
        for operator in mongo_world.operators:
            operator.stop()


@pytest.fixture
def relayed(world: World) -> Iterator[Callable[[str], tuple[Relay, str]]]:
    """`relayed(address)`: a relay to the port of a URL or URI, and the address that leads through it."""
    made = []

    def make(address: str) -> tuple[Relay, str]:
        head, _, tail = address.rpartition(":")
        port = tail.split("/")[0]
        relay = Relay(int(port))
        made.append(relay)
        return relay, f"{head}:{relay.port}{tail[len(port) :]}"

    yield make
    for relay in made:
        relay.close()


@pytest.fixture
async def tenant(world: World) -> AsyncIterator[World]:
    """A namespace beside the operator's own, served with the operator's credentials too."""
    name = f"tenant-{uuid.uuid4().hex[:8]}"
    await world.kube.request("POST", "/api/v1/namespaces", body={"metadata": {"name": name}})
    world.environment["WATCH_NAMESPACES"] = f"{world.namespace},{name}"
    world.environment["SERVED_NAMESPACES"] = json.dumps({name: {}})
    yield World(world.kube, name, world.kubeconfig, world.instance, world.environment, world.operators)
    for operator in world.operators:
        operator.stop()
    await leftovers.clear(world.kube, name)


@pytest.fixture
def api_relay(mongo_world: World, control_plane: ControlPlane, tmp_path: Path) -> Iterator[Relay]:
    """Between the operators and the API server."""
    made = Relay(control_plane.port)
    config = control_plane.client_config(
        "admin", server=f"https://{LOOPBACK}:{made.port}", path=tmp_path / "kubeconfig"
    )
    mongo_world.environment["KUBECONFIG"] = str(config)
    yield made
    made.close()


@pytest.fixture
async def runner(mongo_world: World, tmp_path: Path) -> AsyncIterator[JobRunner]:
    """A node that runs the real workers, and a place for backups in mongo_world's namespace."""
    await make_claim(mongo_world)
    mongo_world.environment.update(IMAGE)
    made = JobRunner(mongo_world.kube, [mongo_world.namespace], tmp_path / "node", worker_command)
    async with made.running():
        yield made
        for operator in mongo_world.operators:
            operator.stop()


@pytest.fixture
def working_world(mongo_world: World, runner: JobRunner) -> World:
    """With a place for backups, and a node that runs the real workers."""
    return mongo_world
