"""A setting that moved the place of backups removes nothing, and nothing is called removed that was not found."""

import pytest
from backup_builder import (
    BUCKET,
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
)
from backup_builder import settings as given

from lucid_storage.errors import Reason, RefusedError
from lucid_storage.kinds.backup.actions import StartWorker
from lucid_storage.kinds.backup.chaining import check_place
from lucid_storage.kinds.backup.observed import CLEANING
from lucid_storage.kinds.backup.plan import hindered, plan
from lucid_storage.models.backup import BackupPhase
from lucid_storage.models.pruning import PruneOrder

TAIL = f"cluster-1/app/manual/backups/{ID}"
CLAIM = {"BACKUP_STORAGE_TYPE": "volume", "BACKUP_STORAGE_CLAIM": "vault"}
MOVED = RefusedError("Its data lie in A: configure it again.", reason=Reason.TARGET_CHANGED)


@pytest.mark.parametrize(
    ("written", "variables"),
    [
        (f"http://s3:9000/vault/{TAIL}", BUCKET),
        (f"http://s3:9000/vault/a/b/{TAIL}", {**BUCKET, "BACKUP_STORAGE_PATH": "a/b"}),
        (f"/var/lib/lucid/destination/old/{TAIL}", {**CLAIM, "BACKUP_STORAGE_PATH": "old"}),
        (f"/var/lib/lucid/destination/{TAIL}", CLAIM),
    ],
)
def test_data_that_lie_where_the_settings_point_are_found(written: str, variables: dict[str, str]) -> None:
    here = desired(given=given(SERVED_NAMESPACES=served(), **variables))
    check_place(here, completed(location=written))
    check_place(here, running(location=here.place.location))


@pytest.mark.parametrize(
    ("written", "variables"),
    [
        (f"http://s3:9000/vault/{TAIL}", {**BUCKET, "BACKUP_S3_BUCKET": "other"}),
        (f"http://s3:9000/vault/old/{TAIL}", {**BUCKET, "BACKUP_STORAGE_PATH": "new"}),
        (f"/var/lib/lucid/destination/old/{TAIL}", {**CLAIM, "BACKUP_STORAGE_PATH": "new"}),
        (f"/var/lib/lucid/destination/{TAIL}", {**CLAIM, "BACKUP_STORAGE_PATH": "new"}),
        (f"/var/lib/lucid/destination/old/{TAIL}", BUCKET),
    ],
)
def test_data_that_lie_elsewhere_are_refused_with_both_places(
    written: str, variables: dict[str, str]
) -> None:
    there = desired(given=given(SERVED_NAMESPACES=served(), **variables))
    with pytest.raises(RefusedError) as caught:
        check_place(there, completed(location=written))
    assert caught.value.reason is Reason.TARGET_CHANGED
    assert written in caught.value.message
    assert there.place.location in caught.value.message


@pytest.mark.parametrize("before", ["s3://vault", "s3://backups/vault", "volume backups/old"])
def test_an_upload_of_a_run_is_not_looked_for_in_another_place(before: str) -> None:
    there = desired(given=given(SERVED_NAMESPACES=served(), **{**BUCKET, "BACKUP_S3_BUCKET": "other"}))
    with pytest.raises(RefusedError):
        check_place(there, running(location=before))


def test_a_deletion_waits_with_a_sentence_and_lets_the_data_lie() -> None:
    made = resource(deleted=NOW, held=True, deletionPolicy="Delete")
    with pytest.raises(RefusedError) as caught:
        plan(made, observed(trouble=MOVED), completed(), NOW)
    step = hindered(made, completed(), caught.value, NOW)
    assert step.said is not None
    assert (step.hold, step.said.reason) == (True, Reason.TARGET_CHANGED)
    assert "configure it again. The deletion waits" in step.said.message
    retained = resource(deleted=NOW, held=True)
    assert plan(retained, observed(trouble=MOVED), completed(), NOW).hold is False


def test_what_expired_stays_and_says_where_it_lies() -> None:
    step = plan(resource(), observed(prune_due=True, trouble=MOVED), completed(), later(days=31))
    assert (step.actions, step.status.phase, step.retry) == ((), BackupPhase.COMPLETED, False)
    assert step.status.retained_because == MOVED.message


def test_a_cancelled_run_leaves_its_upload_where_it_lies_and_says_so() -> None:
    status = running(phase=BackupPhase.CANCELLED, progress=CLEANING)
    step = plan(resource(cancel=True), observed(trouble=MOVED), status, NOW)
    assert step.said is not None
    assert "not removed: Its data lie in A" in step.said.message


def test_a_prune_for_one_backup_knows_that_its_data_are_to_be_there() -> None:
    made = resource(deleted=NOW, held=True, deletionPolicy="Delete")
    [start] = plan(made, observed(), completed(), NOW).actions
    assert isinstance(start, StartWorker)
    assert isinstance(start.request.order, PruneOrder)
    assert (start.request.order.remove, start.request.order.known) == ((ID,), (ID,))


def test_what_was_not_found_is_not_called_removed() -> None:
    made = resource(deleted=NOW, held=True, deletionPolicy="Delete")
    nothing = ended(ok=True, removed=[ID], missing=[ID])
    step = plan(made, observed(prune=nothing), completed(), NOW)
    assert [n.message for n in step.notices] == [
        "Its data were not found in s3://vault, so nothing was removed (deletionPolicy: Delete)."
    ]
    expired = plan(resource(), observed(prune_due=True, prune=nothing), completed(), later(days=31))
    assert expired.said is not None
    assert expired.said.message == (
        "Retention has passed: its data were not found in s3://vault, so nothing was removed, and the object stays."
    )
