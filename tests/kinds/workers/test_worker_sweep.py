"""Jobs that nobody waits for: which of them go, and when."""

from typing import Any

import pytest
from worker_builder import NOW, ago, condition, job

from lucid_storage.kinds.workers.sweep import FOR_READERS, left_behind
from lucid_storage.kube.client import Json
from lucid_storage.kube.resources import Key, Resource


def owner(phase: str, plural: str = "backups", **status: Any) -> Resource:
    status = {"phase": phase, **status}
    return Resource(Key(plural, "app", "x"), "u", 1, "1", "2026-01-01", None, {}, (), {}, status)


def made(command: str = "backup", *conditions: Json, minutes: float = 5, **more: Any) -> Json:
    labels = {"app.kubernetes.io/component": f"worker-{command}"}
    return job(*conditions, made=ago(minutes=minutes), labels=labels, **more)


def test_a_worker_whose_resource_is_gone_goes_unless_it_is_brand_new() -> None:
    assert left_behind(made(), None, NOW)
    assert not left_behind(made(minutes=0.5), None, NOW)


@pytest.mark.parametrize("plural", ["backups", "restores"])
def test_a_worker_that_outlives_the_end_of_its_resource_goes(plural: str) -> None:
    """The one call that was to stop it failed, or the leader changed before it."""
    ended = owner("Failed", plural, completedAt=ago(minutes=2))
    assert left_behind(made(), ended, NOW)
    assert not left_behind(made(), owner("Failed", plural, completedAt=ago(seconds=30)), NOW)
    assert not left_behind(made(), owner("Running", plural), NOW)


def test_a_clean_up_of_a_resource_that_ended_goes_on() -> None:
    assert not left_behind(made("prune"), owner("Completed", completedAt=ago(days=30)), NOW)


def test_a_worker_that_was_never_let_begin_goes() -> None:
    assert left_behind(made(suspend=True), owner("Cancelled"), NOW)
    assert not left_behind(made(suspend=True), owner("Pending"), NOW)


def test_one_that_ended_stays_for_its_log() -> None:
    over = made("backup", condition("Failed"))
    assert not left_behind(over, owner("Failed", completedAt=ago(minutes=2)), NOW)
    assert left_behind(over, owner("Failed", completedAt=ago(days=1)), NOW + FOR_READERS)


def test_one_that_is_going_is_left_alone() -> None:
    assert not left_behind(made(deletionTimestamp=ago(seconds=1)), None, NOW)


def test_an_ended_worker_that_mounted_volumes_goes_at_once_since_its_pod_holds_them() -> None:
    over = {"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": ago(seconds=5)}]}
    volumes = [{"name": "volume-0", "persistentVolumeClaim": {"claimName": "data"}}]
    job = {**made(), "status": over}
    assert not left_behind(job, owner("Completed"), NOW)
    job["spec"] = {**job["spec"], "template": {"spec": {"volumes": volumes}}}
    assert left_behind(job, owner("Completed"), NOW)
    assert not left_behind(job, owner("Running"), NOW)
