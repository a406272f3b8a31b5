"""A run that came to nothing: its end is written first, then what it uploaded is removed, once."""

from dataclasses import replace

import pytest
from backup_builder import (
    ID,
    NOW,
    RUN,
    completed,
    ended,
    later,
    observed,
    resource,
    running,
    worker,
)

from lucid_storage.errors import AccessDeniedError, LucidError, Reason, RefusedError
from lucid_storage.kinds.backup.actions import RemoveWorker, StartWorker, StopWorker
from lucid_storage.kinds.backup.ending import LATER
from lucid_storage.kinds.backup.observed import CLEANING, PATIENCE, Plan
from lucid_storage.kinds.backup.plan import hindered, plan
from lucid_storage.kinds.oneshot import Standing
from lucid_storage.kinds.workers.state import ABSENT, WorkerPhase, WorkerState
from lucid_storage.models.backup import BackupPhase, BackupStatus
from lucid_storage.models.pruning import PruneOrder

AWAY = ended(ok=False, reason="DestinationUnavailable", message="The bucket does not answer.")
NO_SECRET = RefusedError('The Secret "own" does not exist; create it.', reason=Reason.SECRET_NOT_FOUND)
DIED = worker(WorkerPhase.LOST, "it used more memory than its limit (OOMKilled)", over=True)


def cleaning(phase: BackupPhase = BackupPhase.CANCELLED) -> BackupStatus:
    return running(phase=phase, progress=CLEANING, completed_at=NOW)


def ordered(step: Plan) -> PruneOrder:
    [start] = step.actions
    assert isinstance(start, StartWorker)
    assert isinstance(start.request.order, PruneOrder)
    return start.request.order


class TestALostWorker:
    @pytest.mark.parametrize("gone", [DIED, ABSENT])
    def test_its_failure_is_written_before_what_it_uploaded_goes(self, gone: WorkerState) -> None:
        step = plan(resource(), observed(worker=gone), running(), NOW)
        assert (step.status.phase, step.status.progress, step.actions) == (BackupPhase.FAILED, CLEANING, ())
        assert step.said is not None
        assert step.said.standing is Standing.FAILED, "who waits for the deployment goes on"
        order = ordered(plan(resource(), observed(worker=gone), step.status, NOW))
        assert (order.discard, order.remove, order.expire, order.sweep) == ((ID,), (), (), False)
        done = plan(resource(), observed(worker=gone, prune=ended(ok=True)), step.status, NOW)
        assert (done.status.phase, done.status.progress, done.said) == (BackupPhase.FAILED, None, None)
        # The Job of the backup stays for its log.
        assert done.actions == (RemoveWorker(observed().prune_job),)

    @pytest.mark.parametrize("prune", [worker(WorkerPhase.LOST, "it died"), AWAY, ABSENT])
    def test_what_hinders_the_clean_up_is_told_once_and_changes_nothing(self, prune: WorkerState) -> None:
        trouble = LucidError("away") if prune is ABSENT else None
        seen = observed(worker=DIED, prune=prune, trouble=trouble)
        step = plan(resource(), seen, cleaning(BackupPhase.FAILED), NOW)
        assert (step.status.phase, step.status.progress, step.said) == (BackupPhase.FAILED, None, None)
        [notice] = step.notices
        assert notice.message.endswith(LATER)
        assert plan(resource(), observed(), step.status, NOW).actions == ()

    def test_a_clean_up_that_is_refused_leads_back_to_no_work(self) -> None:
        refused = AccessDeniedError("exceeded quota")
        step = hindered(resource(), cleaning(BackupPhase.FAILED), refused, NOW)
        assert (step.status.phase, step.status.progress, step.hold) == (BackupPhase.FAILED, None, False)

    @pytest.mark.parametrize("error", [AccessDeniedError("exceeded quota"), LucidError("did not settle")])
    def test_what_was_at_work_never_becomes_pending(self, error: LucidError) -> None:
        step = hindered(resource(), running(), error, NOW)
        assert (step.status.phase, step.status.trouble_since, step.idle) == (BackupPhase.RUNNING, NOW, False)
        late = hindered(resource(), step.status, error, later(hours=1, seconds=1))
        assert (late.status.phase, late.said and late.said.reason) == (BackupPhase.FAILED, error.reason)
        assert PATIENCE.total_seconds() == 3600

    def test_pending_with_a_worker_behind_it_is_no_beginning(self) -> None:
        back = running(phase=BackupPhase.PENDING, trouble_since=NOW)
        step = plan(resource(), observed(worker=ABSENT), back, NOW)
        assert (step.status.phase, step.actions) == (BackupPhase.FAILED, ())


class TestCancelling:
    def test_it_stops_then_is_cancelled_then_removes(self) -> None:
        made, status = resource(cancel=True), running()
        first = plan(made, observed(worker=worker(WorkerPhase.RUNNING)), status, NOW)
        assert [type(a) for a in first.actions] == [StopWorker]
        second = plan(made, observed(worker=worker(WorkerPhase.STOPPING)), status, NOW)
        assert (second.actions, second.recheck_seconds) == ((), 1.0)
        third = plan(made, observed(worker=ABSENT), status, NOW)
        assert (third.status.phase, third.status.progress, third.hold) == (
            BackupPhase.CANCELLED,
            CLEANING,
            True,
        )
        order = ordered(plan(made, observed(worker=ABSENT), third.status, NOW))
        assert (order.discard, order.remove) == ((ID,), (ID,))
        waits = plan(made, observed(prune=worker(WorkerPhase.RUNNING)), third.status, NOW)
        assert (waits.actions, waits.hold) == ((), True)
        last = plan(made, observed(prune=ended(ok=True, removed=[ID])), third.status, NOW)
        assert [type(a) for a in last.actions] == [RemoveWorker]
        assert (last.status.progress, last.hold) == (None, False)
        assert last.said is not None
        assert last.said.message == "Cancelled; what was uploaded is removed."

    @pytest.mark.parametrize("prune", [AWAY, ABSENT])
    def test_what_cannot_be_removed_is_said_and_left_to_a_later_prune(self, prune: WorkerState) -> None:
        seen = observed(prune=prune, trouble=NO_SECRET if prune is ABSENT else None)
        step = plan(resource(cancel=True), seen, cleaning(), NOW)
        assert step.said is not None
        assert (step.said.standing, step.said.reason) == (Standing.FAILED, Reason.CANCELLED)
        assert step.said.message.startswith("Cancelled. What was uploaded is not removed: The ")
        assert step.said.message.endswith(LATER)
        assert (step.status.progress, step.hold) == (None, False)

    def test_what_a_kept_point_needs_is_not_called_removed(self) -> None:
        prune = replace(AWAY, result=f'{{"run": "{RUN}", "ok": true}}')
        step = plan(resource(cancel=True), observed(prune=prune), cleaning(), NOW)
        assert step.said is not None
        assert "its data stay for now" in step.said.message

    @pytest.mark.parametrize("going", [worker(WorkerPhase.ENDED, going=True), replace(DIED, going=True)])
    def test_a_job_that_ended_and_is_being_removed_is_not_waited_for(self, going: WorkerState) -> None:
        step = plan(resource(cancel=True), observed(worker=going), running(), NOW)
        assert step.status.phase is BackupPhase.CANCELLED

    def test_of_a_node_that_does_not_answer_nothing_is_removed_behind_its_worker(self) -> None:
        away = worker(WorkerPhase.LOST, "its node does not answer", going=True)
        step = plan(resource(cancel=True), observed(worker=away), running(), NOW)
        assert (step.status.phase, step.status.progress, step.actions) == (BackupPhase.CANCELLED, None, ())
        assert step.said is not None
        assert "its node does not answer" in step.said.message


class TestLeavingAtWork:
    @pytest.mark.parametrize("prune", [AWAY, ended(ok=True), ABSENT])
    def test_the_worker_goes_then_one_attempt_is_made_and_the_object_goes(self, prune: WorkerState) -> None:
        made = resource(deleted=NOW, held=True)
        first = plan(made, observed(worker=worker(WorkerPhase.RUNNING)), running(), NOW)
        assert [type(a) for a in first.actions] == [StopWorker]
        second = plan(made, observed(worker=ABSENT), running(), NOW)
        assert (second.status.phase, second.hold, second.actions) == (BackupPhase.CANCELLED, True, ())
        assert second.said is not None
        assert second.said.standing is Standing.FAILED, "who waits for the deployment goes on"
        seen = observed(prune=prune, trouble=NO_SECRET if prune is ABSENT else None)
        third = plan(made, seen, second.status, NOW)
        assert (third.status.progress, third.hold) == (None, False)
        assert plan(made, observed(), third.status, NOW).hold is False

    def test_under_delete_it_waits_until_nothing_of_it_is_left(self) -> None:
        made = resource(deleted=NOW, held=True, deletionPolicy="Delete")
        stuck = plan(made, observed(prune=AWAY), cleaning(), NOW)
        assert (stuck.hold, stuck.status.progress) == (True, CLEANING)
        done = plan(made, observed(prune=ended(ok=True, removed=[ID])), cleaning(), NOW)
        assert done.status.phase is BackupPhase.EXPIRED


class TestADeletionThatWaits:
    def test_it_says_what_to_do_and_the_event_comes_once(self) -> None:
        made = resource(deleted=NOW, held=True, deletionPolicy="Delete")
        step = plan(made, observed(prune=AWAY), completed(), NOW)
        assert [type(a) for a in step.actions] == [RemoveWorker]
        assert step.said is not None
        assert (step.said.standing, step.said.reason) == (Standing.BLOCKED, Reason.DELETING)
        assert "The bucket does not answer. The deletion waits" in step.said.message
        assert "deletionPolicy: Retain" in step.said.message
        assert len(step.notices) == 1
        missing = hindered(made, completed(), NO_SECRET, NOW)
        assert missing.said is not None
        assert missing.said.reason is Reason.SECRET_NOT_FOUND
        assert "create it. The deletion waits" in missing.said.message

    def test_between_two_attempts_nothing_is_started_however_often_it_is_looked_at(self) -> None:
        made = resource(deleted=NOW, held=True, deletionPolicy="Delete")
        waits = observed(prune_again=later(seconds=40))
        for seconds in (1, 2, 30, 39):
            step = plan(made, waits, completed(), later(seconds=seconds))
            assert (step.actions, step.said, step.hold) == ((), None, True)
            assert step.recheck_seconds == pytest.approx(40.1 - seconds)
        step = plan(made, waits, completed(), later(seconds=40))
        assert [type(a) for a in step.actions] == [StartWorker]
        assert step.said is None, "why it waits stays to be read"

    def test_a_prune_that_is_being_removed_is_not_removed_again(self) -> None:
        made = resource(deleted=NOW, held=True, deletionPolicy="Delete")
        step = plan(made, observed(prune=replace(AWAY, going=True)), completed(), NOW)
        assert (step.actions, step.hold) == ((), True)


def test_of_one_that_was_drained_in_its_check_the_data_are_known_and_go_with_it() -> None:
    """Its manifest is there, so a deletion under Delete has something to remove."""
    made = resource(deletionPolicy="Delete", held=True)
    told = ended(ok=False, reason="Cancelled", id=ID, manifestSha256="ab", message="It was told to stop.")
    step = plan(made, observed(made, worker=told), running(), NOW)
    assert (step.status.phase, step.status.manifest_sha256, step.hold) == (BackupPhase.FAILED, "ab", True)
    assert step.said is not None
    assert step.said.reason is Reason.WORKER_LOST
    going = resource(deletionPolicy="Delete", held=True, deleted=NOW, status=step.status)
    [start] = plan(going, observed(going), step.status, NOW).actions
    assert isinstance(start, StartWorker)
    assert isinstance(start.request.order, PruneOrder)
    assert start.request.order.remove == (ID,)
