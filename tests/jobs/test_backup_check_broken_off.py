"""A backup whose check is broken off was written: its object knows of the data, and who deletes it removes them."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from workshop import Workshop

from lucid_storage.errors import DestinationError, LucidError, Reason
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
