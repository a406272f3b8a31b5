"""Somebody who keeps changing an object back: the operator stops writing and says so."""

import threading
from collections.abc import Iterator
from time import sleep
from typing import Any

import pytest
from operator_bed import index_spec, indexes, one_more_look, said
from pymongo.database import Database
from pymongo.errors import OperationFailure

from testbed.pytest_operator import World

pytestmark = [pytest.mark.mongodb, pytest.mark.apiserver]

NAME = "users_email_1"


class Rival:
    """Drops the index whenever it is there."""

    def __init__(self, db: Database[Any]) -> None:
        self._db = db
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.drops = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._done.is_set():
            try:
                self._db.users.drop_index(NAME)
                self.drops += 1
            except OperationFailure as error:
                assert error.code in (27, 26), error  # it is not there
                sleep(0.02)


@pytest.fixture
def rival(db: Database[Any]) -> Iterator[Rival]:
    made = Rival(db)
    yield made
    made.stop()


async def test_a_fight_over_an_index_ends_after_twenty_corrections(
    mongo_world: World, db: Database[Any], rival: Rival
) -> None:
    db.create_collection("users")
    operator = mongo_world.start_operator()
    await mongo_world.create("Index", "email", index_spec("users", ("email", 1)))
    await mongo_world.create("Index", "phone", index_spec("users", ("phone", 1)))
    await mongo_world.ready("Index", "email")
    await mongo_world.ready("Index", "phone")
    rival.start()
    condition = await mongo_world.refused("Index", "email", "DriftFight", 90)
    assert "20 times in 10 minutes" in condition["message"]
    resource = await mongo_world.get("Index", "email")
    assert said(resource, "Stalled")["status"] == "True"
    corrections = operator.metric("lucid_drift_corrections_total", kind="Index")
    assert corrections == 20
    assert rival.drops <= 21
    rival.stop()
    async with one_more_look(mongo_world, operator, "Index"):
        for _ in range(3):
            db.users.create_index([("other", 1)])
            db.users.drop_index("other_1")
    assert operator.metric("lucid_drift_corrections_total", kind="Index") == corrections
    assert NAME not in indexes(db, "users"), "no more writes"
    assert said(await mongo_world.get("Index", "phone"))["status"] == "True"
    await mongo_world.patch("Index", "email", {"spec": {"mongodb": {"sparse": True}}})
    await mongo_world.ready("Index", "email")
