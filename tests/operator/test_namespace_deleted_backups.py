"""A namespace that goes (rule 3): a dump is given up and leaves nothing, a started swap is finished first."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from time import monotonic

import pytest
from backup_bed import CLAIM, IMAGE, BackupBed, fake_command, make_claim

from lucid_storage.kinds.identity import kept
from lucid_storage.models.meta import FINALIZER
from lucid_storage.stores.mongodb.restore.adapter import MongoRestores
from lucid_storage.stores.mongodb.restore.lineage import everything
from lucid_storage.stores.mongodb.restore.staging import Staging
from lucid_storage.stores.mongodb.restore.target import Target
from stores.mongodb_restore.deployment import Client, take
from testbed.job_runner import JobRunner
from testbed.pytest_operator import World
from testbed.stores.mongodb import MongoDB

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]

SECONDS = 60.0
RUN = "run1"


@pytest.fixture
async def node(world: World, tmp_path: Path) -> AsyncIterator[BackupBed]:
    """The workers of all namespaces that use the operator's login are in its own, and wait for the test."""
    fake = tmp_path / "fake"
    fake.mkdir()
    await make_claim(world)
    world.environment |= {**IMAGE, "BACKUP_STORAGE_TYPE": "local", "BACKUP_STORAGE_CLAIM": CLAIM}
    runner = JobRunner(world.kube, [world.namespace], tmp_path / "node", fake_command(fake))
    async with runner.running():
        yield BackupBed(world, runner, fake)
        for operator in world.operators:
            operator.stop()


async def gone(tenant: World) -> None:
    async def holds() -> bool:
        return await tenant.kube.get(f"/api/v1/namespaces/{tenant.namespace}") is None

    await tenant.until(holds, SECONDS, "the namespace to be gone")


async def test_a_dump_is_given_up_and_what_it_uploaded_is_removed(
    world: World, tenant: World, node: BackupBed, mongodb: MongoDB
) -> None:
    operator = world.start_operator(MONGODB_URI=mongodb.uri)
    await tenant.create("Backup", "dump", {"engines": ["mongodb"]})

    async def runs() -> bool:
        started = (await tenant.get("Backup", "dump")).get("status", {}).get("startedAt")
        return node.ran("dump") == 1 and started is not None

    await tenant.until(runs, 30, "the worker of the dump")
    began = monotonic()
    await tenant.kube.request("DELETE", f"/api/v1/namespaces/{tenant.namespace}")
    await gone(tenant)
    assert monotonic() - began < 45
    assert node.stopped("dump")
    assert node.order("dump", "prune")["discard"] == [node.order("dump")["id"]]
    assert operator.metric("lucid_deletions_let_go_total") == 0


class DiedError(Exception):
    """The operator is gone."""


async def begun(server: MongoDB, client: Client) -> str:
    """An empty collection is staged beside the live one, and an operator died behind the journal of the swap.

    Returns the identity of the server.
    """
    client.app.create_collection("orders")
    with Target(server.uri) as target:
        base = take(client, "app")
        staging = Staging(target, RUN, {"app": "app"}, everything(["app"]), base.moment)
        staging.define(base.definitions)
        staging.ready(staging.finish())
    client.app.orders.insert_one({"_id": "replaced"})
    written: list[bool] = []

    def guard() -> None:
        if written:
            raise DiedError
        written.append(True)

    port = MongoRestores(server.uri, label="test", app_name="lucid-test", guard=guard)
    try:
        with pytest.raises(DiedError):
            await port.swap(RUN, ["app"], drop_existing=True, keep_minutes=0)
        return kept(await port.identity())
    finally:
        await port.close()


async def test_a_started_swap_is_finished_before_the_namespace_goes(
    world: World, tenant: World, private_mongodb: Callable[..., MongoDB]
) -> None:
    server = private_mongodb()
    with server.client() as client:
        identity = await begun(server, client)
    await tenant.create("Restore", "back", {"backupName": "full", "dropExisting": True})
    status = {"phase": "Swapping", "run": RUN, "databases": ["app"], "serverIdentity": identity}
    await tenant.patch("Restore", "back", {"metadata": {"finalizers": [FINALIZER]}})
    await tenant.kube.patch(tenant.path("Restore", "back", "status"), {"status": status})
    server.kill()
    operator = world.start_operator(MONGODB_URI=server.uri, MONGODB_DATABASE="app")
    await tenant.kube.request("DELETE", f"/api/v1/namespaces/{tenant.namespace}")

    async def waits() -> bool:
        found = await tenant.get("Restore", "back")
        said = [c["message"] for c in found["status"].get("conditions", [])]
        leaving = found["metadata"].get("deletionTimestamp") is not None
        return leaving and any(message.startswith("The swap goes on by itself") for message in said)

    await tenant.until(waits, 30, "the swap to wait for its server")
    server.start()
    await gone(tenant)
    with server.client() as client:
        assert client.app.orders.count_documents({}) == 0, "the restored one is in place"
        assert [d["_id"] for d in client.app[f"lucid_old_{RUN}_1"].find()] == ["replaced"]
    assert operator.metric("lucid_deletions_let_go_total") == 0
