"""Checks that read slices say what they found about them, and what can be restored follows."""

import io
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from chain_bed import Chain
from dump_bed import until
from pymongo import MongoClient

from lucid_storage.archive.continuity import windows
from lucid_storage.archive.manifest import BackupKind, Manifest, Proof
from lucid_storage.jobs.proving import prove
from lucid_storage.jobs.reporting import Reporter
from lucid_storage.jobs.worker import Stop
from lucid_storage.models.backup import BackupType, MongoSelection
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb


@pytest.fixture
def client(mongodb: MongoDB) -> Iterator[MongoClient[Any]]:
    with mongodb.client() as made:
        yield made


@pytest.fixture
def chain(mongodb: MongoDB, database: str, tmp_path: Path) -> Iterator[Chain]:
    with closing(Chain(tmp_path, mongodb.uri, MongoSelection(databases=[database]))) as made:
        yield made


def check(chain: Chain, manifest: Manifest) -> Proof:
    """As the worker that made it does."""
    order = chain.order(BackupType(manifest.kind))
    proof, _ = prove(order, chain.place, manifest, {}, Reporter(out=io.StringIO()), Stop())
    return proof


def second_passes(client: MongoClient[Any], database: str) -> None:
    begun = int(time.time())

    def later() -> bool:
        client[database].a.insert_one({"_id": uuid.uuid4().hex})
        return int(time.time()) > begun + 1

    until(later, "a later second")


def slice_file(chain: Chain) -> Path:
    (stored,) = chain.slices()[0].objects
    return chain.folder / "destination" / stored.path


def flip(path: Path) -> bytes:
    data = path.read_bytes()
    path.write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    return data


def test_a_damaged_slice_is_a_gap_until_it_is_put_back(
    client: MongoClient[Any], chain: Chain, database: str
) -> None:
    chain.back_up(BackupType.FULL)
    second_passes(client, database)
    incremental = chain.back_up(BackupType.INCREMENTAL)
    assert windows(chain.records())
    data = flip(slice_file(chain))
    assert not check(chain, incremental).passed
    assert not windows(chain.records())
    (piece,) = (r for r in chain.records() if r.kind is BackupKind.SLICE)
    assert piece.proof is not None
    assert "checksum" in piece.proof.message or "damaged" in piece.proof.message.lower()
    slice_file(chain).write_bytes(data)
    assert check(chain, incremental).passed
    assert windows(chain.records())


def test_the_check_of_a_full_finds_a_damaged_slice_and_is_good_itself(
    client: MongoClient[Any], chain: Chain, database: str
) -> None:
    first = chain.back_up(BackupType.FULL)
    second_passes(client, database)
    chain.back_up(BackupType.INCREMENTAL)
    assert check(chain, first).passed
    assert windows(chain.records()), "a slice that is whole gets no proof"
    assert not list((chain.folder / "destination").rglob("*.proof"))
    flip(slice_file(chain))
    second = chain.back_up(BackupType.FULL)
    assert check(chain, second).passed
    assert not windows(chain.records())
    assert {r.id for r in chain.records() if r.good} >= {first.id, second.id}
