"""A backup that lies there already, and what it stands on does not (rule 1.10 and 1.11)."""

from __future__ import annotations

from pathlib import Path

import pytest
from catalog_bed import flip
from workshop import Workshop

from lucid_storage.archive.manifest import BackupKind
from lucid_storage.archive.recorded import of_kind
from lucid_storage.errors import Reason
from lucid_storage.models.orders import BackupResult
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb


@pytest.fixture
def filled(mongodb: MongoDB, database: str) -> str:
    with mongodb.client() as client:
        client[database]["a"].insert_many([{"_id": n, "text": "x" * 200} for n in range(100)])
    return database


class Line:
    """A full, and incrementals behind it."""

    def __init__(self, shop: Workshop, mongodb: MongoDB, database: str) -> None:
        self.shop, self._mongodb, self._database = shop, mongodb, database
        assert self.made("full").ok

    def made(self, name: str, **more: object) -> BackupResult:
        return self.shop.made(name, self._database, **more)

    def behind(self, name: str, kind: str = "incremental", **more: object) -> BackupResult:
        """One after another change; made again it is the same."""
        with self._mongodb.client() as client:
            client[self._database]["a"].update_many({}, {"$inc": {"n": 1}})
        done = self.made(name, type=kind, **more)
        assert done.ok, done.message
        return done

    def slices(self) -> list[Path]:
        """Their data, the oldest first."""
        found = of_kind(self.shop.records(), BackupKind.SLICE)
        return [self.shop.destination / stored.path for r in found for stored in r.manifest.objects]

    def archive(self) -> Path:
        (found,) = self.shop.destination.rglob("mongodb.archive")
        return found


@pytest.fixture
def line(shop: Workshop, mongodb: MongoDB, filled: str) -> Line:
    return Line(shop, mongodb, filled)


def failed(again: BackupResult, first: BackupResult) -> None:
    assert (again.ok, again.id, again.reason) == (False, first.id, Reason.VERIFY_FAILED)
    assert (again.verified, again.verified_at) == (None, None)
    assert again.message


def manifest_of(data: Path) -> Path:
    (found,) = (p for p in data.parent.glob("*.json") if p.name.startswith(data.name.split(".")[0]))
    return found


@pytest.mark.parametrize("damage", ["data gone", "manifest gone", "found damaged"])
@pytest.mark.parametrize("where", [0, 1], ids=["a slice of the one before", "its own slice"])
def test_one_whose_slice_is_lost_is_not_called_proved(line: Line, damage: str, where: int) -> None:
    line.behind("inc1")
    first = line.behind("inc2")
    data = line.slices()[where]
    if damage == "data gone":
        data.unlink()
    elif damage == "manifest gone":
        manifest_of(data).unlink()
    else:
        flip(data)
        line.behind("full2", "full")  # its check reads the slices behind it
        assert [r for r in line.shop.records() if r.kind is BackupKind.SLICE and not r.good]
    failed(line.made("inc2", type="incremental"), first)


@pytest.mark.parametrize("kind", ["incremental", "differential"])
def test_one_whose_full_is_not_there_any_more_is_not_called_proved(line: Line, kind: str) -> None:
    first = line.behind("next", kind)
    archive = line.archive()
    data = archive.read_bytes()
    archive.unlink()
    failed(line.made("next", type=kind), first)
    archive.write_bytes(data)
    for proof in archive.parents[1].glob(f"{first.id}/*proof*"):
        proof.unlink()
    assert line.made("next", type=kind).ok


def test_a_slice_that_was_put_back_since_it_was_found_damaged_makes_it_good_again(line: Line) -> None:
    first = line.behind("inc")
    (data,) = line.slices()
    before = data.read_bytes()
    flip(data)
    line.behind("full2", "full")
    data.write_bytes(before)
    again = line.made("inc", type="incremental")
    assert (again.ok, again.id, again.message) == (True, first.id, "")
    assert again.verified is not None
    assert again.verified_at is not None and first.verified_at is not None
    assert again.verified_at > first.verified_at


def test_one_that_needs_a_key_which_is_away_is_found_and_claims_no_proof(line: Line) -> None:
    """Nothing is dumped a second time, and nobody knows whether it can be restored."""
    keys = line.shop.keys
    (keys / "k2").write_bytes(b"2" * 32)
    first = line.behind("inc", keyId="k2")
    old = (keys / "k1").read_bytes()
    (keys / "k1").unlink()
    files = line.shop.files()
    again = line.made("inc", type="incremental", keyId="k2")
    assert (again.ok, again.id, again.reason) == (True, first.id, None)
    assert (again.verified, again.verified_at, again.verify_note) == (None, None, "KeyMissing")
    assert "put that key back under its id" in again.verify_message
    assert "make it again" in again.verify_message
    assert line.shop.files() == files
    (keys / "k1").write_bytes(old)
    whole = line.made("inc", type="incremental", keyId="k2")
    assert (whole.ok, whole.verified, whole.verified_at) == (True, first.verified, first.verified_at)
