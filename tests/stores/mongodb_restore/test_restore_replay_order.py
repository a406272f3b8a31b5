"""An update that finds nothing is passed over or refused in its place; what a batch holds behind it stays behind it."""

import random
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import pytest
from deployment import Client, content, contents_of, load, now, oplog, parsed, raw_documents, staged, take
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError, WriteError

from lucid_storage.errors import LucidError, Reason
from lucid_storage.stores.mongodb.restore.catalog import Place
from lucid_storage.stores.mongodb.restore.lineage import everything
from lucid_storage.stores.mongodb.restore.replaying import AFTER_FAILURE, Replayer
from lucid_storage.stores.mongodb.restore.rewriting import Write
from lucid_storage.stores.mongodb.restore.staging import Staging
from lucid_storage.stores.mongodb.restore.target import Target
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb


@pytest.fixture
def other(client: Client, database: str) -> Iterator[str]:
    yield f"{database}_t"
    client.drop_database(f"{database}_t")


def test_a_document_that_comes_back_does_not_get_the_updates_of_the_one_before_it(
    mongodb: MongoDB, client: Client, database: str, other: str
) -> None:
    jobs = client[database].jobs
    jobs.insert_many([{"_id": n, "state": "new"} for n in range(3)])
    begun = now(client)  # a full's `from`
    jobs.update_many({}, {"$set": {"state": "done", "paid": True}})
    jobs.delete_many({})
    base = take(client, database)  # the collection is read here: the documents are not there
    jobs.insert_many([{"_id": n, "state": "new"} for n in (0, 2)])
    jobs.update_one({"_id": 2}, {"$set": {"state": "begun"}})
    base.moment = now(client)  # its `to`
    staging = staged(mongodb.uri, base, oplog(client, begun), base.moment, {database: other})
    wanted = [{"_id": 0, "state": "new"}, {"_id": 2, "state": "begun"}]
    assert parsed(contents_of(client, staging)["jobs"]) == wanted


def test_an_update_that_finds_nothing_behind_the_dump_is_refused_though_its_document_comes_back(
    mongodb: MongoDB, client: Client, database: str, other: str
) -> None:
    jobs = client[database].jobs
    jobs.insert_one({"_id": 1, "state": "new"})
    base = take(client, database)
    jobs.update_one({"_id": 1}, {"$set": {"state": "done"}})
    jobs.delete_one({"_id": 1})
    jobs.insert_one({"_id": 1, "state": "new"})
    entries = oplog(client, base.moment)
    base.documents = {name: [] for name in base.documents}  # the backup lacks the document
    with Target(mongodb.uri) as server:
        staging = Staging(server, "r1", {database: other}, everything([database]), base.moment)
        load(staging, base)
        with pytest.raises(LucidError) as refused:
            staging.replay(entries, now(client))
    assert refused.value.reason is Reason.REPLAY_REFUSED


class StopsAtFailures(Target):
    """Behaves as servers do that apply nothing behind an operation that failed."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.sizes: list[int] = []

    def write(
        self, database: str, command: Mapping[str, object], task: str, **more: Any
    ) -> dict[str, object]:
        operations = command.get("applyOps")
        if not isinstance(operations, list):
            return super().write(database, command, task, **more)
        self.sizes.append(len(operations))
        for place, operation in enumerate(operations):
            answer = super().write(database, {**command, "applyOps": [operation]}, task, **more)
            if not answer.get("ok"):
                return {"ok": 0, "code": 218, "results": [True] * place + [False]}
        return {"ok": 1, "results": [True] * len(operations)}


def test_a_server_that_stops_at_a_failure_gets_the_rest_in_order_and_in_small_parts(
    mongodb: MongoDB, client: Client, database: str, other: str
) -> None:
    jobs = client[database].jobs
    jobs.insert_many([{"_id": n, "state": "new"} for n in range(4)])
    begun = now(client)
    jobs.update_many({}, {"$set": {"state": "done"}})
    jobs.delete_many({"_id": {"$lt": 3}})
    base = take(client, database)
    jobs.insert_many([{"_id": n, "state": "new"} for n in range(3)])
    jobs.insert_many([{"_id": n} for n in range(10, 20 + AFTER_FAILURE)])
    base.moment = now(client)
    with StopsAtFailures(mongodb.uri) as server:
        staging = Staging(server, "r1", {database: other}, everything([database]), base.moment)
        load(staging, base)
        staging.replay(oplog(client, begun), base.moment)
        staging.finish()
    wanted = {"jobs": sorted(raw_documents(client, database, "jobs"))}
    assert contents_of(client, staging) == wanted
    assert max(server.sizes[1:]) == AFTER_FAILURE


def test_what_failed_before_an_operation_that_is_passed_over_is_judged_too() -> None:
    """By its version the server goes on behind an update that finds nothing, and ends at what it refuses."""

    class GoesOn(Target):
        def write(
            self, database: str, command: Mapping[str, object], task: str, **more: Any
        ) -> dict[str, object]:
            return {"ok": 0, "code": 13596, "results": [False, False]}

        def wait_for_secondaries(self) -> None:
            pass

    key = {"_id": "bob"}
    update: dict[str, object] = {"op": "u", "ns": "shop.lucid_stg_r_1", "o": {**key, "n": 1}, "o2": key}
    writes = [
        Write(Place("shop", "lucid_stg_r_1"), update, lenient, ("shop", "c")) for lenient in (False, True)
    ]
    with GoesOn("mongodb://127.0.0.1:1/") as server:
        replayer = Replayer(server)
        replayer.apply(writes)
        with pytest.raises(LucidError) as refused:
            replayer.flush()
    assert refused.value.reason is Reason.REPLAY_REFUSED


def write_something(collection: Collection[Any], chance: random.Random) -> None:
    """Few keys, so that documents go and come back again and again."""
    key, other = {"_id": chance.randrange(8)}, {"_id": chance.randrange(8)}
    fresh = {"n": 0, "list": [1, {"q": 1}, 3], "deep": {"er": {"x": 1}}}
    change = chance.choice(
        [
            {"$inc": {"n": 1, "deep.er.count": 1}},
            {"$push": {"list": {"$each": [chance.random()], "$position": 0}}},
            {"$pop": {"list": 1}},
            {"$set": {"list.1": {"q": chance.random()}}},
            {"$set": {"list": [1, 2]}, "$unset": {"deep": 1}},
            [{"$set": {"deep": {"er": {"x": {"$add": ["$_id", chance.randrange(9)]}}}}}],
            {"$rename": {"n": "m"}},
        ]
    )
    kind = chance.choice(["insert"] * 3 + ["delete"] * 3 + ["update"] * 4 + ["upsert", "replace", "move"])
    with suppress(DuplicateKeyError, WriteError):
        if kind == "insert":
            collection.insert_one({**key, **fresh})
        elif kind == "delete":
            collection.delete_one(key)
        elif kind == "update":
            collection.update_one(key, change)
        elif kind == "upsert":
            collection.update_one(key, {"$set": {"up": chance.random()}}, upsert=True)
        elif kind == "replace":
            collection.replace_one(key, {"replaced": chance.random()})
        else:  # in one transaction
            with collection.database.client.start_session() as session, session.start_transaction():
                if (found := collection.find_one_and_delete(key, session=session)) is not None:
                    collection.replace_one(other, {**found, **other}, upsert=True, session=session)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_written_while_collections_are_read_is_there_as_it_ended(
    mongodb: MongoDB, client: Client, database: str, other: str, seed: int
) -> None:
    chance = random.Random(seed)
    collections = [client[database][f"c{n}"] for n in range(10)]

    def work(steps: int) -> None:
        for _ in range(steps):
            write_something(chance.choice(collections), chance)

    for collection in collections:
        collection.insert_one({"_id": "first"})
    work(100)
    begun = now(client)
    work(100)
    base = take(client, database)
    for place in base.documents:
        work(30)
        base.documents[place] = raw_documents(client, *place)
    work(60)
    base.moment = now(client)
    work(60)
    wanted, until = content(client, database), now(client)
    staging = staged(mongodb.uri, base, oplog(client, begun), until, {database: other})
    assert contents_of(client, staging) == wanted
