"""The backup worker as a process: nothing is called good before it was read back, and nothing is left over."""

import signal
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from bson.datetime_ms import DatetimeMS
from workshop import Workshop, only

from lucid_storage.archive.manifest import BackupKind, Closing
from lucid_storage.errors import Reason
from lucid_storage.models.backup import BackupType, Verify
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb
NOW = datetime(2026, 1, 1, tzinfo=UTC)
Make = Callable[..., Workshop]


@pytest.fixture
def filled(mongodb: MongoDB, database: str) -> Iterator[str]:
    with mongodb.client() as client:
        client[database]["a"].insert_many([{"_id": n, "text": "x" * 200} for n in range(5000)])
        client[database]["b"].create_index("field")
        client[database].create_collection("t", timeseries={"timeField": "at", "metaField": "host"})
        client[database]["t"].insert_many([{"at": NOW, "host": n % 7, "value": n} for n in range(100)])
        client[database].create_collection("v", viewOn="a", pipeline=[])
        beyond = {"a": {"$ne": DatetimeMS(2**63 - 1)}}
        client[database].command({"collMod": "b", "validator": beyond})
        client[database].create_collection("l", capped=True, size=4096)
        client[database]["l"].insert_many([{"_id": n} for n in range(10)])
    yield database


def test_a_full_backup_is_proved_and_says_what_it_holds(shop: Workshop, filled: str) -> None:
    told = shop.back_up("first", ["mongodb"], **only(filled))
    assert (told.ok, told.reason, told.verified) == (True, None, Verify.CHECKSUM), told.message
    assert told.type is BackupType.FULL
    (record,) = shop.records()
    assert record.good
    assert record.id == told.id
    assert record.manifest.mongodb is not None
    documents = {c.name: c.documents for c in record.manifest.mongodb.collections}
    assert documents == {"a": 5000, "b": 0, "l": 10, "t": 7, "v": 0}
    assert shop.files() == sorted(
        f"r/{record.manifest.origin.cluster}/n/manual/backups/{told.id}/{name}"
        for name in ("manifest.json", "mongodb.archive", "proof.json")
    )
    stored = (shop.destination / record.manifest.objects[0].path).read_bytes()
    assert filled.encode() not in stored


def test_the_same_backup_again_dumps_nothing(shop: Workshop, filled: str) -> None:
    """Rule 1.10."""
    first = shop.back_up("same", ["mongodb"], **only(filled))
    files = shop.files()
    (manifest,) = shop.destination.rglob("manifest.json")
    (manifest.parent / "deleted.json").write_text(
        "{}"
    )  # its object was deleted while something needed the data
    again = shop.back_up("same", ["mongodb"], **only(filled))
    assert (again.ok, again.id, again.to_optime) == (True, first.id, first.to_optime)
    assert again.manifest_sha256 == first.manifest_sha256 is not None
    assert shop.files() == files


def test_a_worker_lost_after_its_manifest_is_proved_by_the_next(shop: Workshop, filled: str) -> None:
    order = shop.order("lost", ["mongodb"], **only(filled))
    first = shop.result(shop.start("backup", order), order)
    (proof,) = (p for p in shop.destination.rglob("proof.json"))
    proof.unlink()
    assert not shop.records()[0].good
    again = shop.result(shop.start("backup", order), order)
    assert (again.ok, again.id) == (True, first.id)
    assert shop.records()[0].good


def test_an_incremental_without_a_full_is_refused_by_hand_and_a_full_on_a_schedule(
    shop: Workshop, filled: str
) -> None:
    told = shop.back_up("by-hand", ["mongodb"], type="incremental", **only(filled))
    assert (told.ok, told.reason) == (False, Reason.NO_BASE)
    assert shop.files() == []
    wanted: dict[str, Any] = {"type": "incremental", "scheduled": True, **only(filled)}
    told = shop.back_up("by-schedule", ["mongodb"], mayDump=False, **wanted)
    assert (told.ok, told.reason, told.type) == (False, Reason.QUEUED, BackupType.FULL)
    assert "no full backup to build on" in told.message
    assert shop.files() == [], "nobody gave it the deployment for a dump"
    told = shop.back_up("by-schedule", ["mongodb"], **wanted)
    assert (told.ok, told.type) == (True, BackupType.FULL)


def test_full_incremental_and_differential_make_one_timeline(
    shop: Workshop, filled: str, mongodb: MongoDB
) -> None:
    full = shop.back_up("full", ["mongodb"], **only(filled))
    with mongodb.client() as client:
        client[filled]["a"].update_many({"_id": {"$lt": 50}}, {"$set": {"text": "new"}})
    first = shop.back_up("inc", ["mongodb"], type="incremental", **only(filled))
    with mongodb.client() as client:
        client[filled]["a"].delete_many({"_id": {"$lt": 50}})
    second = shop.back_up("diff", ["mongodb"], type="differential", **only(filled))
    assert (first.ok, second.ok) == (True, True), (first, second)
    assert first.engines[0].stored_bytes > 0, "an incremental has the size of its slices"
    assert {full.timeline} == {first.timeline, second.timeline}
    assert {first.base, second.base} == {full.id}
    kinds = sorted(str(r.kind) for r in shop.records())
    assert kinds == ["differential", "full", "incremental", "slice"]
    (differential,) = (r for r in shop.records() if r.kind is BackupKind.DIFFERENTIAL)
    assert differential.manifest.mongodb is not None
    (counted,) = differential.manifest.mongodb.operations
    assert (counted.namespace, counted.updates, counted.deletes) == (f"{filled}.a", 50, 50)


def test_a_full_by_hand_behind_a_restore_begins_a_timeline_that_the_next_incremental_continues(
    shop: Workshop, filled: str, mongodb: MongoDB
) -> None:
    """Rule 1.7, without anybody who read the oplog since; nothing is claimed over the edge."""
    shop.back_up("full", ["mongodb"], **only(filled))
    with mongodb.client() as client:
        collection = client[filled]["a"]
        collection.insert_one({"_id": "one"})
        before = shop.back_up("inc", ["mongodb"], type="incremental", **only(filled))
        collection.insert_one({"_id": "two"})
        client[filled]["lucid_stg_run_1"].insert_one({"_id": "restored"})
        collection.rename("lucid_old_run_1")
        client[filled]["lucid_stg_run_1"].rename("a")
        full = shop.back_up("anew", ["mongodb"], **only(filled))
        client[filled]["a"].insert_one({"_id": "three"})
        after = shop.back_up("further", ["mongodb"], type="incremental", **only(filled))
    assert (before.ok, full.ok, after.ok) == (True, True, True), after.message
    assert after.base == full.id
    assert before.timeline != full.timeline == after.timeline
    first, closing, last = sorted(
        (r.manifest for r in shop.records() if r.kind is BackupKind.SLICE), key=lambda m: m.completed_at
    )
    assert [m.timeline for m in (first, closing, last)] == [before.timeline, before.timeline, after.timeline]
    assert closing.closing is Closing.RESTORE
    assert closing.mongodb is not None
    assert [row.inserts for row in closing.mongodb.operations] == [1], "what came before stays restorable"
    assert last.prev == next(r.to for r in shop.records() if r.id == full.id)


def test_a_full_by_hand_behind_no_restore_joins_and_writes_no_slice(
    shop: Workshop, filled: str, mongodb: MongoDB
) -> None:
    first = shop.back_up("full", ["mongodb"], **only(filled))
    with mongodb.client() as client:
        client[filled]["a"].insert_one({"_id": "one"})
        shop.back_up("inc", ["mongodb"], type="incremental", **only(filled))
        client[filled]["a"].rename("another")
        client[filled]["lucid_stg_run_1"].insert_one({"_id": "not swapped"})
        client[filled]["lucid_stg_run_1"].rename("lucid_stg_run_2")
    second = shop.back_up("again", ["mongodb"], **only(filled))
    assert second.timeline == first.timeline
    assert [r.kind for r in shop.records()].count(BackupKind.SLICE) == 1


def test_a_flipped_bit_is_found_and_never_a_base(shop: Workshop, filled: str) -> None:
    order = shop.order("flipped", ["mongodb"], **only(filled))
    shop.result(shop.start("backup", order), order)
    (archive,) = shop.destination.rglob("mongodb.archive")
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(bytes(data))
    (proof,) = shop.destination.rglob("proof.json")
    proof.unlink()
    told = shop.result(shop.start("backup", order), order)
    assert (told.ok, told.reason, told.verified) == (False, Reason.VERIFY_FAILED, None)
    assert archive.exists(), "its data are kept"
    later = shop.back_up("later", ["mongodb"], type="incremental", **only(filled))
    assert later.reason is Reason.NO_BASE


def test_sigterm_in_the_middle_leaves_nothing(shop: Workshop, mongodb: MongoDB, database: str) -> None:
    with mongodb.client() as client:
        blob = uuid.uuid4().bytes * 4096
        client[database]["a"].insert_many([{"_id": n, "blob": blob} for n in range(1500)])
    order = shop.order(
        "stopped", ["mongodb"], compression={"algorithm": "zstd", "level": 19}, **only(database)
    )
    process = shop.start("backup", order)
    assert process.stdout is not None
    assert process.stdout.readline(), "the first progress"
    process.send_signal(signal.SIGTERM)
    told = shop.result(process, order)
    assert (told.ok, told.reason) == (False, Reason.CANCELLED)
    assert shop.files() == []


def test_one_engine_that_fails_makes_it_partly_failed_and_keeps_the_others(
    shop: Workshop, filled: str
) -> None:
    shop.environ["REDIS_URL"] = "redis://127.0.0.1:1/0"
    told = shop.back_up("partly", ["mongodb", "redis"], **only(filled))
    assert (told.ok, told.reason) == (False, Reason.PARTIALLY_FAILED)
    assert {str(e.engine): e.ok for e in told.engines} == {"mongodb": True, "redis": False}
    (record,) = shop.records()
    assert record.good
    assert [e.engine for e in record.manifest.engines] == ["mongodb"]
    again = shop.back_up("partly", ["mongodb", "redis"], **only(filled))
    assert (again.ok, again.reason) == (False, Reason.PARTIALLY_FAILED), "found again it is no better"
    assert {str(e.engine): e.ok for e in again.engines} == {"mongodb": True, "redis": False}


def test_a_missing_key_is_said_before_anything_is_read(shop: Workshop, filled: str) -> None:
    told = shop.back_up("no-key", ["mongodb"], keyId="k2", **only(filled))
    assert (told.ok, told.reason) == (False, Reason.KEY_MISSING)
    assert shop.files() == []


def test_a_proof_by_restore_leaves_nothing_on_the_verify_server(
    shop: Workshop, filled: str, mongodb: MongoDB, mongodb_rs3: MongoDB
) -> None:
    shop.environ["BACKUP_VERIFY_URI"] = mongodb_rs3.uri
    full = shop.back_up("full", ["mongodb"], verify="Restore", **only(filled))
    assert (full.ok, full.verified, full.verify_note) == (True, Verify.RESTORE, None), full.message
    with mongodb.client() as client:
        client[filled]["a"].update_many({}, {"$inc": {"n": 1}})
    incremental = shop.back_up("inc", ["mongodb"], type="incremental", verify="Restore", **only(filled))
    assert (incremental.ok, incremental.verified) == (True, Verify.RESTORE), incremental.message
    with mongodb_rs3.client() as client:
        assert not [name for name in client.list_database_names() if name.startswith("lucid_stg_")]


def test_without_a_verify_server_it_is_complete_and_says_so(shop: Workshop, filled: str) -> None:
    told = shop.back_up("proof", ["mongodb"], verify="Restore", **only(filled))
    assert (told.ok, told.verified) == (True, Verify.CHECKSUM)
    assert told.verify_note == "NoVerifyServer"


def test_a_verify_server_that_is_away_makes_no_backup_bad(shop: Workshop, filled: str) -> None:
    shop.environ["BACKUP_VERIFY_URI"] = "mongodb://127.0.0.1:1/?replicaSet=none"
    told = shop.back_up("away", ["mongodb"], verify="Restore", **only(filled))
    assert (told.ok, told.verified) == (True, Verify.CHECKSUM), told
    assert told.verify_note == "NoVerifyServer"
    assert told.verify_message


def test_an_incremental_is_only_as_good_as_its_slices(shop: Workshop, filled: str, mongodb: MongoDB) -> None:
    """It has no object of its own: what was read back are the slices that it stands on."""
    shop.back_up("full", ["mongodb"], **only(filled))
    with mongodb.client() as client:
        client[filled]["a"].update_many({}, {"$inc": {"n": 1}})
    order = shop.order("inc", ["mongodb"], type="incremental", **only(filled))
    assert shop.result(shop.start("backup", order), order).ok
    (data,) = shop.destination.rglob("*.oplog")
    damaged = bytearray(data.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    data.write_bytes(bytes(damaged))
    for proof in shop.destination.rglob("proof.json"):
        if order["id"] in str(proof):
            proof.unlink()
    told = shop.result(shop.start("backup", order), order)
    assert (told.ok, told.reason, told.verified) == (False, Reason.VERIFY_FAILED, None)
