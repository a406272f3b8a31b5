"""A full backup, writes, an incremental one, a disaster, and a restore to a moment in between."""

import hashlib
import json
import time
from datetime import UTC, datetime, timedelta

import bson
from pymongo.collection import Collection

from demo.install import DATABASE, KEY_ID, KEYS_SECRET
from testbed.bed import Stores
from testbed.cluster.provider import Cluster
from testbed.errors import TestbedError
from testbed.progress import Progress

NAMESPACE = "lucid"
COLLECTION = "transactions"
DEADLINE = 240.0


def show(cluster: Cluster, stores: Stores, progress: Progress) -> None:
    """Print each step, and the proof that the data are the same. Raises TestbedError when they are not."""
    run = datetime.now(UTC).strftime("%H%M%S")
    full, incremental, restore = f"demo-{run}-full", f"demo-{run}-incremental", f"demo-{run}-restore"
    with stores.mongodb.client() as client:
        collection = client[DATABASE][COLLECTION]
        _write(collection, run, 0, 2000)
        print(f"\nDisaster: {collection.count_documents({})} transactions are in {DATABASE}.{COLLECTION}.")
        with progress.step(f"Backup {full}"):
            _apply(cluster, _backup(full, "full", run))
            _wait(cluster, "backup", full)
        _write(collection, run, 2000, 2500)
        collection.delete_many({"transaction_id": {"$regex": f"^{run}-00"}})
        before, count = digest(collection), collection.count_documents({})
        moment = _next_second(client)
        print(f"  500 more were written and 100 deleted; it is {moment}.")
        lost = collection.delete_many({"transaction_id": {"$gte": f"{run}-1"}}).deleted_count
        collection.update_many({}, {"$set": {"amount": 0}})
        print(f"  A script deletes {lost} of them and sets the amount of all others to 0.")
        with progress.step(f"Backup {incremental} (what happened since, the disaster included)"):
            _next_second(client)
            _apply(cluster, _backup(incremental, "incremental", run))
            _wait(cluster, "backup", incremental)
        with progress.step(f"Restore {restore} to {moment}"):
            _apply(cluster, _restore(restore, incremental, moment))
            _wait(cluster, "restore", restore)
        after = digest(collection)
        print(f"\n$ kubectl get backups,restores -n {NAMESPACE}")
        print(cluster.kubectl("get", "backups,restores", "-n", NAMESPACE))
        if after != before:
            raise TestbedError(f"{DATABASE}.{COLLECTION} is not what it was at {moment}")
        print(f"  All {count} transactions are as they were at {moment}: SHA-256 {after[:16]}...")


def digest(collection: Collection) -> str:
    """SHA-256 over all documents in order of their _id."""
    found = hashlib.sha256()
    for document in collection.find().sort("_id", 1):
        found.update(bson.encode(document))
    return found.hexdigest()


def _write(collection: Collection, run: str, first: int, last: int) -> None:
    now = datetime.now(UTC)
    collection.insert_many(
        {
            "transaction_id": f"{run}-{number:04d}",
            "type": "transfer",
            "status": "confirmed",
            "amount": number,
            "timestamp": now,
        }
        for number in range(first, last)
    )


def _next_second(client) -> str:
    """A second of the server's own clock that is over, behind everything written so far."""
    reached = client.admin.command("ping")["operationTime"].time
    end = time.monotonic() + 30
    while client.admin.command("ping")["operationTime"].time <= reached + 1:
        if time.monotonic() > end:
            raise TestbedError("the clock of MongoDB stands still")
        client["lucid_demo"]["clock"].update_one({"_id": 0}, {"$inc": {"n": 1}}, upsert=True)
        time.sleep(0.1)
    return (datetime.fromtimestamp(0, UTC) + timedelta(seconds=reached)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _backup(name: str, kind: str, run: str) -> dict:
    spec = {
        "type": kind,
        "chain": f"demo-{run}",  # the restore of an earlier demo has ended the timeline of its chain
        "engines": ["mongodb"],
        "mongodb": {"databases": [DATABASE]},
        "encryption": {"secretName": KEYS_SECRET, "keyId": KEY_ID},
    }
    return _object("Backup", name, spec)


def _restore(name: str, backup: str, moment: str) -> dict:
    spec = {
        "backupName": backup,
        "pointInTime": moment,
        "collections": [COLLECTION],
        "dropExisting": True,
        "keepOldMinutes": 0,
    }
    return _object("Restore", name, spec)


def _object(kind: str, name: str, spec: dict) -> dict:
    return {
        "apiVersion": "storage.lucid-blockchain.org/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    }


def _apply(cluster: Cluster, document: dict) -> None:
    cluster.kubectl("apply", "-f", "-", document=json.dumps(document))


def _wait(cluster: Cluster, kind: str, name: str) -> None:
    """Until it is Completed. Raises TestbedError with what it says when it ends otherwise."""
    end = time.monotonic() + DEADLINE
    while True:
        status = json.loads(cluster.kubectl("get", kind, name, "-n", NAMESPACE, "-o", "json")).get(
            "status", {}
        )
        phase = status.get("phase")
        if phase == "Completed":
            return
        said = next((c["message"] for c in status.get("conditions", []) if c["type"] == "Ready"), "no status")
        if phase in {"Failed", "PartiallyFailed", "Cancelled", "Expired"}:
            raise TestbedError(f"{kind} {name} is {phase}: {said}")
        if time.monotonic() > end:
            raise TestbedError(f"{kind} {name} is still {phase} after {DEADLINE:.0f} s: {said}")
        time.sleep(0.3)
