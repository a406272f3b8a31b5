"""What a run staged is taken back on the server that it lies on, and on no other."""

from typing import Any, cast

import pytest
from test_restore_plan import NOW, RUN, ended, resource, status

from lucid_storage.errors import LucidError, Reason
from lucid_storage.kinds.restore.actions import Discard
from lucid_storage.kinds.restore.desired import job_name
from lucid_storage.kinds.restore.kind import RestoreKind
from lucid_storage.kinds.restore.observed import RestoreObserved
from lucid_storage.kinds.restore.plan import plan
from lucid_storage.models.restore import RestorePhase, RestoreStatus


class Server:
    """A port to the server that the connection leads to now."""

    def __init__(self, identity: str = "rs") -> None:
        self._identity = identity
        self.opened = 0
        self.discarded: list[tuple[str, tuple[str, ...]]] = []

    async def identity(self) -> str:
        return self._identity

    async def discard(self, run: str, databases: tuple[str, ...]) -> bool:
        self.discarded.append((run, databases))
        return True

    async def close(self) -> None: ...


class Connections:
    """Of a namespace whose Secret leads somewhere."""

    async def mongodb(self, _namespace: str, _secret: str | None) -> Any:
        return cast("Any", self)

    address = "mongodb://127.0.0.1:1/"


def kind(server: Server) -> RestoreKind:
    def opened(_address: str, _label: str) -> Any:
        server.opened += 1
        return server

    none = cast("Any", None)
    return RestoreKind(
        cast("Any", Connections()),
        none,
        none,
        none,
        opened,
        none,
        none,
        others=lambda: (),
        schedules=lambda: (),
        find_backup=lambda _: None,
        wake=lambda _: None,
    )


def given_up(work: str = "restore") -> RestoreStatus:
    return status(RestorePhase.FAILED, server_identity="rs", job_name=job_name(resource(), work, RUN))


async def test_on_its_own_server_it_is_taken_back() -> None:
    server, mine = Server(), given_up()
    await kind(server).apply(resource(), mine, Discard(RUN, ("shop",)))
    assert (server.discarded, mine.databases) == ([(RUN, ("shop",))], None)


async def test_on_another_server_nothing_is_touched_and_it_stays_to_be_done() -> None:
    server, mine = Server("another"), given_up()
    with pytest.raises(LucidError) as refused:
        await kind(server).apply(resource(), mine, Discard(RUN, ("shop",)))
    assert refused.value.reason is Reason.TARGET_CHANGED
    assert "have it lead there again" in refused.value.message
    assert (server.discarded, mine.databases) == ([], ["shop"])


async def test_what_was_only_planned_holds_nobody_wherever_the_connection_leads() -> None:
    server, mine = Server("another"), given_up("plan")
    await kind(server).apply(resource(), mine, Discard(RUN, ("shop",)))
    assert (server.opened, mine.databases) == (0, None)


def test_a_worker_that_found_another_server_left_nothing_to_take_back() -> None:
    """Otherwise the Restore would stay until the connection leads back to a server that may be gone."""
    result = ended(ok=False, reason=Reason.TARGET_CHANGED, message="The connection leads elsewhere.")
    step = plan(resource(), RestoreObserved(worker=result), status(RestorePhase.LOADING), NOW)
    assert (step.status.phase, step.status.databases, step.actions) == (RestorePhase.FAILED, None, ())
    assert plan(resource(), RestoreObserved(), step.status, NOW).hold is False
    planned = plan(resource(), RestoreObserved(worker=result), status(RestorePhase.PLANNING), NOW)
    assert (planned.status.phase, planned.actions) == (RestorePhase.FAILED, ())
