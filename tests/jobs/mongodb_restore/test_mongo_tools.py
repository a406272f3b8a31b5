"""What MongoDB's own tools make of a full backup, where they are on PATH: our archive is theirs once it is opened."""

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
from bson import Decimal128, Timestamp
from test_restore_worker import documents, restore, swap
from workshop import Workshop, only

from lucid_storage.archive.folder import FolderStore
from lucid_storage.archive.keys import Keyring
from lucid_storage.archive.manifest import ObjectKind
from lucid_storage.archive.mongodump import OPLOG, ArchiveReader, Chunk
from lucid_storage.archive.streams import Identity, key_for, open_source
from testbed.stores.mongodb import Client, MongoDB

pytestmark = pytest.mark.mongodb
MONGORESTORE, MONGODUMP = shutil.which("mongorestore"), shutil.which("mongodump")


@pytest.fixture
def filled(mongodb: MongoDB, database: str) -> Iterator[Client]:
    with mongodb.client() as client:
        live = client[database]
        live.a.insert_many([{"_id": n, "text": f"number {n}"} for n in range(500)])
        live.a.create_index("text", unique=True)
        live.create_collection("log", capped=True, size=65536)
        live.log.insert_many([{"_id": n} for n in range(10)])
        yield client
        client.drop_database(f"{database}_t")


def opened(shop: Workshop, target: Path) -> None:
    """The archive without encryption and compression."""
    (record,) = [r for r in shop.records() if r.kind == "full"]
    (stored,) = [o for o in record.manifest.objects if o.kind is ObjectKind.MONGODB_ARCHIVE]
    keyring, packing = Keyring(shop.keys), record.manifest.packing
    source = open_source(
        FolderStore(shop.destination), stored.path, Identity.of(record.id, stored), packing,
        key_for(packing, keyring), stored,
    )  # fmt: skip
    with target.open("wb") as out:
        while data := source.read(1 << 20):
            out.write(data)


def mongorestore(mongodb: MongoDB, archive: Path) -> str:
    """What it says."""
    assert MONGORESTORE is not None
    command = [MONGORESTORE, f"--uri={mongodb.uri}", f"--archive={archive}", "--oplogReplay"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.skipif(MONGORESTORE is None, reason="mongorestore of MongoDB's database tools is not on PATH")
def test_mongorestore_reads_a_full_backup_with_its_oplog(
    mongodb: MongoDB, workshop: Callable[..., Workshop], filled: Client, database: str, tmp_path: Path
) -> None:
    shop = workshop(MONGODB_URI=mongodb.uri)
    assert shop.back_up("full", ["mongodb"], **only(database)).ok
    before, archive = documents(filled, database), tmp_path / "archive"
    opened(shop, archive)
    filled.drop_database(database)
    mongorestore(mongodb, archive)
    assert documents(filled, database) == before
    assert filled[database].a.index_information()["text_1"]["unique"]


@pytest.mark.skipif(MONGORESTORE is None, reason="mongorestore of MongoDB's database tools is not on PATH")
async def test_mongorestore_brings_back_what_our_restore_does_of_a_database_that_is_written_to(
    mongodb: MongoDB, workshop: Callable[..., Workshop], filled: Client, database: str, tmp_path: Path
) -> None:
    define(filled[database])
    shop, target = workshop(MONGODB_URI=mongodb.uri), f"{database}_t"
    with writing(filled, database):
        assert shop.back_up("full", ["mongodb"], **only(database)).ok
    archive = tmp_path / "archive"
    opened(shop, archive)
    (record,) = shop.records()
    await swap(mongodb.uri, restore(shop, record.id, targetDatabase=target))
    filled.drop_database(database)
    said = mongorestore(mongodb, archive)
    assert "applied 0 oplog entries" not in said
    theirs, ours = documents(filled, database), documents(filled, target)
    assert {name: len(found) for name, found in theirs.items()} == {
        name: len(found) for name, found in ours.items()
    }
    assert theirs == ours
    assert definitions(filled[database]) == definitions(filled[target])


@pytest.mark.skipif(MONGORESTORE is None, reason="mongorestore of MongoDB's database tools is not on PATH")
def test_mongorestore_brings_everything_to_another_server_with_users_and_roles(
    private_mongodb: Callable[..., MongoDB], workshop: Callable[..., Workshop], tmp_path: Path
) -> None:
    server, other = private_mongodb(), private_mongodb()
    archive = tmp_path / "archive"
    with server.client() as client, other.client() as there:
        define(client.shop)
        client.shop.a.insert_many([{"_id": n} for n in range(100)])
        client["süß"]["with.dots and spaces"].insert_one({"_id": 1})
        client.shop.command("createRole", "auditor", privileges=[], roles=["read"])
        client.shop.command("createUser", "reader", pwd="secret", roles=["auditor"])
        shop = workshop(MONGODB_URI=server.uri)
        assert shop.back_up("full", ["mongodb"]).ok
        opened(shop, archive)
        mongorestore(other, archive)
        for name in ("shop", "süß"):
            assert documents(there, name) == documents(client, name)
            assert definitions(there[name]) == definitions(client[name])
        assert [one["user"] for one in there.shop.command("usersInfo", 1)["users"]] == ["reader"]
        assert [one["role"] for one in there.shop.command("rolesInfo", 1)["roles"]] == ["auditor"]


def define(live: Any) -> None:
    """One of each kind of collection and index."""
    live.create_collection("series", timeseries={"timeField": "at", "metaField": "who"})
    live.series.insert_many(
        [{"at": datetime(2026, 1, 1 + n, tzinfo=UTC), "who": n % 3, "n": n} for n in range(28)]
    )
    live.create_collection("seen", viewOn="a", pipeline=[{"$match": {"_id": {"$lt": 5}}}])
    live.create_collection("german", collation={"locale": "de", "strength": 2})
    live.create_collection("clustered", clusteredIndex={"key": {"_id": 1}, "unique": True})
    live.create_collection(
        "checked",
        validator={"$jsonSchema": {"required": ["x"]}},
        validationAction="warn",
        validationLevel="strict",
    )
    live.create_collection("moved")
    for name in ("german", "clustered", "checked", "moved"):
        live[name].insert_many(
            [{"_id": n, "x": Decimal128(str(n)), "at": Timestamp(n + 1, 1)} for n in range(20)]
        )
    live.german.create_index([("x", 1), ("y", -1)], sparse=True)
    live.checked.create_index([("words", "text")], weights={"words": 3}, default_language="german")
    live.checked.create_index([("place", "2dsphere")])
    live.checked.create_index([("x", "hashed")])
    live.checked.create_index([("$**", 1)], wildcardProjection={"x": 1})
    live.moved.create_index("at", expireAfterSeconds=10_000_000)
    live.moved.create_index("y", partialFilterExpression={"x": {"$gt": 3}}, hidden=True)


@contextmanager
def writing(client: Client, database: str) -> Iterator[None]:
    """Writes of each kind until the end."""
    live, stop = client[database], threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            live.a.insert_one({"_id": f"new {number}", "text": f"new {number}"})
            live.a.update_one(
                {"_id": number % 500}, {"$set": {"text": f"changed {number}"}, "$inc": {"n": 1}}
            )
            live.a.delete_one({"_id": f"new {number - 3}"})
            live.log.insert_one({"_id": 1000 + number})
            live.series.insert_one({"at": datetime(2026, 2, 1, tzinfo=UTC), "who": 1, "n": number})
            with client.start_session() as session, session.start_transaction():
                live.german.insert_one({"_id": f"both {number}"}, session=session)
                live.moved.insert_one({"_id": f"both {number}"}, session=session)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def definitions(live: Any) -> dict[str, Any]:
    """Options and indexes by name of the collection; what names the database left out."""
    found = {
        one["name"]: one
        for one in live.list_collections()
        if not one["name"].startswith(("system.", "lucid_"))
    }
    for one in found.values():
        one.pop("info"), one.pop("idIndex", None)
    return {
        name: (
            one,
            []
            if one["type"] == "view"
            else sorted(map(index, live[name].list_indexes()), key=itemgetter("name")),
        )
        for name, one in found.items()
    }


def index(told: Any) -> dict[str, Any]:
    """Only of the key does the order count."""
    return {**dict(told), "key": list(told["key"].items())}


@pytest.mark.skipif(MONGODUMP is None, reason="mongodump of MongoDB's database tools is not on PATH")
def test_an_archive_of_mongodump_itself_is_read(
    mongodb: MongoDB, filled: Client, database: str, tmp_path: Path
) -> None:
    define(filled[database])
    assert MONGODUMP is not None
    archive = tmp_path / "archive"
    command = [MONGODUMP, f"--uri={mongodb.uri}", "--oplog", f"--archive={archive}"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    counts: dict[str, int] = {}
    with archive.open("rb") as source:
        reader = ArchiveReader(source)
        for part in reader.parts():
            if isinstance(part, Chunk):
                counts[str(part.namespace)] = counts.get(str(part.namespace), 0) + part.documents
    assert counts.pop(str(OPLOG)) > 0
    filled_with = {"a": 500, "log": 10, "german": 20, "clustered": 20, "checked": 20, "moved": 20}
    mine = {name.partition(".")[2]: n for name, n in counts.items() if name.startswith(f"{database}.")}
    assert mine.pop("system.buckets.series") > 0
    assert mine == filled_with
    kinds = {
        one.namespace.collection: one
        for one in reader.prelude.collections
        if one.namespace.database == database
    }
    assert (kinds["series"].type, kinds["seen"].type, kinds["a"].type) == ("timeseries", "view", "collection")
    assert len(kinds["checked"].indexes) == 5
