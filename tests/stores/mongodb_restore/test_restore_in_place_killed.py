"""In place, whoever dies where: nothing foreign is touched, nothing reserved stays, and the next run comes through."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count

import pytest
from deployment import Client, Snapshot, content, load, now, oplog, take
from mortal import Dying, KilledError, Mortal

from lucid_storage.stores.mongodb.restore.adapter import MongoRestores
from lucid_storage.stores.mongodb.restore.entries import Moment
from lucid_storage.stores.mongodb.restore.holding import Leases
from lucid_storage.stores.mongodb.restore.journal import JOURNALS, SwapState
from lucid_storage.stores.mongodb.restore.lease import LEASE
from lucid_storage.stores.mongodb.restore.lineage import everything
from lucid_storage.stores.mongodb.restore.staging import InPlace, Staging
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb
MOVING = {"old", "new", "made"}


class Bed:
    """A database with its backup, and live data that are others by now."""

    def __init__(self, uri: str, client: Client, database: str) -> None:
        self.uri, self.client, self.database = uri, client, database
        live = client[database]
        live.a.insert_many([{"_id": n} for n in range(3)])
        live.a.create_index("at", expireAfterSeconds=10**8)
        live.create_collection("ts", timeseries={"timeField": "t"})
        live.ts.insert_one({"_id": 1, "t": datetime(2026, 1, 1, tzinfo=UTC)})
        live.old.insert_one({"_id": 1})
        self.base: Snapshot = take(client, database)
        live.a.insert_one({"_id": 3})
        live.old.rename("new")
        live.made.insert_one({"_id": 1})
        self.until: Moment = now(client)
        self.entries = oplog(client, self.base.moment)
        self.wanted = content(client, database)
        self.change()

    def change(self) -> None:
        live = self.client[self.database]
        live.a.delete_many({})
        live.a.insert_one({"_id": "newer"})
        live.foreign.replace_one({"_id": 1}, {}, upsert=True)

    def work(self, run: str, writes: int = 10**9, replace: bool = True) -> bool:
        """One worker that dies behind so many writes; whether it came to its end."""
        targets = {self.database: self.database}
        with Mortal(self.uri) as target, Leases(self.uri, [self.database], run, live=True) as leases:
            in_place = InPlace(replace, lambda name: name[1] not in MOVING)
            staging = Staging(
                target, run, targets, everything(targets), self.base.moment, in_place=in_place, leases=leases
            )
            target.left = writes
            try:
                load(staging, self.base)
                staging.replay(self.entries, self.until)
                staging.ready(staging.merge(staging.finish()))
            except KilledError:
                return False
        return True

    def pass_time(self) -> None:
        """The lease of a dead worker is over."""
        self.client[self.database][JOURNALS].update_one({"_id": LEASE}, [{"$set": {"until": "$$NOW"}}])

    def left_of(self, run: str) -> list[str]:
        names = self.client[self.database].list_collection_names()
        return [name for name in names if name.startswith(("lucid_stg_", "lucid_old_")) and run in name]

    def restores(self, guard: Callable[[], None] = lambda: None) -> MongoRestores:
        return MongoRestores(self.uri, label="MongoDB", app_name="lucid-test", guard=guard)

    async def discard(self, run: str) -> None:
        port = self.restores()
        assert await port.discard(run, [self.database])
        await port.close()

    def check_restored(self) -> None:
        found = content(self.client, self.database)
        assert len(found.pop("foreign")) == 1
        assert found == self.wanted
        assert self.client[self.database].a.index_information()["at_1"]["expireAfterSeconds"] == 10**8


@pytest.fixture
def bed(mongodb: MongoDB, database: str) -> Iterator[Bed]:
    with mongodb.client() as client:
        yield Bed(mongodb.uri, client, database)


async def test_a_worker_killed_behind_any_write_leaves_what_the_next_run_repairs(bed: Bed) -> None:
    for writes in count():
        run = f"k{writes:02}x"
        ended = bed.work(run, writes)
        if ended:
            break
        await bed.discard(run)
        bed.pass_time()
        assert bed.left_of(run) == []
        assert bed.client[bed.database].foreign.count_documents({}) == 1
    assert writes > 12
    port = bed.restores()
    await port.swap(run, [bed.database], drop_existing=True, keep_minutes=0)
    await port.drop_old(run, [bed.database])
    await port.close()
    bed.check_restored()


async def test_an_operator_killed_behind_any_command_of_the_swap_is_followed_by_one_that_ends_it(
    bed: Bed,
) -> None:
    for commands in count():
        run = f"s{commands:02}x"
        bed.change()
        assert bed.work(run)
        guard = Dying(commands)
        port = bed.restores(guard)
        try:
            await port.swap(run, [bed.database], drop_existing=True, keep_minutes=0)
        except KilledError:
            guard.left = 10**9
            await port.swap(run, [bed.database], drop_existing=True, keep_minutes=0)
        else:
            break
        finally:
            guard.left = 10**9
            await port.drop_old(run, [bed.database])
            await port.close()
        bed.check_restored()
        assert bed.left_of(run) == []
    assert commands > 5


async def test_an_operator_killed_behind_any_command_of_giving_up_is_followed_by_one_that_does(
    bed: Bed,
) -> None:
    for commands in count():
        run = f"d{commands:02}x"
        assert not bed.work(run, 12)
        assert bed.left_of(run)
        port = bed.restores(Dying(commands))
        try:
            await port.discard(run, [bed.database])
        except KilledError:
            await bed.discard(run)
        else:
            break
        finally:
            await port.close()
            bed.pass_time()
        assert bed.left_of(run) == []
        port = bed.restores()
        journal = await port.journal([bed.database], run)
        await port.close()
        assert journal is not None
        assert journal.state is SwapState.GIVEN_UP
    assert commands > 3


async def test_without_consent_a_kill_behind_any_write_takes_nothing_away(bed: Bed) -> None:
    live = bed.client[bed.database]
    live.ts.drop()  # one that holds documents is refused
    for writes in count():
        run = f"m{writes:02}x"
        if bed.work(run, writes, replace=False):
            break
        await bed.discard(run)
        bed.pass_time()
        assert bed.left_of(run) == []
        assert live.a.find_one({"_id": "newer"}) is not None
        live.drop_collection("ts")
    port = bed.restores()
    done = await port.swap(run, [bed.database], drop_existing=False, keep_minutes=0)
    await port.close()
    assert done.collections == 4, "what was merged is counted"
    assert {d["_id"] for d in live.a.find()} == {0, 1, 2, 3, "newer"}
