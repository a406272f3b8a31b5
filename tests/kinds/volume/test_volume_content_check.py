"""The check of a volume's content: asked for by annotation, once a value, and told in status and condition."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from volume_builders import claim, look, seen, settled
from volume_builders import volume as declared

from lucid_storage.errors import LucidError, Reason
from lucid_storage.kinds.oneshot import Standing
from lucid_storage.kinds.volume.checking import check_of, due, job_name, noted, request_of, row
from lucid_storage.kinds.workers.job import PodIdentity
from lucid_storage.kinds.workers.state import WorkerPhase, WorkerState
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.base import Origin
from lucid_storage.models.meta import PAUSED, RESTORED_FROM, VERIFY
from lucid_storage.models.volume import ContentCheck, VolumeStatus

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def volume(asked: str = "1", **more: Any) -> Resource:
    base = Resource(
        key=Key("volumes", "app", "data"),
        uid="uid-1",
        generation=1,
        resource_version="1",
        created="2026-11-21T11:00:00Z",
        deleted=None,
        annotations={VERIFY: asked} if asked else {},
        finalizers=(),
        spec={"type": "chunks"},
        status={},
    )
    return replace(base, **more)


def check(asked: str = "1", **more: Any) -> ContentCheck:
    base = ContentCheck(
        asked=asked,
        at=NOW,
        intact=True,
        files=3,
        added=0,
        removed=0,
        changed=0,
        corrupted=0,
        unreadable=0,
        message="fine",
    )
    return base.model_copy(update=more)


def ended(**result: Any) -> WorkerState:
    told = {"run": "r", "ok": True, "intact": True, "checkedAt": NOW.isoformat(), **result}
    return WorkerState(WorkerPhase.ENDED, result=json.dumps(told))


def test_a_new_value_is_due_once() -> None:
    assert due(volume(), None, None, NOW)
    assert not due(volume(""), None, None, NOW)
    assert not due(volume(), check(), None, NOW)
    status = VolumeStatus(check=check()).to_dict()
    assert not due(volume(status=status), None, None, NOW)
    assert due(volume("2", status=status), check(), None, NOW)


def test_a_failed_attempt_rests_and_is_made_again() -> None:
    assert not due(volume(), None, NOW - timedelta(minutes=1), NOW)
    assert due(volume(), None, NOW - timedelta(minutes=6), NOW)


def test_nothing_begins_for_a_volume_that_is_paused_or_going() -> None:
    assert not due(volume(annotations={VERIFY: "1", PAUSED: "true"}), None, None, NOW)
    assert not due(volume(deleted=NOW.isoformat()), None, None, NOW)


def test_the_job_is_the_same_for_whoever_leads_and_another_for_another_value() -> None:
    assert job_name(volume()) == job_name(volume()) != job_name(volume("2"))
    request = request_of(volume(spec={"copy": {"runAsUser": 999}}), "n1", "c", 60)
    assert (request.name, request.node, request.beside) == (job_name(volume()), "n1", True)
    assert request.identity == PodIdentity(999, 999, None)
    assert request.mounts[0].read_only is False


def test_rot_is_a_condition_and_a_warning_once() -> None:
    found = check_of(ended(intact=False, corrupted=2, message="2 changed although nobody wrote them"), "1")
    status, notices = noted(found, VolumeStatus())
    assert (status.check, status.checksums_at) == (found, NOW)
    assert [(n.reason, n.warning) for n in notices] == [("ContentDamaged", True)]
    ((kind, holds, reason, said),) = row(status.check)
    assert (kind, holds, reason) == ("Intact", False, Reason.CONTENT_DAMAGED)
    assert "nobody wrote" in said
    assert noted(found, status) == (status, ())


def test_an_intact_volume_says_so_and_an_unchecked_one_nothing() -> None:
    assert row(None) == []
    assert row(check())[0][:3] == ("Intact", True, Reason.INTACT)


@pytest.mark.parametrize(
    "state",
    [
        WorkerState(WorkerPhase.LOST, "its pod was evicted"),
        WorkerState(WorkerPhase.ENDED, result="?"),
        ended(ok=False, message="may not be read"),
        ended(checkedAt=None),
    ],
)
def test_a_worker_that_found_nothing_out_is_no_check(state: WorkerState) -> None:
    with pytest.raises(LucidError):
        check_of(state, "1")


def test_a_claim_that_a_restore_made_takes_the_place_of_the_lost_one() -> None:
    status = settled(declared(), seen(claim()))
    restored = claim(uid="other", volume_name="pv-2", annotations={RESTORED_FROM: "backup-1"})
    step = look(declared(), seen(restored), status)
    assert step.said is not None
    assert (step.said.standing, step.status.claim_uid, step.status.origin) == (
        Standing.DONE,
        "other",
        Origin.ADOPTED,
    )
