"""A connection that leads to another server than the one that was planned for: planned anew, under another run."""

from dataclasses import replace

from test_restore_plan import NOW, RUN, fit, resource, status

from lucid_storage.kinds.protection import Seen
from lucid_storage.kinds.protection import Standing as Protected
from lucid_storage.kinds.restore.actions import StartWorker, StopWorker
from lucid_storage.kinds.restore.desired import run_id
from lucid_storage.kinds.restore.plan import plan
from lucid_storage.kinds.workers.state import WorkerPhase, WorkerState
from lucid_storage.models.restore import RestorePhase, RestorePlan, RestoreStatus

OTHER = run_id("u1", "", "another", NOW)


def planned(phase: RestorePhase = RestorePhase.PENDING) -> RestoreStatus:
    made = {"read_bytes": 5, "needed_bytes": 5, "target_count": 1}
    return status(
        phase,
        plan=RestorePlan.model_validate(made),
        backup_before=f"back-before-{RUN[:8]}",
        timeline="t1",
        job_name=f"back-plan-{RUN[:8]}",
    )


def test_each_server_has_runs_of_its_own() -> None:
    runs = {RUN, OTHER, run_id("u1", "", "another"), run_id("u1", "", None), run_id("u1", "2", "rs")}
    assert len(runs) == 5


def test_what_was_planned_for_another_server_is_planned_anew_under_another_run() -> None:
    mine = resource(backupBefore=True)
    step = plan(mine, fit(mine, identity="another"), planned(), NOW)
    (start,) = step.actions
    assert isinstance(start, StartWorker)
    assert getattr(start.request.order, "plan_only", None) is True
    assert (step.status.phase, step.status.run) == (RestorePhase.PLANNING, OTHER)
    assert (step.status.plan, step.status.databases, step.status.backup_before) == (None, None, None)
    assert [n.reason for n in step.notices] == ["PlannedAnew"]


def test_in_line_too_it_is_not_loaded_by_the_plan_of_another_server() -> None:
    """In line status names the server of now; the run still tells what was planned for."""
    mine = resource()
    waits = plan(mine, fit(mine, identity="another", behind="backup x"), planned(RestorePhase.QUEUED), NOW)
    assert (waits.status.phase, waits.status.server_identity) == (RestorePhase.QUEUED, "another")
    begun = plan(mine, fit(mine, identity="another"), waits.status, NOW)
    assert (begun.status.phase, begun.status.run) == (RestorePhase.PLANNING, OTHER)


def test_back_on_the_first_server_it_is_planned_anew_too() -> None:
    """The Jobs of its first plan are still there, and what they said is of that time."""
    mine = resource()
    there = plan(mine, fit(mine, identity="another"), planned(), NOW).status
    waits = there.model_copy(update={"phase": RestorePhase.PENDING})
    back = plan(mine, fit(mine), waits, NOW)
    assert back.status.phase is RestorePhase.PLANNING
    assert len({RUN, OTHER, back.status.run}) == 3


def test_the_backup_of_the_server_before_protects_nothing_here() -> None:
    mine = resource(backupBefore=True)
    done = Seen(Protected.DONE)
    step = plan(mine, fit(mine, identity="another", protection=done), planned(), NOW)
    assert step.status.phase is RestorePhase.PLANNING


def test_on_the_same_server_it_goes_on_with_its_plan() -> None:
    mine = resource(backupBefore=True)
    step = plan(mine, fit(mine, protection=Seen(Protected.DONE)), planned(), NOW)
    assert (step.status.phase, step.status.run) == (RestorePhase.LOADING, RUN)


def test_a_job_of_the_run_before_that_never_began_is_removed_and_not_waited_for_for_ever() -> None:
    mine = resource()
    seen = replace(fit(mine, identity="another"), earlier=WorkerState(WorkerPhase.SUSPENDED))
    (stop,) = plan(mine, seen, planned(), NOW).actions
    assert isinstance(stop, StopWorker)
    assert stop.job == f"back-plan-{RUN[:8]}"
    seen = replace(seen, earlier=WorkerState(WorkerPhase.RUNNING))
    assert plan(mine, seen, planned(), NOW).actions == ()
