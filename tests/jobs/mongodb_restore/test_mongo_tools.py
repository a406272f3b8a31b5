"""What MongoDB's own tools make of a full backup, where they are on PATH: our archive is theirs once it is opened."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_restore_worker import documents
from workshop import Workshop, only

from lucid_storage.archive.folder import FolderStore
from lucid_storage.archive.keys import Keyring
from lucid_storage.archive.manifest import ObjectKind
from lucid_storage.archive.mongodump import ArchiveReader, Chunk
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


@pytest.mark.skipif(MONGORESTORE is None, reason="mongorestore of MongoDB's database tools is not on PATH")
def test_mongorestore_reads_a_full_backup_with_its_oplog(
    mongodb: MongoDB, workshop: Callable[..., Workshop], filled: Client, database: str, tmp_path: Path
) -> None:
    shop = workshop(MONGODB_URI=mongodb.uri)
    assert shop.back_up("full", ["mongodb"], **only(database)).ok
    before, archive = documents(filled, database), tmp_path / "archive"
    opened(shop, archive)
    filled.drop_database(database)
    assert MONGORESTORE is not None
    command = [MONGORESTORE, f"--uri={mongodb.uri}", f"--archive={archive}", "--oplogReplay"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert documents(filled, database) == before
    assert filled[database].a.index_information()["text_1"]["unique"]


@pytest.mark.skipif(MONGODUMP is None, reason="mongodump of MongoDB's database tools is not on PATH")
def test_an_archive_of_mongodump_itself_is_read(
    mongodb: MongoDB, filled: Client, database: str, tmp_path: Path
) -> None:
    assert MONGODUMP is not None
    archive = tmp_path / "archive"
    command = [MONGODUMP, f"--uri={mongodb.uri}", f"--db={database}", f"--archive={archive}"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    counts: dict[str, Any] = {}
    with archive.open("rb") as source:
        for part in ArchiveReader(source).parts():
            if isinstance(part, Chunk):
                counts[str(part.namespace)] = counts.get(str(part.namespace), 0) + part.documents
    assert counts == {f"{database}.a": 500, f"{database}.log": 10}
