"""A destination and a key are enough to know what can be restored, and to restore it."""

import asyncio
import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from catalog_bed import command, folder_of
from workshop import CLUSTER, Workshop, only

from lucid_storage.archive.folder import FolderStore
from lucid_storage.archive.layout import ChainFolder
from lucid_storage.archive.manifest import (
    BackupKind,
    ElasticRecord,
    EngineRecord,
    Manifest,
    Origin,
    Packing,
    Proof,
    ProofLevel,
    Selection,
)
from lucid_storage.archive.records import write_manifest, write_proof
from lucid_storage.models.meta import API_VERSION
from lucid_storage.models.orders import RestoreResult
from lucid_storage.models.restore import RestoreSpec
from lucid_storage.stores.mongodb.restore.adapter import MongoRestores
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb
Make = Callable[..., Workshop]


@pytest.fixture
def filled(mongodb: MongoDB, database: str) -> Iterator[str]:
    with mongodb.client() as client:
        client[database]["a"].insert_many([{"_id": n, "text": f"number {n}"} for n in range(2000)])
        client[database]["a"].create_index("text", unique=True)
    yield database


def listed(shop: Workshop, *more: str) -> dict[str, Any]:
    """The only chain of the catalog."""
    answer = command("catalog", *folder_of(shop), "--json", *more)
    assert answer.returncode == 0, answer.stderr
    (chain,) = json.loads(answer.stdout)["chains"]
    assert isinstance(chain, dict)
    return chain


def printed(shop: Workshop, backup: str, *more: str) -> "subprocess.CompletedProcess[str]":
    names = ("--claim", "backups", "--key-secret", "backup-keys")
    return command("catalog", *folder_of(shop), "--restore", backup, *names, *more)


def test_every_backup_is_listed_with_what_one_has_to_know(
    shop: Workshop, filled: str, mongodb: MongoDB
) -> None:
    full = shop.back_up("full", ["mongodb"], **only(filled))
    with mongodb.client() as client:
        client[filled]["a"].update_many({}, {"$set": {"new": True}})
    incremental = shop.back_up("inc", ["mongodb"], type="incremental", **only(filled))
    chain = listed(shop)
    assert {name: chain[name] for name in ("prefix", "cluster", "namespace", "chain", "broken")} == {
        "prefix": "r",
        "cluster": CLUSTER,
        "namespace": "n",
        "chain": "manual",
        "broken": [],
    }
    first, second = chain["backups"]
    assert [(b["id"], b["name"], b["type"]) for b in (first, second)] == [
        (full.id, "full", "full"),
        (incremental.id, "inc", "incremental"),
    ]
    assert second["base"] == full.id
    for backup, told in ((first, full), (second, incremental)):
        assert (backup["encrypted"], backup["keyId"], backup["trust"]) == (True, "k1", "authenticated")
        assert (backup["proof"]["level"], backup["proof"]["passed"]) == ("Checksum", True)
        assert backup["restorable"]
        assert datetime.fromisoformat(backup["to"]) == told.to
        assert (backup["storedBytes"], backup["contentBytes"]) == (
            told.engines[0].stored_bytes,
            told.engines[0].size_bytes,
        )
    (timeline,) = chain["timelines"]
    assert (timeline["id"], timeline["slices"]) == (full.timeline, 1)


def test_the_table_for_people_says_the_same_in_one_line_a_backup(shop: Workshop, filled: str) -> None:
    full = shop.back_up("full", ["mongodb"], **only(filled))
    answer = command("catalog", *folder_of(shop))
    assert answer.returncode == 0, answer.stderr
    assert full.id is not None
    (line,) = (line for line in answer.stdout.splitlines() if full.id in line)
    assert all(word in line for word in ("full", "k1", "Checksum", "authenticated", "yes")), line


def test_without_the_key_it_is_listed_and_nothing_is_promised(shop: Workshop, filled: str) -> None:
    full = shop.back_up("full", ["mongodb"], **only(filled))
    (shop.keys / "k1").unlink()
    (backup,) = listed(shop)["backups"]
    assert (backup["trust"], backup["restorable"], backup["keyId"]) == ("keyMissing", False, "k1")
    assert full.id is not None
    answer = printed(shop, full.id)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "the key k1" in answer.stderr


def test_a_broken_manifest_is_named_and_ends_nothing(shop: Workshop, filled: str) -> None:
    shop.back_up("kept", ["mongodb"], **only(filled))
    lost = shop.back_up("lost", ["mongodb"], **only(filled))
    changed = shop.back_up("changed", ["mongodb"], **only(filled))
    paths = {p.parent.name: p for p in shop.destination.rglob("manifest.json")}
    paths[str(lost.id)].write_bytes(paths[str(lost.id)].read_bytes()[:-100])
    text = paths[str(changed.id)].read_text()
    paths[str(changed.id)].write_text(text.replace(r"\"name\":\"changed\"", r"\"name\":\"another\""))
    assert paths[str(changed.id)].read_text() != text
    chain = listed(shop)
    assert [b["name"] for b in chain["backups"] if b["restorable"]] == ["kept"]
    assert sorted(one["path"].split("/")[-2] for one in chain["broken"]) == sorted(
        [str(lost.id), str(changed.id)]
    )
    assert command("catalog", *folder_of(shop)).stdout.count("BROKEN") == 2


def test_what_cannot_be_read_is_said_in_one_sentence(shop: Workshop) -> None:
    away = command("catalog", "--folder", str(shop.destination / "away"))
    assert away.returncode == 1
    assert "is not there" in away.stderr
    bucket = ("catalog", "--bucket", "backups", "--endpoint", "http://127.0.0.1:1")
    assert command(*bucket).returncode == 1, "no login"
    refused = command(*bucket, AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="hidden-one")
    assert refused.returncode == 1
    for answer in (away, refused):
        assert answer.stdout == ""
        assert answer.stderr.count("\n") == 1, answer.stderr
        assert "hidden-one" not in answer.stderr


def test_a_snapshot_in_the_store_s_own_repository_is_not_called_restorable(tmp_path: Path) -> None:
    """Only its description lies here; the data went with the cluster."""
    record = ElasticRecord(version="8", identity="c", method="Snapshot", repository="fs", snapshot="lucid-1")
    store, folder, moment = FolderStore(tmp_path), ChainFolder("r", CLUSTER, "n", "manual"), datetime.now(UTC)
    backup = str(uuid.uuid4())
    manifest = Manifest(
        id=backup,
        kind=BackupKind.FULL,
        timeline="t",
        origin=Origin(cluster=CLUSTER, namespace="n", name="search", chain="manual"),
        selection=Selection(engines=("elasticsearch",)),
        packing=Packing(compression="zstd"),
        engines=(EngineRecord(engine="elasticsearch", taken_at=moment, elasticsearch=record),),
        started_at=moment,
        completed_at=moment,
        operator_version="0.1.0",
    )
    write_manifest(store, folder, manifest, None)
    write_proof(
        store, folder, Proof(id=backup, level=ProofLevel.UPLOAD, at=moment, seconds=0, passed=True), None
    )
    answer = command("catalog", "--folder", str(tmp_path), "--json")
    assert answer.returncode == 0, answer.stderr
    (found,) = json.loads(answer.stdout)["chains"][0]["backups"]
    assert (found["outside"], found["restorable"]) == (["elasticsearch"], False)
    assert "elasticsearch (not here)" in command("catalog", "--folder", str(tmp_path)).stdout
    refused = command("catalog", "--folder", str(tmp_path), "--restore", backup, "--claim", "c")
    assert refused.returncode == 1
    assert "repository" in refused.stderr


def test_an_empty_destination_is_no_failure(shop: Workshop) -> None:
    answer = command("catalog", *folder_of(shop))
    assert (answer.returncode, answer.stdout) == (0, f"No backups lie in {shop.destination}.\n")


def test_a_moment_is_promised_only_where_slices_lead(shop: Workshop, filled: str, mongodb: MongoDB) -> None:
    full = shop.back_up("full", ["mongodb"], **only(filled))
    assert full.id is not None
    assert full.to is not None
    _wait_until_after(mongodb, filled, full.to + timedelta(seconds=3))
    shop.back_up("inc", ["mongodb"], type="incremental", **only(filled))
    (window,) = listed(shop)["timelines"][0]["recoverable"]
    good = printed(shop, full.id, "--point-in-time", window["last"])
    assert good.returncode == 0, good.stderr
    spec = RestoreSpec.model_validate(yaml.safe_load(good.stdout)["spec"])
    assert spec.point_in_time == datetime.fromisoformat(window["last"])
    after = datetime.fromisoformat(window["last"]) + timedelta(hours=1)
    bad = printed(shop, full.id, "--point-in-time", after.isoformat())
    assert (bad.returncode, bad.stdout) == (1, "")
    assert "The slices end before" in bad.stderr


def test_what_a_restore_lacks_is_asked_for(shop: Workshop, filled: str) -> None:
    full = shop.back_up("full", ["mongodb"], **only(filled))
    names = ("--claim", "c", "--key-secret", "k")
    for more, words in (
        (("--claim", "c"), "--key-secret"),
        (("--key-secret", "k"), "--claim"),
        ((*names, "--point-in-time", "noon"), "no moment"),
        ((*names, "--point-in-time", "2026-01-01T00:00:00"), "time zone"),
        ((*names, "--point-in-time", "9999-12-31T23:59:59-23:00"), "calendars"),
        (("--claim", "c" * 300, "--key-secret", "k"), "--claim"),
        (("--claim", "Bad Claim", "--key-secret", "k"), "--claim"),
        (("--claim", "a..b", "--key-secret", "k"), "--claim"),
        (("--claim", "c", "--key-secret", "k", "--connection", "a: b"), "--connection"),
        ((*names, "--namespace", "Bad NS: x"), "--namespace"),
        ((*names, "--namespace", "a.b"), "--namespace"),
    ):
        answer = command("catalog", *folder_of(shop), "--restore", str(full.id), *more)
        assert (answer.returncode, answer.stdout) == (2, ""), more
        assert words in answer.stderr


async def test_a_cold_start_restores_into_an_empty_server_from_folder_and_key(
    shop: Workshop, filled: str, mongodb: MongoDB, private_mongodb: Callable[..., MongoDB]
) -> None:
    """rule 1.8, 2.10: the cluster, its resources and its server are gone."""
    shop.back_up("full", ["mongodb"], **only(filled))
    with mongodb.client() as client:
        client[filled]["a"].delete_many({"_id": {"$lt": 500}})
        client[filled]["b"].insert_one({"_id": "written after the full"})
        expected = {name: list(client[filled][name].find(sort=[("_id", 1)])) for name in ("a", "b")}
    shop.back_up("inc", ["mongodb"], type="incremental", **only(filled))

    newest = listed(shop)["backups"][-1]
    answer = printed(shop, newest["id"], "--namespace", "new", "--connection", "stores")
    assert answer.returncode == 0, answer.stderr
    document = yaml.safe_load(answer.stdout)
    assert (document["apiVersion"], document["kind"]) == (API_VERSION, "Restore")
    assert document["metadata"] == {"name": f"restore-{newest['id'][:8]}", "namespace": "new"}
    spec = RestoreSpec.model_validate(document["spec"])
    assert spec.source is not None
    assert spec.source.storage.volume is not None
    assert spec.source.encryption is not None

    empty = private_mongodb()
    shop.environ["MONGODB_URI"] = empty.uri
    order = _as_the_operator_would(shop, spec)
    process = shop.start("restore", order)
    _, err = await asyncio.to_thread(process.communicate, timeout=150)
    assert process.returncode == 0, err
    told = RestoreResult.model_validate_json(shop.termination(order).read_text())
    assert told.ok, told.message
    port = MongoRestores(empty.uri, label="the empty server", app_name="lucid-test", guard=lambda: None)
    try:
        await port.swap(told.run, told.databases, drop_existing=False, keep_minutes=0)
    finally:
        await port.close()
    with empty.client() as client:
        for name, documents in expected.items():
            assert list(client[filled][name].find(sort=[("_id", 1)])) == documents
        assert client[filled]["a"].index_information()["text_1"]["unique"]


def _as_the_operator_would(shop: Workshop, spec: RestoreSpec) -> dict[str, Any]:
    """In another cluster, namespace and chain."""
    assert spec.source is not None
    assert spec.source.storage.volume is not None
    order = shop.order("cold", [str(engine) for engine in spec.engines or ()])
    del order["id"], order["type"]
    owner = {**order["owner"], "cluster": "00000000-0000-4000-8000-000000000002", "namespace": "new"}
    return {
        **order,
        "owner": owner,
        "chain": "restore",
        "destination": {"root": spec.source.storage.volume.path or ""},
        "backupId": spec.source.id,
        "elsewhere": True,
        "keyId": None,
    }


def _wait_until_after(mongodb: MongoDB, database: str, moment: datetime) -> None:
    """Until the server's cluster time is behind a moment."""
    deadline = time.monotonic() + 30
    with mongodb.client() as client:
        while True:
            answer = client[database].command({"insert": "ticks", "documents": [{}]})
            if answer["operationTime"].time > moment.timestamp():
                return
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.mark.parametrize(
    "where", [("--endpoint", "http://a..b:9"), ("--endpoint", "http://h:99999"), ("--region", "@h/")]
)
def test_an_address_that_is_none_is_told_in_a_line(where: tuple[str, str]) -> None:
    login = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key"}
    answer = command("catalog", "--bucket", "lucid", *where, **login)
    assert answer.returncode == 2
    assert answer.stderr.startswith("lucid-storage: The bucket lucid cannot be reached: ")
    assert answer.stderr.count("\n") == 1
