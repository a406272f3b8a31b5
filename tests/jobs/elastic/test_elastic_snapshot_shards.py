"""The shards of an index that comes out of a snapshot: waited for, and called damaged only when files of it are."""

import os
from pathlib import Path
from typing import Any

import pytest

from jobs.elastic.elastic_bed import Bed, by_snapshot
from lucid_storage.errors import LucidError, Reason, StoreUnavailableError
from lucid_storage.jobs import elastic_loading
from lucid_storage.jobs.elastic_restore import prove, restore
from lucid_storage.stores.elasticsearch.backup import snapshots
from lucid_storage.stores.elasticsearch.backup.http import Answer, ElasticHttp

pytestmark = pytest.mark.elasticsearch

SINGLE = {"number_of_replicas": 0}


def fill(bed: Bed, index: str, *, documents: int) -> None:
    """Documents that cannot be compressed, of 40 kB each as JSON and half as much on disk."""
    lines = [f'{{"index":{{}}}}\n{{"t":"{os.urandom(20_000).hex()}"}}\n' for _ in range(documents)]
    bed.raw("POST", f"/{index}/_bulk", "".join(lines).encode(), "application/x-ndjson")
    bed.call("POST", f"/{index}/_flush")


def blobs(bed: Bed, repository: str) -> list[Path]:
    """The largest file of the data is the first one."""
    found = (bed.server.snapshots / repository / "indices").rglob("__*")
    return sorted(found, key=lambda path: path.stat().st_size, reverse=True)


async def test_all_shards_of_a_slow_repository_are_waited_for(
    bed: Bed, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = str(bed.server.snapshots / repository)
    slow = {"type": "fs", "settings": {"location": location, "max_restore_bytes_per_sec": "200kb"}}
    bed.call("PUT", f"/_snapshot/{repository}", slow)
    index = bed.index("slow", {"settings": {**SINGLE, "number_of_shards": 4}})
    fill(bed, index, documents=24)
    backup = bed.back_up(by_snapshot(bed, repository))
    genuine, there = elastic_loading.restore_index, []

    def restored(*given: Any) -> None:
        genuine(*given)
        there.append(bed.call("GET", f"/_cluster/health/{given[4]}"))

    monkeypatch.setattr(elastic_loading, "restore_index", restored)
    assert prove(bed.restore_run(backup))[0] == 24
    assert [(one["status"], one["active_primary_shards"]) for one in there] == [("green", 4)]


def missing(path: Path) -> None:
    path.unlink()


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [missing, flipped])
async def test_a_snapshot_of_which_a_file_is_damaged_is_called_so(
    bed: Bed, repository: str, damage: Any
) -> None:
    fill(bed, bed.index("held"), documents=4)
    backup = bed.back_up(by_snapshot(bed, repository))
    damage(blobs(bed, repository)[0])
    with pytest.raises(LucidError) as failed:
        prove(bed.restore_run(backup))
    assert failed.value.reason is Reason.ARCHIVE_DAMAGED
    assert bed.indices() == {bed.name("held")}


async def test_an_index_that_no_node_may_hold_comes_back_from_its_snapshot(bed: Bed, repository: str) -> None:
    index = bed.index("boxed")
    bed.put(index, "1", "{}")
    bed.call("PUT", f"/{index}/_settings", {"index.routing.allocation.require.box": "gone"})
    backup = bed.back_up(by_snapshot(bed, repository))
    assert prove(bed.restore_run(backup))[0] == 1
    restore(bed.restore_run(backup, drop_existing=True))
    (after,) = bed.call("GET", f"/{index}/_settings").values()
    assert after["settings"]["index"]["routing"]["allocation"]["require"] == {"box": "gone"}
    assert bed.count(index) == 1


async def test_a_snapshot_whose_shards_get_to_no_node_is_not_called_damaged(
    bed: Bed, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when all disks are too full to take another shard."""
    bed.put(bed.index("fine"), "1", "{}")
    backup = bed.back_up(by_snapshot(bed, repository))
    genuine = ElasticHttp.ask

    def ask(self: ElasticHttp, method: str, path: str, body: Any = None, *rest: Any, **more: Any) -> Answer:
        if path.endswith("/_restore"):
            body["index_settings"]["index.routing.allocation.require.box"] = "gone"
        return genuine(self, method, path, body, *rest, **more)

    monkeypatch.setattr(ElasticHttp, "ask", ask)
    monkeypatch.setattr(snapshots, "_NO_NODE_SECONDS", 6.0, raising=False)
    with pytest.raises(StoreUnavailableError, match="to none of its nodes"):
        prove(bed.restore_run(backup))
