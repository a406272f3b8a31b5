"""What one member's oplog lacks is no hole as long as another member has it (rule 1.3)."""

import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from chain_bed import Chain, one_line
from dump_bed import inserted
from pymongo import MongoClient

from lucid_storage.models.backup import BackupType, MongoSelection
from lucid_storage.stores.mongodb.dump.pinning import pin
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb


def first_entry(host: str) -> tuple[int, int]:
    with MongoClient[Any](host, directConnection=True) as client:
        entry = client.local["oplog.rs"].find_one(sort=[("$natural", 1)])
        assert entry is not None
        return entry["ts"].time, entry["ts"].inc


def test_a_member_that_was_synced_anew_makes_no_gap(private_mongodb: Any, tmp_path: Path) -> None:
    server: MongoDB = private_mongodb(members=3, checkpoint_seconds=1)
    with closing(Chain(tmp_path, server.uri, MongoSelection(databases=["shop"]))) as chain:
        with server.client(w="majority") as client:
            client.shop.a.insert_one({"_id": 0})
            full = chain.back_up(BackupType.FULL)
            client.shop.a.insert_one({"_id": 1})
        with closing(pin(server.uri)) as pinned:
            host = pinned.host
        index = server.addresses.index(host)
        server.kill(index)
        folder = server.folder / str(index)
        shutil.rmtree(folder)
        folder.mkdir()
        server.start()
        with server.client(w=3) as client:
            client.shop.a.insert_one({"_id": 2})
            with closing(pin(server.uri)) as pinned:
                assert pinned.host == host, "the member that is read as a rule"
            assert full.mongodb is not None
            end = full.mongodb.to.optime
            assert first_entry(host) > (end.seconds, end.counter)
            slicer = chain.slicer()
            report = slicer.step()
            assert (report.ok, report.timeline) == (True, full.timeline), report.message
            client.shop.a.insert_one({"_id": 3})
            assert slicer.step().ok
            client.shop.a.insert_one({"_id": 4})
            differential = chain.back_up(BackupType.DIFFERENTIAL)
            incremental = chain.back_up(BackupType.INCREMENTAL)
        pieces = chain.slices()
        one_line(pieces)
        assert [n for p in pieces for n in inserted(chain.oplog(p), "shop.a")] == [1, 2, 3, 4]
        assert inserted(chain.oplog(differential), "shop.a") == [1, 2, 3, 4]
        assert incremental.base == differential.base == full.id
        assert pieces[0].mongodb is not None
        assert pieces[0].mongodb.member != host
