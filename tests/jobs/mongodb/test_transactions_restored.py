"""Transactions over every edge are in the slices as a whole, count where they are committed, and come back at that
moment and not before it (rule 1.3, 2.5)."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from chain_bed import Chain, one_line
from dump_bed import inserted, once
from pymongo import MongoClient, WriteConcern
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure
from restore_bed import numbers, restored

from lucid_storage.archive.manifest import Manifest
from lucid_storage.models.backup import BackupType, MongoSelection
from lucid_storage.stores.mongodb.dump.oplog import Oplog
from lucid_storage.stores.mongodb.dump.optimes import OpTime, optime
from testbed.pytest_stores import private
from testbed.stores.mongodb import MongoDB
from testbed.testrun import TestRun

pytestmark = pytest.mark.mongodb

FULL, INCREMENTAL, DIFFERENTIAL = BackupType.FULL, BackupType.INCREMENTAL, BackupType.DIFFERENTIAL
MAJORITY = WriteConcern("majority")


@pytest.fixture(scope="module")
def server(testbed_run: TestRun) -> Iterator[MongoDB]:
    """Prepares transactions of its own, and writes each as many entries as otherwise one of 16 MiB."""
    parameters = {"enableTestCommands": "1", "maxNumberOfTransactionOperationsInSingleOplogEntry": "2"}
    with contextmanager(private)(testbed_run, MongoDB, "mongodb") as make:
        yield make(parameters=parameters)


@pytest.fixture
def client(server: MongoDB) -> Iterator[MongoClient[Any]]:
    with server.client() as made:
        for name in ("a", "c"):
            made.shop.create_collection(name)
        made.other.create_collection("b")
        yield made
        for database in ("shop", "other", "shop_t"):
            made.drop_database(database)


@pytest.fixture
def chain(server: MongoDB, tmp_path: Path) -> Iterator[Chain]:
    with closing(Chain(tmp_path, server.uri, MongoSelection(databases=["shop"]))) as made:
        yield made


class Transaction:
    """One that inserts three documents into each of three collections, of which the chain knows two."""

    def __init__(self, client: MongoClient[Any], session: ClientSession, name: str) -> None:
        self.client, self.session, self.name = client, session, name
        session.start_transaction(write_concern=MAJORITY)
        for number in range(3):
            for collection in (client.shop.a, client.other.b, client.shop.c):
                collection.insert_one({"_id": f"{name}-{number}"}, session=session)

    @property
    def ids(self) -> list[str]:
        return [f"{self.name}-{number}" for number in range(3)]

    def prepare(self) -> None:
        """Skips the test where a server does not do that but for a sharded cluster."""
        command = {"prepareTransaction": 1, "writeConcern": {"w": "majority"}}
        try:
            answer = self.client.admin.command(command, session=self.session)
        except OperationFailure as error:
            self.session.abort_transaction()
            pytest.skip(f"this server prepares no transactions of its own: {error.code}")
        self._at = answer["prepareTimestamp"]

    def commit_prepared(self) -> None:
        command = {"commitTransaction": 1, "commitTimestamp": self._at, "writeConcern": {"w": "majority"}}
        self.client.admin.command(command, session=self.session)


def test_a_prepared_one_is_carried_on_over_the_edge_of_a_slice(
    client: MongoClient[Any], chain: Chain
) -> None:
    chain.back_up(FULL)
    with client.start_session() as session:
        edge = Transaction(client, session, "edge")
        edge.prepare()
        assert chain.slicer().step().ok
        edge.commit_prepared()
    # Somebody else carries on: what was read before the edge is not in its memory.
    assert chain.slicer().step().ok
    first, second = chain.slices()
    prepared = chain.oplog(first)
    assert prepared[-1]["o"]["prepare"] is True
    assert {op["ns"] for entry in prepared for op in entry["o"]["applyOps"]} == {"shop.a", "shop.c"}
    assert [next(iter(e["o"])) for e in chain.oplog(second)] == ["commitTransaction"]
    assert operations(first) == set()
    assert operations(second) == {("shop.a", 3), ("shop.c", 3)}


def test_prepared_ones_over_the_edges_of_slices_and_fulls(client: MongoClient[Any], chain: Chain) -> None:
    client.shop.a.insert_one({"_id": "before"})
    first = chain.back_up(FULL)
    with ExitStack() as open_:
        committed, aborted, during = (
            Transaction(client, open_.enter_context(client.start_session()), name)
            for name in ("committed", "aborted", "during")
        )
        for one in (committed, aborted, during):
            one.prepare()
        prepared = chain.back_up(INCREMENTAL)
        client.shop.a.insert_one({"_id": "meanwhile"})
        second = chain.back_up(FULL, gate=once(during.commit_prepared))
        undecided = chain.back_up(INCREMENTAL)
        committed.commit_prepared()
        aborted.session.abort_transaction()
        decided = chain.back_up(INCREMENTAL)
        since_second = chain.back_up(DIFFERENTIAL)
    one_line(chain.slices())
    meanwhile = ["before", *during.ids, "meanwhile"]
    at_end = ["before", *committed.ids, *during.ids, "meanwhile"]
    assert at_end == numbers(client, "shop", "a")
    expected = {
        prepared.id: ["before"],
        second.id: meanwhile,
        undecided.id: meanwhile,
        decided.id: at_end,
        since_second.id: at_end,
    }
    for backup, there in expected.items():
        assert restored(chain, backup, target_database="shop_t").ok
        assert numbers(client, "shop_t", "a") == there
        assert numbers(client, "shop_t", "c") == [one for one in there if "-" in one]
    # Without the second full everything comes from slices behind the first one.
    chain.place.store.delete(chain.place.folder.manifest(second.id))
    told = restored(chain, decided.id, target_database="shop_t", plan_only=True)
    assert told.plan is not None
    assert told.plan.chain[0] == first.id
    assert restored(chain, decided.id, target_database="shop_t").ok
    assert numbers(client, "shop_t", "a") == at_end


def test_one_of_several_entries_that_the_end_of_a_slice_parts(
    client: MongoClient[Any], chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A majority may have the first entries of a transaction before it has the last."""
    chain.back_up(FULL)
    with client.start_session() as session:
        parted = Transaction(client, session, "parted")
        session.commit_transaction()
    edge = partial_entry(client)
    with monkeypatch.context() as patched:
        patched.setattr(Oplog, "last", lambda self: self.point(edge))
        assert chain.slicer().step().ok
    # Somebody else carries on: what was read before the edge is not in its memory.
    last = chain.back_up(INCREMENTAL)
    begun, ended = chain.slices()
    one_line([begun, ended])
    assert begun.mongodb is not None
    assert begun.mongodb.to.optime.counter == edge.counter
    assert operations(begun) == set()
    assert operations(ended) == {("shop.a", 3), ("shop.c", 3)}
    assert restored(chain, last.id, target_database="shop_t").ok
    assert numbers(client, "shop_t", "a") == numbers(client, "shop_t", "c") == parted.ids


def partial_entry(client: MongoClient[Any]) -> OpTime:
    """Where the newest transaction of several entries is parted in two."""
    entries = client.local["oplog.rs"].find({"o.partialTxn": True}, sort=[("$natural", -1)])
    found = optime(next(entries))
    assert found is not None
    return found


def test_one_of_several_entries_is_cut_to_the_selection_and_whole_in_what_is_chosen(
    client: MongoClient[Any], chain: Chain
) -> None:
    chain.back_up(FULL)
    with client.start_session() as session:
        cut = Transaction(client, session, "cut")
        session.commit_transaction()
    last = chain.back_up(INCREMENTAL)
    (piece,) = chain.slices()
    entries = [entry for entry in chain.oplog(piece) if "applyOps" in entry["o"]]
    assert len(entries) > 1
    assert all(entry["prevOpTime"]["ts"].time for entry in entries[1:])
    assert {op["ns"] for entry in entries for op in entry["o"]["applyOps"]} == {"shop.a", "shop.c"}
    assert inserted(entries, "shop.a") == cut.ids
    assert operations(piece) == {("shop.a", 3), ("shop.c", 3)}
    told = restored(chain, last.id, target_database="shop_t", collections=("c",))
    assert told.ok, told.message
    assert numbers(client, "shop_t", "c") == cut.ids
    assert "a" not in client.shop_t.list_collection_names()


def operations(piece: Manifest) -> set[tuple[str, int]]:
    """What a slice counts as inserted."""
    assert piece.mongodb is not None
    return {(row.namespace, row.inserts) for row in piece.mongodb.operations}
