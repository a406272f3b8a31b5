"""No worker of any kind gets logins that its namespace may not use."""

from typing import Any, cast

import pytest

from lucid_storage.errors import LucidError, NotAllowedError, Reason
from lucid_storage.kinds.workers.job import OwnerRef
from lucid_storage.kinds.workers.launch import WorkerRequest, Workers
from lucid_storage.kinds.workers.place import Place
from lucid_storage.kube.jobs import Jobs
from lucid_storage.models.orders import Destination, Order, Owner
from lucid_storage.models.settings import Settings

SECRETS: dict[str, dict[str, Any]] = {
    "labelled": {"metadata": {"labels": {"storage.lucid-blockchain.org/allowed": "true"}}, "data": {}},
    "bare": {"metadata": {}, "data": {}},
}


async def read_secret(_: str, name: str) -> dict[str, Any] | None:
    return SECRETS.get(name)


async def any_endpoint(_: str) -> None:
    """Not what this is about."""


def workers() -> Workers:
    settings = Settings.read(
        {"SERVED_NAMESPACES": '{"served": {}}', "WORKER_IMAGE": "image", "MONGODB_URI": "mongodb://m/"}
    )
    return Workers(cast(Jobs, None), read_secret, settings, any_endpoint)


def request(namespace: str, connection: str | None) -> WorkerRequest:
    owner = Owner(cluster="c", namespace=namespace, name="s", uid="u", spec_hash="h")
    return WorkerRequest(
        command="slice",
        name="job",
        owner=OwnerRef("BackupSchedule", "v", namespace, "s", "u"),
        order=Order(run="r", owner=owner, destination=Destination(), chain="c", deadline_seconds=60),
        connection=connection,
        place=Place(Destination(bucket="theirs"), secret="labelled"),
    )


async def test_a_namespace_that_is_not_served_gets_no_worker_with_the_operators_logins() -> None:
    with pytest.raises(NotAllowedError, match="do not serve the namespace"):
        await workers().prepared(request("stranger", None))
    with pytest.raises(NotAllowedError, match="do not serve the namespace"):
        await workers().check("stranger", None, Place(Destination()), None, None)
    worker, data = await workers().prepared(request("served", None))
    assert worker.namespace != "served"
    assert data is not None
    assert "MONGODB_URI" in data


@pytest.mark.parametrize(
    ("secret", "reason"), [("bare", Reason.SECRET_NOT_ALLOWED), ("absent", Reason.SECRET_NOT_FOUND)]
)
async def test_a_secret_without_the_label_is_used_by_no_worker(secret: str, reason: Reason) -> None:
    with pytest.raises(LucidError) as refused:
        await workers().prepared(request("stranger", secret))
    assert refused.value.reason is reason
    worker, data = await workers().prepared(request("stranger", "labelled"))
    assert (worker.namespace, data) == ("stranger", None)
