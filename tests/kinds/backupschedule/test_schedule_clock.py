"""A clock that ran ahead and was put back: what it had made too early stands in nobody's way."""

from __future__ import annotations

from typing import Any

from schedule_builder import at, backup, look, schedule

from lucid_storage.kinds.backupschedule.actions import CreateBackup
from lucid_storage.kinds.backupschedule.plan import SchedulePlan
from lucid_storage.kube.resources import Resource
from lucid_storage.models.backupschedule import BackupScheduleStatus
from lucid_storage.models.slicing import SliceReport


def made(step: SchedulePlan) -> list[str]:
    return [a.body["metadata"]["name"] for a in step.actions if isinstance(a, CreateBackup)]


def walk(moments: list[str], **spec: Any) -> list[list[str]]:
    """Names of what is made at each look; all of it completes at once."""
    backups: list[Resource] = []
    status: BackupScheduleStatus | None = None
    names = []
    for moment in moments:
        step = look(schedule(**spec), moment, *backups, status=status)
        status = step.status
        names.append(made(step))
        for action in (a for a in step.actions if isinstance(a, CreateBackup)):
            asked = action.body["spec"]
            slot = at(moment).replace(second=0)
            kinds = {"kind": asked["type"], "verify": asked["verify"]}
            backups.append(backup(slot, name=action.body["metadata"]["name"], **kinds))
    return names


def test_each_slot_that_was_made_too_early_is_made_again_in_its_time() -> None:
    ahead = ["2026-05-04T02:00:01", "2026-05-05T02:00:01"]
    back = ["2026-05-02T03:00", "2026-05-03T02:00:01", "2026-05-04T02:00:01", "2026-05-05T02:00:01"]
    names = walk(["2026-05-02T02:00:01", *ahead, *back, "2026-05-06T02:00:01"])
    assert names == [
        ["nightly-20260502-020000"],
        ["nightly-20260504-020000"],
        ["nightly-20260505-020000"],
        [],
        ["nightly-20260503-020000-1"],
        ["nightly-20260504-020000-1"],
        ["nightly-20260505-020000-1"],
        ["nightly-20260506-020000"],
    ]


def test_a_second_time_it_gets_another_name_again() -> None:
    names = walk(
        [
            "2026-05-05T02:00:01",
            "2026-05-02T03:00",
            "2026-05-05T02:00:01",
            "2026-05-02T04:00",
            "2026-05-05T02:00:01",
        ]
    )
    assert names == [
        ["nightly-20260505-020000"],
        [],
        ["nightly-20260505-020000-1"],
        [],
        ["nightly-20260505-020000-2"],
    ]


def test_a_look_that_was_interrupted_makes_no_second_one_of_those_either() -> None:
    early = BackupScheduleStatus(last_slot=at("2026-05-04T02:00"))
    back = look(schedule(), "2026-05-02T20:00", backup("2026-05-04T02:00"), status=early)
    slot = "2026-05-03T02:00"
    again = backup(slot, "Running", name="nightly-20260503-020000-1")
    step = look(schedule(), "2026-05-03T02:00:09", again, status=back.status)
    assert made(step) == []
    assert step.status.last_slot == at(slot)


def test_a_clock_that_is_put_back_twice_forgets_nothing_of_the_first_time() -> None:
    early = BackupScheduleStatus(last_slot=at("2026-05-06T02:00"))
    first = look(schedule(), "2026-05-02T20:00", backup("2026-05-06T02:00"), status=early)
    ahead = first.status.model_copy(update={"last_slot": at("2026-05-04T02:00")})
    second = look(schedule(), "2026-05-02T21:00", status=ahead)
    assert second.status.early_until == at("2026-05-06T02:00")
    assert second.status.put_back == 2


def test_a_clock_that_is_put_back_while_the_cron_changes_is_seen() -> None:
    early = BackupScheduleStatus(last_slot=at("2026-05-06T02:00"), scheduled_as="0 5 * * * UTC")
    step = look(schedule(), "2026-05-02T20:00", backup("2026-05-06T02:00"), status=early)
    assert step.status.early_until == at("2026-05-06T02:00")


def test_a_clock_that_was_minutes_ahead_has_made_the_backup_of_its_slot() -> None:
    early = BackupScheduleStatus(last_slot=at("2026-05-02T02:00"))
    step = look(schedule(), "2026-05-02T01:51", backup("2026-05-02T02:00"), status=early)
    assert (made(step), step.status.next_at) == ([], at("2026-05-03T02:00"))
    assert (step.status.early_until, step.status.put_back) == (None, None)


def test_a_proof_of_a_year_that_has_not_come_does_not_put_off_those_of_now() -> None:
    far = backup("2027-05-04T02:00", verify="Restore")
    desired = schedule(verifyRestoreEvery=1)
    before = BackupScheduleStatus(
        last_slot=at("2026-05-01T02:00"),
        last_restore_proof_at=at("2027-05-04T02:01"),
        runs_since_full=0,
        runs_since_proof=0,
    )
    step = look(desired, "2026-05-02T02:00:01", far, status=before)
    (create,) = [a for a in step.actions if isinstance(a, CreateBackup)]
    assert create.body["spec"]["verify"] == "Restore"


def test_a_failure_of_a_year_that_has_not_come_is_not_the_last_word() -> None:
    far = backup("2027-05-04T02:00", "Failed", reason="OplogGap")
    status = BackupScheduleStatus(last_slot=at("2026-05-02T02:00"), runs_since_full=0)
    step = look(
        schedule(template={"type": "incremental"}),
        "2026-05-02T04:00",
        far,
        backup("2026-05-02T02:00"),
        status=status,
    )
    assert step.verdict is None
    after = look(
        schedule(template={"type": "incremental"}),
        "2026-05-03T02:00:01",
        far,
        backup("2026-05-02T02:00"),
        status=step.status,
    )
    (create,) = [a for a in after.actions if isinstance(a, CreateBackup)]
    assert create.body["spec"]["type"] == "incremental"


def test_the_last_success_is_not_of_a_year_that_has_not_come() -> None:
    """An alert that counts from it would be silent for a year."""
    far = backup("2027-05-04T02:00", verify="Restore")
    told = look(schedule(), "2027-05-04T02:05", far).status
    assert told.last_successful_at == told.last_restore_proof_at == at("2027-05-04T02:01")
    step = look(schedule(), "2026-05-02T04:00", far, status=told)
    times = (step.status.last_successful_at, step.status.last_verified_at, step.status.last_restore_proof_at)
    assert set(times) == {at("2026-05-02T04:00")}
    again = backup("2026-05-03T02:00", name="nightly-20260503-020000-1")
    later = look(schedule(), "2026-05-03T02:09", far, again, status=step.status).status
    assert (later.last_successful_at, later.last_backup) == (
        at("2026-05-03T02:01"),
        "nightly-20260503-020000-1",
    )


def test_what_was_made_too_early_is_no_success_when_its_slot_has_come() -> None:
    """The runs of now fail; an alert that counts from the last success must not hear of another one."""
    before, early = backup("2026-05-02T02:00"), backup("2026-05-04T02:00", verify="Restore")
    ahead = look(schedule(), "2026-05-04T02:05", before, early)
    back = look(schedule(), "2026-05-02T04:00", before, early, status=ahead.status)
    failed = backup("2026-05-04T02:00", "Failed", reason="OplogGap", name="nightly-20260504-020000-1")
    now = look(schedule(), "2026-05-05T01:00", before, early, failed, status=back.status)
    told = now.status
    assert (told.last_successful_at, told.last_verified_at) == (at("2026-05-02T04:00"),) * 2
    assert told.last_restore_proof_at == at("2026-05-02T04:00")
    assert told.last == "2026-05-04 02:00 UTC Failed"
    assert now.verdict is not None


def test_one_that_ran_while_the_clock_was_put_back_counts_when_it_ends() -> None:
    ahead = look(schedule(), "2026-05-04T02:05", backup("2026-05-02T03:50", "Running"))
    back = look(schedule(), "2026-05-02T04:00", backup("2026-05-02T03:50", "Running"), status=ahead.status)
    ended = backup("2026-05-02T03:50", completedAt="2026-05-02T04:30:00Z")
    told = look(schedule(), "2026-05-02T05:00", ended, status=back.status).status
    assert told.last_successful_at == at("2026-05-02T04:30")


def test_a_full_of_a_year_that_has_not_come_does_not_put_off_the_one_after_a_restore() -> None:
    early = backup("2027-05-04T02:00", timeline="t1")
    ahead = look(schedule(), "2027-05-04T02:05", early)
    desired = schedule(pointInTime={"enabled": True, "intervalSeconds": 60})
    words = SliceReport(
        ok=True, timeline="t1", closed=True, to=at("2026-05-02T05:00"), written_at=at("2026-05-02T05:00")
    )
    back = look(desired, "2026-05-02T04:00", early, status=ahead.status)
    step = look(desired, "2026-05-02T05:01", early, status=back.status, slicing=words)
    assert made(step) == ["nightly-closed-t1-1"]
    ended = backup("2026-05-02T05:01", name="nightly-closed-t1-1", timeline="t2")
    told = look(desired, "2026-05-02T05:10", early, ended, status=step.status).status
    assert told.last_successful_at == at("2026-05-02T05:02"), "made in its time, under a name of its own"


def test_a_slot_that_a_clock_jumped_over_and_made_late_is_no_success_of_now_either() -> None:
    """Its slot has come, its end has not."""
    late = backup("2026-05-02T02:00", startedAt="2026-05-03T00:30:00Z", completedAt="2026-05-03T00:31:00Z")
    early = backup("2026-05-03T02:00")
    ahead = look(schedule(), "2026-05-03T02:05", late, early)
    back = look(schedule(), "2026-05-02T04:00", late, early, status=ahead.status)
    assert back.status.last_successful_at == at("2026-05-02T04:00")
    then = look(schedule(), "2026-05-03T00:45", late, early, status=back.status)
    assert then.status.last_successful_at == at("2026-05-02T04:00")


def test_where_it_is_not_known_when_the_clock_was_put_back_what_has_come_counts() -> None:
    """As in a status of before that was written down: the good backups of the time before are no early ones."""
    before, early = backup("2026-05-01T02:00"), backup("2026-05-04T02:00")
    status = BackupScheduleStatus(
        last_slot=at("2026-05-01T02:00"), early_until=at("2026-05-04T02:00"), put_back=1
    )
    told = look(schedule(), "2026-05-02T01:00", before, early, status=status).status
    assert (told.last_successful_at, told.last_successful_backup) == (
        at("2026-05-01T02:01"),
        "nightly-20260501-020000",
    )


def test_fulls_that_timelines_got_while_the_clock_was_ahead_do_not_use_up_those_of_today() -> None:
    """Too many a day say that another cluster writes into the chain; their dates lie ahead."""
    desired = schedule(pointInTime={"enabled": True, "intervalSeconds": 600})
    usual = backup("2026-05-02T02:00", timeline="t1", type="full")
    ahead = [
        backup(f"2026-06-02T{hour:02}:00", name=f"nightly-began-{hour}", timeline=f"t{hour}", type="full")
        for hour in (3, 4, 5, 6)
    ]
    known = BackupScheduleStatus(last_slot=at("2026-05-02T02:00"), runs_since_full=0)
    words = SliceReport(ok=True, timeline="0123456789")
    step = look(desired, "2026-05-02T12:00", usual, *ahead, status=known, slicing=words)
    assert made(step) == ["nightly-began-01234567"]
    assert step.verdict is None or "began anew again and again" not in step.verdict.message
