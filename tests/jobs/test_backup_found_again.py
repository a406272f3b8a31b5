"""A backup that lies there already is not dumped again (rule 1.10), and what is being removed is none (rule 1.9)."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from catalog_bed import flip
from workshop import CLUSTER, Workshop

from lucid_storage.archive import holds
from lucid_storage.archive.destination import ObjectStore
from lucid_storage.archive.folder import FolderStore
from lucid_storage.archive.layout import ChainFolder
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs import found_again
from lucid_storage.models.orders import BackupResult
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb
CHAIN = ChainFolder("r", CLUSTER, "n", "manual")


@pytest.fixture
def filled(mongodb: MongoDB, database: str) -> str:
    with mongodb.client() as client:
        client[database]["a"].insert_many([{"_id": n, "text": "x" * 200} for n in range(500)])
    return database


def going(shop: Workshop, *ids: str | None) -> None:
    """A prune worker has looked for holds, and removes these from here on."""
    now = datetime.now(UTC)
    chosen = [one for one in ids if one is not None]
    held = holds.announce_removal(
        FolderStore(shop.destination), CHAIN, "sweep", chosen, now + timedelta(minutes=10), now
    )
    assert not held


def marked(shop: Workshop, backup: BackupResult) -> Path:
    """Its object was deleted with its data while something needed them."""
    (manifest,) = (p for p in shop.destination.rglob("manifest.json") if str(backup.id) in str(p))
    mark = manifest.parent / "deleted.json"
    mark.write_text("{}")
    return mark


def test_one_that_is_being_removed_is_made_anew(shop: Workshop, filled: str) -> None:
    """Git makes its object again while a sweep that has read the mark removes the data."""
    first = shop.made("same", filled)
    mark = marked(shop, first)
    going(shop, first.id)
    again = shop.made("same", filled)
    assert again.ok, again.message
    assert again.id != first.id
    assert mark.exists(), "it is left to whoever removes it"
    assert {r.id for r in shop.records() if r.good} == {first.id, again.id}
    assert not [name for name in shop.files() if "/holds/" in name]


def test_of_one_id_that_is_being_removed_another_is_made(shop: Workshop, filled: str) -> None:
    first = shop.made("same", filled)
    going(shop, first.id)
    again = shop.made("same", filled, id=first.id)
    assert again.ok and again.id != first.id, again.message


def test_an_incremental_whose_full_is_being_removed_is_not_found_again(
    shop: Workshop, filled: str, mongodb: MongoDB
) -> None:
    full = shop.made("full", filled)
    with mongodb.client() as client:
        client[filled]["a"].update_many({}, {"$inc": {"n": 1}})
    first = shop.made("inc", filled, type="incremental")
    assert first.ok and first.base == full.id, first.message
    assert shop.made("inc", filled, type="incremental").id == first.id
    going(shop, full.id)
    with pytest.raises(LucidError, match="being removed by retention") as told:
        shop.made("inc", filled, type="incremental")
    assert told.value.reason is Reason.NO_BASE


def test_one_that_went_before_it_was_held_is_made_anew(
    shop: Workshop, filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = shop.made("same", filled)
    hold = holds.hold

    def too_late(
        store: ObjectStore,
        folder: ChainFolder,
        run: str,
        ids: Collection[str],
        until: datetime,
        now: datetime,
    ) -> frozenset[str]:
        store.delete(folder.manifest(str(first.id)))
        return hold(store, folder, run, ids, until, now)

    monkeypatch.setattr(holds, "hold", too_late)
    again = shop.made("same", filled)
    assert again.ok and again.id != first.id, again.message


def test_a_sweep_that_comes_while_it_is_looked_at_leaves_it(
    shop: Workshop, filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It read the mark before that was taken away."""
    first = shop.made("same", filled)
    marked(shop, first)
    shop.made("newer", filled)
    left: list[set[str]] = []
    sizes = found_again._sizes

    def while_sweeping(*given: Any) -> dict[str, int]:
        left.append(shop.swept())
        return sizes(*given)

    monkeypatch.setattr(found_again, "_sizes", while_sweeping)
    again = shop.made("same", filled)
    assert left and first.id in left[0]
    assert (again.ok, again.id) == (True, first.id)
    monkeypatch.undo()
    assert first.id in shop.swept(), "its mark is gone"


def test_without_anybody_who_holds_it_the_sweep_takes_it(shop: Workshop, filled: str) -> None:
    """What the one before stands on."""
    first = shop.made("same", filled)
    marked(shop, first)
    newer = shop.made("newer", filled)
    assert shop.swept() == {newer.id}


@pytest.mark.parametrize("verify", ["Upload", "Checksum"])
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_one_whose_data_are_not_there_any_more_is_not_called_proved(
    shop: Workshop, filled: str, damage: str, verify: str
) -> None:
    first = shop.made("same", filled)
    (archive,) = shop.destination.rglob("mongodb.archive")
    if damage == "gone":
        archive.unlink()
    else:
        archive.write_bytes(archive.read_bytes()[:-1])
    again = shop.made("same", filled, verify=verify)
    assert (again.ok, again.id, again.reason) == (False, first.id, Reason.VERIFY_FAILED)
    assert again.verified is None
    assert not shop.records()[0].good


def test_one_that_lies_there_whole_is_believed_its_proof(shop: Workshop, filled: str) -> None:
    """A rebuilt cluster reads no terabytes again because Git made its Backups again; `verify` does."""
    first = shop.made("same", filled)
    (archive,) = shop.destination.rglob("mongodb.archive")
    flip(archive)
    again = shop.made("same", filled)
    assert (again.ok, again.verified_at) == (True, first.verified_at)
