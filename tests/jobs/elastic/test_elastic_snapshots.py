"""Backups by snapshot into the servers' own repository, on a real server."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from workshop import Workshop

from jobs.elastic.elastic_bed import Bed, Killed, Readable, by_snapshot, killed, snapshots
from lucid_storage.archive.continuity import last_verified_point
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs import elastic_loading, elastic_restore
from lucid_storage.jobs.contract import CancelledError
from lucid_storage.jobs.elastic_backup import check, delete_taken, take
from lucid_storage.jobs.elastic_restore import prove, restore
from lucid_storage.models.backup import Verify
from lucid_storage.stores.elasticsearch.backup import snapshots as server_snapshots

pytestmark = pytest.mark.elasticsearch


async def test_a_snapshot_comes_back_with_its_aliases_after_a_disaster(bed: Bed, repository: str) -> None:
    alias = bed.name("alias")
    index = bed.index(
        "kept",
        {
            "settings": {"number_of_replicas": 0, "refresh_interval": "9s"},
            "mappings": {"_source": {"enabled": False}},
            "aliases": {alias: {"filter": {"term": {"n": 1}}, "is_write_index": True}},
        },
    )
    bed.fill(index, 2_000)
    backup = bed.back_up(by_snapshot(bed, repository))
    assert backup.record.method == "Snapshot"
    assert backup.record.snapshot == f"lucid-{backup.id}"
    assert f"The snapshot in {repository} is not encrypted by this backup." in backup.taken.notes
    check(Readable(backup.data), backup.manifest())
    before = bed.call("GET", f"/{index}")[index]
    bed.call("DELETE", f"/{index}")
    done = restore(bed.restore_run(backup))
    assert done.documents == 2_000
    ((real, after),) = bed.call("GET", f"/{index}").items()
    assert real != index
    assert after["aliases"] == {**before["aliases"], index: {}}
    assert after["settings"]["index"]["refresh_interval"] == "9s"
    assert "hidden" not in after["settings"]["index"]
    assert bed.count(index) == 2_000


async def test_a_snapshot_replaces_only_with_consent_and_is_proved_under_reserved_names(
    bed: Bed, repository: str
) -> None:
    index = bed.index("kept")
    bed.fill(index, 100)
    backup = bed.back_up(by_snapshot(bed, repository))
    bed.fill(index, 50, start=100)
    with pytest.raises(LucidError) as refused:
        restore(bed.restore_run(backup))
    assert refused.value.reason is Reason.TARGET_NOT_EMPTY
    assert prove(bed.restore_run(backup))[0] == 100
    assert bed.indices() == {index}
    assert bed.count(index) == 150
    restore(bed.restore_run(backup, drop_existing=True))
    assert bed.count(index) == 100


async def test_a_snapshot_that_nobody_read_back_is_not_called_checked(
    bed: Bed, repository: str, workshop: Callable[..., Workshop]
) -> None:
    shop = workshop(ELASTICSEARCH_URL=bed.server.url)
    bed.fill(bed.index("kept"), 100)
    chosen = by_snapshot(bed, repository).model_dump(mode="json", by_alias=True)
    for _ in ("made", "found again"):
        told = shop.back_up("checked", ["elasticsearch"], elasticsearch=chosen)
        assert (told.ok, told.verified, told.verify_note) == (True, Verify.UPLOAD, "SnapshotOnly"), (
            told.message
        )
        assert repository in told.verify_message
    assert last_verified_point(shop.records()) is None
    told = shop.back_up("restored", ["elasticsearch"], elasticsearch=chosen, verify="Restore")
    assert (told.ok, told.verified, told.verify_note) == (True, Verify.RESTORE, None), told.message
    assert last_verified_point(shop.records()) is not None


async def test_a_partial_snapshot_fails_with_its_shards_and_is_removed(bed: Bed, repository: str) -> None:
    bed.fill(bed.index("fine"), 10)
    nowhere = {"number_of_replicas": 0, "index.routing.allocation.require._name": "nobody"}
    index = bed.name("broken")
    bed.call("PUT", f"/{index}?wait_for_active_shards=0", {"settings": nowhere})
    with pytest.raises(LucidError) as failed:
        bed.back_up(by_snapshot(bed, repository))
    assert failed.value.reason is Reason.SNAPSHOT_PARTIAL
    assert f"{index}[0]" in failed.value.message
    assert snapshots(bed, repository) == []
    assert bed.sink is None


async def test_an_index_that_is_deleted_while_the_snapshot_is_made_fails_it(
    bed: Bed, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = str(bed.server.snapshots / repository)
    slow = {"type": "fs", "settings": {"location": location, "max_snapshot_bytes_per_sec": "5kb"}}
    bed.call("PUT", f"/_snapshot/{repository}", slow)
    small, large = bed.index("a-small"), bed.index("b-large")
    bed.put(small, "1", "{}")
    bed.fill(large, 500)
    bed.call("POST", f"/{small},{large}/_flush")
    genuine, deleted = server_snapshots._progress, []

    def progress(*given: Any) -> Any:
        status = bed.call("GET", f"{given[1]}/_status")["snapshots"][0]["indices"]
        if not deleted and small in status and status[small]["shards_stats"]["done"]:
            deleted.append(bed.call("DELETE", f"/{small}"))
        return genuine(*given)

    monkeypatch.setattr(server_snapshots, "_progress", progress)
    with pytest.raises(LucidError) as failed:
        bed.back_up(by_snapshot(bed, repository))
    assert deleted
    assert failed.value.reason is Reason.SNAPSHOT_PARTIAL
    assert small in failed.value.message
    assert snapshots(bed, repository) == []


async def test_a_repository_that_is_missing_or_read_only_is_said(bed: Bed, repository: str) -> None:
    bed.index("one")
    with pytest.raises(LucidError, match="no snapshot repository") as missing:
        bed.back_up(by_snapshot(bed, bed.name("none")))
    assert missing.value.reason is Reason.NOT_CONFIGURED
    location = str(bed.server.snapshots / repository)
    body = {"type": "fs", "settings": {"location": location, "readonly": True}}
    bed.call("PUT", f"/_snapshot/{bed.name('ro')}", body)
    with pytest.raises(LucidError, match="read-only") as refused:
        bed.back_up(by_snapshot(bed, bed.name("ro")))
    assert refused.value.reason is Reason.DESTINATION_UNAVAILABLE
    bed.call("DELETE", f"/_snapshot/{bed.name('ro')}")


async def test_a_cancelled_snapshot_is_removed(bed: Bed, repository: str) -> None:
    bed.fill(bed.index("one"), 1_000)
    run = bed.run(by_snapshot(bed, repository))
    cancelled = threading.Event()
    run.cancelled = cancelled
    run.expect = lambda _size: cancelled.set()
    with pytest.raises(CancelledError):
        take(run, bed.server.url)
    assert snapshots(bed, repository) == []


async def test_retention_deletes_the_snapshot_and_an_absent_one_is_no_error(
    bed: Bed, repository: str
) -> None:
    bed.fill(bed.index("one"), 10)
    backup = bed.back_up(by_snapshot(bed, repository))
    assert delete_taken(backup.manifest(), bed.server.url)
    assert snapshots(bed, repository) == []
    assert not delete_taken(backup.manifest(), bed.server.url)
    with pytest.raises(LucidError) as gone:
        restore(bed.restore_run(backup, drop_existing=True))
    assert gone.value.reason is Reason.ARCHIVE_DAMAGED


async def test_a_manifest_takes_only_the_snapshot_that_its_own_backup_made(bed: Bed, repository: str) -> None:
    """Whoever owns the bucket can write an unencrypted manifest that names any snapshot."""
    bed.fill(bed.index("one"), 10)
    backup = bed.back_up(by_snapshot(bed, repository))
    true = backup.manifest()
    for forged in (
        true.model_copy(update={"origin": true.origin.model_copy(update={"namespace": "theirs"})}),
        true.model_copy(update={"origin": true.origin.model_copy(update={"cluster": "theirs"})}),
        true.model_copy(update={"id": "another"}),
    ):
        assert not delete_taken(forged, bed.server.url)
    assert snapshots(bed, repository) == [backup.record.snapshot]


async def test_a_snapshot_of_somebody_else_under_the_name_is_left_alone(bed: Bed, repository: str) -> None:
    bed.fill(bed.index("one"), 10)
    run = bed.run(by_snapshot(bed, repository))
    name = f"lucid-{run.order.id}"
    bed.call(
        "PUT", f"/_snapshot/{repository}/{name}?wait_for_completion=true", {"indices": [f"{bed.prefix}*"]}
    )
    with pytest.raises(LucidError) as refused:
        take(run, bed.server.url)
    assert refused.value.reason is Reason.CONFLICT
    assert snapshots(bed, repository) == [name]


async def test_a_snapshot_of_nothing_is_refused_and_not_one_of_everything(bed: Bed, repository: str) -> None:
    with pytest.raises(LucidError) as refused:
        bed.back_up(by_snapshot(bed, repository))
    assert refused.value.reason is Reason.INVALID_SPEC
    assert snapshots(bed, repository) == []


async def test_what_a_restore_killed_amid_a_snapshot_left_goes_also_where_the_index_had_been_restored_before(
    bed: Bed, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes out of the snapshot with the mark of the restore before."""
    index = bed.index("kept", {"settings": {"number_of_replicas": 0}})
    bed.fill(index, 50)
    restore(bed.restore_run(bed.back_up(), drop_existing=True))
    backup = bed.back_up(by_snapshot(bed, repository))
    run = bed.restore_run(backup, drop_existing=True)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(elastic_loading, "mark", killed)
        patched.setattr(elastic_loading, "discard", lambda *_: None)
        patched.setattr(elastic_restore, "_lower_if_empty", lambda *_: None)
        restore(run)
    assert f"{index}-r-{run.run}" in bed.indices()
    restore(bed.restore_run(backup, drop_existing=True, run="next"))
    assert bed.indices() == {f"{index}-r-next"}
