"""Who lets the data of a Backup go: its own days, its schedule, or the rules of one that is gone (rule 1.9)."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from backup_builder import (
    ID,
    NOW,
    completed,
    desired,
    ended,
    later,
    observed,
    resource,
    running,
    served,
    settings,
)

from lucid_storage.kinds.backup.actions import RemoveWorker, StartWorker
from lucid_storage.kinds.backup.keeping import BY_OTHERS, Keeping, by_hand, keeping
from lucid_storage.kinds.backup.plan import plan
from lucid_storage.kinds.backup.requests import prune_request
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.backup import BackupPhase, BackupStatus
from lucid_storage.models.meta import RETENTION, SCHEDULE
from lucid_storage.models.pruning import PruneOrder

GIVEN = settings(SERVED_NAMESPACES=served())
RULES = '{"days": 9, "keepMonthly": 12}'
HERE = f"http://s3:9000/vault/cluster-1/app/daily/backups/{ID}"


def scheduled(location: str | None = HERE, chain: str = "daily", rules: str = RULES, **spec: Any) -> Resource:
    made = {SCHEDULE: "daily", RETENTION: rules}
    return resource(annotations=made, status=completed(chain=chain, location=location), **spec)


def schedule(deleted: bool = False, **template: Any) -> Resource:
    return Resource(
        key=Key("backupschedules", "app", "daily"),
        uid="s",
        generation=1,
        resource_version="1",
        created="2026-01-01T00:00:00Z",
        deleted="2026-11-21T00:00:00Z" if deleted else None,
        annotations={},
        finalizers=(),
        spec={"schedule": "@daily", "template": {"type": "full", **template}},
        status={},
    )


ELSEWHERE: dict[str, Any] = {"storage": {"s3": {"bucket": "other", "secretName": "keys"}}}


def test_one_made_by_hand_is_kept_as_long_as_its_spec_says() -> None:
    assert keeping(resource(), [], GIVEN) == Keeping(30)
    assert keeping(resource(retentionDays=90), [schedule()], GIVEN) == Keeping(90)


def test_one_that_a_schedule_made_is_left_to_it() -> None:
    assert keeping(scheduled(), [schedule()], GIVEN) == BY_OTHERS
    assert keeping(scheduled(location=None), [schedule()], GIVEN) == BY_OTHERS
    assert keeping(scheduled(**ELSEWHERE), [schedule(**ELSEWHERE)], GIVEN) == Keeping(9, ruled=True), (
        "the spec says one bucket, and what was written down another one"
    )


@pytest.mark.parametrize(
    ("backup", "schedules"),
    [
        (scheduled(), []),
        (scheduled(), [schedule(deleted=True)]),
        (scheduled(chain="former"), [schedule()]),
        (scheduled(), [schedule(chain="another")]),
        (scheduled(), [schedule(**ELSEWHERE)]),
        (scheduled(location=f"http://s3:9000/former/cluster-1/app/daily/backups/{ID}"), [schedule()]),
    ],
    ids=["gone", "going", "another chain", "its chain was changed", "its place was", "a setting was"],
)
def test_where_its_schedule_writes_no_more_the_rules_that_it_left_hold(
    backup: Resource, schedules: list[Resource]
) -> None:
    assert keeping(backup, schedules, GIVEN) == Keeping(9, ruled=True)


def test_a_schedule_that_cannot_be_read_now_still_decides() -> None:
    odd = replace(schedule(), spec={"schedule": "never", "template": {}})
    assert keeping(scheduled(), [odd], GIVEN) == BY_OTHERS


@pytest.mark.parametrize("rules", ['{"keepLast": 3}', "no rules", ""])
def test_rules_without_days_let_nothing_go_by_time(rules: str) -> None:
    assert keeping(scheduled(rules=rules), [], GIVEN) == Keeping(None, ruled=True)


def told(**more: Any) -> BackupStatus:
    """With what its schedule explained: the days are over, and a monthly rule keeps it."""
    return completed(expires_at=NOW + timedelta(days=9), expires="2026-11-30 12:00Z", chain="daily", **more)


def test_what_its_schedule_explains_lets_no_data_go() -> None:
    """keepMonthly keeps it: acting on expiresAt alone would remove what a rule keeps."""
    seen = observed(keeping=BY_OTHERS, prune_due=True)
    step = plan(scheduled(), seen, told(), later(days=100))
    assert (step.actions, step.status.phase) == ((), BackupPhase.COMPLETED)
    assert step.recheck_seconds == 86_400, "nobody tells when the schedule goes"


def test_when_its_schedule_is_gone_the_worker_asks_the_other_rules_too() -> None:
    mine = scheduled()
    seen = observed(mine, keeping=Keeping(9, ruled=True), prune_due=True)
    [start] = plan(mine, seen, told(), later(days=10)).actions
    assert isinstance(start, StartWorker)
    order = start.request.order
    assert isinstance(order, PruneOrder)
    assert (order.expire, order.remove, order.sweep) == ((ID,), (), False)


def test_by_hand_its_data_go_whatever_the_rules_of_schedules_say() -> None:
    [start] = plan(resource(), observed(prune_due=True), completed(), later(days=31)).actions
    assert isinstance(start, StartWorker)
    order = start.request.order
    assert isinstance(order, PruneOrder)
    assert (order.expire, order.remove) == ((), (ID,))
    assert order.due == NOW + timedelta(days=30), "the worker's clock must say so too"


def backup(name: str, status: BackupStatus, **more: Any) -> Resource:
    return replace(resource(status=status), key=Key("backups", "app", name), **more)


def test_those_by_hand_of_a_chain_say_how_long_they_are_kept_until_they_are_deleted() -> None:
    there = completed(chain="manual", id="there")
    others = [
        backup("there", there),
        backup("going", completed(chain="manual", id="going"), deleted="2026-11-21T12:00:00Z"),
        backup("expired", completed(chain="manual", id="expired", phase=BackupPhase.EXPIRED)),
        backup("cancelled", running(chain="manual", id="cancelled", phase=BackupPhase.CANCELLED)),
        backup("lost", running(chain="manual", id="lost", phase=BackupPhase.FAILED)),
        backup("other", completed(chain="other", id="other")),
        backup("scheduled", completed(chain="manual", id="scheduled"), annotations={SCHEDULE: "daily"}),
        backup("none", BackupStatus(chain="manual")),
        replace(backup("away", there), key=Key("backups", "elsewhere", "away")),
        replace(backup("restore", there), key=Key("restores", "app", "restore")),
    ]
    assert by_hand("app", "manual", others) == ("there",)


@pytest.mark.parametrize(
    "status",
    [
        running(chain="manual"),
        completed(chain="manual", phase=BackupPhase.PARTIALLY_FAILED),
        completed(chain="manual", phase=BackupPhase.FAILED),
    ],
    ids=["being checked", "failed in part", "its check failed"],
)
def test_one_by_hand_that_has_data_says_so_however_it_stands(status: BackupStatus) -> None:
    assert by_hand("app", "manual", [backup("there", status)]) == (ID,)


@pytest.mark.parametrize("deleted", [False, True])
def test_whoever_removes_data_knows_of_which_others_an_object_is_there(deleted: bool) -> None:
    """Its days may have been raised since a mark was left beside its data."""
    mine = resource(deletionPolicy="Delete", deleted=NOW if deleted else None, held=True)
    [start] = plan(mine, observed(mine, prune_due=True, by_hand=("x",)), completed(), later(days=31)).actions
    assert isinstance(start, StartWorker)
    assert isinstance(start.request.order, PruneOrder)
    assert (start.request.order.by_hand, start.request.order.due is None) == (("x",), deleted)


def test_a_deletion_asks_itself_where_a_worker_that_came_for_its_days_left_the_data() -> None:
    """That one left no mark, so nobody would remember that they were to go."""
    mine, status = resource(deletionPolicy="Delete", deleted=NOW, held=True), completed()
    kept = {"ok": True, "retained": [{"id": ID, "because": "Another builds on it."}]}
    for answer, over in (
        ({**kept, "expiry": True}, False),
        (kept, True),
        ({"ok": True, "expiry": True, "removed": [ID]}, True),
    ):
        step = plan(mine, observed(mine, prune=ended(**answer)), status, NOW)
        assert RemoveWorker(observed(mine).prune_job) in step.actions
        assert step.hold
        assert (step.status.phase is BackupPhase.EXPIRED) is over
    going = plan(mine, observed(mine, prune=ended(**kept, expiry=True)), status, NOW)
    assert going.actions == (RemoveWorker(observed(mine).prune_job),)
    [start] = plan(mine, observed(mine), status, NOW).actions
    assert isinstance(start, StartWorker)
    assert isinstance(start.request.order, PruneOrder)
    assert (start.request.order.remove, start.request.order.due) == ((ID,), None)


def test_a_worker_may_be_at_an_upload_for_as_long_as_a_backup_may_take() -> None:
    patient = settings(SERVED_NAMESPACES=served(), BACKUP_DEADLINE_SECONDS="172800")
    for given, least in ((GIVEN, 86_400), (patient, 172_801)):
        order = prune_request(desired(given=given), "cluster-1", discard=False, known_id=ID).order
        assert isinstance(order, PruneOrder)
        assert order.abandoned_seconds >= least
