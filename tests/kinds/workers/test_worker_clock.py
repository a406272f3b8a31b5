"""A Job is told when it was made: the clock of its node may be wrong."""

from datetime import UTC, datetime
from typing import Any, cast

from lucid_storage.kinds.workers.job import OwnerRef, build
from lucid_storage.kinds.workers.launch import WorkerRequest, Workers
from lucid_storage.kinds.workers.place import Place
from lucid_storage.kube.jobs import Jobs
from lucid_storage.models.orders import Destination, Order, Owner
from lucid_storage.models.settings import Settings

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SECRET = {"metadata": {"labels": {"storage.lucid-blockchain.org/allowed": "true"}}, "data": {}}


class Recorded:
    """Takes Jobs as an API server does."""

    def __init__(self) -> None:
        self.orders: list[Order] = []

    async def create(self, body: dict[str, Any]) -> dict[str, Any]:
        (container,) = body["spec"]["template"]["spec"]["containers"]
        (order,) = (one["value"] for one in container["env"] if one["name"] == "LUCID_ORDER")
        self.orders.append(Order.model_validate_json(order))
        return body


async def a_secret(*_: str) -> dict[str, Any]:
    return SECRET


async def any_endpoint(_: str) -> None:
    """Not what this is about."""


def workers(jobs: Recorded, at: datetime = AT) -> Workers:
    settings = Settings.read({"WORKER_IMAGE": "image"})
    return Workers(cast(Jobs, jobs), a_secret, settings, any_endpoint, lambda: at)


def request() -> WorkerRequest:
    owner = Owner(cluster="c", namespace="n", name="s", uid="u", spec_hash="h")
    return WorkerRequest(
        command="prune",
        name="job",
        owner=OwnerRef("BackupSchedule", "v", "n", "s", "u"),
        order=Order(run="r", owner=owner, destination=Destination(), chain="c", deadline_seconds=60),
        connection="stores",
        place=Place(Destination()),
    )


async def test_a_worker_knows_when_the_operator_made_its_job() -> None:
    jobs = Recorded()
    await workers(jobs).start(request())
    assert [order.ordered_at for order in jobs.orders] == [AT]


async def test_a_standing_worker_is_the_same_at_each_look() -> None:
    """Its Deployment would roll over and over otherwise."""
    first, _ = await workers(Recorded()).prepared(request())
    second, _ = await workers(Recorded(), AT.replace(year=2027)).prepared(request())
    assert build(first) == build(second)
