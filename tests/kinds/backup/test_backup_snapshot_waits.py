"""How long a Backup waits for the snapshots that its storage takes, and for what stands in its way."""

from dataclasses import replace

import pytest
from backup_builder import NOW, desired, later, observed, resource

from lucid_storage.errors import AccessDeniedError, Reason, StoreUnavailableError
from lucid_storage.kinds.backup.actions import MakeSnapshot
from lucid_storage.kinds.backup.observed import BackupObserved
from lucid_storage.kinds.backup.plan import hindered, plan
from lucid_storage.kinds.backup.volumes import VolumesReading, WantedSnapshot
from lucid_storage.models.backup import BackupPhase, BackupStatus
from lucid_storage.models.meta import PAUSED

MADE = resource()
DEADLINE = desired(MADE).deadline_seconds


def waiting_for(*, there: bool = True, taken: bool = False) -> BackupObserved:
    wanted = WantedSnapshot("lucid-1", "data", "snap", there=there, taken=taken)
    return observed(MADE, desired=replace(desired(MADE), volumes=VolumesReading(waiting=(wanted,))))


UNASKED, UNTAKEN, TAKEN, READY = (
    waiting_for(there=False),
    waiting_for(),
    waiting_for(taken=True),
    observed(MADE),
)
WAITS = BackupStatus(phase=BackupPhase.PENDING, snapshots_since=NOW)


def away(seen: BackupObserved) -> BackupObserved:
    return replace(seen, trouble=StoreUnavailableError("MongoDB does not answer."))


def test_the_deployment_is_held_for_a_snapshot_only_for_a_moment() -> None:
    asked = plan(MADE, UNASKED, BackupStatus(), NOW)
    assert ([type(a) for a in asked.actions], asked.idle) == ([MakeSnapshot], False)
    first = plan(MADE, UNTAKEN, asked.status, NOW)
    assert (first.idle, first.status.snapshots_since) == (False, NOW)
    soon = plan(MADE, UNTAKEN, first.status, later(seconds=29))
    assert (soon.idle, soon.actions, soon.status.snapshots_since) == (False, (), NOW)
    late = plan(MADE, UNTAKEN, first.status, later(seconds=30))
    assert late.idle, "who waits for the deployment goes on"
    assert (late.status.phase, late.status.server_identity) == (BackupPhase.PENDING, "set-1")
    ready = plan(MADE, READY, late.status, later(seconds=60))
    assert (ready.status.phase, ready.status.snapshots_since) == (BackupPhase.RUNNING, None)


def test_a_snapshot_that_nobody_takes_ends_the_backup_with_a_sentence() -> None:
    assert plan(MADE, UNTAKEN, WAITS, later(hours=1)).status.phase is BackupPhase.PENDING
    step = plan(MADE, UNTAKEN, WAITS, later(hours=1, seconds=1))
    assert step.said is not None
    assert (step.status.phase, step.said.reason) == (BackupPhase.FAILED, Reason.UNHEALTHY)
    assert "Nobody took the snapshot of data within 60 minutes" in step.said.message
    assert "the driver of the class snap" in step.said.message


def test_a_snapshot_that_was_taken_may_be_uploaded_by_its_storage_for_as_long_as_a_backup_may_take() -> None:
    assert DEADLINE > 3600
    step = plan(MADE, TAKEN, WAITS, later(seconds=DEADLINE))
    assert (step.status.phase, step.idle) == (BackupPhase.PENDING, True)
    assert plan(MADE, TAKEN, WAITS, later(seconds=DEADLINE + 1)).status.phase is BackupPhase.FAILED


def test_a_short_trouble_fails_no_backup_whose_storage_takes_its_time() -> None:
    status = plan(MADE, TAKEN, BackupStatus(), NOW).status
    status = plan(MADE, TAKEN, status, later(minutes=90)).status
    glitch = plan(MADE, away(TAKEN), status, later(minutes=91)).status
    assert (glitch.phase, glitch.trouble_since) == (BackupPhase.PENDING, later(minutes=91))
    assert plan(MADE, away(TAKEN), glitch, later(minutes=152)).status.phase is BackupPhase.FAILED
    over = plan(MADE, TAKEN, glitch, later(minutes=92)).status
    assert (over.phase, over.trouble_since, over.snapshots_since) == (BackupPhase.PENDING, None, NOW)


def test_the_storage_has_its_time_from_when_it_was_asked_and_not_from_the_trouble_before() -> None:
    status = plan(MADE, away(UNASKED), BackupStatus(), NOW).status
    status = plan(MADE, UNASKED, status, later(minutes=59)).status
    first = plan(MADE, UNTAKEN, status, later(minutes=59))
    assert (first.idle, first.status.trouble_since) == (False, None)
    assert plan(MADE, UNTAKEN, first.status, later(minutes=119)).status.phase is BackupPhase.PENDING
    over = plan(MADE, UNTAKEN, first.status, later(minutes=119, seconds=1))
    assert over.status.phase is BackupPhase.FAILED


def test_a_snapshot_that_cannot_be_asked_for_is_tried_for_an_hour() -> None:
    """What hinders it comes back each time that it is tried, and is one trouble."""
    refused, status = AccessDeniedError("Not allowed."), BackupStatus()
    for minutes, phase in ((0, BackupPhase.PENDING), (60, BackupPhase.PENDING), (61, BackupPhase.FAILED)):
        status = plan(MADE, UNASKED, status, later(minutes=minutes)).status
        status = hindered(MADE, status, refused, later(minutes=minutes)).status
        assert (status.phase, status.snapshots_since) == (phase, None)


@pytest.mark.parametrize("seen", [UNTAKEN, TAKEN])
def test_the_storage_has_its_time_anew_after_a_pause(seen: BackupObserved) -> None:
    paused = replace(MADE, annotations={PAUSED: "true"})
    status = plan(paused, seen, WAITS, later(days=2)).status
    assert plan(MADE, seen, status, later(days=2)).status.snapshots_since == later(days=2)
