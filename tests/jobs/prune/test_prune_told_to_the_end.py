"""A schedule and its prune workers until nothing is left to tell: how often a Job is made, and who is told."""

from __future__ import annotations

import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from chain_builder import CLUSTER, full
from schedule_builder import SETTINGS, at, backup, look, schedule
from test_prune_lost import BASE, SLICES, at_end, damage, judged
from test_prune_worker import FOLDER, Bucket, ago

from lucid_storage.archive.records import write_proof
from lucid_storage.errors import StoreUnavailableError
from lucid_storage.jobs.prune import prune
from lucid_storage.jobs.prune_results import MOST_LOST
from lucid_storage.jobs.reporting import Reporter
from lucid_storage.jobs.worker import Stop
from lucid_storage.kinds.backupschedule.actions import ExplainBackup, StartPrune
from lucid_storage.kinds.backupschedule.retaining import Retaining
from lucid_storage.kinds.workers.place import Place
from lucid_storage.kinds.workers.state import WorkerPhase, WorkerState
from lucid_storage.kube.resources import Resource
from lucid_storage.models.backupschedule import BackupScheduleStatus
from lucid_storage.models.orders import Destination, Owner
from lucid_storage.models.pruning import PruneOrder, PruneResult

READY = Retaining("cluster", Place(Destination(bucket="b")), {"nightly": {"days": 30}}, SETTINGS)
HERE = Owner(cluster=CLUSTER, namespace="ns", name="nightly", uid="u", spec_hash="")
VERIFIED = [{"type": "Verified", "status": "True", "reason": "Verified", "message": ""}]
MANY = 30


class Chain:
    """Objects and what lies in the destination, side by side."""

    def __init__(self, path: Path, phase: str) -> None:
        self.bucket = Bucket(path)
        self.bucket.add(BASE, *SLICES[:MANY], *(at_end(n) for n in range(MANY)))
        said = [{**c, "lastTransitionTime": "2026-05-04T02:01:00Z"} for c in VERIFIED]
        start = at("2026-05-04T02:00")
        self.objects = [
            backup(
                start + timedelta(minutes=n),
                phase,
                id=at_end(n).id,
                conditions=said,
                manifestSha256="x",
                chain="nightly",
            )
            for n in range(MANY)
        ]
        self.base = backup("2026-05-04T01:00", id=BASE.id, type="full")
        self.status = BackupScheduleStatus(last_slot=at("2026-05-05T02:00"), runs_since_full=0)

    def settle(self, now: str = "2026-05-05T12:00") -> list[PruneResult]:
        """Looks at the schedule until it makes no prune worker; what those said."""
        said: list[PruneResult] = []
        for minute in range(20):
            moment = at(now) + timedelta(minutes=minute)
            step = self._look(moment)
            orders = [a.request.order for a in step.actions if isinstance(a, StartPrune)]
            if not orders:
                return said
            assert isinstance(orders[0], PruneOrder)
            said.append(self._pruned(orders[0]))
            over = WorkerState(WorkerPhase.ENDED, result=said[-1].model_dump_json(by_alias=True))
            for action in self._look(moment, prune=over).actions:
                if isinstance(action, ExplainBackup):
                    (its,) = [o for o in (self.base, *self.objects) if o.key == action.key]
                    its.status.update(action.status)
        raise AssertionError("there is no end of prune workers")

    def told(self) -> list[Resource]:
        return [o for o in self.objects if o.status.get("verified") == "ArchiveDamaged"]

    def _look(self, moment: Any, **seen: Any) -> Any:
        desired = schedule(retention={"days": 30})
        step = look(desired, moment, self.base, *self.objects, status=self.status, retaining=READY, **seen)
        self.status = step.status
        return step

    def _pruned(self, order: PruneOrder) -> PruneResult:
        update = {"owner": HERE, "destination": Destination(root="root"), "chain": "main", "key_id": None}
        done = order.model_copy(update=update)
        return prune(done, self.bucket.environ, Reporter(out=io.StringIO()), Stop())


@pytest.mark.parametrize("phase", ["Completed", "PartiallyFailed"])
def test_more_than_one_worker_can_name_are_all_told_and_then_there_is_rest(
    tmp_path: Path, phase: str
) -> None:
    chain = Chain(tmp_path, phase)
    damage(chain.bucket, 0)
    said = chain.settle()
    assert [len(s.unrestorable) for s in said] == [MOST_LOST, MOST_LOST, MANY - 2 * MOST_LOST]
    assert len(chain.told()) == MANY
    assert [s.unrestorable for s in chain.settle("2026-05-06T12:00")] == [()], "the next day"
    damage(chain.bucket, 0, passed=True)
    assert sum(len(s.restorable_again) for s in chain.settle("2026-05-07T12:00")) == MANY
    assert chain.told() == []


def test_those_that_failed_their_check_take_no_turn_of_others(tmp_path: Path) -> None:
    """Their objects say so already. The oldest of all is damaged later."""
    chain = Chain(tmp_path, "Completed")
    for number, one in enumerate(chain.objects[1:], 1):
        one.status["phase"] = "Failed"
        proof = judged(at_end(number), passed=False).proof
        assert proof is not None
        write_proof(chain.bucket.store, FOLDER, proof, None)
    damage(chain.bucket, 0)
    (said,) = chain.settle()
    assert said.unrestorable == (at_end(0).id,)
    assert chain.told() == chain.objects[:1]


def test_what_cannot_be_removed_now_has_no_workers_run_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snapshots of servers that are away: each worker would find the same ones first."""
    chain = Chain(tmp_path, "Completed")
    chain.bucket.add(*(full(f"old{n}", n, completed_at=ago(60 - n / 60)) for n in range(50)))
    away = StoreUnavailableError("The servers are away.")
    monkeypatch.setattr("lucid_storage.jobs.prune_removing._snapshot_stays", lambda *given: away)
    (said,) = chain.settle()
    assert not said.more
    monkeypatch.undo()
    assert [s.more for s in chain.settle("2026-05-06T12:00")] == [True, False]
