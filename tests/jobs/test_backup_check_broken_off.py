"""A backup whose check is broken off was written: its object knows of the data, and who deletes it removes them."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from workshop import Workshop

from lucid_storage.archive.folder import FolderStore
from lucid_storage.archive.layout import MANIFEST
from lucid_storage.errors import DestinationError, DestinationUnavailableError, LucidError, Reason
from lucid_storage.jobs import backup, found_again
from lucid_storage.jobs.backup import back_up
from lucid_storage.jobs.reporting import Reporter
from lucid_storage.jobs.worker import Stop
from lucid_storage.kinds.backup.results import completed
from lucid_storage.models.backup import BackupPhase, BackupStatus
from lucid_storage.models.orders import BackupOrder, BackupResult

SNAPSHOT = {"name": "s", "uid": "u", "className": "c", "driver": "d", "takenAt": "2026-11-20T00:00:00Z"}
VOLUME = {"name": "data", "claim": "data", "snapshot": SNAPSHOT}


class Worker:
    """Makes one and the same backup, which needs no server."""

    def __init__(self, shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shop, self._patch, self.stop = shop, monkeypatch, Stop()
        self.order = BackupOrder.model_validate(shop.order("v", ["volumes"], volumes=[VOLUME]))

    def run(self, prove: Callable[..., Any] | None = None) -> BackupResult:
        with self._patch.context() as patched:
            if prove is not None:
                for module in (backup, found_again):
                    patched.setattr(module, "prove", prove)
            return back_up(self.order, self.shop.here(), Reporter(out=io.StringIO()), self.stop)

    def away(self, *given: object) -> None:
        raise DestinationError("The bucket is away.")

    def drained(self, *given: object) -> None:
        self.stop.reason, self.stop.message = Reason.CANCELLED, "The worker was told to stop."
        raise LucidError("The check was stopped.", reason=Reason.CANCELLED)


@pytest.fixture
def worker(workshop: Callable[..., Workshop], monkeypatch: pytest.MonkeyPatch) -> Worker:
    return Worker(workshop(), monkeypatch)


@pytest.mark.parametrize("times", [1, 2], ids=["made", "found again"])
def test_its_object_knows_of_the_data_and_says_what_was_in_the_way(worker: Worker, times: int) -> None:
    for _ in range(times):
        result = worker.run(worker.away)
    [record] = worker.shop.records()
    assert (result.ok, result.id, result.reason) == (False, record.id, Reason.DESTINATION_UNAVAILABLE)
    assert result.manifest_sha256 is not None
    assert "The bucket is away." in result.message
    status, said = completed(BackupStatus(), result, left_out="", encrypted=True)
    assert (status.phase, status.verified) == (BackupPhase.FAILED, None)
    assert [one[1] for one in said.more] == [False]
    assert record.proof is None


def test_a_drained_one_tells_what_it_wrote(worker: Worker) -> None:
    result = worker.run(worker.drained)
    assert (result.ok, result.reason, result.manifest_sha256 is not None) == (False, Reason.CANCELLED, True)


def test_made_again_it_is_checked_and_complete(worker: Worker) -> None:
    broken = worker.run(worker.away)
    result = worker.run()
    assert (result.ok, result.id, result.manifest_sha256) == (True, broken.id, broken.manifest_sha256)


def lost_answer(monkeypatch: pytest.MonkeyPatch, kept: Callable[[bytes], bytes | None]) -> None:
    """The manifest is written as `kept` says, and the answer does not come back."""
    real = FolderStore.put_if_absent

    def put(store: FolderStore, path: str, data: bytes) -> bool:
        if not path.endswith(MANIFEST):
            return real(store, path, data)
        there = kept(data)
        if there is not None:
            real(store, path, there)
        raise DestinationUnavailableError("The answer was lost.")

    monkeypatch.setattr(FolderStore, "put_if_absent", put)


def test_a_manifest_whose_answer_was_lost_is_of_a_backup_that_was_written(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        lost_answer(patched, lambda data: data)
        result = worker.run()
    [record] = worker.shop.records()
    assert (result.ok, result.id, result.reason) == (True, record.id, None)
    assert worker.run().manifest_sha256 == result.manifest_sha256


@pytest.mark.parametrize("kept", [None, b"{}"], ids=["not written", "another"])
def test_a_manifest_that_is_not_there_as_it_was_written_is_of_no_backup(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, kept: bytes | None
) -> None:
    lost_answer(monkeypatch, lambda data: kept)
    with pytest.raises(DestinationError, match="The answer was lost"):
        worker.run()
    assert worker.shop.records() == []


def test_a_manifest_that_cannot_be_read_back_at_once_is_of_a_backup_that_was_written(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, read = FolderStore.get, list[str]()

    def get(store: FolderStore, path: str) -> bytes | None:
        if path.endswith(MANIFEST):
            read.append(path)
            if len(read) == 1:
                raise DestinationUnavailableError("The destination does not answer.")
        return real(store, path)

    monkeypatch.setattr(FolderStore, "get", get)
    result = worker.run()
    assert (result.ok, result.manifest_sha256 is not None) == (True, True)


@pytest.mark.parametrize("times", [1, 2], ids=["made", "found again"])
def test_a_defect_of_the_check_leaves_the_data_to_its_object(worker: Worker, times: int) -> None:
    def defect(*given: object) -> None:
        raise OSError("input/output error")

    for _ in range(times):
        result = worker.run(defect)
    assert (result.ok, result.reason, result.manifest_sha256 is not None) == (
        False,
        Reason.INTERNAL_ERROR,
        True,
    )
    assert "the log of its pod" in result.message
