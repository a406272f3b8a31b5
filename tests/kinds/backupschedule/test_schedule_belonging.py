"""Whose Backups a schedule decides about, and which schedules are in each other's way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from schedule_builder import SETTINGS, at, backup, look, schedule

from lucid_storage.errors import RefusedError
from lucid_storage.kinds.backupschedule.actions import DeleteBackup, ExplainBackup, StartPrune
from lucid_storage.kinds.backupschedule.belonging import check_chain, lies_in
from lucid_storage.kinds.backupschedule.desired import ScheduleDesired, place_of, prune_run
from lucid_storage.kinds.backupschedule.retaining import Retaining
from lucid_storage.kinds.workers.place import Place
from lucid_storage.kinds.workers.state import WorkerPhase, WorkerState
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.backupschedule import BackupScheduleStatus
from lucid_storage.models.orders import Destination
from lucid_storage.models.pruning import PruneOrder, PruneResult

S3: dict[str, Any] = {"s3": {"bucket": "vault", "secretName": "keys"}}
NOON = "2026-05-05T12:00"


def of(desired: ScheduleDesired, made: Resource, **spec: Any) -> bool:
    made = replace(made, spec={**made.spec, **spec})
    return lies_in(made, desired, place_of(desired, SETTINGS), SETTINGS)


def written(location: str, chain: str = "nightly") -> Resource:
    return backup("2026-05-02T02:00", location=location, chain=chain)


@pytest.mark.parametrize(
    ("location", "there"),
    [
        ("s3.example/vault/c1/default/nightly/backups/i", True),
        ("s3.example/vault/another-cluster/default/nightly/backups/i", True),
        ("s3.example/attic/c1/default/nightly/backups/i", False),
        ("s3.example/vault/below/c1/default/nightly/backups/i", False),
        ("s3.example/vault/c1/default/weekly/backups/i", False),
        ("s3://vault", True),
    ],
    ids=["there", "adopted", "bucket", "prefix", "chain", "not begun"],
)
def test_a_backup_belongs_where_its_worker_wrote_it(location: str, there: bool) -> None:
    mine = schedule(template={"type": "full", "storage": S3})
    assert of(mine, written(location), storage=S3) is there


def test_another_place_or_chain_of_the_spec_is_another_one() -> None:
    mine = schedule(template={"type": "full", "storage": S3})
    assert not of(mine, backup("2026-05-02T02:00"), storage={"s3": {"bucket": "b", "secretName": "keys"}})
    assert not of(mine, backup("2026-05-02T02:00", chain="other"), storage=S3)
    assert of(mine, backup("2026-05-02T02:00"), storage=S3)


FOUR = tuple(backup(f"2026-05-0{day}T02:00") for day in (2, 3, 4, 5))
ELSEWHERE = frozenset({FOUR[0].key, FOUR[1].key})
READY = Retaining("cluster", Place(Destination(bucket="b")), {}, SETTINGS, by_hand=("mine",))


def test_after_a_change_of_the_place_the_backups_in_the_former_one_are_not_taken_for_gone() -> None:
    """Their objects would be deleted, and under deletionPolicy Delete their data with them."""
    status = BackupScheduleStatus(last_slot=at("2026-05-05T02:00"), runs_since_full=0)
    begun = look(schedule(), NOON, *FOUR, status=status, retaining=READY, elsewhere=ELSEWHERE)
    (order,) = [a.request.order for a in begun.actions if isinstance(a, StartPrune)]
    assert isinstance(order, PruneOrder)
    assert order.known == tuple(f"id-{b.key.name}" for b in FOUR[2:])
    assert order.by_hand == ("mine",)
    assert begun.status.retention is not None
    run = prune_run("uid-1", begun.status.retention.done or "")
    gone = PruneResult(run=run, ok=True, removed=tuple(f"id-{b.key.name}" for b in FOUR))
    state = WorkerState(WorkerPhase.ENDED, result=gone.model_dump_json(by_alias=True))
    step = look(
        schedule(), NOON, *FOUR, status=begun.status, retaining=READY, prune=state, elsewhere=ELSEWHERE
    )
    assert {a.key for a in step.actions if isinstance(a, DeleteBackup)} == {b.key for b in FOUR[2:]}
    assert not [a for a in step.actions if isinstance(a, ExplainBackup)]


def test_objects_of_expired_backups_do_not_pile_up() -> None:
    old = backup("2026-05-02T02:00", "Expired")
    status = BackupScheduleStatus(last_slot=at("2026-05-05T02:00"), runs_since_full=0)
    step = look(schedule(), NOON, old, *FOUR[1:], status=status)
    assert [a.key for a in step.actions if isinstance(a, DeleteBackup)] == [old.key]


def older(name: str = "hourly", namespace: str = "default", **spec: Any) -> Resource:
    made = schedule(**{"template": {"type": "full", "chain": "shared"}, **spec}).resource
    key = Key("backupschedules", namespace, name)
    return replace(made, key=key, uid=name, created="2026-01-01T00:00:00Z")


def shared(**template: Any) -> ScheduleDesired:
    return schedule(template={"type": "full", "chain": "shared", **template})


@pytest.mark.parametrize(
    "template",
    [
        {"mongodb": {"databases": ["shop"]}},
        {"mongodb": {"collections": ["shop.orders"]}},
        {"engines": ["redis"]},
    ],
)
def test_of_two_schedules_that_would_end_each_others_timeline_the_older_has_the_chain(
    template: dict[str, Any],
) -> None:
    with pytest.raises(RefusedError) as refused:
        check_chain(shared(**template), [older()], SETTINGS)
    assert refused.value.reason == "ChainMismatch"
    assert "the schedule hourly" in refused.value.message
    assert "spec.template.chain" in refused.value.message
    younger = replace(older(), created="2026-11-01T00:00:00Z")
    check_chain(shared(**template), [younger], SETTINGS)


@pytest.mark.parametrize(
    "other",
    [
        older(),
        older(template={"type": "incremental", "chain": "shared"}),
        older(namespace="another", template={"type": "full", "chain": "shared", "engines": ["redis"]}),
        older(template={"type": "full", "engines": ["redis"]}),
        older(template={"type": "full", "chain": "shared", "engines": ["redis"], "storage": S3}),
        replace(older(template={"type": "full", "chain": "shared", "engines": ["redis"]}), deleted="now"),
    ],
    ids=["alike", "fulls and incrementals", "another namespace", "another chain", "another place", "going"],
)
def test_schedules_that_are_not_in_each_others_way_may_go_on(other: Resource) -> None:
    check_chain(shared(), [other, shared().resource], SETTINGS)
