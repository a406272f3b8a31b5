"""Who may write into a database (rule 2.9): one restore at a time, and a former one never again."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from deployment import Client, Snapshot, content, load, take

from lucid_storage.errors import LucidError, Reason
from lucid_storage.stores.mongodb.restore.adapter import MongoRestores
from lucid_storage.stores.mongodb.restore.holding import Leases
from lucid_storage.stores.mongodb.restore.journal import JOURNALS, SwapState
from lucid_storage.stores.mongodb.restore.lease import LEASE, founding, renewing, taking
from lucid_storage.stores.mongodb.restore.lineage import everything
from lucid_storage.stores.mongodb.restore.staging import InPlace, Staging
from lucid_storage.stores.mongodb.restore.target import Target
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb
SHORT = 0.6
"""Seconds of a lease that a test wants to see run out."""


@pytest.fixture
def names(client: Client, database: str) -> Iterator[list[str]]:
    """Three databases, in the order of their names."""
    made = [f"{database}_{letter}" for letter in "abc"]
    yield made
    for name in made:
        client.drop_database(name)


@pytest.fixture
async def port(mongodb: MongoDB) -> Any:
    made = MongoRestores(mongodb.uri, label="MongoDB", app_name="lucid-test", guard=lambda: None)
    yield made
    await made.close()


def lease(client: Client, database: str) -> dict[str, Any]:
    found = client[database][JOURNALS].find_one({"_id": LEASE})
    assert found is not None
    return found


def taken(client: Client, database: str, run: str, seconds: float) -> int:
    """By a worker that is never heard of again; returns the number."""
    client[database].command(founding())
    number: int = client[database].command(taking(run, run, seconds))["value"]["number"]
    return number


def renewed(client: Client, database: str, number: int) -> bool:
    return bool(client[database].command(renewing(number, 60))["n"])


def shop(client: Client, database: str) -> Snapshot:
    client[database].a.insert_many([{"_id": n} for n in range(3)])
    return take(client, database)


def staging_of(
    target: Target, base: Snapshot, database: str, leases: Leases, run: str = "one", in_place: bool = False
) -> Staging:
    return Staging(
        target,
        run,
        {database: database},
        everything([database]),
        base.moment,
        in_place=InPlace(replace=True) if in_place else None,
        leases=leases,
    )


def test_runs_whose_databases_overlap_anywhere_wait_for_each_other(
    mongodb: MongoDB, client: Client, names: list[str]
) -> None:
    first, second, shared = names
    begun = threading.Event()

    def next_run() -> None:
        with Leases(mongodb.uri, [first, shared], "two"):
            begun.set()

    waiting = threading.Thread(target=next_run)
    with pytest.raises(LucidError), Leases(mongodb.uri, [second, shared], "one"):
        waiting.start()
        assert not begun.wait(1)
        raise LucidError("it failed")
    waiting.join(20)
    assert begun.is_set(), "an end in failure gives the leases back at once"
    assert lease(client, shared)["run"] == "two"
    assert lease(client, shared)["number"] == 2


def test_a_lease_is_kept_for_longer_than_its_time_while_one_command_runs(
    mongodb: MongoDB, client: Client, database: str
) -> None:
    with Leases(mongodb.uri, [database], "one", seconds=SHORT):
        # Nothing is asked of it meanwhile, as while an index is built.
        with pytest.raises(LucidError) as refused, Leases(mongodb.uri, [database], "two", patience=3 * SHORT):
            pass
        assert refused.value.reason is Reason.RESTORE_BLOCKED
        assert "Another restore writes" in refused.value.message
        assert lease(client, database)["run"] == "one"


def test_a_worker_that_died_is_followed_when_its_time_is_over_and_never_comes_back(
    mongodb: MongoDB, client: Client, database: str
) -> None:
    number = taken(client, database, "one", SHORT)
    assert renewed(client, database, number)
    client[database][JOURNALS].update_one({"_id": LEASE}, [{"$set": {"until": "$$NOW"}}])
    with Leases(mongodb.uri, [database], "two") as leases:
        assert leases.numbers == {database: number + 1}
        assert not renewed(client, database, number)


async def test_a_worker_that_is_given_up_writes_nothing_more(
    mongodb: MongoDB, client: Client, database: str, port: MongoRestores
) -> None:
    base = shop(client, database)
    with Target(mongodb.uri) as target, Leases(mongodb.uri, [database], "one", live=True) as leases:
        staging = staging_of(target, base, database, leases)
        staging.define(base.definitions)
        assert await port.discard("one", [database])
        with pytest.raises(LucidError) as lost:
            target.write(database, {"insert": "a", "documents": [{"_id": "late"}]}, "load")
        assert lost.value.reason is Reason.WORKER_LOST
        assert leases.lost
    assert len(content(client, database)["a"]) == 3


async def test_a_worker_that_comes_after_it_was_given_up_does_not_begin(
    mongodb: MongoDB, client: Client, database: str, port: MongoRestores
) -> None:
    base = shop(client, database)
    assert await port.discard("one", [database])
    with Target(mongodb.uri) as target, Leases(mongodb.uri, [database], "one", live=True) as leases:
        staging = staging_of(target, base, database, leases, in_place=True)
        with pytest.raises(LucidError) as lost:
            staging.define(base.definitions)
    assert lost.value.reason is Reason.WORKER_LOST
    assert (staging.touched, len(content(client, database)["a"])) == (False, 3)


def test_a_second_worker_of_a_run_clears_away_what_the_first_left(
    mongodb: MongoDB, client: Client, database: str
) -> None:
    base = shop(client, database)
    with Target(mongodb.uri) as target, Leases(mongodb.uri, [database], "one") as leases:
        load(staging_of(target, base, database, leases), base)
    # It was killed here, and its time is over.
    client[database][JOURNALS].update_one({"_id": LEASE}, [{"$set": {"until": "$$NOW"}}])
    with Target(mongodb.uri) as target, Leases(mongodb.uri, [database], "one") as leases:
        staging = staging_of(target, base, database, leases)
        load(staging, base)
        journal = staging.ready(staging.finish())
    assert [pair.staged for pair in journal.pairs] == ["lucid_stg_one_1"]
    assert client[database].lucid_stg_one_1.count_documents({}) == 3


class TestSwapping:
    """Under the numbers of the worker."""

    @staticmethod
    def staged(uri: str, base: Snapshot, database: str) -> None:
        with Target(uri) as target, Leases(uri, [database], "one") as leases:
            staging = staging_of(target, base, database, leases)
            load(staging, base)
            staging.ready(staging.finish())

    async def test_a_run_that_another_overtook_is_not_put_in_place(
        self, mongodb: MongoDB, client: Client, database: str, port: MongoRestores
    ) -> None:
        base = shop(client, database)
        self.staged(mongodb.uri, base, database)
        assert await port.unfit("one", [database], drop_existing=True) is None
        client[database][JOURNALS].update_one({"_id": LEASE}, [{"$set": {"until": "$$NOW"}}])
        taken(client, database, "two", 60)
        client[database].a.delete_one({"_id": 0})  # as the other restore has it
        unfit = await port.unfit("one", [database], drop_existing=True)
        assert unfit is not None
        assert unfit.reason is Reason.WORKER_LOST
        with pytest.raises(LucidError):
            await port.swap("one", [database], drop_existing=True, keep_minutes=0)
        assert len(content(client, database)["a"]) == 2
        journal = await port.journal([database], "one")
        assert journal is not None
        assert journal.state is SwapState.READY
        assert await port.discard("one", [database])
        assert lease(client, database)["run"] == "two"
        assert "revoked" not in lease(client, database), "the lease of another is left alone"

    async def test_others_wait_until_it_is_done_however_long_its_operator_is_away(
        self, mongodb: MongoDB, client: Client, database: str, port: MongoRestores
    ) -> None:
        base = shop(client, database)
        self.staged(mongodb.uri, base, database)

        def die() -> None:
            if dying and not renewed_for_long():
                return
            if dying:
                raise ConnectionResetError("the operator dies behind its first command")

        def renewed_for_long() -> bool:
            return bool(client[database][JOURNALS].count_documents(an_hour))

        an_hour = {"_id": LEASE, "$expr": {"$gt": ["$until", {"$add": ["$$NOW", 3_000_000]}]}}
        dying = True
        killed = MongoRestores(mongodb.uri, label="MongoDB", app_name="lucid-test", guard=die)
        with pytest.raises(ConnectionResetError):
            await killed.swap("one", [database], drop_existing=True, keep_minutes=0)
        await killed.close()
        assert renewed_for_long()
        await port.swap("one", [database], drop_existing=True, keep_minutes=0)
        assert "until" not in lease(client, database), "the next one need not wait"
        with Leases(mongodb.uri, [database], "two", patience=0):
            pass

    async def test_what_is_given_up_when_it_was_staged_holds_nobody_up(
        self, mongodb: MongoDB, client: Client, database: str, port: MongoRestores
    ) -> None:
        base = shop(client, database)
        self.staged(mongodb.uri, base, database)
        assert await port.discard("one", [database])
        with Leases(mongodb.uri, [database], "two", patience=0):
            pass
        assert await port.unfit("one", [database], drop_existing=True) is not None
