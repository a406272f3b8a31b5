"""Change streams: one for each deployment in use, opened again, and widened when another database comes into use."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from awaiting import until

from lucid_storage.errors import AccessDeniedError
from lucid_storage.kinds import streams as subject
from lucid_storage.kinds.connections import Connections, Deployment, Engine
from lucid_storage.kinds.metrics import Metrics
from lucid_storage.kinds.streams import DdlStreams
from lucid_storage.models.settings import Settings, StoreSettings


class Server:
    """Gives streams that stay silent until they are told to fail."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, ...]] = []
        self.narrow_only = False
        self.failure: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    @asynccontextmanager
    async def watch_ddl(self, databases: Sequence[str]) -> AsyncIterator[AsyncIterator[Any]]:
        if self.narrow_only and not databases:
            raise AccessDeniedError("not the whole deployment")
        self.opened.append(tuple(databases))
        yield self._events()

    async def _events(self) -> AsyncIterator[Any]:
        failure = await self.failure
        self.failure = asyncio.get_running_loop().create_future()
        raise failure
        yield

    async def close(self) -> None: ...


class Bed:
    def __init__(self) -> None:
        self.server = Server()
        engine: Engine[Any] = Engine(
            "mongodb", "MongoDB", "MONGODB_URI", StoreSettings.mongodb, _ok, lambda *_: self.server, _ok
        )
        self.connections = Connections(
            Settings.read({"POD_NAMESPACE": "ns", "MONGODB_URI": "mongodb://store/"}),
            _ok,
            mongodb=engine,
            redis=engine,
            elasticsearch=engine,
        )
        self.looks: list[str] = []
        self.streams = DdlStreams(
            self.connections, Metrics(), on_event=lambda _: None, on_open=self.looks.append
        )

    async def start(self, *databases: str) -> Deployment[Any]:
        deployment = await self.connections.mongodb("ns", None)
        for database in databases:
            deployment.use(database)
        self.streams.ensure(deployment)
        return deployment


async def _ok(*_: object) -> None: ...


@pytest.fixture
async def bed(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(subject, "REOPEN_FIRST", 0.01)
    monkeypatch.setattr(subject, "WIDEN_SECONDS", 0.01)
    made = Bed()
    yield made
    await made.streams.close()
    await made.connections.close()


async def test_one_stream_over_the_deployment_stays_open_whatever_databases_come(bed: Bed) -> None:
    deployment = await bed.start("a")
    await until(lambda: bed.streams.is_open("operator"))
    deployment.use("b")
    await asyncio.sleep(0.1)
    assert bed.server.opened == [()]
    assert bed.looks == ["operator"]


async def test_where_only_databases_may_be_watched_a_new_one_is_watched_at_once(bed: Bed) -> None:
    bed.server.narrow_only = True
    deployment = await bed.start("a")
    await until(lambda: bed.server.opened == [("a",)])
    deployment.use("b")
    await until(lambda: bed.server.opened == [("a",), ("a", "b")])
    assert bed.streams.is_open("operator")


async def test_a_login_that_may_watch_nothing_at_first_is_asked_again_with_the_first_database(
    bed: Bed,
) -> None:
    bed.server.narrow_only = True
    deployment = await bed.start()
    await asyncio.sleep(0.05)
    assert bed.server.opened == []
    deployment.use("a")
    await until(lambda: bed.server.opened == [("a",)])


async def test_a_defect_in_one_event_does_not_end_the_stream_for_good(bed: Bed) -> None:
    await bed.start()
    await until(lambda: len(bed.looks) == 1)
    bed.server.failure.set_result(RuntimeError("a defect"))
    await until(lambda: len(bed.looks) == 2)
    assert bed.streams.is_open("operator")


async def test_the_end_of_a_replaced_connection_does_not_speak_for_its_successor(bed: Bed) -> None:
    deployment = await bed.start()
    await until(lambda: bed.streams.is_open("operator"))
    successor = Deployment(bed.server, "operator", "mongodb://other/", deployment.engine)
    bed.streams._mark(successor, True)
    bed.streams._mark(deployment, False)
    assert bed.streams.is_open("operator")
