"""A prune worker that did not do what it was asked for says so, and leaves nothing that would do it later."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from chain_builder import incremental, piece
from test_prune_marks import marks
from test_prune_worker import DAY, Bucket, ago, nightly

from lucid_storage.archive.folder import FolderStore
from lucid_storage.archive.manifest import ElasticRecord, EngineRecord, Manifest
from lucid_storage.archive.recorded import Recorded
from lucid_storage.errors import DestinationError, LucidError, Reason, StoreUnavailableError
from lucid_storage.jobs.worker import Stop


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return Bucket(tmp_path)


def of_elasticsearch(days: int) -> Recorded:
    """Its documents lie in a snapshot of the servers."""
    made = nightly(days)
    taken = ElasticRecord(version="8.11.0", identity="es", method="Snapshot", repository="r", snapshot="s")
    engine = EngineRecord(engine="elasticsearch", taken_at=ago(days), elasticsearch=taken)
    engines = (*made.manifest.engines, engine)
    return replace(made, manifest=made.manifest.model_copy(update={"engines": engines}))


@pytest.mark.parametrize("reason", [Reason.CANCELLED, Reason.DEADLINE_EXCEEDED])
def test_a_worker_that_is_stopped_removes_nothing_more_and_says_so(bucket: Bucket, reason: Reason) -> None:
    bucket.add(*(nightly(d) for d in range(1, 9)))
    stop = Stop()
    stop.reason, stop.message = reason, "The worker was told to stop."
    stop.event.set()
    with pytest.raises(LucidError, match="Not everything was removed") as told:
        bucket.prune(stop=stop)
    assert told.value.reason is reason
    assert bucket.there() == {f"f{d}" for d in range(1, 9)}


@pytest.mark.parametrize("url", [None, "http://es"])
def test_a_deletion_that_a_snapshot_hinders_is_not_done(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, url: str | None
) -> None:
    """Without an address of the servers, and with servers that are away."""
    why = "no ELASTICSEARCH_URL" if url is None else "http://es does not answer"

    def away(manifest: Manifest, address: str) -> bool:
        raise StoreUnavailableError(f"{address} does not answer.")

    bucket.add(of_elasticsearch(2), of_elasticsearch(1))
    monkeypatch.setattr("lucid_storage.jobs.elastic_backup.delete_taken", away)
    if url is not None:
        bucket.environ["ELASTICSEARCH_URL"] = url
    with pytest.raises(LucidError, match=why):
        bucket.prune(sweep=False, rules={}, remove=("f2",), known=("f2",))
    assert bucket.there() == {"f2", "f1"}
    assert marks(bucket) == set()
    assert bucket.prune(rules={"nightly": {"days": 1}}, known=("f2", "f1")).ok, (
        "a sweep finds it the next time"
    )


def test_a_deletion_that_failed_is_not_made_up_for_by_a_later_sweep(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody sets deletionPolicy: Retain then, as the condition advises: the data stay for their days."""
    bucket.add(nightly(2), nightly(1))

    def locked(store: FolderStore, path: str) -> None:
        raise DestinationError("The object is locked.")

    with monkeypatch.context() as patched:
        patched.setattr(FolderStore, "delete", locked)
        with pytest.raises(DestinationError):
            bucket.prune(sweep=False, rules={}, remove=("f2",), known=("f2",))
    bucket.prune(rules={"nightly": {"days": 30}}, known=("f1",))
    assert bucket.there() == {"f2", "f1"}


def test_a_deletion_whose_turn_has_not_come_is_remembered(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its object goes, so nobody else would ask for it."""
    bucket.add(nightly(3), nightly(2), piece(98 * DAY, 99 * DAY, completed_at=ago(1)))
    bucket.add(incremental("i1", 99 * DAY, "f2", completed_at=ago(1)), nightly(0))
    monkeypatch.setattr("lucid_storage.jobs.prune.MOST_REMOVED", 0)
    result = bucket.prune(sweep=False, rules={}, remove=("f2", "f3"), known=("f2", "f3"))
    assert [r.id for r in result.retained] == ["f2"]
    assert marks(bucket) == {"f2", "f3"}
