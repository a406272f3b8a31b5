"""What people are told at the end of a Restore is what holds for its strategy and its target."""

from datetime import timedelta
from typing import Any

import pytest
from test_restore_plan import NOW, RUN, ended, marker, resource, status

from lucid_storage.errors import LucidError, Reason, RefusedError
from lucid_storage.kinds.restore.actions import DropOld
from lucid_storage.kinds.restore.desired import resolve
from lucid_storage.kinds.restore.observed import Plan, RestoreObserved
from lucid_storage.kinds.restore.plan import plan
from lucid_storage.kinds.workers.state import WorkerPhase, WorkerState
from lucid_storage.kube.resources import Resource
from lucid_storage.models.backup import BackupSpec
from lucid_storage.models.restore import KeptRun, PlannedTarget, RestorePhase, RestorePlan, RestoreSpec
from lucid_storage.models.settings import Settings

IN_PLACE: dict[str, Any] = {"strategy": "InPlace"}
SAVED = {"backup_before": "back-before-x"}


def message(step: Plan) -> str:
    assert step.said is not None
    return step.said.message


@pytest.mark.parametrize(
    ("spec", "swapped", "replaced", "said"),
    [
        ({}, 1, 0, "1 collection is in place."),
        ({}, 2, 0, "2 collections are in place."),
        ({}, 2, 1, "2 collections are in place; the replaced one stays until 2026-11-21T07:00:00Z."),
        ({}, 3, 3, "3 collections are in place; the 3 replaced ones stay until 2026-11-21T07:00:00Z."),
        ({}, 0, 0, "The backup holds no collections to put in place."),
        (IN_PLACE, 2, 0, "What was absent was added to 2 collections."),
        ({**IN_PLACE, "dropExisting": True}, 2, 0, "2 collections are in place."),
        # One that the replay renames is staged and swapped in place too.
        (
            {**IN_PLACE, "dropExisting": True},
            2,
            1,
            "2 collections are in place; the replaced one stays until 2026-11-21T07:00:00Z.",
        ),
    ],
)
def test_it_says_what_is_in_place_and_what_is_kept(
    spec: dict[str, Any], swapped: int, replaced: int, said: str
) -> None:
    mine = resource(**spec)
    seen = RestoreObserved(marker=marker(mine), replaced=replaced)
    step = plan(mine, seen, status(RestorePhase.SWAPPING, swapped=swapped), NOW)
    assert message(step) == said
    assert step.status.phase is RestorePhase.COMPLETED
    if not replaced:
        assert step.status.old_until == NOW, "its journal goes at once"


def test_what_the_swap_could_not_put_in_place_is_a_failure_that_says_so_and_leaves_no_marker() -> None:
    mine = resource()
    left = (
        "shop.a was dropped by somebody during the swap",
        "x" * 300,
        "y",
        "z",
        "an expiry of shop.b is off",
    )
    earlier = KeptRun(run="r0", databases=["shop"], until=NOW, server_identity="rs")
    swapped = status(RestorePhase.SWAPPING, swapped=2, kept=[earlier])
    step = plan(mine, RestoreObserved(left=left, replaced=1), swapped, NOW)
    assert step.said is not None
    assert (step.status.phase, step.said.reason) == (RestorePhase.FAILED, Reason.PARTIALLY_FAILED)
    assert message(step) == (
        f"Not all of it is restored: {left[0]}; {'x' * 250}; y; and 2 more. 2 collections are in place; the replaced"
        " one stays until 2026-11-21T07:00:00Z. See to what is missing, or restore it again."
    )
    assert not step.actions
    until = NOW + timedelta(hours=1)
    mine_kept = KeptRun(run=RUN, databases=["shop"], until=until, server_identity="rs")
    assert step.status.kept == [earlier, mine_kept]
    # It has ended: it can be deleted, holds nobody up, and drops in its time what it replaced.
    assert not step.hold
    ended_status = step.status.model_copy(update={"kept": [mine_kept]})
    assert plan(mine, RestoreObserved(), ended_status, NOW).actions == ()
    later = plan(mine, RestoreObserved(), ended_status, until + timedelta(seconds=1))
    assert later.actions == (DropOld(RUN, ("shop",), "rs"),)


def test_a_swap_that_put_nothing_in_place_claims_nothing() -> None:
    step = plan(
        resource(),
        RestoreObserved(left=("shop.a was dropped",)),
        status(RestorePhase.SWAPPING, swapped=0),
        NOW,
    )
    assert message(step).startswith(
        "Not all of it is restored: shop.a was dropped. Nothing else was restored."
    )


UNFIT = LucidError("shop.v is a view now.", reason=Reason.RESTORE_BLOCKED)


def test_in_place_a_swap_that_may_not_begin_says_that_the_target_is_incomplete_and_where_the_rest_is() -> (
    None
):
    left = status(RestorePhase.SWAPPING, **SAVED)
    step = plan(resource(**IN_PLACE), RestoreObserved(unfit=UNFIT), left, NOW)
    assert message(step).startswith("shop.v is a view now. The target is incomplete")
    assert "the Backup back-before-x holds what was there before" in message(step)
    assert message(plan(resource(), RestoreObserved(unfit=UNFIT), left, NOW)) == "shop.v is a view now."


def test_in_place_a_failed_worker_says_where_that_is_which_was_there_before() -> None:
    seen = RestoreObserved(worker=ended(ok=False, reason="ArchiveDamaged", message="It is damaged."))
    left = status(RestorePhase.LOADING, **SAVED)
    in_place = message(plan(resource(**IN_PLACE), seen, left, NOW))
    assert in_place == "It is damaged; the Backup back-before-x holds what was there before."
    assert message(plan(resource(), seen, left, NOW)) == "It is damaged."


@pytest.mark.parametrize("phase", [RestorePhase.LOADING, RestorePhase.REPLAYING])
def test_a_lost_worker_leaves_the_target_as_it_was_only_beside_the_live_data(phase: RestorePhase) -> None:
    lost = RestoreObserved(worker=WorkerState(WorkerPhase.LOST, message="its node is away"))
    assert "the target is as it was" in message(plan(resource(), lost, status(phase), NOW))
    in_place = message(plan(resource(**IN_PLACE), lost, status(phase), NOW))
    assert "the target may be incomplete" in in_place
    assert "as it was" not in in_place


@pytest.mark.parametrize(
    ("notes", "said"),
    [
        (["view"], "1 view is in place."),
        (["view", "view"], "2 views are in place."),
        (["view", "not there at that moment"], "1 view is in place."),
    ],
)
def test_a_restore_of_views_alone_says_so(notes: list[str], said: str) -> None:
    mine = resource()
    targets = [PlannedTarget(target=f"shop.v{n}", note=note) for n, note in enumerate(notes)]
    before = status(
        RestorePhase.SWAPPING, swapped=0, plan=RestorePlan(targets=targets, target_count=len(notes))
    )
    step = plan(mine, RestoreObserved(marker=marker(mine)), before, NOW)
    assert message(step) == said


@pytest.mark.parametrize(
    ("phase", "said"),
    [
        ("Failed", "has ended without data (its phase is Failed); name another one in a new Restore."),
        ("Cancelled", "has ended without data (its phase is Cancelled); name another one in a new Restore."),
        ("Running", "holds no data yet (its phase is Running); wait until it is Completed, or name another"),
        (None, "holds no data yet (its phase is Pending); wait until it is Completed, or name another"),
    ],
)
def test_nobody_is_told_to_wait_for_a_backup_that_has_ended(phase: str | None, said: str) -> None:
    body = {"metadata": {"name": "full", "namespace": "n", "uid": "b"}, "status": {"phase": phase}}
    backup = Resource.from_body("backups", body)
    of = resource()
    with pytest.raises(RefusedError) as refused:
        resolve(
            of,
            RestoreSpec.model_validate(of.spec),
            Settings.read({"SERVED_NAMESPACES": '{"n": {}}'}),
            (backup, BackupSpec()),
        )
    assert said in refused.value.message
