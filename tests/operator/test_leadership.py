"""Two replicas: one acts, the other takes over in time, and one that lost the lease does nothing more."""

from time import monotonic
from typing import Any

import pytest
from operator_bed import index_spec, indexes
from pymongo.database import Database

from testbed.pytest_operator import OperatorProcess, World

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]

LEASE_SECONDS = 6
"""Short for the test's sake, and long enough for a busy machine."""


def leads(operator: OperatorProcess) -> bool:
    return operator.metric("lucid_leader") == 1


async def pair(world: World) -> tuple[OperatorProcess, OperatorProcess]:
    """A leader and one that stands by."""
    first = world.start_operator(LEASE_SECONDS=str(LEASE_SECONDS))

    async def leading() -> bool:
        return leads(first)

    await world.until(leading, 15, "the first to lead")
    second = world.start_operator(LEASE_SECONDS=str(LEASE_SECONDS))
    assert not leads(second)
    return first, second


async def taken_over(world: World, operator: OperatorProcess, deadline: float) -> float:
    """Seconds until the operator leads."""
    started = monotonic()

    async def leading() -> bool:
        return leads(operator)

    await world.until(leading, deadline, "the other to take over")
    return monotonic() - started


async def holder(world: World) -> str:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{world.namespace}/leases/lucid-storage-operator"
    lease = await world.kube.get(path)
    assert lease is not None
    return str(lease["spec"]["holderIdentity"])


async def test_of_two_replicas_one_acts(mongo_world: World, db: Database[Any]) -> None:
    first, second = await pair(mongo_world)
    for n in range(5):
        await mongo_world.create("Collection", f"c{n}", {})
    for n in range(5):
        await mongo_world.ready("Collection", f"c{n}")
    assert first.metric("lucid_actions_total") == 5
    assert second.metric("lucid_actions_total") == 0
    assert second.metric("lucid_status_writes_total") == 0
    assert second.probe("readyz")[1]["checks"]["leader"]["message"].startswith("standing by")


async def test_a_killed_leader_is_replaced_within_the_lease_time(
    mongo_world: World, db: Database[Any]
) -> None:
    first, second = await pair(mongo_world)
    first.kill()
    seconds = await taken_over(mongo_world, second, 3 * LEASE_SECONDS)
    # The lease time, counted from the last renewal seen, and one period of asking.
    assert seconds <= LEASE_SECONDS * (1 + 2 / 7.5) + 1
    await mongo_world.create("Collection", "users", {})
    await mongo_world.ready("Collection", "users")
    assert "users" in db.list_collection_names()


async def test_a_stopped_leader_hands_over_at_once(mongo_world: World, db: Database[Any]) -> None:
    first, second = await pair(mongo_world)
    asked = monotonic()
    first.stop()
    assert monotonic() - asked < 4, "the stop waited for something"
    # The follower asks every LEASE_SECONDS / 7.5, and waits out the second that a given-up lease still has.
    assert await taken_over(mongo_world, second, LEASE_SECONDS) < LEASE_SECONDS * 2 / 3


async def test_a_frozen_leader_that_wakes_up_does_nothing_more_and_ends(
    mongo_world: World, db: Database[Any]
) -> None:
    first, second = await pair(mongo_world)
    await mongo_world.create("Collection", "users", {"validationLevel": "moderate"})
    await mongo_world.create("Index", "email", index_spec("users", ("email", 1)))
    await mongo_world.ready("Collection", "users")
    await mongo_world.ready("Index", "email")
    first.freeze()
    await taken_over(mongo_world, second, 3 * LEASE_SECONDS)
    # What the frozen one remembers is the old declaration; woken, it hears of the change as if it were drift.
    await mongo_world.patch("Collection", "users", {"spec": {"validationLevel": "strict"}})
    await mongo_world.delete("Index", "email")
    await mongo_world.ready("Collection", "users")
    second.stop()  # so that every trace from here on is the woken one's
    db.users.drop_index("users_email_1")
    users = await mongo_world.get("Collection", "users")
    leader = await holder(mongo_world)
    with db.client.start_session() as session:
        db.client.admin.command("ping", session=session)
        began = session.operation_time
    first.thaw()

    async def ended() -> bool:
        return not first.running()

    await mongo_world.until(ended, 20, "the woken leader to end")
    written = db.client.local["oplog.rs"].count_documents(
        {"ts": {"$gt": began}, "op": "c", "ns": f"{db.name}.$cmd"}
    )
    assert written == 0, "it changed something in MongoDB"
    assert indexes(db, "users") == {}
    assert (await mongo_world.get("Collection", "users"))["metadata"] == users["metadata"]
    assert await holder(mongo_world) == leader
