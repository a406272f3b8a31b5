"""Nothing is joined to what is of another history than the server's (rule 1.3)."""

import os
import shutil
import uuid
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chain_bed import Chain, decided
from pymongo import MongoClient
from restore_bed import numbers, restored

from lucid_storage.archive.folder import FolderStore
from lucid_storage.archive.manifest import BackupKind, Manifest, OplogPoint
from lucid_storage.archive.records import write_manifest
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs.contract import BackupRun
from lucid_storage.jobs.destination import Uploads
from lucid_storage.jobs.engines import Engines
from lucid_storage.jobs.mongodb_backup import MongoBackup
from lucid_storage.models.backup import BackupType, MongoSelection
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb

FULL, INCREMENTAL, DIFFERENTIAL = BackupType.FULL, BackupType.INCREMENTAL, BackupType.DIFFERENTIAL


def ids(first: int) -> list[dict[str, Any]]:
    return [{"_id": first + n} for n in range(10)]


def refused(chain: Chain, kind: BackupType, **more: Any) -> LucidError:
    with pytest.raises(LucidError) as caught:
        chain.back_up(kind, **more)
    return caught.value


def test_behind_a_volume_that_was_put_back_a_new_timeline_begins_and_loses_nothing(
    private_mongodb: Any, tmp_path: Path
) -> None:
    server: MongoDB = private_mongodb(checkpoint_seconds=1)
    snapshot = tmp_path / "snapshot"
    with closing(Chain(tmp_path, server.uri, MongoSelection(databases=["shop"]))) as chain:
        with server.client(w="majority") as client:
            client.shop.orders.insert_many(ids(0))
            chain.back_up(FULL)
            client.shop.orders.insert_many(ids(100))
            client.admin.command("fsync", lock=True)
            shutil.copytree(server.folder, snapshot)
            client.admin.command("fsyncUnlock")
            client.shop.orders.delete_many({"_id": {"$lt": 10}})
            client.shop.orders.insert_many(ids(200))
        lost = chain.back_up(FULL)
        server.stop()
        shutil.rmtree(server.folder)
        shutil.copytree(snapshot, server.folder)
        server.start()
        with server.client(w="majority") as client:
            client.shop.orders.insert_many(ids(300))
            slicer = chain.slicer()
            for kind in (INCREMENTAL, DIFFERENTIAL):
                said = refused(chain, kind)
                assert said.reason is Reason.OPLOG_GAP
                assert lost.origin.name in said.message
            begun = slicer.step()
            assert (begun.ok, begun.timeline not in (None, lost.timeline)) == (True, True)
            chain.scheduled = True
            full = chain.back_up(INCREMENTAL)
            assert full.kind is BackupKind.FULL
            assert full.timeline != lost.timeline
            client.shop.orders.insert_many(ids(400))
            expected = numbers(client, "shop", "orders")
            incremental = chain.back_up(INCREMENTAL)
            assert (incremental.kind, incremental.base) == (BackupKind.INCREMENTAL, full.id)
            client.shop.orders.drop()
            restored(chain, incremental.id)
            assert numbers(client, "shop", "orders") == expected


class Faster:
    """A destination into which somebody else writes a slice as soon as a cut is asked for."""

    def __init__(self, store: FolderStore, chain: Chain, write: Any) -> None:
        self._store, self._cut, self._write = store, chain.place.folder.cut, write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put(self, path: str, data: bytes) -> None:
        self._store.put(path, data)
        if path == self._cut:
            self._write()


def end(chain: Chain) -> OplogPoint:
    with MongoBackup(chain.order(INCREMENTAL), chain.uri, chain.place) as engine:
        return engine.look(()).last


@pytest.mark.parametrize("foreign", [True, False], ids=["a clone", "our own"])
def test_a_slice_that_somebody_else_was_faster_with_must_be_of_this_history(
    client: MongoClient[Any], chain: Chain, db: str, foreign: bool
) -> None:
    """Two clusters that were cloned with their volumes write into one chain: whose slice is it?"""
    client[db].a.insert_one({"_id": 0})
    full = chain.back_up(FULL)
    client[db].a.insert_one({"_id": 1})
    slicer = chain.slicer()

    def write() -> None:
        client[db].a.insert_one({"_id": uuid.uuid4().hex})
        assert slicer.step().ok
        if foreign:
            _of_a_clone(chain, chain.slices()[-1])

    place = chain.place
    chain.place = replace(place, store=Faster(chain.store, chain, write))  # type: ignore[arg-type]
    if not foreign:
        incremental = chain.back_up(INCREMENTAL, slicing=True)
        assert incremental.mongodb is not None
        assert incremental.mongodb.to == chain.slices()[-1].mongodb.to  # type: ignore[union-attr]
        return
    said = refused(chain, INCREMENTAL, slicing=True)
    assert said.reason is Reason.OPLOG_GAP
    assert "a prefix of its own" in said.message
    assert [r.kind for r in chain.records()] == [BackupKind.FULL, BackupKind.SLICE]
    chain.place, chain.scheduled = place, True
    again = chain.back_up(INCREMENTAL)
    assert again.kind is BackupKind.FULL, "the schedule's next one begins anew"
    assert again.timeline != full.timeline


def _of_a_clone(chain: Chain, piece: Manifest) -> None:
    """The slice as a clone writes it: it ends at the same moment, with another entry."""
    assert piece.mongodb is not None
    assert piece.prev is not None
    to = piece.mongodb.to.model_copy(update={"sha256": "0" * 64})
    mongodb = piece.mongodb.model_copy(update={"to": to})
    engines = (piece.engines[0].model_copy(update={"mongodb": mongodb}),)
    path = chain.place.folder.slice_manifest(piece.timeline, piece.prev.optime)
    chain.store.delete(path)
    write_manifest(
        chain.store,
        chain.place.folder,
        piece.model_copy(update={"engines": engines}),
        chain.place.key,
    )


def test_a_full_whose_history_was_taken_back_while_it_ran_joins_no_slices(
    client: MongoClient[Any], chain: Chain, db: str
) -> None:
    client[db].a.insert_one({"_id": 0})
    chain.back_up(FULL)
    client[db].a.insert_one({"_id": 1})
    assert chain.slicer().step().ok
    client[db].a.insert_one({"_id": 2})
    order = chain.order(FULL)
    run = BackupRun(order, Uploads(chain.place, order.id).open, lambda _, __: None, lambda _: None)
    there = end(chain)
    gone = there.model_copy(update={"sha256": "0" * 64})
    with MongoBackup(order, chain.uri, chain.place) as engine:
        decision = decided(order, engine, chain.records())
        assert decision.prev is not None
        assert not engine.end_timeline(run, decision, there)
        assert engine.end_timeline(run, decision, gone)
    environ = {**os.environ, "MONGODB_URI": chain.uri}
    with Engines.of(order, chain.place, environ) as engines:
        listing = chain.place.listing()
        assert engines.decide(run, chain.place, listing, BackupKind.FULL, there).timeline == decision.timeline
        apart = engines.decide(run, chain.place, listing, BackupKind.FULL, gone)
    assert (apart.begins, apart.because) == (True, Reason.OPLOG_GAP)
    assert apart.timeline != decision.timeline
