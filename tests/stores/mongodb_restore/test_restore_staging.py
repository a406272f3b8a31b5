"""Loading and replaying on a real server: after a restore to T every write up to T is there and none after it
(rule 1.12, 1.13, 2.6, 2.7).
"""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from deployment import (
    Client,
    Snapshot,
    content,
    contents_of,
    load,
    now,
    oplog,
    parsed,
    raw_documents,
    staged,
    take,
)
from pymongo import WriteConcern
from pymongo.errors import OperationFailure

from lucid_storage.errors import DuplicateKeysError, LucidError, Reason
from lucid_storage.stores.mongodb.restore.adapter import MongoRestores
from lucid_storage.stores.mongodb.restore.catalog import Definition
from lucid_storage.stores.mongodb.restore.comparing import Expected
from lucid_storage.stores.mongodb.restore.entries import bound, entry
from lucid_storage.stores.mongodb.restore.lineage import chosen, everything, name_events
from lucid_storage.stores.mongodb.restore.staging import Staging
from lucid_storage.stores.mongodb.restore.target import Target
from lucid_storage.stores.mongodb.restore.transactions import Transactions
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb
END = bound(2**31)


def test_every_write_up_to_the_moment_is_there_and_none_after_it(
    mongodb: MongoDB, client: Client, database: str
) -> None:
    orders = client[database].orders
    orders.insert_many([{"_id": n, "n": 0} for n in range(50)])
    base = take(client, database)
    moments, states = [], []
    for step in range(30):
        orders.update_one({"_id": step}, {"$set": {"n": step}, "$push": {"log": step}})
        orders.insert_one({"_id": 1000 + step})
        orders.delete_one({"_id": 40 + step % 10})
        moments.append(now(client))
        states.append(sorted(raw_documents(client, database, "orders")))
    entries = oplog(client, base.moment)
    for place in (0, 11, 29):
        staging = staged(mongodb.uri, base, entries, moments[place], {database: database}, run=f"r{place}")
        assert contents_of(client, staging) == {"orders": states[place]}


def test_replay_leaves_every_unmapped_namespace_as_it_was(
    mongodb: MongoDB, client: Client, database: str
) -> None:
    other = f"{database}_b"
    client[database].a.insert_one({"_id": 1})
    client[other].b.insert_one({"_id": 1})
    base = take(client, database, other)
    client[database].a.insert_one({"_id": 2})
    client[other].b.delete_one({"_id": 1})
    client[database].late.insert_one({"_id": 1})
    client[database].a.rename("renamed")
    client[database].late.drop()
    client.drop_database(database)
    client[database].fresh.insert_one({"_id": 9})
    entries = oplog(client, base.moment)
    before = {name: content(client, name) for name in (database, other)}
    try:
        staging = staged(mongodb.uri, base, entries, END, {database: database})
        assert {name: content(client, name) for name in (database, other)} == before
        assert [tracked.name[1] for tracked in staging.catalog.finished()] == ["fresh"]
    finally:
        client.drop_database(other)


def test_transactions_are_whole_on_either_side_of_the_moment(
    mongodb: MongoDB, client: Client, database: str
) -> None:
    ledger = client[database].ledger
    ledger.insert_many([{"_id": "a", "n": 100}, {"_id": "b", "n": 0}])
    base = take(client, database)
    moments = []
    big = "x" * 6_000_000
    with client.start_session() as session:
        for step in range(3):
            with session.start_transaction():
                ledger.update_one({"_id": "a"}, {"$inc": {"n": -10}}, session=session)
                ledger.update_one({"_id": "b"}, {"$inc": {"n": 10}}, session=session)
                # More than one entry's 16 MiB: a chain of entries.
                for part in range(3):
                    ledger.replace_one(
                        {"_id": f"big{part}"}, {"n": 0, "x": big, "s": step}, True, session=session
                    )
            committed = session.operation_time  # others write to this server too
            assert committed is not None
            moments.append((committed.time, committed.inc))
    entries = oplog(client, base.moment)
    staging = staged(mongodb.uri, base, entries, moments[1], {database: database})
    (documents,) = contents_of(client, staging).values()
    found = {document["_id"]: document for document in parsed(documents)}
    assert (found["a"]["n"], found["b"]["n"]) == (80, 20)
    assert {found[f"big{part}"]["s"] for part in range(3)} == {1}
    before_commit = (moments[1][0], moments[1][1] - 1)
    staging = staged(mongodb.uri, base, entries, before_commit, {database: database}, run="r2")
    (documents,) = contents_of(client, staging).values()
    assert {d["_id"]: d["n"] for d in parsed(documents)}["a"] == 90
    assert staging.replayed.transactions == 1


def test_a_prepared_transaction_counts_from_its_commit(private_mongodb: object, database: str) -> None:
    server: MongoDB = private_mongodb(parameters={"enableTestCommands": "1"})  # type: ignore[operator]
    with server.client() as client:
        ledger = client[database].get_collection("ledger", write_concern=WriteConcern("majority"))
        ledger.insert_one({"_id": 1, "n": 0})
        base = take(client, database)
        with client.start_session() as session:
            session.start_transaction()
            ledger.update_one({"_id": 1}, {"$set": {"n": 1}}, session=session)
            prepared = client.admin.command("prepareTransaction", session=session)
            client[database].other.insert_one({"_id": 1})
            between = now(client)
            client.admin.command(
                {"commitTransaction": 1, "commitTimestamp": prepared["prepareTimestamp"]}, session=session
            )
            after = now(client)
            with pytest.raises(OperationFailure):
                session.abort_transaction()
                raise OperationFailure("the session forgets its transaction")
        entries = oplog(client, base.moment)
        for moment, n in ((between, 0), (after, 1)):
            staging = staged(server.uri, base, entries, moment, {database: database}, run=f"p{n}")
            assert [d["n"] for d in parsed(contents_of(client, staging)["ledger"])] == [n]


def test_a_unique_key_deleted_and_inserted_again_is_restored(
    mongodb: MongoDB, client: Client, database: str
) -> None:
    people = client[database].people
    people.create_index("mail", unique=True)
    people.insert_many([{"_id": n, "mail": f"m{n}"} for n in range(20)])
    base = take(client, database)
    for n in range(20):
        people.delete_one({"_id": n})
        people.insert_one({"_id": 100 + n, "mail": f"m{19 - n}x"})
        people.insert_one({"_id": 200 + n, "mail": f"m{n}"})
    staging = staged(mongodb.uri, base, oplog(client, base.moment), END, {database: database})
    assert contents_of(client, staging) == content(client, database)
    (tracked,) = staging.catalog.finished()
    assert client[database][tracked.place.collection].index_information()["mail_1"]["unique"]


def test_duplicates_fail_the_build_and_leave_the_target(
    mongodb: MongoDB, client: Client, database: str
) -> None:
    base = Snapshot(
        now(client),
        [Definition(database, "people", indexes=({"v": 2, "key": {"m": 1}, "name": "m_1", "unique": True},))],
        {(database, "people"): [bson.encode({"_id": n, "m": 1}) for n in range(2)]},
    )
    client[database].people.insert_one({"_id": 7})
    before = content(client, database)
    with pytest.raises(DuplicateKeysError) as failed:
        staged(mongodb.uri, base, [], END, {database: database})
    assert "nothing was swapped" in failed.value.message
    assert content(client, database) == before


def test_options_and_indexes_come_back(mongodb: MongoDB, client: Client, database: str) -> None:
    live = client[database]
    live.create_collection(
        "everything",
        validator={"n": {"$gte": 0}},
        validationLevel="moderate",
        validationAction="warn",
        collation={"locale": "fr"},
        changeStreamPreAndPostImages={"enabled": True},
    )
    live.create_collection("log", capped=True, size=65536, max=100)
    live.create_collection(
        "byid", clusteredIndex={"key": {"_id": 1}, "unique": True}, expireAfterSeconds=3600
    )
    live.everything.create_index("at", expireAfterSeconds=3600)
    live.everything.create_index([("a", 1), ("b", -1)], unique=True, sparse=True)
    live.everything.create_index([("t", "text")], default_language="french", collation={"locale": "simple"})
    live.everything.create_index("p", partialFilterExpression={"n": {"$gt": 5}})
    live.everything.create_index([("$**", 1)], wildcardProjection={"w": 1})
    live.everything.create_index("hid", hidden=True)
    base = take(client, database)
    live.everything.create_index("later")
    live.everything.drop_index("p_1")
    live.command({"collMod": "everything", "index": {"name": "hid_1", "hidden": False}})
    live.command({"collMod": "log", "cappedSize": 131072})
    staging = staged(mongodb.uri, base, oplog(client, base.moment), END, {database: database})
    options = {found["name"]: found["options"] for found in live.list_collections()}
    for tracked in staging.catalog.finished():
        wanted = {
            key: value for key, value in options[tracked.name[1]].items() if key != "expireAfterSeconds"
        }
        assert options[tracked.place.collection] == wanted
        indexes = live[tracked.name[1]].index_information()
        for index in indexes.values():
            index.pop("expireAfterSeconds", None)  # comes after the last rename
        assert live[tracked.place.collection].index_information() == indexes


def test_a_capped_collection_keeps_its_order(mongodb: MongoDB, client: Client, database: str) -> None:
    log = client[database].create_collection("log", capped=True, size=1_000_000)
    log.insert_many([{"_id": (n * 7919) % 1009, "x": "y" * 200} for n in range(1000)])
    base = take(client, database)
    log.insert_many([{"_id": 5000 - n} for n in range(10)])
    staging = staged(mongodb.uri, base, oplog(client, base.moment), END, {database: database})
    (tracked,) = staging.catalog.finished()
    assert raw_documents(client, database, tracked.place.collection) == raw_documents(client, database, "log")


def test_views_are_kept_as_definitions(mongodb: MongoDB, client: Client, database: str) -> None:
    live = client[database]
    live.a.insert_one({"_id": 1})
    live.command({"create": "kept", "viewOn": "a", "pipeline": [{"$match": {"_id": 1}}]})
    live.command({"create": "gone", "viewOn": "a", "pipeline": []})
    base = take(client, database)
    live.command({"create": "made", "viewOn": "a", "pipeline": []})
    live.command({"collMod": "kept", "viewOn": "a", "pipeline": [{"$match": {"_id": 2}}]})
    live.gone.drop()
    staging = staged(mongodb.uri, base, oplog(client, base.moment), END, {database: database})
    assert [(view.name, [dict(stage) for stage in view.pipeline]) for view in staging.views] == [
        ("kept", [{"$match": bson.raw_bson.RawBSONDocument(bson.encode({"_id": 2}))}]),
        ("made", []),
    ]


class TestTimeSeries:
    """Not stageable: loaded under its own name, if that is absent or empty (rule 2.7)."""

    def base(self, client: Client, database: str) -> Snapshot:
        live = client[database]
        live.create_collection(
            "ts", timeseries={"timeField": "t", "metaField": "m"}, expireAfterSeconds=10**8
        )
        live.ts.create_index([("m", 1), ("t", 1)])
        live.ts.insert_many(
            [{"t": datetime(2026, 1, 1, 0, 0, s, tzinfo=UTC), "m": s % 2, "v": s} for s in range(20)]
        )
        return take(client, database)

    def test_it_comes_back_with_what_was_written_later(
        self, mongodb: MongoDB, client: Client, database: str
    ) -> None:
        base, target = self.base(client, database), f"{database}_t"
        client[database].ts.insert_one({"t": datetime(2026, 1, 2, tzinfo=UTC), "m": 1, "v": 99})
        client[database].ts.create_index("v")
        client[database].create_collection("ts2", timeseries={"timeField": "t"})
        client[database].ts2.insert_one({"t": datetime(2026, 1, 2, tzinfo=UTC), "v": 1})
        entries = oplog(client, base.moment)
        try:
            staged(mongodb.uri, base, entries, END, {database: target})
            for name in ("ts", "ts2"):
                assert list(client[target][name].find()) == list(client[database][name].find())
            wanted = client[database].ts.index_information()
            assert client[target].ts.index_information() == wanted
        finally:
            client.drop_database(target)

    def test_documents_in_it_refuse_the_restore(
        self, mongodb: MongoDB, client: Client, database: str
    ) -> None:
        base = self.base(client, database)
        with pytest.raises(LucidError) as failed:
            staged(mongodb.uri, base, [], END, {database: database})
        assert failed.value.reason is Reason.TARGET_NOT_EMPTY

    def test_what_was_made_for_it_is_discarded(self, mongodb: MongoDB, client: Client, database: str) -> None:
        base, target = self.base(client, database), f"{database}_t"
        with Target(mongodb.uri) as server:
            staging = Staging(server, "r1", {database: target}, everything([database]), base.moment)
            load(staging, base)
            assert client[target].ts.count_documents({}) == 20
            staging.discard()
        assert content(client, target) == {}
        client.drop_database(target)

    @pytest.mark.parametrize("by_operator", [False, True])
    async def test_an_empty_one_that_was_there_gives_back_only_what_the_run_put_into_it(
        self, mongodb: MongoDB, client: Client, database: str, by_operator: bool
    ) -> None:
        base, target = self.base(client, database), f"{database}_t"
        client[database].ts.insert_one({"t": datetime(2026, 1, 2, tzinfo=UTC), "m": 1, "v": 99})
        entries = oplog(client, base.moment)
        client[target].create_collection("ts", timeseries={"timeField": "t", "metaField": "m"})
        theirs = {"_id": 1, "t": datetime(2025, 1, 1, tzinfo=UTC), "m": "theirs", "v": 1}
        try:
            with Target(mongodb.uri) as server:
                staging = Staging(server, "r1", {database: target}, everything([database]), base.moment)
                load(staging, base)
                staging.replay(entries, END)
                client[target].ts.insert_one(theirs)
                assert client[target].ts.count_documents({}) == 22
                if by_operator:
                    port = MongoRestores(mongodb.uri, label="MongoDB", app_name="t", guard=lambda: None)
                    assert await port.discard("r1", [target])
                    await port.close()
                else:
                    staging.discard()
            assert [(d["_id"], d["m"]) for d in client[target].ts.find()] == [(1, "theirs")]
            assert not [n for n in client[target].list_collection_names() if n.startswith("lucid_stg_r1")]
        finally:
            client.drop_database(target)

    def test_one_that_was_made_anew_by_somebody_is_left_alone(
        self, mongodb: MongoDB, client: Client, database: str
    ) -> None:
        base, target = self.base(client, database), f"{database}_t"
        try:
            with Target(mongodb.uri) as server:
                staging = Staging(server, "r1", {database: target}, everything([database]), base.moment)
                load(staging, base)
                client[target].drop_collection("ts")
                client[target].ts.insert_one({"_id": "theirs"})
                staging.discard()
            assert list(client[target].ts.find()) == [{"_id": "theirs"}]
        finally:
            client.drop_database(target)


def test_chosen_collections_come_with_their_history(mongodb: MongoDB, client: Client, database: str) -> None:
    live = client[database]
    live.a.insert_one({"_id": 1})
    live.other.insert_one({"_id": 1})
    base = take(client, database)
    live.a.insert_one({"_id": 2})
    live.a.rename("b")
    live.a.insert_one({"_id": 77})
    with client.start_session() as session, session.start_transaction():
        live.b.insert_one({"_id": 3}, session=session)
        live.other.insert_one({"_id": 3}, session=session)
    entries = oplog(client, base.moment)
    transactions, events = Transactions(), []
    for raw in entries:
        unit = transactions.feed(entry(raw))
        events.extend(name_events(unit) if unit else ())
    lineage = chosen([(database, "b")], events)
    staging = staged(mongodb.uri, base, entries, END, {database: database}, lineage=lineage)
    assert {
        name: [d["_id"] for d in parsed(found)] for name, found in contents_of(client, staging).items()
    } == {"b": [1, 2, 3]}
    assert staging.replayed.cut_transactions == 1


def test_an_aggregation_that_replaces_a_collection_is_followed(
    mongodb: MongoDB, client: Client, database: str
) -> None:
    live = client[database]
    live.a.insert_many([{"_id": n, "g": n % 3} for n in range(9)])
    live.sums.insert_one({"_id": "old"})
    base = take(client, database)
    live.a.aggregate([{"$group": {"_id": "$g", "n": {"$sum": 1}}}, {"$out": "sums"}])
    live.sums.insert_one({"_id": "new"})
    staging = staged(mongodb.uri, base, oplog(client, base.moment), END, {database: database})
    assert contents_of(client, staging) == content(client, database)


def test_a_document_that_changed_during_the_dump_ends_as_it_was_at_its_end(
    mongodb: MongoDB, client: Client, database: str
) -> None:
    live = client[database].a
    live.insert_many([{"_id": n} for n in range(10)])
    begin = now(client)
    live.update_one({"_id": 1}, {"$set": {"x": 1}})
    live.update_one({"_id": 2}, {"$set": {"x": 1}})
    live.delete_one({"_id": 2})
    live.insert_one({"_id": 3000})
    live.delete_one({"_id": 5})
    live.insert_one({"_id": 5, "again": True})
    base = take(client, database)
    base.documents[(database, "a")].append(bson.encode({"_id": 5, "again": True}))
    base.documents[(database, "a")].insert(0, bson.encode({"_id": 1}))
    base.documents[(database, "a")].pop()  # 5 came once
    staging = staged(mongodb.uri, base, oplog(client, begin), END, {database: database})
    assert contents_of(client, staging) == content(client, database)


def test_a_second_copy_of_a_document_takes_the_place_of_the_first(
    mongodb: MongoDB, client: Client, database: str
) -> None:
    first, second = {"_id": 1, "n": "first"}, {"_id": 1, "n": "second"}
    documents = [bson.encode(document) for document in (first, {"_id": 2}, second)]
    base = Snapshot(now(client), [Definition(database, "a")], {(database, "a"): documents})
    staging = staged(mongodb.uri, base, [], END, {database: database})
    assert parsed(contents_of(client, staging)["a"]) == [{"_id": 2}, second]


@pytest.mark.parametrize("between", [1, 60_000])
def test_a_document_deleted_and_inserted_again_as_it_was_is_one_document(
    mongodb: MongoDB, client: Client, database: str, between: int
) -> None:
    """The dump meets it twice with equal bytes: in one batch, and in two of them."""
    twice = bson.encode({"_id": -1, "n": "equal"})
    documents = [twice, *(bson.encode({"_id": n}) for n in range(between)), twice]
    base = Snapshot(now(client), [Definition(database, "a")], {(database, "a"): [twice]})
    with Target(mongodb.uri) as server:
        staging = Staging(server, "r1", {database: database}, everything([database]), base.moment)
        staging.define(base.definitions)
        tracked = staging.tracked((database, "a"))
        assert tracked is not None
        with staging.loader() as loader:
            for start in range(0, len(documents), 20_000):
                part = documents[start : start + 20_000]
                loader.add(tracked, b"".join(part), len(part))
            loader.flush()
            staging.check_loaded(loader)
            assert (loader.loaded(tracked).replaced, loader.loaded(tracked).undecided) == (1, 0)
    assert len(contents_of(client, staging)["a"]) == between + 1


class LosesAnAnswer(Target):
    """The server does what it is told, and the answer to one insert is lost on its way."""

    lost = False

    def write(
        self, database: str, command: Mapping[str, object], task: str, **more: Any
    ) -> dict[str, object]:
        if "insert" in command and not self.lost:
            self.lost = True
            super().write(database, command, task, **more)
            more["sent_again"]()
        return super().write(database, command, task, **more)


def test_a_batch_whose_answer_was_lost_is_counted_once(
    mongodb: MongoDB, client: Client, database: str
) -> None:
    documents = [bson.encode({"_id": n}) for n in range(10)]
    base = Snapshot(now(client), [Definition(database, "a")], {(database, "a"): documents})
    with LosesAnAnswer(mongodb.uri) as server:
        staging = Staging(server, "r1", {database: database}, everything([database]), base.moment)
        load(staging, base)
        assert server.lost
    assert contents_of(client, staging)["a"] == sorted(documents)


def test_a_backup_that_is_not_what_its_manifest_says_is_refused(
    mongodb: MongoDB, client: Client, database: str
) -> None:
    base = Snapshot(now(client), [Definition(database, "a")], {(database, "a"): [bson.encode({"_id": 1})]})
    with Target(mongodb.uri) as server:
        staging = Staging(server, "r1", {database: database}, everything([database]), base.moment)
        staging.define(base.definitions)
        with staging.loader() as loader:
            tracked = staging.tracked((database, "a"))
            assert tracked is not None
            loader.add(tracked, base.documents[(database, "a")][0], 1)
            loader.flush()
            for expected in (Expected(2, "x"), Expected(1, "y")):
                with pytest.raises(LucidError) as failed:
                    staging.compare(loader, {(database, "a"): expected}, {(database, "a"): "x"})
                assert failed.value.reason is Reason.COUNT_MISMATCH


def test_staging_survives_an_election(private_mongodb: object) -> None:
    server: MongoDB = private_mongodb(members=3)  # type: ignore[operator]
    name = f"t{uuid.uuid4().hex[:6]}"
    with server.client() as client:
        live = client[name].a
        live.insert_many([{"_id": n, "x": "y" * 1000} for n in range(20_000)])
        base = take(client, name)
        with Target(server.uri) as target:
            staging = Staging(target, "r1", {name: name}, everything([name]), base.moment)
            staging.define(base.definitions)
            documents = base.documents[(name, "a")]
            with staging.loader() as loader:
                tracked = staging.tracked((name, "a"))
                assert tracked is not None
                for start in range(0, len(documents), 1000):
                    if start == 10_000:
                        server.kill(server.primary())
                    loader.add(tracked, b"".join(documents[start : start + 1000]), 1000)
                loader.flush()
                staging.check_loaded(loader)
            assert sorted(documents) == contents_of(client, staging)["a"]


def test_a_clustered_collection_that_was_made_capped_comes_back_capped(
    mongodb: MongoDB, client: Client, database: str
) -> None:
    """The server lists it as both, and makes none that is both."""
    live = client[database]
    live.create_collection("log", clusteredIndex={"key": {"_id": 1}, "unique": True})
    live.log.insert_many([{"_id": n} for n in range(5)])
    begun = take(client, database)
    live.command("convertToCapped", "log", size=100_000)
    live.log.insert_one({"_id": 5})
    until = now(client)
    converted = take(client, database)
    for run, base, entries in (("r1", converted, []), ("r2", begun, oplog(client, begun.moment))):
        staging = staged(mongodb.uri, base, entries, until, {database: database}, run=run)
        assert contents_of(client, staging) == {"log": sorted(converted.documents[(database, "log")])}
        (tracked,) = staging.catalog.finished()
        made = client[database][tracked.place.collection]
        assert made.options()["capped"] is True
        assert list(made.index_information()) == ["_id_"]
