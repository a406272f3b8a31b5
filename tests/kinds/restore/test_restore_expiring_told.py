"""What a TTL deletes at once: a dry run counts it in the backup, a restore says what it staged."""

import pytest
from test_restore_plan import NOW, RUN, desired, ended, resource, status

from lucid_storage.kinds.restore.desired import worker_request
from lucid_storage.kinds.restore.observed import RestoreObserved
from lucid_storage.kinds.restore.plan import plan
from lucid_storage.models.orders import RestoreOrder, RestorePlanned
from lucid_storage.models.restore import RestorePhase, RestorePlan


@pytest.mark.parametrize(
    ("dry", "planning", "counts"), [(True, True, True), (False, True, False), (False, False, False)]
)
def test_only_a_dry_run_reads_the_backup_for_it(dry: bool, planning: bool, counts: bool) -> None:
    order = worker_request(
        desired(resource(dryRun=dry)), RUN, "c", "rs", run_again="", plan_only=planning
    ).order
    assert isinstance(order, RestoreOrder)
    assert (order.plan_only, order.count_expiring) == (planning, counts)


def test_the_number_of_a_dry_run_is_in_the_plan() -> None:
    seen = RestoreObserved(worker=ended(plan=RestorePlanned(target_count=1, expiring_documents=7)))
    step = plan(resource(dryRun=True), seen, status(RestorePhase.PLANNING), NOW)
    assert step.status.plan is not None
    assert step.status.plan.expiring_documents == 7


@pytest.mark.parametrize(("told", "shown"), [(5, 5), (0, 0), (None, None)])
def test_what_was_staged_is_told_before_the_swap(told: int | None, shown: int | None) -> None:
    seen = RestoreObserved(worker=ended(databases=("shop",), expiring_documents=told))
    before = status(RestorePhase.REPLAYING, plan=RestorePlan(target_count=3))
    step = plan(resource(), seen, before, NOW)
    assert step.status.phase is RestorePhase.SWAPPING
    assert step.status.plan is not None
    assert (step.status.plan.target_count, step.status.plan.expiring_documents) == (3, shown)
