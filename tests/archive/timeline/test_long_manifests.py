"""A chain of large databases is listed in the memory of a small worker, and its manifests stay what they are."""

import gc
import json
import tracemalloc
from pathlib import Path

import pytest
from chain_builder import CLUSTER, full
from pydantic import ValidationError

from lucid_storage.archive.folder import FolderStore
from lucid_storage.archive.keys import Keyring
from lucid_storage.archive.layout import ChainFolder
from lucid_storage.archive.manifest import CollectionRecord, Manifest, OperationCount
from lucid_storage.archive.records import list_backups, write_manifest

FOLDER = ChainFolder("root", CLUSTER, "ns", "main")
COLLECTIONS = tuple(
    CollectionRecord(
        database="shop", name=f"söme collection {n}", documents=n, bytes=n * 1000, content_hash=f"{n:032x}"
    )
    for n in range(3000)
)
OPERATIONS = tuple(OperationCount(namespace=f"shop.{n}", inserts=n, deletes=n % 2) for n in range(20))


def long(name: str) -> Manifest:
    text = full(name, 100).manifest.model_dump(by_alias=True)
    (engine,) = text["engines"]
    engine["mongodb"] |= {"collections": COLLECTIONS, "operations": OPERATIONS}
    return Manifest.model_validate(text)


def test_rows_come_back_as_they_were_and_are_written_as_plain_lists() -> None:
    text = long("f1").model_dump_json(by_alias=True, exclude_none=True)
    read = Manifest.model_validate_json(text)
    assert read.mongodb is not None
    rows = read.mongodb.collections
    assert tuple(rows) == COLLECTIONS == tuple(rows), "each look begins anew"
    assert (rows == COLLECTIONS, len(rows), rows[7], rows[-2:]) == (
        True,
        3000,
        COLLECTIONS[7],
        COLLECTIONS[-2:],
    )
    assert read == long("f1")
    assert read.model_dump_json(by_alias=True, exclude_none=True) == text
    first = json.loads(text)["engines"][0]["mongodb"]["collections"][0]
    assert first == COLLECTIONS[0].model_dump(by_alias=True, exclude_none=True)


@pytest.mark.parametrize("rows", ["none", [{"name": "a"}], [7], {"a": 1}])
def test_what_is_no_list_of_rows_makes_no_manifest(rows: object) -> None:
    document = json.loads(long("f1").model_dump_json(by_alias=True, exclude_none=True))
    document["engines"][0]["mongodb"]["collections"] = rows
    with pytest.raises(ValidationError):
        Manifest.model_validate_json(json.dumps(document))


def test_a_month_of_thousands_of_collections_fits_a_small_worker(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    for number in range(4):
        write_manifest(store, FOLDER, long(f"f{number}"), None)
    gc.collect()
    tracemalloc.start()
    try:
        found = list_backups(store, FOLDER, Keyring(None))
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found.records) == 4
    assert kept < 2 * 1024 * 1024, f"{kept} bytes for 12,000 rows"
