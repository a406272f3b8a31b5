"""A lease that was asked for and not confirmed is given back too: the next leader need not wait for it to run out."""

from typing import Any

import pytest

from lucid_storage.kube.client import Json, KubeApiError
from lucid_storage.kube.lease import Lease


class Server:
    """Keeps one Lease. The answer to a write can be lost, with or without the write."""

    def __init__(self) -> None:
        self.lease: Json | None = None
        self.requests: list[str] = []
        self.lost: int | None = None
        """Status of the next write's failure, which is carried out all the same when it is 0."""

    async def get(self, path: str, *, seconds: float) -> Json | None:
        self.requests.append("GET")
        return self.lease

    async def request(self, method: str, path: str, *, body: Json, **_: Any) -> Json:
        self.requests.append(method)
        lost, self.lost = self.lost, None
        if lost is None or lost == 0:
            self.lease = {"metadata": {"name": "lease", "resourceVersion": "1"}, "spec": dict(body["spec"])}
        if lost is not None:
            raise KubeApiError(lost, "Unreachable", "no answer in time")
        return {}

    def candidate(self) -> Lease:
        return Lease(self, namespace="ns", name="lease", identity="me", duration=15)  # type: ignore[arg-type]


async def asked(lease: Lease) -> None:
    with pytest.raises(KubeApiError):
        await lease._asked()


async def test_a_lease_whose_confirmation_was_lost_is_given_back() -> None:
    server = Server()
    lease = server.candidate()
    server.lost = 0
    await asked(lease)
    assert not lease.held
    await lease.release()
    assert server.lease is not None
    assert server.lease["spec"]["holderIdentity"] == ""
    assert server.lease["spec"]["leaseDurationSeconds"] == 1


@pytest.mark.parametrize("status", [409, 403, 500])
async def test_a_refused_lease_needs_no_giving_back(status: int) -> None:
    server = Server()
    lease = server.candidate()
    server.lost = status
    if status == 409:
        assert await lease._asked() == "another replica"
    else:
        await asked(lease)
    server.requests.clear()
    await lease.release()
    assert server.requests == []


async def test_a_lease_that_another_took_meanwhile_is_left_alone() -> None:
    server = Server()
    lease = server.candidate()
    server.lost = 0
    await asked(lease)
    assert server.lease is not None
    server.lease["spec"]["holderIdentity"] = "another"
    await lease.release()
    assert server.lease["spec"]["holderIdentity"] == "another"


async def test_what_was_never_asked_for_is_not_asked_about_at_the_end() -> None:
    server = Server()
    await server.candidate().release()
    assert server.requests == []
