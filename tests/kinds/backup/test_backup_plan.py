"""Backup: from Pending to an end, once."""

from datetime import timedelta
from typing import Any

import pytest
from backup_builder import (
    ID,
    NOW,
    RUN,
    completed,
    desired,
    ended,
    later,
    observed,
    resource,
    running,
    worker,
)

from lucid_storage.errors import LucidError, Reason, RefusedError, StoreUnavailableError
from lucid_storage.kinds.backup.actions import RemoveWorker, StartWorker, StopWorker
from lucid_storage.kinds.backup.keeping import Keeping
from lucid_storage.kinds.backup.observed import PATIENCE
from lucid_storage.kinds.backup.plan import hindered, plan
from lucid_storage.kinds.backup.requests import backup_request
from lucid_storage.kinds.oneshot import Standing
from lucid_storage.kinds.workers.state import ABSENT, WorkerPhase
from lucid_storage.models.backup import BackupPhase, BackupStatus, Verify
from lucid_storage.models.meta import SLICING
from lucid_storage.models.orders import BackupOrder, Progress
from lucid_storage.stores.mongodb.types import Topology

GOOD: dict[str, Any] = {
    "ok": True,
    "id": ID,
    "type": "full",
    "timeline": "t-1",
    "to": "2026-11-21T12:00:00Z",
    "engines": [
        {
            "engine": "mongodb",
            "ok": True,
            "documents": 3,
            "sizeBytes": 4096,
            "storedBytes": 2048,
            "takenAt": "2026-11-21T12:00:00Z",
        },
        {
            "engine": "redis",
            "ok": True,
            "documents": 3,
            "sizeBytes": 10,
            "storedBytes": 10,
            "takenAt": "2026-11-21T12:00:09Z",
        },
    ],
    "manifestSha256": "ab",
    "verified": "Checksum",
    "verifiedAt": "2026-11-21T12:00:01Z",
    "completedAt": "2026-11-21T12:00:00Z",
}


class TestBeforeItBegins:
    def test_the_run_is_journaled_with_its_job_before_the_job_is_made(self) -> None:
        step = plan(resource(), observed(), BackupStatus(), NOW)
        [start] = step.actions
        assert isinstance(start, StartWorker)
        assert (step.status.phase, step.status.run, step.status.id) == (BackupPhase.RUNNING, RUN, ID)
        assert step.status.job_name == start.request.name
        assert step.status.started_at is None
        assert step.hold

    def test_the_order_holds_what_the_worker_decides_by(self) -> None:
        [start] = plan(resource(), observed(), BackupStatus(), NOW).actions
        assert isinstance(start, StartWorker)
        order = start.request.order
        assert isinstance(order, BackupOrder)
        assert (order.server_identity, order.chain, order.scheduled) == ("set-1", "manual", False)
        assert [str(e) for e in order.engines] == ["mongodb", "redis", "elasticsearch"]
        assert order.destination.bucket == "vault"
        assert order.owner.cluster == "cluster-1"

    def test_a_second_attempt_computes_the_same_run(self) -> None:
        first, second = (plan(resource(), observed(), BackupStatus(), NOW) for _ in range(2))
        assert first == second

    @pytest.mark.parametrize(
        ("topology", "reason"),
        [(Topology.STANDALONE, Reason.NO_OPLOG), (Topology.SHARDED, Reason.SHARDED_UNSUPPORTED)],
    )
    def test_what_the_server_cannot_do_is_failed_at_once(self, topology: Topology, reason: Reason) -> None:
        step = plan(resource(), observed(topology=topology), BackupStatus(), NOW)
        assert step.said is not None
        assert (step.status.phase, step.said.reason, step.said.standing) == (
            BackupPhase.FAILED,
            reason,
            Standing.FAILED,
        )
        assert step.actions == ()

    def test_it_queues_behind_another_and_says_so_once(self) -> None:
        step = plan(resource(), observed(behind="backup other"), BackupStatus(), NOW)
        assert (step.status.phase, step.status.queued_behind) == (BackupPhase.QUEUED, "backup other")
        assert len(step.notices) == 1
        again = plan(resource(), observed(behind="backup other"), step.status, NOW)
        assert again.notices == ()

    def test_the_time_in_line_is_no_trouble(self) -> None:
        queued = plan(resource(), observed(behind="backup other"), BackupStatus(), NOW).status
        away = observed(desired=None, trouble=StoreUnavailableError("MongoDB does not answer."))
        step = plan(resource(), away, queued, later(hours=5))
        assert (step.status.phase, step.status.trouble_since) == (BackupPhase.PENDING, later(hours=5))
        assert step.idle
        back = plan(resource(), observed(behind="backup other"), step.status, later(hours=5, minutes=1))
        assert (back.status.phase, back.status.trouble_since) == (BackupPhase.QUEUED, None)

    def test_a_store_that_is_away_is_waited_for_and_then_it_is_failed(self) -> None:
        away = observed(desired=None, trouble=StoreUnavailableError("MongoDB does not answer."))
        first = plan(resource(), away, BackupStatus(), NOW)
        assert first.said is not None
        assert (first.status.phase, first.said.standing, first.retry) == (
            BackupPhase.PENDING,
            Standing.UNDER_WAY,
            True,
        )
        assert plan(resource(), away, first.status, NOW + PATIENCE).status.phase is BackupPhase.PENDING
        late = plan(resource(), away, first.status, NOW + PATIENCE + timedelta(seconds=1))
        assert late.status.phase is BackupPhase.FAILED
        assert late.said is not None
        assert late.said.reason is Reason.STORE_UNAVAILABLE

    def test_a_missing_secret_is_stalled_and_tried_again(self) -> None:
        trouble = RefusedError("create it", reason=Reason.SECRET_NOT_FOUND)
        step = plan(resource(), observed(desired=None, trouble=trouble), BackupStatus(), NOW)
        assert step.said is not None
        assert (step.status.phase, step.said.standing, step.retry) == (
            BackupPhase.PENDING,
            Standing.BLOCKED,
            True,
        )

    def test_a_spec_that_cannot_work_is_failed_at_once(self) -> None:
        trouble = RefusedError("no", reason=Reason.INVALID_SPEC)
        step = plan(resource(), observed(desired=None, trouble=trouble), BackupStatus(), NOW)
        assert step.status.phase is BackupPhase.FAILED

    def test_pause_stops_it_before_it_begins(self) -> None:
        paused = resource(annotations={"storage.lucid-blockchain.org/paused": "true"})
        step = plan(paused, observed(), BackupStatus(), NOW)
        assert step.said is not None
        assert (step.actions, step.said.reason) == ((), Reason.PAUSED)

    def test_cancelled_before_it_began_it_runs_never(self) -> None:
        step = plan(resource(cancel=True), observed(), BackupStatus(), NOW)
        assert (step.status.phase, step.actions) == (BackupPhase.CANCELLED, ())


class TestWhileAWorkerIsAtIt:
    def test_the_start_is_noted_when_the_job_is_there(self) -> None:
        seen = observed(worker=worker(WorkerPhase.WAITING, "its pod is starting"))
        step = plan(resource(), seen, running(started_at=None), NOW)
        assert step.status.started_at == NOW
        assert step.hold

    def test_a_job_that_was_journaled_and_never_made_is_made(self) -> None:
        step = plan(resource(), observed(worker=ABSENT), running(started_at=None), NOW)
        assert [type(a) for a in step.actions] == [StartWorker]

    def test_a_job_that_was_made_and_is_gone_is_not_made_again(self) -> None:
        step = plan(resource(), observed(worker=ABSENT), running(), NOW)
        assert (step.status.phase, step.actions) == (BackupPhase.FAILED, ())
        assert step.said is not None
        assert step.said.reason is Reason.WORKER_LOST

    def test_a_job_that_was_left_suspended_is_let_begin(self) -> None:
        seen = observed(worker=worker(WorkerPhase.SUSPENDED))
        step = plan(resource(), seen, running(started_at=None), NOW)
        assert [type(a) for a in step.actions] == [StartWorker]

    @pytest.mark.parametrize(
        ("progress", "phase", "shown"),
        [
            (Progress(phase="Running", done_bytes=1, total_bytes=4), BackupPhase.RUNNING, "25%"),
            (Progress(phase="Running", done_bytes=9, total_bytes=4), BackupPhase.RUNNING, "99%"),
            (Progress(phase="Running", done_bytes=2048), BackupPhase.RUNNING, "2.0Ki"),
            (Progress(phase="Verifying", done_bytes=2, total_bytes=4), BackupPhase.VERIFYING, "50%"),
        ],
    )
    def test_progress_is_told(self, progress: Progress, phase: BackupPhase, shown: str) -> None:
        seen = observed(worker=worker(WorkerPhase.RUNNING, progress=progress))
        step = plan(resource(), seen, running(), NOW)
        assert (step.status.phase, step.status.progress) == (phase, shown)

    def test_a_lost_worker_is_failed_with_why_and_stopped_in_case_it_lives(self) -> None:
        lost = worker(WorkerPhase.LOST, "its node does not answer")
        step = plan(resource(), observed(worker=lost), running(), NOW)
        assert step.status.phase is BackupPhase.FAILED
        assert [type(a) for a in step.actions] == [StopWorker]
        assert step.said is not None
        assert "its node does not answer" in step.said.message

    def test_a_deadline_is_told_as_such(self) -> None:
        lost = worker(WorkerPhase.LOST, "it did not end within its deadline", overdue=True, over=True)
        step = plan(resource(), observed(worker=lost), running(), NOW)
        assert step.said is not None
        assert step.said.reason is Reason.DEADLINE_EXCEEDED

    def test_an_operator_that_cannot_make_the_job_says_why_and_tries_again(self) -> None:
        refusal = LucidError("exceeded quota", reason=Reason.ACCESS_DENIED)
        step = hindered(resource(), running(started_at=None), refusal, NOW)
        assert (step.retry, step.hold, step.status.trouble_since) == (True, True, NOW)

    def test_while_its_job_cannot_be_made_the_deployment_is_free_for_others(self) -> None:
        refusal = LucidError("exceeded quota", reason=Reason.ACCESS_DENIED)
        step = hindered(resource(), running(started_at=None), refusal, NOW)
        assert (step.status.phase, step.idle) == (BackupPhase.PENDING, True)
        again = plan(resource(), observed(), step.status, later(minutes=5))
        [start] = again.actions
        assert isinstance(start, StartWorker)
        assert (again.status.phase, again.status.run, again.notices) == (BackupPhase.RUNNING, RUN, ())
        behind = plan(resource(), observed(behind="backup other"), step.status, later(minutes=5))
        assert (behind.status.phase, behind.actions) == (BackupPhase.QUEUED, ())

    def test_a_job_that_cannot_be_made_for_an_hour_ends_it(self) -> None:
        refusal = LucidError("exceeded quota", reason=Reason.ACCESS_DENIED)
        status = hindered(resource(), running(started_at=None), refusal, NOW).status
        for minutes in (20, 40, 61):
            begun = plan(resource(), observed(), status, later(minutes=minutes)).status
            step = hindered(resource(), begun, refusal, later(minutes=minutes))
            status = step.status
        assert status.phase is BackupPhase.FAILED
        assert step.said is not None
        assert step.said.reason is Reason.ACCESS_DENIED

    def test_trouble_is_forgotten_when_the_worker_is_there(self) -> None:
        status = running(started_at=None, trouble_since=NOW)
        step = plan(resource(), observed(worker=worker(WorkerPhase.RUNNING)), status, later(minutes=5))
        assert step.status.trouble_since is None

    def test_trouble_is_over_where_no_job_is_tried(self) -> None:
        status = running(phase=BackupPhase.PENDING, started_at=None, trouble_since=NOW)
        assert plan(resource(), observed(behind="x"), status, later(minutes=5)).status.trouble_since is None
        assert plan(resource(), observed(), status, later(minutes=5)).status.trouble_since == NOW

    def test_cancelled_meanwhile_a_job_that_was_made_and_never_let_begin_goes(self) -> None:
        waits = running(phase=BackupPhase.PENDING, started_at=None, trouble_since=NOW)
        seen = observed(worker=worker(WorkerPhase.SUSPENDED))
        [stop] = plan(resource(cancel=True), seen, waits, NOW).actions
        assert isinstance(stop, StopWorker)
        assert plan(resource(cancel=True), observed(), waits, NOW).status.phase is BackupPhase.CANCELLED


class TestResults:
    def test_a_good_result_fills_the_status(self) -> None:
        step = plan(resource(), observed(worker=ended(**GOOD)), running(), NOW)
        status = step.status
        assert status.phase is BackupPhase.COMPLETED
        assert (status.size, status.stored_bytes, status.size_bytes) == ("2.0Ki", 2058, 4106)
        assert (status.skew_seconds, status.verified, status.timeline) == (9, "Checksum", "t-1")
        assert status.verification is not None
        assert status.verification.level is Verify.CHECKSUM
        assert status.expires_at == NOW + timedelta(days=30)
        assert step.said is not None
        assert (step.said.standing, step.said.reason) == (Standing.DONE, Reason.COMPLETED)
        assert [(k, on, r) for k, on, r, _ in step.said.more] == [("Verified", True, Reason.VERIFIED)]
        assert not step.hold

    def test_without_a_verify_server_it_is_completed_and_not_verified(self) -> None:
        result = ended(**{**GOOD, "verifyNote": "NoVerifyServer"})
        step = plan(resource(verify="Restore"), observed(worker=result), running(), NOW)
        assert step.status.phase is BackupPhase.COMPLETED
        assert step.status.verified == "Checksum, NoVerifyServer"
        assert step.said is not None
        assert [(k, on, r) for k, on, r, _ in step.said.more] == [
            ("Verified", False, Reason.NO_VERIFY_SERVER)
        ]

    def test_a_failed_check_is_failed_and_keeps_its_data_for_retention(self) -> None:
        bad = {**GOOD, "ok": False, "reason": "VerifyFailed", "message": "A block differs.", "verified": None}
        step = plan(resource(), observed(worker=ended(**bad)), running(), NOW)
        assert (step.status.phase, step.status.verified) == (BackupPhase.FAILED, "VerifyFailed")
        assert step.status.expires_at is not None

    def test_what_an_engine_says_of_its_part_stands_in_the_condition(self) -> None:
        engines = [{"engine": "mongodb", "ok": True, "message": "Users and roles are not in it."}]
        step = plan(resource(), observed(worker=ended(**{**GOOD, "engines": engines})), running(), NOW)
        assert step.said is not None
        assert step.said.standing is Standing.DONE
        assert step.said.message.endswith("Users and roles are not in it.")

    def test_a_part_that_failed_is_partially_failed(self) -> None:
        result = {**GOOD, "ok": False, "reason": "PartiallyFailed", "message": "redis: no answer"}
        step = plan(resource(), observed(worker=ended(**result)), running(), NOW)
        assert step.status.phase is BackupPhase.PARTIALLY_FAILED
        assert step.said is not None
        assert step.said.standing is Standing.FAILED

    @pytest.mark.parametrize("reason", [Reason.OPLOG_GAP, Reason.NO_BASE, Reason.CHAIN_MISMATCH])
    def test_a_failure_keeps_its_reason(self, reason: Reason) -> None:
        result = ended(ok=False, reason=reason, message="so")
        step = plan(resource(), observed(worker=result), running(), NOW)
        assert step.said is not None
        assert (step.status.phase, step.said.reason, step.said.message) == (BackupPhase.FAILED, reason, "so")
        assert step.status.expires_at is None

    def test_the_result_of_another_run_is_none(self) -> None:
        step = plan(resource(), observed(worker=ended(**{**GOOD, "run": "other"})), running(), NOW)
        assert step.said is not None
        assert (step.status.phase, step.said.reason) == (BackupPhase.FAILED, Reason.WORKER_LOST)

    def test_a_worker_that_somebody_else_stopped_is_lost(self) -> None:
        step = plan(resource(), observed(worker=ended(ok=False, reason="Cancelled")), running(), NOW)
        assert step.said is not None
        assert step.said.reason is Reason.WORKER_LOST

    def test_a_backup_found_in_its_manifest_takes_its_status_from_there(self) -> None:
        found = {**GOOD, "id": "11111111-0000-0000-0000-000000000000", "completedAt": "2026-01-01T00:00:00Z"}
        step = plan(resource(), observed(worker=ended(**found)), running(), NOW)
        assert step.status.id == found["id"]
        assert step.status.completed_at is not None
        assert step.status.completed_at.year == 2026
        assert step.status.completed_at.month == 1


class TestCancelling:
    def test_what_was_done_before_it_could_be_stopped_is_completed(self) -> None:
        step = plan(resource(cancel=True), observed(worker=ended(**GOOD)), running(), NOW)
        assert step.status.phase is BackupPhase.COMPLETED

    def test_a_finished_backup_is_not_cancelled(self) -> None:
        step = plan(resource(cancel=True), observed(), completed(), NOW)
        assert step.status.phase is BackupPhase.COMPLETED


class TestAfterwards:
    @pytest.mark.parametrize(
        "phase",
        [BackupPhase.FAILED, BackupPhase.CANCELLED, BackupPhase.PARTIALLY_FAILED, BackupPhase.EXPIRED],
    )
    def test_nothing_runs_again(self, phase: BackupPhase) -> None:
        for seen in (observed(), observed(worker=worker(WorkerPhase.RUNNING))):
            assert plan(resource(), seen, running(phase=phase, manifest_sha256=None), NOW).actions == ()

    def test_it_is_looked_at_again_when_it_expires(self) -> None:
        step = plan(resource(), observed(), completed(), NOW)
        assert step.recheck_seconds == pytest.approx(30 * 86400 + 1)
        assert step.said is None

    def test_a_longer_retention_moves_the_end(self) -> None:
        step = plan(resource(retentionDays=60), observed(keeping=Keeping(60)), completed(), NOW)
        assert step.status.expires_at == NOW + timedelta(days=60)

    def test_what_a_schedule_made_is_left_to_the_schedule(self) -> None:
        step = plan(resource(), observed(keeping=Keeping(None)), completed(), later(days=400))
        assert (step.actions, step.status.expires_at) == ((), None)

    def test_expired_data_are_removed_and_the_object_stays(self) -> None:
        due = later(days=30, seconds=1)
        first = plan(resource(), observed(prune_due=True), completed(), due)
        [start] = first.actions
        assert isinstance(start, StartWorker)
        assert start.request.command == "prune"
        gone = plan(
            resource(),
            observed(prune_due=True, prune=ended(ok=True, removed=[ID])),
            completed(),
            due,
        )
        assert gone.status.phase is BackupPhase.EXPIRED
        assert gone.said is not None
        assert gone.said.reason is Reason.EXPIRED

    def test_data_that_others_need_stay_and_say_why(self) -> None:
        prune = ended(ok=True, retained=[{"id": ID, "because": "Newer backups need it."}])
        seen = observed(prune_due=True, prune=prune)
        step = plan(resource(), seen, completed(), later(days=31))
        assert step.status.phase is BackupPhase.COMPLETED
        assert step.status.retained_because == "Newer backups need it."

    def test_data_that_were_not_seen_gone_are_not_called_gone(self) -> None:
        seen = observed(prune_due=True, prune=ended(ok=True))
        step = plan(resource(), seen, completed(), later(days=31))
        assert step.status.phase is BackupPhase.COMPLETED
        assert step.status.retained_because is not None

    def test_a_prune_that_failed_is_tried_again_later(self) -> None:
        prune = ended(ok=False, reason="DestinationUnavailable", message="no answer")
        step = plan(resource(), observed(prune_due=True, prune=prune), completed(), later(days=31))
        assert [type(a) for a in step.actions] == [RemoveWorker]
        assert (step.status.phase, step.status.retained_because) == (
            BackupPhase.COMPLETED,
            "The data are not removed yet: no answer",
        )


class TestLeaving:
    def test_a_finished_backup_leaves_its_data_under_retain(self) -> None:
        step = plan(resource(deleted=NOW, held=True), observed(), completed(), NOW)
        assert (step.actions, step.hold) == ((), False)

    def test_under_delete_the_data_go_first(self) -> None:
        made = resource(deleted=NOW, held=True, deletionPolicy="Delete")
        first = plan(made, observed(), completed(), NOW)
        assert first.hold
        [start] = first.actions
        assert isinstance(start, StartWorker)
        then = plan(made, observed(prune=ended(ok=True, removed=[ID])), completed(), NOW)
        assert then.status.phase is BackupPhase.EXPIRED
        assert plan(made, observed(), then.status, NOW).hold is False

    def test_data_that_others_need_stay_when_the_object_goes(self) -> None:
        made = resource(deleted=NOW, held=True, deletionPolicy="Delete")
        prune = ended(ok=True, retained=[{"id": ID, "because": "Newer backups need it."}])
        step = plan(made, observed(prune=prune), completed(), NOW)
        assert "Newer backups need it." in step.notices[0].message
        assert plan(made, observed(), step.status, NOW).hold is False

    def test_delete_holds_the_object_while_there_are_data(self) -> None:
        made = resource(deletionPolicy="Delete")
        assert plan(made, observed(), completed(), NOW).hold
        assert not plan(made, observed(), completed(phase=BackupPhase.EXPIRED), NOW).hold
        assert not plan(made, observed(), running(phase=BackupPhase.FAILED), NOW).hold


@pytest.mark.parametrize(
    ("annotation", "asks"), [("true", True), ("false", False), ("no word of ours", False)]
)
def test_where_a_slicing_worker_runs_an_incremental_asks_it_first(annotation: str, asks: bool) -> None:
    """Rule 1.5."""
    made = resource(annotations={SLICING: annotation}, type="incremental", engines=["mongodb"])
    order = backup_request(desired(made), "cluster-1", "set-1").order
    assert isinstance(order, BackupOrder)
    assert order.slicing is asks
