"""Retention of a backup by snapshot takes the snapshot with it, and leaves the manifest as long as it cannot."""

import json
from collections.abc import Callable

import pytest
from workshop import Workshop

from jobs.elastic.elastic_bed import Bed
from lucid_storage.models.orders import BackupResult
from lucid_storage.models.pruning import PruneResult

pytestmark = pytest.mark.elasticsearch


def snapshots(bed: Bed, repository: str) -> int:
    return len(bed.call("GET", f"/_snapshot/{repository}/_all")["snapshots"])


def prune(shop: Workshop, gone: BackupResult) -> PruneResult:
    order = shop.order("prune", [], remove=[gone.id])
    process = shop.start("prune", order)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return PruneResult.model_validate_json(shop.termination(order).read_text())


def test_a_snapshot_goes_with_its_backup_and_not_before(bed: Bed, workshop: Callable[..., Workshop]) -> None:
    repository = bed.name("pruned")
    location = str(bed.server.snapshots / repository)
    bed.call("PUT", f"/_snapshot/{repository}", {"type": "fs", "settings": {"location": location}})
    bed.fill(bed.index("a", {"settings": {"number_of_replicas": 0}}), 10)
    shop = workshop(ELASTICSEARCH_URL=bed.server.url)
    selection = {
        "indices": [f"{bed.prefix}*"],
        "method": "Snapshot",
        "repository": repository,
        "allowUnencrypted": True,
    }
    try:
        first, second = (
            shop.back_up(name, ["elasticsearch"], elasticsearch=selection) for name in ("first", "second")
        )
        assert (first.ok, second.ok) == (True, True), (first, second)
        assert snapshots(bed, repository) == 2
        del shop.environ["ELASTICSEARCH_URL"]
        refused = prune(shop, first)
        assert (refused.ok, refused.removed) == (False, ())
        assert "ELASTICSEARCH_URL" in refused.message
        assert {r.id for r in shop.records()} == {first.id, second.id}
        shop.environ["ELASTICSEARCH_URL"] = bed.server.url
        assert prune(shop, first).removed == (first.id,)
        assert {r.id for r in shop.records()} == {second.id}
        assert snapshots(bed, repository) == 1
        assert first.id not in json.dumps(shop.files())
    finally:
        for one in bed.call("GET", f"/_snapshot/{repository}/_all")["snapshots"]:
            bed.call("DELETE", f"/_snapshot/{repository}/{one['snapshot']}")
        bed.call("DELETE", f"/_snapshot/{repository}")
