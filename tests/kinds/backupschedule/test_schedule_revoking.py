"""A Backup that stands on what was found damaged later does not stay Verified."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic.alias_generators import to_camel
from schedule_builder import SETTINGS, at, backup, look, schedule

from lucid_storage.kinds.backupschedule.actions import ExplainBackup, StartPrune
from lucid_storage.kinds.backupschedule.children import Child, made_by_hand
from lucid_storage.kinds.backupschedule.desired import prune_run
from lucid_storage.kinds.backupschedule.plan import SchedulePlan
from lucid_storage.kinds.backupschedule.retaining import Retaining
from lucid_storage.kinds.workers.place import Place
from lucid_storage.kinds.workers.state import WorkerPhase, WorkerState
from lucid_storage.kube.client import Json
from lucid_storage.kube.resources import Resource
from lucid_storage.models.backup import BackupStatus
from lucid_storage.models.backupschedule import BackupScheduleStatus
from lucid_storage.models.orders import Destination
from lucid_storage.models.pruning import PruneOrder, PruneResult

READY = Retaining("cluster", Place(Destination(bucket="b")), {"nightly": {"days": 3}}, SETTINGS)
NOON = "2026-05-05T12:00"
SINCE = "2026-05-04T02:01:00Z"
READY_CONDITION = {"type": "Ready", "status": "True", "reason": "Completed", "message": ""}
VERIFIED = {"type": "Verified", "status": "True", "reason": "Verified", "message": "All bytes were read."}
FULL = backup("2026-05-03T02:00", type="full")


def incremental(*conditions: Json, verify: str = "Checksum", **more: Any) -> Resource:
    said = [{**c, "lastTransitionTime": SINCE} for c in (READY_CONDITION, *(conditions or (VERIFIED,)))]
    day = backup("2026-05-04T02:00", verify="Checksum", conditions=said, verified="Checksum", **more)
    day.spec["verify"] = verify
    return day


def begun(*backups: Resource, by_hand: tuple[Child, ...] = ()) -> SchedulePlan:
    known = BackupScheduleStatus(last_slot=at("2026-05-05T02:00"), runs_since_full=0)
    desired = schedule(retention={"days": 3})
    return look(desired, NOON, *backups, status=known, retaining=READY, by_hand=by_hand)


def answered(*backups: Resource, by_hand: tuple[Child, ...] = (), **found: Any) -> SchedulePlan:
    step = begun(*backups, by_hand=by_hand)
    assert step.status.retention is not None
    run = prune_run("uid-1", step.status.retention.done or "")
    text = PruneResult(run=run, ok=True, **found).model_dump_json(by_alias=True)
    state = WorkerState(WorkerPhase.ENDED, result=text)
    desired = schedule(retention={"days": 3})
    return look(desired, NOON, *backups, status=step.status, retaining=READY, prune=state, by_hand=by_hand)


def after(step: SchedulePlan, resource: Resource) -> BackupStatus:
    """The status as the API server has it then."""
    status = dict(resource.status)
    for action in step.actions:
        if isinstance(action, ExplainBackup) and action.key == resource.key:
            status |= action.status
    return BackupStatus.model_validate({k: v for k, v in status.items() if v is not None})


def conditions(status: BackupStatus) -> dict[str, tuple[str, str]]:
    return {c.type: (str(c.status), c.reason) for c in status.conditions or ()}


def revoked() -> Resource:
    made = incremental()
    status = after(answered(FULL, made, unrestorable=(made.status["id"],)), made)
    made.status.update(status.to_dict())
    return made


def test_its_condition_and_its_column_tell_and_say_what_to_do() -> None:
    made = incremental()
    step = answered(FULL, made, unrestorable=(made.status["id"],))
    status = after(step, made)
    assert conditions(status) == {"Ready": ("True", "Completed"), "Verified": ("False", "ArchiveDamaged")}
    assert status.verified == "ArchiveDamaged"
    (said,) = [c for c in status.conditions or () if c.type == "Verified"]
    assert "Restore another Backup" in said.message
    assert said.last_transition_time == at(NOON)
    assert [n.reason for n in step.notices] == ["NotRestorable"]
    assert made.key.name in step.notices[0].message
    assert conditions(after(step, FULL)) == {}


def test_it_is_told_once() -> None:
    made = revoked()
    (order,) = [a.request.order for a in begun(FULL, made).actions if isinstance(a, StartPrune)]
    assert isinstance(order, PruneOrder)
    assert order.unrestorable == (made.status["id"],)
    again = answered(FULL, made, unrestorable=(made.status["id"],))
    assert again.notices == ()
    assert after(again, made).conditions == after(begun(FULL, made), made).conditions


def test_a_slice_that_is_put_back_makes_it_verified_again() -> None:
    made = revoked()
    status = after(answered(FULL, made, restorable_again=(made.status["id"],)), made)
    assert conditions(status)["Verified"] == ("True", "Verified")
    assert status.verified == "Checksum"


def test_what_was_not_proved_as_asked_is_not_called_so_afterwards() -> None:
    lacking = {"type": "Verified", "status": "False", "reason": "NoVerifyServer", "message": ""}
    made = incremental(lacking, verify="Restore")
    lost = after(answered(FULL, made, unrestorable=(made.status["id"],)), made)
    assert conditions(lost)["Verified"] == ("False", "ArchiveDamaged")
    assert (lost.conditions or [])[-1].last_transition_time == at("2026-05-04T02:01"), "it was False before"
    made.status.update(lost.to_dict())
    status = after(answered(FULL, made, restorable_again=(made.status["id"],)), made)
    assert conditions(status)["Verified"] == ("False", "NoVerifyServer")
    assert status.verified == "Checksum, NoVerifyServer"


@pytest.mark.parametrize("verify", ["Checksum", "Restore"])
@pytest.mark.parametrize("lost", ["in_cluster", "unencrypted"])
def test_what_lies_in_snapshots_is_not_called_proved_afterwards(lost: str, verify: str) -> None:
    said = {**VERIFIED, "status": "False", "reason": "SnapshotOnly"}
    engines = [{"engine": "elasticsearch", "phase": "Completed", to_camel(lost): True}]
    made = incremental(said, verify=verify, engines=engines)
    status = after(answered(FULL, made, unrestorable=(made.status["id"],)), made)
    made.status.update(status.to_dict())
    status = after(answered(FULL, made, restorable_again=(made.status["id"],)), made)
    assert conditions(status)["Verified"] == ("False", "SnapshotOnly")
    assert status.verified == "Checksum, SnapshotOnly"


def test_one_of_which_an_engine_failed_tells_too() -> None:
    made = incremental()
    made.status["phase"] = "PartiallyFailed"
    step = answered(FULL, made, unrestorable=(made.status["id"],))
    assert conditions(after(step, made))["Verified"] == ("False", "ArchiveDamaged")
    assert [n.reason for n in step.notices] == ["NotRestorable"]


def test_a_worker_is_told_of_whom_it_need_not_speak() -> None:
    """Of one that failed its check, and of an object that is going: they would be named for ever."""
    failed = backup("2026-05-04T03:00", "Failed", reason="VerifyFailed", manifestSha256="x")
    by_hand = tuple(made_by_hand("default", "nightly", [hand_made()]))
    ready = replace(READY, by_hand=(str(by_hand[0].status.id), "going"))
    step = look(schedule(), NOON, FULL, failed, retaining=ready, by_hand=by_hand)
    (order,) = [a.request.order for a in step.actions if isinstance(a, StartPrune)]
    assert isinstance(order, PruneOrder)
    assert order.silent == (failed.status["id"], "going")


def without_schedule(made: Resource) -> Resource:
    return replace(made, annotations={}, created="2026-05-04T01:59:00Z")


def hand_made(*, chain: str = "nightly") -> Resource:
    return without_schedule(incremental(chain=chain))


def test_one_made_by_hand_tells_too() -> None:
    made = hand_made()
    by_hand = tuple(made_by_hand("default", "nightly", [FULL, made, hand_made(chain="other")]))
    assert [c.key for c in by_hand] == [made.key]
    step = answered(FULL, by_hand=by_hand, unrestorable=(made.status["id"],))
    assert conditions(after(step, made))["Verified"] == ("False", "ArchiveDamaged")
    made.status.update(after(step, made).to_dict())
    told = tuple(made_by_hand("default", "nightly", [made]))
    (order,) = [a.request.order for a in begun(FULL, by_hand=told).actions if isinstance(a, StartPrune)]
    assert isinstance(order, PruneOrder)
    assert order.unrestorable == (made.status["id"],)


@pytest.mark.parametrize(("phase", "reason"), [("Failed", "VerifyFailed"), ("Completed", "")])
def test_the_end_of_one_made_by_hand_has_the_chain_looked_at_at_once(phase: str, reason: str) -> None:
    done = answered(FULL).status
    failed = backup("2026-05-05T11:00", phase, reason=reason, chain="nightly", manifestSha256="x")
    by_hand = tuple(made_by_hand("default", "nightly", [without_schedule(failed)]))
    for theirs, count in (((), 0), (by_hand, 1)):
        step = look(schedule(), NOON, FULL, status=done, retaining=READY, by_hand=theirs)
        assert len([a for a in step.actions if isinstance(a, StartPrune)]) == count
