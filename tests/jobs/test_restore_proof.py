"""`verify: Restore` claims only what was restored, and leaves nothing behind, however its worker ends (rule 1.11)."""

import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from workshop import Workshop

from lucid_storage.archive.manifest import ProofLevel
from lucid_storage.errors import Reason
from lucid_storage.models.backup import Verify
from lucid_storage.models.orders import BackupResult
from lucid_storage.stores.mongodb.restore.scratch import STAMPS, scratch_name
from testbed.stores.mongodb import Client, MongoDB
from testbed.stores.redis import Redis

pytestmark = pytest.mark.mongodb
Make = Callable[..., Workshop]


def scratch(client: Client, run: str = "") -> list[str]:
    return [name for name in client.list_database_names() if name.startswith(f"lucid_stg_{run[:20]}")]


def test_the_server_that_was_read_proves_what_its_oplog_can_take(
    private_mongodb: Callable[..., MongoDB], workshop: Make
) -> None:
    server = private_mongodb(oplog_mib=16)
    shop = workshop(MONGODB_URI=server.uri, BACKUP_VERIFY_URI=server.uri)
    with server.client() as client:
        client.small.a.insert_many([{"_id": n, "text": "x" * 100} for n in range(100)])
        small = shop.back_up("small", ["mongodb"], verify="Restore", mongodb={"databases": ["small"]})
        assert (small.ok, small.verified, small.verify_note) == (True, Verify.RESTORE, None), small
        client.small.a.insert_many([{"_id": 1000 + n, "text": "x" * 1000} for n in range(4000)])
        grown = shop.back_up(
            "grown", ["mongodb"], type="incremental", verify="Restore", mongodb={"databases": ["small"]}
        )
        assert (grown.ok, grown.verified, grown.verify_note) == (True, Verify.CHECKSUM, "NoVerifyServer")
        client.large.a.insert_many([{"_id": n, "text": "x" * 1000} for n in range(4000)])
        shop.chain = "large"
        large = shop.back_up("large", ["mongodb"], verify="Restore", mongodb={"databases": ["large"]})
        assert (large.ok, large.verified, large.verify_note) == (True, Verify.CHECKSUM, "NoVerifyServer")
        assert "more than a fifth of its oplog" in large.verify_message
        assert scratch(client) == []


@pytest.mark.redis
def test_what_was_not_restored_is_not_called_restored(
    mongodb: MongoDB, redis_server: Redis, workshop: Make, database: str, key_prefix: str
) -> None:
    shop = workshop(MONGODB_URI=mongodb.uri, BACKUP_VERIFY_URI=mongodb.uri, REDIS_URL=redis_server.url)
    with redis_server.client() as client:
        client.set(f"{key_prefix}a", "1")
    with mongodb.client() as store:
        store[database].a.insert_one({"_id": 1})
    for engines in (["redis"], ["mongodb", "redis"]):
        shop.chain = engines[0]
        told = shop.back_up(engines[0], engines, verify="Restore", mongodb={"databases": [database]})
        assert (told.ok, told.verified, told.verify_note) == (True, Verify.CHECKSUM, "NoVerifyServer"), told
        assert "redis" in told.verify_message
        record = next(r for r in shop.records())
        assert record.proof is not None
        assert record.proof.level is ProofLevel.CHECKSUM


def loading(shop: Workshop, client: Client, database: str) -> tuple["subprocess.Popen[str]", dict[str, Any]]:
    """A worker that has begun to load its scratch database."""
    client[database].a.insert_many([{"_id": n, "text": "x" * 2000} for n in range(15_000)])
    order = shop.order("b", ["mongodb"], verify="Restore", mongodb={"databases": [database]})
    process, end = shop.start("backup", order), time.monotonic() + 60
    while not (names := scratch(client, order["run"])) or not client[names[0]].list_collection_names():
        assert process.poll() is None and time.monotonic() < end
    return process, order


def test_what_a_killed_worker_left_goes_before_the_next_proof_and_nothing_of_others(
    mongodb: MongoDB, workshop: Make, database: str
) -> None:
    shop = workshop(MONGODB_URI=mongodb.uri, BACKUP_VERIFY_URI=mongodb.uri)
    with mongodb.client() as client:
        process, order = loading(shop, client, database)
        process.kill()
        process.communicate()
        (left,) = scratch(client, order["run"])
        other, foreign = scratch_name("another", 0), "lucid_stg_foreign_0"
        try:
            stamp = client[left][STAMPS].find_one()
            assert stamp is not None
            ahead = stamp["until"].replace(tzinfo=UTC) - datetime.now(UTC)
            assert timedelta(seconds=60) < ahead < timedelta(seconds=order["deadlineSeconds"] + 61)
            client[other][STAMPS].insert_one({"_id": "scratch", "until": stamp["until"]})
            client[foreign].a.insert_one({"_id": 1})
            client[left][STAMPS].update_one({}, {"$set": {"until": datetime.now(UTC) - timedelta(seconds=1)}})
            client[database].a.delete_many({"_id": {"$gt": 10}})
            shop.chain = "next"
            told = shop.back_up("next", ["mongodb"], verify="Restore", mongodb={"databases": [database]})
            assert (told.ok, told.verified) == (True, Verify.RESTORE), told
            assert {other, foreign} <= set(scratch(client))
            assert left not in scratch(client)
        finally:
            for name in (left, other, foreign):
                client.drop_database(name)


def test_a_worker_told_to_stop_ends_its_proof_and_drops_what_it_made(
    mongodb: MongoDB, workshop: Make, database: str
) -> None:
    shop = workshop(MONGODB_URI=mongodb.uri, BACKUP_VERIFY_URI=mongodb.uri)
    with mongodb.client() as client:
        process, order = loading(shop, client, database)
        process.terminate()
        process.communicate(timeout=15)
        told = BackupResult.model_validate_json(shop.termination(order).read_text())
        assert (told.ok, told.reason) == (False, Reason.CANCELLED)
        assert scratch(client, order["run"]) == []
        (record,) = shop.records()
        assert record.proof is not None
        assert (record.proof.level, record.proof.passed) == (ProofLevel.CHECKSUM, True), "it was read before"
