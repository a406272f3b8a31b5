"""A full dump holds what a replica set of three had at one moment, byte for byte (rule 1.2, 1.7, 1.12, 1.13)."""

import logging
import threading
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64, ObjectId, Regex
from bson.raw_bson import RawBSONDocument
from dump_bed import ROLLS_OVER_SOON, Bed, Taken, apart, counting, live, newest, oldest, once, until
from pymongo import MongoClient, WriteConcern
from pymongo.errors import OperationFailure
from standalone import standalone

from lucid_storage.archive.content import Tally
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs.contract import CancelledError
from lucid_storage.jobs.mongodb_full import take_full
from lucid_storage.jobs.mongodb_scope import scope
from lucid_storage.models.backup import MongoSelection, ReadPreference
from lucid_storage.stores.mongodb.dump import pinning
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb

NOT_FOR_DRIVERS = ("a..b", "dot.")
SIMPLE = {"locale": "simple"}
SECONDARY = ReadPreference.SECONDARY_PREFERRED


def full(
    server: MongoDB,
    bed: Bed,
    *databases: str,
    collections: tuple[str, ...] = (),
    patterns: tuple[str, ...] = ("*",),
) -> Any:
    selection = None
    if databases or collections:
        selection = MongoSelection(databases=list(databases) or None, collections=list(collections) or None)
    return take_full(
        bed.run(selection=selection, patterns=patterns),
        server.uri,
        scope(("mongodb",), selection, patterns),
        SECONDARY,
    )


def at_to(taken: Taken, namespace: str) -> set[Any]:
    """The `_id`s in a collection at `to`, where documents were only inserted and deleted."""
    found = {RawBSONDocument(raw)["_id"] for raw in taken.documents.get(namespace, [])}
    for raw in taken.oplog:
        entry = bson.decode(raw)
        for op in entry["o"].get("applyOps", [entry]):
            if op["ns"] == namespace and op["op"] == "i":
                found.add(op["o"]["_id"])
            if op["ns"] == namespace and op["op"] == "d":
                found.discard(op["o"]["_id"])
    return found


def make_everything(client: MongoClient[Any], db: str) -> None:
    target = client[db]
    target.create_collection(
        "strict",
        validator={"$jsonSchema": {"required": ["a"]}},
        validationLevel="moderate",
        validationAction="warn",
        collation={"locale": "de", "strength": 2},
        changeStreamPreAndPostImages={"enabled": True},
    )
    target.strict.insert_one({"a": Decimal128("1.1"), "b": Int64(5), "c": Regex("x", "i"), "d": None})
    target.strict.create_index("a", unique=True, name="u", partialFilterExpression={"b": {"$gt": Int64(1)}})
    target.strict.create_index([("t", "text")], weights={"t": 7}, default_language="german", collation=SIMPLE)
    target.strict.create_index("e", expireAfterSeconds=3600, sparse=True, hidden=True)
    target.strict.create_index([("$**", 1)], wildcardProjection={"z": 1})
    target.strict.create_index([("p", "2d")], bits=20, min=-10, max=10, collation=SIMPLE)
    target.create_collection("capped", capped=True, size=4096, max=100)
    target.capped.insert_many([{"_id": number} for number in range(50)])
    target.create_collection("clustered", clusteredIndex={"key": {"_id": 1}, "unique": True, "name": "own"})
    target.clustered.insert_many([{"_id": number} for number in (5, 1, 3)])
    target.create_collection("weather", timeseries={"timeField": "at", "metaField": "where"})
    target.weather.insert_many([{"at": at, "where": "x", "v": 1} for at in (_date(1), _date(2))])
    target.create_collection("view", viewOn="strict", pipeline=[{"$match": {"a": {"$gt": 1}}}])
    target.create_collection("empty")
    target["wéird name.x \U0001f600"].insert_one({"_id": "ü"})
    for name in NOT_FOR_DRIVERS:
        target.command("insert", name, documents=[{"_id": number} for number in range(3)])
    target["a" * 180].insert_one({"_id": 1})
    target["system.js"].insert_one({"_id": "f", "value": "x"})
    target.large.insert_many([{"_id": n, "x": b"\1" * (16 * 1024 * 1024 - 64)} for n in range(3)])
    target.odd.insert_many([{"_id": {"a": 1}}, {"_id": None}, {"_id": ObjectId()}, {"_id": True, "": 1}])


def documents_of(client: MongoClient[Any], db: str, name: str) -> list[bytes]:
    if name not in NOT_FOR_DRIVERS:
        return live(client, db, name)
    return [bson.encode(document) for document in client[db].command("find", name)["cursor"]["firstBatch"]]


def _date(day: int) -> datetime:
    return datetime(2026, 1, day, tzinfo=UTC)


def test_everything_there_is_comes_back_byte_for_byte(
    mongodb_rs3: MongoDB, client: MongoClient[Any], db: str
) -> None:
    """rule 1.12: and the content hashes are those of the documents on the server."""
    make_everything(client, db)
    bed = Bed()
    result = full(mongodb_rs3, bed, db)
    taken = apart(bed.stored)

    described = {entry["name"]: entry for entry in client[db].list_collections()}
    ordinary = {name for name in described if not name.startswith("system.") or name == "system.js"}
    assert set(taken.entries) == {f"{db}.{name}" for name in ordinary} | {".oplog"}
    for name in ordinary:
        entry, there = taken.entries[f"{db}.{name}"], described[name]
        assert entry.options == there["options"], name
        assert entry.type == there["type"]
        if entry.type != "view":
            indexes = client[db].command("listIndexes", name)["cursor"]["firstBatch"]
            assert [list(index.items()) for index in entry.indexes] == [
                list(index.items()) for index in indexes
            ]
            place = f"system.buckets.{name}" if entry.type == "timeseries" else name
            dumped, there_now = taken.documents.get(f"{db}.{place}", []), documents_of(client, db, place)
            assert sorted(dumped) == sorted(there_now), name
            if name == "capped":
                # Of others a secondary has an order of its own.
                assert dumped == there_now

    recorded = {record.name: record for record in result.record.mongodb.collections}
    assert set(recorded) == ordinary
    for name, record in recorded.items():
        tally = Tally()
        if record.type != "view":
            place = f"system.buckets.{name}" if record.type == "timeseries" else name
            tally.add(b"".join(documents_of(client, db, place)))
        assert (record.documents, record.bytes, record.content_hash) == (
            tally.documents,
            tally.bytes,
            tally.content_hash,
        )
    assert recorded["capped"].capped
    assert result.documents == bed.done[1]
    assert result.size_bytes == bed.done[0] == bed.expected[0]
    assert result.notes == ()


def test_writers_that_count_up_are_cut_at_one_moment(
    mongodb_rs3: MongoDB, client: MongoClient[Any], db: str
) -> None:
    """rule 1.2: every write up to `to` is there and none after it."""
    names = ("a", "b", "c")
    client[db].bulk.insert_many([{"x": "y" * 1000} for _ in range(20_000)])
    bed = Bed()
    before: list[int] = []
    with counting(client, db, names) as written:
        until(lambda: written[0] > 50, "some writes")
        before.append(written[0])
        result = full(mongodb_rs3, bed, db)
        after = written[0]
        until(lambda: written[0] > after + 20, "writes after the dump")
    taken = apart(bed.stored)
    counts = [len(at_to(taken, f"{db}.{name}")) for name in names]
    for name, count in zip(names, counts, strict=True):
        assert at_to(taken, f"{db}.{name}") == set(range(1, count + 1))
    # Written in turn: whoever stops at one moment sees the same number everywhere, or one more in the first ones.
    assert counts == sorted(counts, reverse=True)
    assert counts[0] - counts[-1] <= 1
    assert before[0] <= counts[-1] <= after + 1
    inserted = {row.namespace: row.inserts for row in result.record.mongodb.operations}
    assert sum(inserted.values()) == len(taken.oplog)
    last = bson.decode(taken.oplog[-1])["ts"]
    to = result.record.mongodb.to.optime
    assert (last.time, last.inc) <= (to.seconds, to.counter)


def test_transactions_are_there_as_a_whole_or_not_at_all(
    mongodb_rs3: MongoDB, client: MongoClient[Any], db: str
) -> None:
    for name in ("a", "b"):
        client[db].create_collection(name)
    client[db].bulk.insert_many([{"x": "y" * 1000} for _ in range(20_000)])
    ended, written = threading.Event(), [0]

    def transact() -> None:
        with client.start_session() as session:
            while not ended.is_set():
                with session.start_transaction(write_concern=WriteConcern("majority")):
                    number = written[0] + 1
                    client[db].a.insert_one({"_id": number}, session=session)
                    client[db].b.insert_one({"_id": number}, session=session)
                written[0] = number

    writer = threading.Thread(target=transact)
    writer.start()
    bed = Bed()
    try:
        until(lambda: written[0] > 20, "some transactions")
        result = full(mongodb_rs3, bed, db)
    finally:
        ended.set()
        writer.join()
    taken = apart(bed.stored)
    assert (
        at_to(taken, f"{db}.a") == at_to(taken, f"{db}.b") == set(range(1, len(at_to(taken, f"{db}.a")) + 1))
    )
    rows = {row.namespace: row.inserts for row in result.record.mongodb.operations}
    assert rows.get(f"{db}.a") == rows.get(f"{db}.b") == len(taken.oplog)


def test_it_reads_a_secondary_where_there_is_one(
    mongodb_rs3: MongoDB, client: MongoClient[Any], db: str
) -> None:
    client[db].a.insert_one({})
    result = full(mongodb_rs3, Bed(), db)
    hello = client.admin.command("hello")
    assert result.record.mongodb.member in set(hello["hosts"]) - {hello["primary"]}
    assert result.record.mongodb.identity == str(
        client.admin.command("replSetGetConfig")["config"]["settings"]["replicaSetId"]
    )
    assert result.record.mongodb.version == client.server_info()["version"]


@pytest.mark.parametrize(
    ("databases", "collections", "patterns", "there"),
    [
        (("{db}",), (), ("*",), {"one.a", "one.b"}),
        ((), ("{db}.a", "{db}_two.a"), ("*",), {"one.a", "two.a"}),
        ((), (), ("{db}_t*",), {"two.a"}),
        (("{db}", "{db}_two"), (), ("*_two",), {"two.a"}),
    ],
    ids=["databases", "collections", "patterns", "databases outside the patterns"],
)
def test_it_holds_what_was_chosen_and_nothing_else(
    mongodb_rs3: MongoDB,
    client: MongoClient[Any],
    db: str,
    databases: tuple[str, ...],
    collections: tuple[str, ...],
    patterns: tuple[str, ...],
    there: set[str],
) -> None:
    def named(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name.format(db=db) for name in names)

    client[db].a.insert_one({"_id": "a"})
    client[db].b.insert_one({"_id": "b"})
    client[db].lucid_stg_run_1.insert_one({"_id": "staged"})
    client[db].lucid_old_run_1.insert_one({"_id": "moved aside"})
    client[f"{db}_two"].a.insert_one({"_id": "a2"})
    bed = Bed()

    def more() -> None:
        for name in ("a", "b", "lucid_stg_run_1"):
            client[db][name].insert_one({"_id": "later"})
        client[f"{db}_two"].a.insert_one({"_id": "later"})

    bed.gate = once(more)
    try:
        full(mongodb_rs3, bed, *named(databases), collections=named(collections), patterns=named(patterns))
    finally:
        client.drop_database(f"{db}_two")
    taken = apart(bed.stored)
    expected = {name.replace("one", db, 1).replace("two", f"{db}_two", 1) for name in there}
    assert set(taken.entries) == expected | {".oplog"}
    assert set(taken.documents) == expected
    assert {bson.decode(raw)["ns"] for raw in taken.oplog} == expected


def test_users_and_roles_are_part_of_everything_and_of_nothing_less(private_mongodb: Any) -> None:
    server: MongoDB = private_mongodb(auth=True)
    server.create_user("reader", "secret", [("readAnyDatabase", "admin")])
    server.create_user("saver", "secret", [("backup", "admin")])
    with server.client() as client:
        client.admin.command("createRole", "auditor", privileges=[], roles=[])
        client.shop.a.insert_one({"_id": 1})
    bed = Bed()
    result = take_full(
        bed.run(), server.uri_for("saver", "secret"), scope(("mongodb",), None, ("*",)), SECONDARY
    )
    taken = apart(bed.stored)
    users = {bson.decode(raw)["user"] for raw in taken.documents["admin.system.users"]}
    assert users == {"root", "reader", "saver"}
    assert [bson.decode(raw)["role"] for raw in taken.documents["admin.system.roles"]] == ["auditor"]
    assert "admin.system.version" in taken.documents
    assert {c.name for c in result.record.mongodb.collections} == {
        "a",
        "system.users",
        "system.roles",
        "system.version",
    }
    # mongorestore reads them before it begins with anything else.
    assert all(name.startswith("admin.system.") for name in list(taken.tallies)[:3])
    narrow = Bed()
    take_full(narrow.run(), server.uri_for("saver", "secret"), scope(("mongodb",), None, ("sh*",)), SECONDARY)
    assert set(apart(narrow.stored).entries) == {"shop.a", ".oplog"}


def test_a_login_without_the_right_to_the_oplog_is_told_which_right_is_missing(private_mongodb: Any) -> None:
    server: MongoDB = private_mongodb(auth=True)
    server.create_user("narrow", "secret", [("readWrite", "shop")])
    with pytest.raises(LucidError) as caught:
        take_full(
            Bed().run(), server.uri_for("narrow", "secret"), scope(("mongodb",), None, ("*",)), SECONDARY
        )
    assert caught.value.reason is Reason.ACCESS_DENIED
    assert "local.oplog.rs" in caught.value.message
    with pytest.raises(LucidError) as caught:
        take_full(
            Bed().run(), server.uri_for("narrow", "wrong"), scope(("mongodb",), None, ("*",)), SECONDARY
        )
    assert caught.value.reason is Reason.LOGIN_FAILED


def test_a_rename_of_what_is_dumped_begins_the_dump_again_once(
    mongodb_rs3: MongoDB, client: MongoClient[Any], db: str
) -> None:
    client[db].a.insert_many([{"_id": number} for number in range(10)])
    bed = Bed()
    bed.gate = once(lambda: client[db].a.rename("b"))
    full(mongodb_rs3, bed, db)
    first, second = bed.sinks
    assert first.aborted
    assert not second.aborted
    taken = apart(bed.stored)
    assert set(taken.documents) == {f"{db}.b"}
    assert bed.done[0] == bed.expected[0]


def test_definitions_that_keep_changing_fail_it_with_a_reason(
    mongodb_rs3: MongoDB, client: MongoClient[Any], db: str
) -> None:
    client[db].a.insert_one({})
    bed = Bed()
    names = iter([("a", "b"), ("b", "a")])

    def gate(size: int) -> None:
        if size and not renamed[len(bed.sinks) - 1]:
            renamed[len(bed.sinks) - 1] = True
            source, target = next(names)
            client[db][source].rename(target)

    renamed = [False, False]
    bed.gate = gate
    with pytest.raises(LucidError) as caught:
        full(mongodb_rs3, bed, db)
    assert caught.value.reason is Reason.DDL_DURING_DUMP
    assert [sink.aborted for sink in bed.sinks] == [True, True]


def test_definitions_of_others_and_those_that_replay_do_not_disturb(
    mongodb_rs3: MongoDB, client: MongoClient[Any], db: str
) -> None:
    """rule 1.7: only what touches the selection, and what the oplog cannot make good."""
    other = f"{db}_other"
    client[db].a.insert_many([{"_id": number} for number in range(10)])
    client[db].gone.insert_one({"_id": "old"})
    client[other].x.insert_one({})

    def change() -> None:
        client[other].x.rename("y")
        client[db].gone.drop()
        client[db].gone.insert_one({"_id": "new"})
        client[db].a.create_index("i")
        client[db].a.drop_index("i_1")
        client[db].command("collMod", "a", validator={"n": 1})
        client[db].late.insert_one({"_id": 1})
        client[db].create_collection("view", viewOn="a")

    bed = Bed(gate=once(change))
    try:
        full(mongodb_rs3, bed, db)
    finally:
        client.drop_database(other)
    assert len(bed.sinks) == 1
    ops = [(e["op"], e["ns"], next(iter(e["o"]))) for e in map(bson.decode, apart(bed.stored).oplog)]
    assert not [op for op in ops if other in op[1]]
    assert ("c", f"{db}.$cmd", "drop") in ops
    assert ("c", f"{db}.$cmd", "collMod") in ops
    assert ("i", f"{db}.system.views", "_id") in ops
    assert at_to(apart(bed.stored), f"{db}.late") == {1}


def test_a_cancelled_dump_leaves_nothing(mongodb_rs3: MongoDB, client: MongoClient[Any], db: str) -> None:
    client[db].a.insert_many([{"x": "y" * 1000} for _ in range(10_000)])
    bed = Bed()
    selection = MongoSelection(databases=[db])
    run = bed.run(selection=selection)
    bed.gate = once(run.cancelled.set)
    before = threading.active_count()
    with pytest.raises(CancelledError):
        take_full(run, mongodb_rs3.uri, scope(("mongodb",), selection, ("*",)), SECONDARY)
    assert [sink.aborted for sink in bed.sinks] == [True]
    until(lambda: threading.active_count() <= before, "the end of the readers")


def test_an_oplog_that_rolls_over_meanwhile_is_a_gap(private_mongodb: Any) -> None:
    server: MongoDB = private_mongodb(**ROLLS_OVER_SOON)
    with server.client() as client:
        client.shop.a.insert_one({})

        def flood() -> None:
            """Until nothing is left of the oplog from before the dump's first read."""
            begun = newest(client)

            def truncated() -> bool:
                client.shop.noise.insert_many([{"x": "y" * 50_000} for _ in range(100)])
                return oldest(client) > begun

            until(truncated, "a truncated oplog", 120)

        bed = Bed(gate=once(flood))
        with pytest.raises(LucidError) as caught:
            full(server, bed, "shop")
    assert caught.value.reason is Reason.OPLOG_GAP
    assert all(sink.aborted for sink in bed.sinks)


def test_a_member_that_dies_is_replaced_once(
    private_mongodb: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pinning, "SELECTION_MS", 6_000)
    server: MongoDB = private_mongodb(members=3)
    caplog.set_level(logging.INFO, "lucid_storage.jobs.mongodb_full")
    with server.client() as client:
        client.shop.bulk.insert_many([{"x": "y" * 1000} for _ in range(30_000)])
        killed: list[str] = []

        def kill() -> None:
            (record,) = [record for record in caplog.records if "reading from" in record.message]
            killed.append(record.message.split()[-1])
            server.kill(server.addresses.index(killed[0]))

        bed = Bed(gate=once(kill))
        result = full(server, bed, "shop")
    assert killed
    assert result.record.mongodb.member not in killed
    assert len(bed.sinks) == 2
    assert len(apart(bed.stored).documents["shop.bulk"]) == 30_000
    assert bed.done == [bed.expected[0], 30_000]


def test_a_standalone_server_is_refused(private_mongodb: Any, testbed_run: Any) -> None:
    with standalone(testbed_run.instance) as uri, pytest.raises(LucidError) as caught:
        take_full(Bed().run(), uri, scope(("mongodb",), None, ("*",)), SECONDARY)
    assert caught.value.reason is Reason.NO_OPLOG


def test_members_of_a_sharded_cluster_are_refused(private_mongodb: Any) -> None:
    server: MongoDB = private_mongodb()
    with server.client() as client:
        # What the config servers write into a shard when it is added.
        client.admin["system.version"].insert_one(
            {
                "_id": "shardIdentity",
                "shardName": "s0",
                "clusterId": ObjectId(),
                "configsvrConnectionString": "c/h:1",
            }
        )
    with pytest.raises(LucidError) as caught:
        take_full(Bed().run(), server.uri, scope(("mongodb",), None, ("*",)), SECONDARY)
    assert caught.value.reason is Reason.SHARDED_UNSUPPORTED


def test_an_empty_server_makes_an_archive_that_is_empty(private_mongodb: Any) -> None:
    server: MongoDB = private_mongodb()
    bed = Bed()
    result = full(server, bed, "nothing")
    assert result.documents == 0
    assert set(apart(bed.stored).entries) == {".oplog"}


def test_a_capped_collection_that_is_overwritten_is_read_again_and_then_whole(
    mongodb_rs3: MongoDB, client: MongoClient[Any], db: str
) -> None:
    """rule 1.13: the newest copy of each document counts, and the order at `to` is the server's."""
    client[db].create_collection("log", capped=True, size=16 * 1024 * 1024)

    def append(first: int, count: int) -> None:
        client[db].log.insert_many([{"_id": n, "x": "y" * 10_000} for n in range(first, first + count)])

    append(0, 1500)
    bed = Bed(gate=once(lambda: append(1500, 3000)))
    result = full(mongodb_rs3, bed, db)
    taken = apart(bed.stored)
    ids = [RawBSONDocument(raw)["_id"] for raw in taken.documents[f"{db}.log"]]
    assert ids[0] == 0
    assert len(ids) == next(c.documents for c in result.record.mongodb.collections)
    restarts = [n for n, (a, b) in enumerate(pairwise(ids)) if b != a + 1]
    assert len(restarts) <= 3
    at_end = [RawBSONDocument(raw)["_id"] for raw in live(client, db, "log")]
    assert set(at_end) <= at_to(taken, f"{db}.log")
    newest = list(dict.fromkeys([*ids[::-1]]))[::-1]
    appended = [e["o"]["_id"] for e in map(bson.decode, taken.oplog) if e["op"] == "i"]
    replayed = list(dict.fromkeys([*newest, *appended]))
    assert replayed[-len(at_end) :] == at_end


def test_the_oplog_of_a_dump_begins_with_the_oldest_open_transaction(private_mongodb: Any) -> None:
    """rule 1.2: `from` is older than the first read where a transaction was open then."""
    server: MongoDB = private_mongodb(parameters={"enableTestCommands": "1"})
    with server.client() as client:
        client.shop.create_collection("a")
        with client.start_session() as session:
            session.start_transaction(write_concern=WriteConcern("majority"))
            client.shop.a.insert_one({"_id": "prepared"}, session=session)
            try:
                answer = client.admin.command(
                    "prepareTransaction", writeConcern={"w": "majority"}, session=session
                )
            except OperationFailure as error:
                session.abort_transaction()
                pytest.skip(f"this server prepares no transactions of its own: {error.code}")
            client.shop.a.insert_one({"_id": "meanwhile"})
            committed = threading.Event()

            def commit() -> None:
                client.admin.command(
                    "commitTransaction",
                    commitTimestamp=answer["prepareTimestamp"],
                    writeConcern={"w": "majority"},
                    session=session,
                )
                committed.set()

            bed = Bed(gate=once(commit))
            result = full(server, bed, "shop")
            assert committed.is_set()
        taken = apart(bed.stored)
    first = bson.decode(taken.oplog[0])
    assert first["o"]["prepare"] is True
    assert first["o"]["applyOps"][0]["o"] == {"_id": "prepared"}
    start = result.record.mongodb.from_optime
    assert (first["ts"].time, first["ts"].inc) == (start.seconds, start.counter)
    assert "commitTransaction" in [next(iter(bson.decode(raw)["o"])) for raw in taken.oplog]
    (row,) = result.record.mongodb.operations
    assert (row.namespace, row.inserts) == ("shop.a", 2)
