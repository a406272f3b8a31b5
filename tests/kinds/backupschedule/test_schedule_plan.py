"""What a schedule does at a look: which backup it makes, when it makes none, and what it says."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from schedule_builder import at, backup, look, schedule

from lucid_storage.errors import RefusedError
from lucid_storage.kinds.backupschedule.actions import CreateBackup
from lucid_storage.kinds.backupschedule.plan import SchedulePlan
from lucid_storage.kube.resources import Resource
from lucid_storage.models.backup import BackupSpec
from lucid_storage.models.backupschedule import BackupScheduleStatus
from lucid_storage.models.meta import RETENTION, SCHEDULE, SLICING, SLOT
from lucid_storage.models.slicing import SliceReport

FULLS: dict[str, Any] = {}
INCREMENTALS: dict[str, Any] = {"template": {"type": "incremental"}}


def made(step: SchedulePlan) -> list[dict[str, Any]]:
    return [a.body for a in step.actions if isinstance(a, CreateBackup)]


def follow(desired: Any, days: int, outcome: Any = None) -> list[dict[str, Any]]:
    """Bodies of what is made over days, each completed (or as `outcome` says) before the next look."""
    backups: list[Resource] = []
    bodies: list[dict[str, Any]] = []
    status = None
    for day in range(days):
        now = at("2026-05-02T02:00") + timedelta(days=day)
        step = look(desired, now, *backups, status=status)
        status = step.status
        for body in made(step):
            bodies.append(body)
            phase, reason = outcome(body) if outcome is not None else ("Completed", "")
            spec = body["spec"]
            backups.append(backup(now, phase, kind=spec["type"], verify=spec["verify"], reason=reason))
    return bodies


def test_a_due_slot_makes_one_backup_named_by_it() -> None:
    step = look(schedule(), "2026-05-02T02:00:01")
    (body,) = made(step)
    assert body["metadata"]["name"] == "nightly-20260502-020000"
    assert step.status.last_slot == at("2026-05-02T02:00")
    assert step.status.next_at == at("2026-05-03T02:00")
    assert "ownerReferences" not in body["metadata"]


def test_the_backup_carries_template_schedule_slot_and_retention() -> None:
    template = {
        "type": "full",
        "engines": ["mongodb"],
        "mongodb": {"databases": ["shop"]},
        "verify": "Upload",
    }
    (body,) = made(
        look(schedule(template=template, retention={"days": 9, "keepLast": 2}), "2026-05-02T02:00:01")
    )
    annotations = body["metadata"]["annotations"]
    assert annotations[SCHEDULE] == "nightly"
    assert at("2026-05-02T02:00").isoformat() == annotations[SLOT]
    assert json.loads(annotations[RETENTION]) == {"days": 9, "keepLast": 2}
    assert annotations[SLICING] == "false"
    assert body["spec"] == {**template, "chain": "nightly"}
    BackupSpec.model_validate(body["spec"])


def test_a_look_that_was_interrupted_before_the_status_was_written_makes_no_second_one() -> None:
    """Killed after the creation: exactly one backup a slot."""
    before = BackupScheduleStatus(last_slot=at("2026-05-01T02:00"))
    step = look(schedule(), "2026-05-02T02:00:30", backup("2026-05-02T02:00", "Running"), status=before)
    assert made(step) == []
    assert step.status.last_slot == at("2026-05-02T02:00")
    assert (step.status.missed, step.status.runs_since_full, step.status.last_backup) == (
        0,
        0,
        "nightly-20260502-020000",
    )


def test_full_every_counts_runs() -> None:
    kinds = [b["spec"]["type"] for b in follow(schedule(**INCREMENTALS, fullEvery=3), 7)]
    assert kinds == ["full", "incremental", "incremental", "full", "incremental", "incremental", "full"]


def test_without_full_every_it_is_each_seventh() -> None:
    kinds = [b["spec"]["type"] for b in follow(schedule(**INCREMENTALS), 9)]
    assert [n for n, kind in enumerate(kinds) if kind == "full"] == [0, 7]


def test_a_template_of_fulls_makes_fulls() -> None:
    assert {b["spec"]["type"] for b in follow(schedule(fullEvery=5), 8)} == {"full"}


def test_after_a_full_that_failed_the_next_one_is_a_full() -> None:
    bodies = follow(schedule(**INCREMENTALS), 4, lambda b: ("Failed", "DestinationUnavailable"))
    assert {b["spec"]["type"] for b in bodies} == {"full"}


@pytest.mark.parametrize(
    ("reason", "following"),
    [
        ("OplogGap", "full"),
        ("NoBase", "full"),
        ("ChainMismatch", "full"),
        ("VerifyFailed", "full"),
        ("DestinationUnavailable", "incremental"),
        ("WorkerLost", "incremental"),
    ],
)
def test_after_a_gap_the_next_one_is_a_full(reason: str, following: str) -> None:
    def outcome(body: dict[str, Any]) -> tuple[str, str]:
        return ("Completed", "") if body["spec"]["type"] == "full" else ("Failed", reason)

    assert [b["spec"]["type"] for b in follow(schedule(**INCREMENTALS), 3, outcome)] == [
        "full",
        "incremental",
        following,
    ]


def test_forbid_leaves_a_run_out_while_one_is_going_on_and_says_so() -> None:
    step = look(schedule(), "2026-05-03T02:00:01", backup("2026-05-02T02:00", "Running"), status=_known())
    assert made(step) == []
    assert step.status.missed == 1
    assert [n.reason for n in step.notices] == ["RunLeftOut"]


def test_queue_lets_one_wait_and_no_more() -> None:
    desired = schedule(concurrencyPolicy="Queue")
    running, waiting = backup("2026-05-02T02:00", "Running"), backup("2026-05-03T02:00", "Queued")
    assert len(made(look(desired, "2026-05-03T02:00:01", running, status=_known()))) == 1
    step = look(desired, "2026-05-04T02:00:01", running, waiting, status=_known("2026-05-03T02:00"))
    assert made(step) == []
    assert (step.status.active, step.status.waiting) == (running.key.name, waiting.key.name)


def _known(last_slot: str = "2026-05-02T02:00") -> BackupScheduleStatus:
    return BackupScheduleStatus(last_slot=at(last_slot), runs_since_full=0, scheduled_as="0 2 * * * Etc/UTC")


def test_a_changed_schedule_makes_up_for_nothing_before_the_change() -> None:
    status = BackupScheduleStatus(last_slot=at("2026-05-02T02:00"), scheduled_as="0 0 1 * * Etc/UTC")
    step = look(schedule(schedule="*/5 * * * *"), "2026-05-20T12:01", status=status)
    assert made(step) == []
    assert step.status.next_at == at("2026-05-20T12:05")


def test_suspended_makes_nothing_and_says_so() -> None:
    step = look(schedule(suspend=True), "2026-05-05T02:00:01", status=_known())
    assert made(step) == []
    assert (step.ready_reason, step.verdict, step.status.next) == ("Suspended", None, "suspended")


def test_paused_makes_nothing() -> None:
    assert made(look(schedule(), "2026-05-05T02:00:01", status=_known(), paused=True)) == []


def test_every_nth_is_proved_by_a_restore_and_the_others_by_checksum() -> None:
    levels = [b["spec"]["verify"] for b in follow(schedule(verifyRestoreEvery=3), 7)]
    assert levels == ["Restore", "Checksum", "Checksum", "Restore", "Checksum", "Checksum", "Restore"]


def test_a_proof_by_restore_is_asked_for_at_most_once_a_day() -> None:
    desired = schedule(schedule="0 */6 * * *", template={"type": "full", "verify": "Restore"})
    backups: list[Resource] = []
    status, levels = None, []
    for n in range(9):
        now = at("2026-05-02T00:00") + timedelta(hours=6 * n)
        step = look(desired, now, *backups, status=status)
        status = step.status
        (body,) = made(step)
        levels.append(body["spec"]["verify"])
        backups.append(backup(now, "Completed", verify=levels[-1]))
    assert [n for n, level in enumerate(levels) if level == "Restore"] == [0, 4, 8]


def test_columns_tell_last_next_and_verified_in_the_zone_of_the_schedule() -> None:
    desired = schedule(timeZone="Europe/Berlin")
    step = look(desired, "2026-05-02T12:00", backup("2026-05-02T00:00"))
    status = step.status
    assert status.last == "2026-05-02 02:00 CEST Completed"
    assert status.next == "2026-05-03 02:00 CEST"
    assert status.last_verified == "2026-05-02 02:01 CEST Checksum"
    assert status.time_zone == "Europe/Berlin"
    assert status.last_successful_backup == "nightly-20260502-000000"


def test_what_was_said_of_a_backup_stays_when_its_object_is_gone() -> None:
    first = look(schedule(), "2026-05-02T12:00", backup("2026-05-02T02:00")).status
    second = look(schedule(), "2026-05-02T13:00", status=first).status
    assert second.last_verified == first.last_verified
    assert second.last_successful_backup == first.last_successful_backup


def test_a_failed_run_makes_the_schedule_not_ready_until_one_completes() -> None:
    bad = backup("2026-05-02T02:00", "Failed", reason="DestinationUnavailable")
    step = look(schedule(), "2026-05-02T12:00", bad, status=_known())
    assert step.verdict is not None
    assert step.verdict.stalled
    assert bad.key.name in step.verdict.message
    later = look(
        schedule(), "2026-05-03T12:00", bad, backup("2026-05-03T02:00"), status=_known("2026-05-03T02:00")
    )
    assert later.verdict is None


def test_an_unchanged_schedule_has_an_unchanged_status() -> None:
    backups = [backup("2026-05-02T02:00")]
    first = look(schedule(), "2026-05-02T12:00", *backups, status=_known()).status
    second = look(schedule(), "2026-05-02T12:10", *backups, status=first).status
    assert second.to_dict() == first.to_dict()


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (SliceReport(ok=True, timeline="0123456789", closed=True), "nightly-closed-01234567"),
        (SliceReport(ok=True, timeline="0123456789"), "nightly-began-01234567"),
    ],
)
def test_a_timeline_that_ended_or_has_no_full_gets_one_at_once_and_once(
    words: SliceReport, name: str
) -> None:
    desired = schedule(**INCREMENTALS)
    step = look(desired, "2026-05-02T12:00", backup("2026-05-02T02:00"), status=_known(), slicing=words)
    (body,) = made(step)
    assert (body["metadata"]["name"], body["spec"]["type"]) == (name, "full")
    again = backup("2026-05-02T12:00", "Failed", name=name, reason="WorkerLost")
    later = look(desired, "2026-05-02T12:01", again, status=step.status, slicing=words)
    assert made(later) == []


def test_timelines_that_begin_again_and_again_get_four_fulls_a_day_and_a_sentence() -> None:
    """Two clusters that write into one chain end each other's timelines with each slice."""
    desired = schedule(**INCREMENTALS, pointInTime={"enabled": True})
    words = SliceReport(ok=True, timeline="0123456789")
    began = [
        backup(f"2026-05-02T{hour:02}:00", name=f"nightly-began-{hour}", timeline=f"t{hour}", type="full")
        for hour in range(8, 12)
    ]
    usual = backup("2026-05-02T02:00", timeline="t2", type="full")
    (body,) = made(look(desired, "2026-05-02T12:00", usual, *began[1:], status=_known(), slicing=words))
    assert body["metadata"]["name"] == "nightly-began-01234567"
    step = look(desired, "2026-05-02T12:00", usual, *began, status=_known(), slicing=words)
    assert made(step) == []
    assert step.verdict is not None
    assert "another cluster writes into the same prefix" in step.verdict.message
    closed = words.model_copy(update={"closed": True})
    (body,) = made(look(desired, "2026-05-02T12:00", usual, *began, status=_known(), slicing=closed))
    assert body["metadata"]["name"] == "nightly-closed-01234567"
    later = look(desired, "2026-05-03T08:30", usual, *began, status=_known("2026-05-03T02:00"), slicing=words)
    assert [body["metadata"]["name"] for body in made(later)] == ["nightly-began-01234567"]


def test_an_incremental_without_a_base_is_followed_by_a_full_at_once_and_not_at_the_next_slot() -> None:
    """Rule 1.7: a restore or a rename ended the timeline, and there is no slicing worker that could tell."""
    desired = schedule(**INCREMENTALS)
    full, failed = backup("2026-05-01T02:00"), backup("2026-05-02T02:00", "Failed", reason="NoBase")
    step = look(desired, "2026-05-02T02:02", full, failed, status=_known())
    (body,) = made(step)
    assert (body["metadata"]["name"], body["spec"]["type"]) == ("nightly-anew-20260502-020000", "full")
    assert step.notices[0].reason == "FullAtOnce"
    running = backup("2026-05-02T02:02", "Running", name=body["metadata"]["name"])
    assert made(look(desired, "2026-05-02T02:03", full, failed, running, status=step.status)) == []
    again = backup("2026-05-02T02:02", "Failed", name=body["metadata"]["name"], reason="DestinationFull")
    assert made(look(desired, "2026-05-02T03:00", full, failed, again, status=step.status)) == []
    quiet = schedule(**INCREMENTALS, suspend=True)
    assert made(look(quiet, "2026-05-02T02:02", full, failed, status=_known())) == []


def test_after_that_full_the_slices_are_heard_before_another_one_is_made() -> None:
    said = SliceReport(ok=True, timeline="0123456789", written_at=at("2026-05-02T11:59"))
    full = backup("2026-05-02T12:00", name="nightly-closed-98765432", timeline="other", type="full")
    step = look(schedule(**INCREMENTALS), "2026-05-02T12:02", full, status=_known(), slicing=said)
    assert made(step) == []
    later = said.model_copy(update={"written_at": at("2026-05-02T12:09")})
    assert (
        len(made(look(schedule(**INCREMENTALS), "2026-05-02T12:10", full, status=_known(), slicing=later)))
        == 1
    )


def test_another_ones_backups_and_foreign_objects_are_not_counted() -> None:
    other = backup("2026-05-02T02:00", "Running")
    other.annotations[SCHEDULE] = "weekly"  # type: ignore[index]
    odd = backup("2026-05-02T02:00", "Running", name="odd")
    odd.annotations[SLOT] = "yesterday"  # type: ignore[index]
    assert len(made(look(schedule(), "2026-05-03T02:00:01", other, odd, status=_known()))) == 1


def test_a_schedule_that_cannot_be_is_refused() -> None:
    with pytest.raises(RefusedError):
        schedule(schedule="0 0 31 2 *")
    with pytest.raises(RefusedError):
        schedule(timeZone="Europe/Nowhere")


def test_the_first_backup_at_once_is_made_when_a_schedule_that_began_suspended_goes_on() -> None:
    """Also when its times were changed meanwhile."""
    first = look(schedule(immediate=True, suspend=True), "2026-05-02T01:00")
    still = look(
        schedule(immediate=True, suspend=True, schedule="0 5 * * *"), "2026-05-04T09:00", status=first.status
    )
    assert (made(first), made(still), still.status.last_slot) == ([], [], None)
    desired = schedule(immediate=True, schedule="0 6 * * *")
    step = look(desired, "2026-05-04T09:01", status=still.status)
    assert len(made(step)) == 1
    assert step.status.missed == 0
    again = look(desired, "2026-05-04T09:02", status=step.status)
    assert made(again) == []
