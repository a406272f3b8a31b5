"""The marker of a finished restore in a real server (rule 2.10): left, found again without status, taken back."""

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest
from test_restore_plan import resource

from lucid_storage.app.stores import restores, store_engines
from lucid_storage.errors import LucidError
from lucid_storage.kinds.connections import Connections
from lucid_storage.kinds.restore.desired import run_id, spec_hash
from lucid_storage.kinds.restore.observed import RestoreObserved, telling
from lucid_storage.kinds.restore.server import BEGUN, TargetServer, key
from lucid_storage.kube.resources import Resource
from lucid_storage.models.restore import RestorePhase, RestoreSpec, RestoreStatus
from lucid_storage.models.settings import Settings
from lucid_storage.stores.mongodb.restore.journal import MARKERS
from lucid_storage.stores.mongodb.restore.port import Marker
from testbed.stores.mongodb import Client, MongoDB

pytestmark = pytest.mark.mongodb
CLUSTER = f"cluster-{uuid4().hex}"


class Bed:
    """One operator's view; `operator()` is another one, which remembers nothing."""

    def __init__(self, uri: str, database: str) -> None:
        self.uri, self.database = uri, database
        self.made: list[Connections] = []
        self.connections = self.operator()
        self.mine = resource(strategy="InPlace", targetDatabase=database)

    def operator(self) -> Connections:
        settings = Settings.read({"MONGODB_URI": self.uri, "POD_NAMESPACE": "n"})
        engines = store_engines(settings, lambda: None)

        async def no_secret(namespace: str, name: str) -> None:
            return None

        self.connections = Connections(
            settings,
            no_secret,
            mongodb=engines.mongodb,
            redis=engines.redis,
            elasticsearch=engines.elasticsearch,
        )
        self.made.append(self.connections)
        self.server = TargetServer(self.connections, restores(lambda: None))
        return self.connections

    async def status(self, run: str = "1") -> RestoreStatus:
        return RestoreStatus(
            phase=RestorePhase.SWAPPING,
            run=run_id("u1", run, None),
            server_identity=await self.server.identity(self.mine),
        )

    async def mark(self, run: str = "1") -> None:
        await self.server.mark(self.mine, await self.status(run), (self.database,), CLUSTER)

    async def unmark(self) -> None:
        await self.server.unmark(self.mine, await self.status("2"), CLUSTER)

    async def found(self, of: Resource | None = None) -> Marker | None:
        """What an operator without a status takes for the restore's own."""
        mine = of or self.mine
        deployment = await self.connections.mongodb(mine.key.namespace, None)
        async with self.connections.watching(deployment) as mongodb:
            markers = [marker for _, marker in await self.server.markers(mine, mongodb, CLUSTER)]
        wanted = spec_hash(RestoreSpec.model_validate(mine.spec))
        seen = RestoreObserved(identity=await self.server.identity(mine), spec_hash=wanted)
        return telling(mine, markers, seen)


@pytest.fixture
async def bed(mongodb: MongoDB, database: str) -> AsyncIterator[Bed]:
    made = Bed(mongodb.uri, database)
    yield made
    for connections in made.made:
        await connections.close()


@pytest.fixture
def client(mongodb: MongoDB) -> Iterator[Client]:
    with mongodb.client() as made:
        yield made


async def test_an_operator_that_lost_its_status_finds_the_marker_in_whichever_database(bed: Bed) -> None:
    assert await bed.found() is None
    await bed.mark()
    bed.operator()
    marker = await bed.found()
    assert marker is not None
    assert (marker.run, marker.result) == (run_id("u1", "1", None), "Completed")
    other = resource(strategy="InPlace", targetDatabase=bed.database, dropExisting=True)
    assert await bed.found(other) is None, "another spec asks for something else"


async def test_what_is_being_written_over_is_not_taken_for_restored(bed: Bed, client: Client) -> None:
    await bed.mark()
    await bed.unmark()
    bed.operator()  # the one that began is gone, and its status too
    assert await bed.found() is None
    (left,) = client[bed.database][MARKERS].find({"_id": key(bed.mine, CLUSTER)})
    assert left["result"] == BEGUN
    await bed.unmark()
    await bed.mark("2")
    marker = await bed.found()
    assert marker is not None
    assert marker.run == run_id("u1", "2", None)


async def test_markers_of_others_are_left_alone(bed: Bed, client: Client) -> None:
    markers = client[bed.database][MARKERS]
    foreign = {"_id": f"{CLUSTER}/n/another", "result": "Completed"}
    markers.insert_one(foreign)
    await bed.mark()
    await bed.unmark()
    assert markers.find_one({"_id": foreign["_id"]}) == foreign


async def test_a_marker_that_cannot_be_taken_back_is_an_error_and_stands(bed: Bed, client: Client) -> None:
    """Then no worker may begin: the target would pass for restored while it is incomplete."""
    await bed.mark()
    client[bed.database].command({"collMod": MARKERS, "validator": {"result": "Completed"}})
    with pytest.raises(LucidError) as refused:
        await bed.unmark()
    assert bed.uri not in refused.value.message
    assert await bed.found() is not None
    client[bed.database].command({"collMod": MARKERS, "validator": {}})
    await bed.unmark()
    assert await bed.found() is None
