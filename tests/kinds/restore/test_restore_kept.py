"""What a run replaced stays its time, whatever is asked for meanwhile; and what is said of the target is true."""

from datetime import timedelta
from typing import Any

import pytest
from test_restore_plan import NOW, RUN, fit, resource, status

from lucid_storage.errors import Reason, RefusedError
from lucid_storage.kinds.restore.actions import DropOld
from lucid_storage.kinds.restore.ending import MOST_KEPT
from lucid_storage.kinds.restore.observed import RestoreObserved, target_after
from lucid_storage.kinds.restore.plan import plan
from lucid_storage.models.meta import RUN_AGAIN
from lucid_storage.models.restore import KeptRun, RestorePhase, RestoreStatus

LATER = NOW + timedelta(hours=1)
AGAIN = {RUN_AGAIN: "2"}


def completed(**more: Any) -> RestoreStatus:
    return status(RestorePhase.COMPLETED, old_until=LATER, **more)


def kept(run: str, hours: int) -> KeptRun:
    return KeptRun(run=run, databases=["shop"], until=NOW + timedelta(hours=hours), server_identity="rs")


def test_another_run_drops_nothing_and_remembers_what_the_first_replaced() -> None:
    """Status is written before anything is done, so a death right behind it loses nothing."""
    step = plan(resource(annotations=AGAIN), RestoreObserved(), completed(), NOW)
    assert step.actions == ()
    assert (step.status.phase, step.status.run) == (RestorePhase.PENDING, None)
    assert step.status.kept == [KeptRun(run=RUN, databases=["shop"], until=LATER, server_identity="rs")]


def test_the_new_run_keeps_it_in_status_all_the_way() -> None:
    fresh = plan(resource(annotations=AGAIN), RestoreObserved(), completed(), NOW).status
    of = resource(annotations=AGAIN)
    begun = plan(of, fit(of), fresh, NOW).status
    assert begun.phase is RestorePhase.PLANNING
    assert begun.kept == fresh.kept


def test_each_is_dropped_in_its_time_and_where_it_lies() -> None:
    known = completed(kept=[kept("r1", -1), kept("r2", 3)])
    step = plan(resource(), RestoreObserved(), known, NOW)
    assert step.actions == (DropOld("r1", ("shop",), "rs"),)
    left = known.model_copy(update={"kept": [kept("r2", 3)]})
    waits = plan(resource(), RestoreObserved(), left, NOW)
    assert (waits.actions, waits.recheck_seconds) == ((), 3601)
    mine = plan(resource(), RestoreObserved(), left, LATER + timedelta(seconds=1))
    assert mine.actions == (DropOld(RUN, ("shop",), "rs"),)
    # Somebody died between the drop and its note: the journal is gone.
    settled = plan(resource(), RestoreObserved(settled=True), left, LATER + timedelta(seconds=1))
    assert (settled.actions, settled.status.old_until, settled.status.kept) == ((), None, left.kept)
    failed = status(RestorePhase.FAILED, databases=None, kept=[kept("r1", -1)])
    assert plan(resource(), RestoreObserved(), failed, NOW).actions == (DropOld("r1", ("shop",), "rs"),)


def test_runs_are_not_asked_for_faster_than_their_leftovers_go() -> None:
    known = completed(kept=[kept(f"r{n}", n + 2) for n in range(MOST_KEPT)])
    step = plan(resource(annotations=AGAIN), RestoreObserved(), known, NOW)
    assert (step.status.phase, step.actions, step.recheck_seconds) == (RestorePhase.COMPLETED, (), 3601)


@pytest.mark.parametrize(
    ("engines", "strategy", "phase", "said"),
    [
        (None, "Staged", RestorePhase.LOADING, "the target is as it was"),
        (["mongodb", "redis"], "Staged", RestorePhase.PLANNING, "the target is as it was"),
        (
            ["mongodb", "redis", "elasticsearch"],
            "Staged",
            RestorePhase.REPLAYING,
            "MongoDB is as it was, and Redis and Elasticsearch may be restored already, in whole or in part: restore"
            " again",
        ),
        (
            ["redis"],
            "Staged",
            RestorePhase.LOADING,
            "Redis may be restored already, in whole or in part: restore again",
        ),
        (
            ["mongodb", "redis"],
            "InPlace",
            RestorePhase.LOADING,
            "the target may be incomplete, as strategy InPlace leaves it after a failure: restore again; the same holds"
            " for Redis",
        ),
    ],
)
def test_what_is_left_is_said_of_each_engine(
    engines: list[str] | None, strategy: str, phase: RestorePhase, said: str
) -> None:
    spec: dict[str, Any] = {"strategy": strategy, **({"engines": engines} if engines else {})}
    assert target_after(resource(**spec), status(phase)) == said


def test_a_swap_that_may_not_begin_says_what_is_restored_already() -> None:
    unfit = RefusedError("shop.a is not empty.", reason=Reason.TARGET_NOT_EMPTY)
    known = status(RestorePhase.SWAPPING)
    plain = plan(resource(), RestoreObserved(unfit=unfit), known, NOW).said
    assert plain is not None and plain.message == "shop.a is not empty."
    mixed = plan(resource(engines=["mongodb", "redis"]), RestoreObserved(unfit=unfit), known, NOW).said
    assert mixed is not None
    assert (
        mixed.message
        == "shop.a is not empty. MongoDB is as it was; what was restored of Redis before that stays."
    )
