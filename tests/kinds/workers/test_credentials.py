"""No worker of any kind gets logins that its namespace may not use."""

import base64
from typing import Any, cast

import pytest

from lucid_storage.errors import LucidError, NotAllowedError, Reason
from lucid_storage.kinds.workers.job import OwnerRef, build
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


def workers(**more: str) -> Workers:
    variables = {
        "SERVED_NAMESPACES": '{"served": {}}',
        "WORKER_IMAGE": "image",
        "MONGODB_URI": "mongodb://m/",
    }
    settings = Settings.read({**variables, **more})
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


async def test_the_authority_of_the_operators_stores_goes_to_its_own_jobs_as_a_file() -> None:
    worker, data = await workers(STORES_CA="the certificate").prepared(request("served", None))
    assert data is not None
    assert base64.b64decode(data["STORES_CA"]) == b"the certificate"
    pod = build(worker)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (variable,) = [one for one in container["env"] if one["name"] == "STORES_CA"]
    folder, _, file = variable["value"].rpartition("/")
    assert folder in [mount["mountPath"] for mount in container["volumeMounts"]]
    secret = {"secretName": "job", "items": [{"key": "STORES_CA", "path": file}]}
    assert {"name": "stores-ca", "secret": secret} in pod["volumes"]
    theirs, _ = await workers(STORES_CA="the certificate").prepared(request("stranger", "labelled"))
    assert theirs.stores_ca is None


async def test_a_file_of_the_operators_pod_in_the_address_is_said_before_a_job_fails() -> None:
    uri = "mongodb://m/?tls=true&tlsCAFile=/etc/ca.crt"
    with pytest.raises(LucidError, match="set STORES_CA"):
        await workers(MONGODB_URI=uri).check("served", None, Place(Destination()), None, None)
