"""A Job is told when it was made, since its node's clock may be wrong; and its age by the API server's is not taken."""

from datetime import UTC, datetime
from typing import Any, cast

import pytest
from worker_builder import ago, job, pod, waiting

from lucid_storage.kinds.workers.job import OwnerRef, build
from lucid_storage.kinds.workers.launch import WorkerRequest, Workers
from lucid_storage.kinds.workers.patience import FORGOTTEN_SECONDS, Patience
from lucid_storage.kinds.workers.place import Place
from lucid_storage.kinds.workers.state import WorkerPhase
from lucid_storage.kube.client import Json
from lucid_storage.kube.jobs import Jobs
from lucid_storage.models.meta import OWNER_UID_LABEL
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


class Clock:
    """Seconds of the process."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Seen:
    """What an API server shows whose clock is its own."""

    def __init__(self, made: Json | None, *pods: Json) -> None:
        self.made, self.shown = made, list(pods)

    async def get(self, *_: str) -> Json | None:
        return self.made

    async def pods(self, *_: str) -> list[Json]:
        return self.shown

    async def log_tail(self, *_: str) -> str:
        return ""


class Looker:
    """An operator that looks at one worker."""

    def __init__(self, seen: Seen) -> None:
        self.clock = Clock()
        self.patience = Patience(self.clock)
        settings = Settings.read({"WORKER_IMAGE": "image"})
        jobs = cast(Jobs, seen)
        self.workers = Workers(jobs, a_secret, settings, any_endpoint, patience=self.patience)

    async def look(self, seconds: float = 0, name: str = "j") -> WorkerPhase:
        self.clock.now += seconds
        return (await self.workers.state("app", "stores", name, owner_uid="s")).phase


def owned(**about: Any) -> Json:
    return job(**about, labels={OWNER_UID_LABEL: "s"})


@pytest.mark.parametrize("made", [ago(days=1), ago(minutes=11), ago(days=-1)])
async def test_a_clock_of_the_api_server_that_is_far_off_loses_no_worker(made: str) -> None:
    seen = Seen(owned(made=made))
    operator = Looker(seen)
    assert await operator.look() is WorkerPhase.WAITING
    seen.shown = [pod(waiting("ContainerCreating"), made=made)]
    assert await operator.look(119) is WorkerPhase.WAITING
    assert await operator.look(599) is WorkerPhase.WAITING
    assert await operator.look(2) is WorkerPhase.LOST
    assert await Looker(seen).look(601) is WorkerPhase.WAITING, "a process that begins anew has not seen it"


@pytest.mark.parametrize("made", [ago(days=1), ago(days=-1)])
async def test_who_does_not_come_is_lost_in_bounded_time_whatever_that_clock_says(made: str) -> None:
    operator = Looker(Seen(owned(made=made)))
    assert await operator.look() is WorkerPhase.WAITING
    assert await operator.look(121) is WorkerPhase.LOST
    silent = pod({"running": {}}, phase="Running", made=made, deleted=made)
    operator = Looker(Seen(owned(made=made), silent))
    assert await operator.look() is WorkerPhase.STOPPING
    assert await operator.look(121) is WorkerPhase.LOST


async def test_what_waits_no_more_is_forgotten() -> None:
    seen = Seen(owned())
    operator = Looker(seen)
    await operator.look()
    assert len(operator.patience) == 1
    seen.shown = [pod({"running": {}}, phase="Running")]
    assert await operator.look(60) is WorkerPhase.RUNNING
    assert len(operator.patience) == 0
    seen.shown = []
    await operator.look()
    seen.made = None
    assert await operator.look() is WorkerPhase.ABSENT
    assert len(operator.patience) == 0


async def test_a_worker_that_nobody_asks_for_any_more_is_forgotten_too() -> None:
    operator = Looker(Seen(owned()))
    for n in range(50):
        await operator.look(name=f"j{n}")
    assert len(operator.patience) == 50
    await operator.look(FORGOTTEN_SECONDS + 1, name="another")
    assert len(operator.patience) == 1
