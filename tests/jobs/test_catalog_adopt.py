"""A rebuilt cluster takes over the backups of the former one: slices go on, objects find data, retention counts
(rule 1.8, 1.10).
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from catalog_bed import command, folder_of
from workshop import CLUSTER, Workshop

from lucid_storage.archive.adoption import adopt, adopted, homes
from lucid_storage.archive.folder import FolderStore
from lucid_storage.archive.layout import ChainFolder
from lucid_storage.models.orders import BackupResult, RestoreResult
from lucid_storage.models.pruning import PruneResult
from testbed.stores.mongodb import MongoDB

NEW = "00000000-0000-4000-8000-000000000002"
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def rebuilt(shop: Workshop, name: str, engines: list[str], **more: Any) -> dict[str, Any]:
    """The order of a worker in the new cluster."""
    order = shop.order(name, engines, **more)
    return {**order, "owner": {**order["owner"], "cluster": NEW}}


def back_up(shop: Workshop, name: str, **more: Any) -> BackupResult:
    order = rebuilt(shop, name, ["mongodb"], **more)
    return shop.result(shop.start("backup", order), order)


def prune(shop: Workshop, **more: Any) -> PruneResult:
    order = rebuilt(shop, "prune", [], **more)
    process = shop.start("prune", order)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return PruneResult.model_validate_json(shop.termination(order).read_text())


def run_adopt(shop: Workshop, *more: str) -> str:
    answer = command("catalog", *folder_of(shop), "--adopt", CLUSTER, "--cluster", NEW, *more)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.mark.mongodb
async def test_an_adopted_chain_is_gone_on_with_restored_from_and_pruned(
    mongodb: MongoDB, workshop: Callable[..., Workshop], database: str
) -> None:
    shop = workshop(MONGODB_URI=mongodb.uri)
    only = {"mongodb": {"databases": [database]}}
    with mongodb.client() as client:
        client[database].a.insert_many([{"_id": n} for n in range(10)])
        full = shop.back_up("full", ["mongodb"], **only)
        client[database].a.insert_one({"_id": 10})
        stranger = back_up(shop, "before", type="incremental", **only)
        assert (stranger.ok, stranger.reason) == (False, "NoBase")
        assert prune(shop, remove=[full.id]).removed == (full.id,), "not there, for this cluster"
        assert {r.id for r in shop.records()} == {full.id}

        assert run_adopt(shop) == "adopted: namespace n, chain manual\n"
        assert run_adopt(shop) == "was adopted before: namespace n, chain manual\n"

        inc = back_up(shop, "inc", type="incremental", **only)
        assert (inc.ok, inc.base, inc.timeline) == (True, full.id, full.timeline), inc.message
        again = back_up(shop, "full", **only)
        assert (again.ok, again.id) == (True, full.id), "the object that Git made again finds its data"
        order = {
            **rebuilt(shop, "back", ["mongodb"]),
            "backupId": inc.id,
            "planOnly": True,
            "dropExisting": True,
        }
        process = shop.start("restore", order)
        await asyncio.to_thread(process.communicate, timeout=120)
        told = RestoreResult.model_validate_json(shop.termination(order).read_text())
        assert told.ok, told.message
        assert told.plan is not None
        assert told.plan.chain[0] == full.id

        kept = prune(shop, remove=[full.id])
        assert [r.id for r in kept.retained] == [full.id], "the incremental of the new cluster builds on it"
        client[database].a.insert_one({"_id": 11})
        later = back_up(shop, "later", **only)
        assert later.ok, later.message
        gone = prune(shop, remove=[inc.id, full.id])
        assert set(gone.removed) == {inc.id, full.id}
        assert not shop.records(), "its data went from where they lay"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--adopt", "nobody", "--cluster", NEW), "No backups"),
        (("--adopt", CLUSTER), "Name the cluster"),
    ],
)
def test_what_cannot_be_adopted_is_said(
    workshop: Callable[..., Workshop], options: tuple[str, ...], said: str
) -> None:
    answer = command("catalog", *folder_of(workshop()), *options)
    assert answer.returncode == 2
    assert said in answer.stderr


def test_a_note_leads_nowhere_but_to_another_clusters_chain_of_the_name(
    workshop: Callable[..., Workshop],
) -> None:
    store = FolderStore(workshop().destination)
    mine = ChainFolder("r", NEW, "n", "manual")
    for name in ("...json", "x.json", f"deeper/{CLUSTER}.json", f"{NEW}.json", f"{CLUSTER}.txt"):
        store.put(f"{mine.adopted}/{name}", b"{}")
    assert adopted(store, mine) == ()
    assert adopt(store, mine, CLUSTER, NOW)
    assert not adopt(store, mine, CLUSTER, NOW)
    assert homes(store, mine) == (mine, ChainFolder("r", CLUSTER, "n", "manual"))
    for former in (NEW, "../..", "x"):
        with pytest.raises(ValueError, match="no other cluster"):
            adopt(store, mine, former, NOW)
