"""Another run of a Restore: each that is asked for is carried out, and none is taken for an earlier one."""

from datetime import timedelta
from typing import Any

import pytest
from test_restore_plan import NOW, RUN, ended, fit, resource, status

from lucid_storage.errors import LucidError, Reason
from lucid_storage.kinds.restore.actions import StartWorker
from lucid_storage.kinds.restore.desired import run_id
from lucid_storage.kinds.restore.observed import RestoreObserved
from lucid_storage.kinds.restore.plan import plan
from lucid_storage.kinds.workers.state import ABSENT
from lucid_storage.kube.resources import Resource
from lucid_storage.models.meta import RUN_AGAIN
from lucid_storage.models.orders import RestoreOrder
from lucid_storage.models.restore import RestorePhase, RestoreStatus


def asking(value: str, **spec: Any) -> Resource:
    return resource(annotations={RUN_AGAIN: value} if value else {}, **spec)


def stored(known: RestoreStatus) -> RestoreStatus:
    """As an operator that begins now reads it."""
    return RestoreStatus.model_validate(known.to_dict())


def begun(value: str, known: RestoreStatus, **seen: Any) -> RestoreStatus:
    """The status with which the run for a value begins."""
    mine = asking(value)
    if known.phase in (RestorePhase.COMPLETED, RestorePhase.FAILED):
        known = plan(mine, RestoreObserved(), known, NOW).status
        assert (known.phase, known.run, known.run_again) == (RestorePhase.PENDING, None, value)
    step = plan(mine, fit(mine, **seen), stored(known), NOW)
    assert step.status.phase is RestorePhase.PLANNING
    return stored(step.status)


def over(known: RestoreStatus, phase: RestorePhase = RestorePhase.COMPLETED) -> RestoreStatus:
    return known.model_copy(update={"phase": phase, "databases": None})


def test_a_value_that_comes_back_has_a_run_of_its_own() -> None:
    """The Jobs and the journal of the first are still there, and would answer for it. All in one second."""
    known, runs = RestoreStatus(), []
    for value in ("1", "2", "1", "2", "1"):
        known = over(begun(value, known))
        runs.append(known.run)
    assert len(set(runs)) == 5
    assert len({str(run)[:8] for run in runs}) == 5, "Jobs are named by it"


def test_a_clock_that_was_put_back_gives_no_run_twice() -> None:
    known, runs = over(begun("1", RestoreStatus())), set()
    for value, hours in (("2", 0), ("1", -5), ("2", -9), ("1", 0)):
        mine, now = asking(value), NOW + timedelta(hours=hours)
        fresh = plan(mine, RestoreObserved(), known, now).status
        known = over(plan(mine, fit(mine), stored(fresh), now).status)
        runs.add(known.run)
    assert len(runs) == 4


def test_a_value_that_comes_back_while_it_waits_is_planned_anew() -> None:
    known = begun("1", RestoreStatus())
    first = known.run
    for value in ("2", "1"):
        known = begun(value, known.model_copy(update={"phase": RestorePhase.PENDING}))
    assert known.run != first


def test_what_waits_in_line_goes_on_with_its_own_run() -> None:
    known = begun("1", over(begun("", RestoreStatus())))
    waits = known.model_copy(update={"phase": RestorePhase.PENDING})
    mine = asking("1")
    queued = plan(mine, fit(mine, behind="backup nightly"), waits, NOW + timedelta(hours=1)).status
    assert begun("1", stored(queued)).run == known.run


def test_whoever_comes_next_makes_the_job_that_was_written_down() -> None:
    known = begun("1", over(begun("", RestoreStatus())))
    (start,) = plan(asking("1"), fit(asking("1"), worker=ABSENT), known, NOW + timedelta(minutes=1)).actions
    assert isinstance(start, StartWorker)
    assert (start.request.name, start.request.order.run) == (known.job_name, known.run)


def test_a_first_run_is_found_again_without_its_status() -> None:
    assert begun("", RestoreStatus()).run == RUN
    assert begun("1", RestoreStatus()).run == run_id("u1", "1", "rs")


def test_what_an_operator_without_such_moments_had_begun_goes_on_and_the_next_run_is_another() -> None:
    """After an upgrade."""
    known = status(RestorePhase.PENDING, run=run_id("u1", "1", "rs"), run_again="1", databases=None)
    assert begun("1", known).run == known.run
    asked = RestoreStatus(phase=RestorePhase.PENDING, job_name="back-restore-of-the-run-before")
    first = begun("1", asked)
    assert first.run != run_id("u1", "1", "rs")
    assert first.asked_at == NOW


def test_a_result_of_an_earlier_run_is_never_taken_for_the_result_of_this_one() -> None:
    """Of Redis or Elasticsearch alone there is no other proof."""
    known = begun("1", over(begun("2", over(begun("1", RestoreStatus())))))
    stale = ended(run=run_id("u1", "1", "rs"))
    step = plan(asking("1", engines=["redis"]), RestoreObserved(worker=stale), known, NOW)
    assert step.status.phase is RestorePhase.FAILED
    assert step.said is not None
    assert step.said.reason is Reason.WORKER_LOST


@pytest.mark.parametrize("before", [RestoreStatus(), status(RestorePhase.COMPLETED, databases=None)])
def test_what_ends_before_it_begins_is_not_tried_again_for_the_same_value(before: RestoreStatus) -> None:
    mine = asking("1")
    refused = RestoreObserved(trouble=LucidError("No.", reason=Reason.INVALID_SPEC))
    known = before
    for _ in range(2):
        known = stored(plan(mine, refused, known, NOW).status)
        if known.phase is RestorePhase.FAILED:
            break
    assert (known.phase, known.run_again) == (RestorePhase.FAILED, "1")
    step = plan(mine, RestoreObserved(), known, NOW)
    assert (step.status.phase, step.recheck_seconds) == (RestorePhase.FAILED, None)
    assert plan(asking("2"), RestoreObserved(), known, NOW).status.phase is RestorePhase.PENDING


def test_a_value_that_is_set_meanwhile_is_of_the_next_run() -> None:
    """The marker in the destination would say that it was done."""
    known = begun("1", RestoreStatus()).model_copy(update={"phase": RestorePhase.LOADING})
    mine = asking("2")
    (start,) = plan(mine, fit(mine), known, NOW).actions
    assert isinstance(start, StartWorker)
    assert isinstance(start.request.order, RestoreOrder)
    assert start.request.order.run_again == "1"


def test_a_value_of_any_length_fits_into_status() -> None:
    known = begun("x" * 999, RestoreStatus())
    assert known.run_again == "x" * 253
    assert plan(asking("x" * 999), RestoreObserved(), over(known), NOW).status.phase is RestorePhase.COMPLETED
