"""What the condition Verified says is what was proved, in the worker's own words."""

from typing import Any

import pytest
from backup_builder import NOW, ended, observed, resource, running

from lucid_storage.errors import Reason
from lucid_storage.kinds.backup.plan import plan

GOOD: dict[str, Any] = {
    "ok": True,
    "id": "b",
    "type": "full",
    "manifestSha256": "ab",
    "verified": "Checksum",
    "verifiedAt": "2026-11-21T12:00:00Z",
    "completedAt": "2026-11-21T12:00:00Z",
}
LONG = (
    "BACKUP_VERIFY_URI is the server that was read, and the data are more than a fifth of its oplog; name another"
    " server."
)


def told(**result: Any) -> tuple[str | None, tuple[str, bool, Reason, str]]:
    """The column and the condition."""
    step = plan(resource(verify="Restore"), observed(worker=ended(**{**GOOD, **result})), running(), NOW)
    assert step.said is not None
    (verified,) = step.said.more
    return step.status.verified, verified


def test_a_note_is_told_with_its_sentence() -> None:
    column, condition = told(verifyNote="NoVerifyServer", verifyMessage=LONG)
    assert column == "Checksum, NoVerifyServer"
    assert condition == ("Verified", False, Reason.NO_VERIFY_SERVER, LONG)


@pytest.mark.parametrize(
    ("note", "reason"),
    [
        (f"NoVerifyServer: {LONG}", Reason.NO_VERIFY_SERVER),
        ("SomethingNewer", Reason.VERIFY_FAILED),
    ],
)
def test_no_note_of_another_release_is_taken_for_a_proof(note: str, reason: Reason) -> None:
    _, (_, on, why, _) = told(verifyNote=note)
    assert (on, why) == (False, reason)


def test_a_failed_check_says_so_whatever_else_is_noted() -> None:
    bad = {"ok": False, "reason": "VerifyFailed", "message": "A block differs.", "verified": None}
    column, condition = told(verifyNote="SnapshotOnly", verifyMessage="In a snapshot.", **bad)
    assert column == "VerifyFailed"
    assert condition == ("Verified", False, Reason.VERIFY_FAILED, "A block differs.")


def test_a_backup_that_came_to_nothing_has_no_check_that_failed() -> None:
    bad = {"ok": False, "reason": "OplogGap", "message": "The oplog moved on."}
    step = plan(resource(), observed(worker=ended(**bad)), running(), NOW)
    assert step.said is not None
    assert step.said.more == ()
    assert step.status.verified is None
