"""An incremental that finds nothing to build on: it becomes a full in its turn, and never beside another dump."""

from dataclasses import replace
from typing import Any

from backup_builder import NOW, RUN, desired, ended, observed, resource, running

from lucid_storage.errors import Reason
from lucid_storage.kinds.backup.actions import StartWorker
from lucid_storage.kinds.backup.desired import becomes_full
from lucid_storage.kinds.backup.observed import BackupObserved
from lucid_storage.kinds.backup.plan import plan
from lucid_storage.kinds.backup.requests import backup_request
from lucid_storage.kinds.oneshot import Standing
from lucid_storage.kinds.workers.claims import DumpClaims
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.backup import BackupPhase, BackupStatus, BackupType
from lucid_storage.models.orders import BackupOrder

ASKS = ended(ok=False, reason="Queued", type="full", message="The oplog does not reach back.")


def incremental(**more: Any) -> Resource:
    return resource(type="incremental", engines=["mongodb"], **more)


def seen(made: Resource, status: BackupStatus, **more: Any) -> BackupObserved:
    found = desired(made)
    return observed(made, desired=replace(found, becomes_full=becomes_full(found, status)), **more)


def started(step: Any) -> tuple[str, BackupOrder]:
    (start,) = step.actions
    assert isinstance(start, StartWorker)
    assert isinstance(start.request.order, BackupOrder)
    return start.request.name, start.request.order


def test_only_a_full_may_dump_from_the_start() -> None:
    for made, may in ((resource(), True), (incremental(), False)):
        order = backup_request(desired(made), "c", "set-1").order
        assert isinstance(order, BackupOrder)
        assert order.may_dump is may


def test_it_stands_in_line_then_runs_in_a_job_of_its_own_and_is_counted_as_a_dump() -> None:
    made, before = incremental(), running(type=BackupType.INCREMENTAL)
    waits = plan(made, observed(made, worker=ASKS), before, NOW)
    assert waits.said is not None
    assert (waits.said.standing, waits.said.reason) == (Standing.UNDER_WAY, Reason.QUEUED)
    assert waits.said.message.startswith("The oplog does not reach back, so it becomes a full backup")
    status = waits.status
    assert (status.phase, status.type, status.run, status.started_at) == (
        BackupPhase.PENDING,
        BackupType.FULL,
        None,
        None,
    )

    queued = plan(made, seen(made, status, behind="backup other"), status, NOW)
    assert (queued.status.phase, queued.actions) == (BackupPhase.QUEUED, ())

    first, _ = started(plan(made, observed(made), BackupStatus(), NOW))
    begun = plan(made, seen(made, queued.status), queued.status, NOW)
    name, order = started(begun)
    assert name != first
    assert (order.may_dump, order.type, order.run) == (True, BackupType.INCREMENTAL, RUN)
    assert (begun.status.phase, begun.status.type) == (BackupPhase.RUNNING, BackupType.FULL)

    running_now = incremental(status=begun.status)
    holder = DumpClaims().take(Key("backups", "app", "other"), "set-1", [running_now])
    assert holder == running_now.key


def test_an_operator_that_dies_behind_the_decision_makes_the_same_job() -> None:
    made = incremental()
    status = plan(made, observed(made, worker=ASKS), running(type=BackupType.INCREMENTAL), NOW).status
    begun = plan(made, seen(made, status), status, NOW)
    again = plan(made, seen(made, begun.status), begun.status, NOW)
    assert started(again) == started(begun)


def test_it_can_be_cancelled_while_it_waits() -> None:
    waits = plan(incremental(), observed(worker=ASKS), running(type=BackupType.INCREMENTAL), NOW)
    step = plan(incremental(cancel=True), BackupObserved(), waits.status, NOW)
    assert (step.status.phase, step.actions) == (BackupPhase.CANCELLED, ())


def test_a_worker_that_asks_for_what_it_has_got_is_failed() -> None:
    made = incremental()
    step = plan(made, observed(made, worker=ASKS), running(type=BackupType.FULL), NOW)
    assert step.status.phase is BackupPhase.FAILED
