"""An answer that is lost, as in a step-down, has the command sent again: that harms nothing, whichever it is."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import pytest
from deployment import Client, content, contents_of, load, now, oplog, raw_documents, take
from pymongo.errors import AutoReconnect

from lucid_storage.errors import LucidError, Reason
from lucid_storage.stores.mongodb.restore.lineage import everything
from lucid_storage.stores.mongodb.restore.staging import InPlace, Staging
from lucid_storage.stores.mongodb.restore.target import Target
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb


class LosesAnswers(Target):
    """The server does what it is told, and the first answer to each kind of command is lost on its way, or to each
    command."""

    def __init__(
        self, uri: str, between: Callable[[str], None] = lambda _: None, *, always: bool = False
    ) -> None:
        super().__init__(uri, wait=lambda _: None)
        self.lost: list[str] = []
        self.between = between
        self.always = always

    def write(
        self, database: str, command: Mapping[str, object], task: str, **more: Any
    ) -> dict[str, object]:
        name = next(iter(command))
        if self.always or name not in self.lost:
            self.lost.append(name)
            super().write(database, command, task, **{**more, "sent_again": lambda: None})
            self.between(name)
            more.get("sent_again", lambda: None)()
        return super().write(database, command, task, **more)


def test_each_command_of_a_restore_may_come_twice(mongodb: MongoDB, client: Client, database: str) -> None:
    live = client[database]
    live.a.insert_many([{"_id": n} for n in range(4)])
    live.a.create_index("x")
    base = take(client, database)
    live.a.update_one({"_id": 1}, {"$set": {"x": 1}})
    live.a.delete_one({"_id": 1})
    live.a.update_one({"_id": 2}, {"$set": {"x": 1}})
    live.a.insert_one({"_id": 9})
    live.a.update_one({"_id": 9}, {"$set": {"x": 1}})
    live.a.delete_one({"_id": 9})
    wanted, entries, until = content(client, database), oplog(client, base.moment), now(client)
    for run, in_place in (("r1", None), ("r2", InPlace(replace=True))):
        with LosesAnswers(mongodb.uri) as server:
            targets = {database: database}
            staging = Staging(server, run, targets, everything(targets), base.moment, in_place=in_place)
            load(staging, base)
            staging.replay(entries, until)
            staging.ready(staging.finish())
            assert {"insert", "create", "applyOps", "createIndexes"} <= set(server.lost)
        assert contents_of(client, staging) == wanted


def test_an_update_that_finds_nothing_is_still_refused_where_nothing_was_lost(
    mongodb: MongoDB, client: Client, database: str
) -> None:
    live = client[database]
    live.a.insert_one({"_id": 1})
    base = take(client, database)
    live.a.update_one({"_id": 1}, {"$set": {"x": 1}})
    live.a.delete_one({"_id": 1})
    entries = oplog(client, base.moment)
    base.documents = {name: [] for name in base.documents}  # the backup lacks the document
    with Target(mongodb.uri) as server:
        targets = {database: database}
        staging = Staging(server, "r1", targets, everything(targets), base.moment)
        load(staging, base)
        with pytest.raises(LucidError) as refused:
            staging.replay(entries, now(client))
    assert refused.value.reason is Reason.REPLAY_REFUSED


def test_a_document_that_comes_back_is_as_it_came_back_when_its_batch_comes_twice(
    mongodb: MongoDB, client: Client, database: str
) -> None:
    live = client[database]
    live.a.insert_one({"_id": 1})
    begun = now(client)
    live.a.update_one({"_id": 1}, {"$set": {"x": 1}})
    live.a.delete_one({"_id": 1})
    base = take(client, database)  # read while it is not there
    live.a.insert_one({"_id": 1})
    live.a.update_one({"_id": 1}, {"$set": {"y": 1}})
    base.moment = now(client)
    with LosesAnswers(mongodb.uri) as server:
        targets = {database: database}
        staging = Staging(server, "r1", targets, everything(targets), base.moment)
        load(staging, base)
        staging.replay(oplog(client, begun), base.moment)
        staging.finish()
        assert "applyOps" in server.lost
    assert contents_of(client, staging) == {"a": content(client, database)["a"]}


def test_in_place_a_collection_that_an_application_makes_in_the_gap_is_not_taken_for_our_own(
    mongodb: MongoDB, client: Client, database: str
) -> None:
    live = client[database]
    live.a.insert_one({"_id": 1})
    base = take(client, database)

    class MakesIt(Target):
        def drop(self, database: str, name: str, uuid: bytes | None = None) -> None:
            super().drop(database, name, uuid)
            client[database][name].insert_one({"_id": "gap"})

    with MakesIt(mongodb.uri) as server:
        targets = {database: database}
        in_place = InPlace(replace=True)
        staging = Staging(server, "r1", targets, everything(targets), base.moment, in_place=in_place)
        with pytest.raises(LucidError) as refused:
            staging.define(base.definitions)
    assert "stop the application" in refused.value.message
    assert live.a.find_one() == {"_id": "gap"}


def test_a_primary_that_steps_down_in_the_middle_is_waited_for(
    private_mongodb: Callable[..., MongoDB],
) -> None:
    mongodb = private_mongodb()
    stepped: list[str] = []

    class StepsDown(Target):
        def write(
            self, database: str, command: Mapping[str, object], task: str, **more: Any
        ) -> dict[str, object]:
            name = next(iter(command))
            if name in ("insert", "applyOps", "createIndexes") and name not in stepped:
                stepped.append(name)
                with mongodb.client() as client, suppress(AutoReconnect):
                    client.admin.command({"replSetStepDown": 1, "force": True})
            return super().write(database, command, task, **more)

    with mongodb.client() as client:
        live = client.shop
        live.a.insert_many([{"_id": n} for n in range(10)])
        live.a.create_index("x", unique=True, sparse=True)
        base = take(client, "shop")
        live.a.update_one({"_id": 1}, {"$set": {"x": 1}})
        live.a.delete_one({"_id": 2})
        wanted, entries, until = content(client, "shop"), oplog(client, base.moment), now(client)
        with StepsDown(mongodb.uri) as server:
            staging = Staging(server, "r1", {"shop": "shop"}, everything(["shop"]), base.moment)
            load(staging, base)
            staging.replay(entries, until)
            staging.ready(staging.finish())
        assert len(stepped) == 3
        assert contents_of(client, staging) == wanted


def test_a_document_of_a_capped_collection_whose_insert_comes_twice_is_its_own_and_no_others(
    mongodb: MongoDB, client: Client, database: str
) -> None:
    live = client[database].create_collection("log", capped=True, size=100_000)
    live.insert_many([{"_id": n} for n in range(3)])
    begun = now(client)
    early = raw_documents(client, database, "log")
    live.delete_one({"_id": 1})
    live.insert_many([{"_id": n} for n in (1, 3, 4, 5)])
    base = take(client, database)
    base.moment = now(client)
    late = raw_documents(client, database, "log")
    base.documents[(database, "log")] = early + late[2:]  # the cursor was at the end when they were written
    with LosesAnswers(mongodb.uri, always=True) as server:
        targets = {database: database}
        staging = Staging(server, "r1", targets, everything(targets), base.moment)
        load(staging, base)
        staging.replay(oplog(client, begun), base.moment)
        (tracked,) = staging.finish()
    assert raw_documents(client, database, tracked.place.collection) == late
