"""Before the switch: make the claims, copy, compare, make both volumes safe. All of it can be taken back. Pure."""

from __future__ import annotations

from datetime import timedelta

from lucid_storage.errors import Reason
from lucid_storage.kinds.contract import Action, Notice
from lucid_storage.kinds.volume import trouble, unkept
from lucid_storage.kinds.volume.migration import ending
from lucid_storage.kinds.volume.migration.actions import HoldName, KeepVolume, MakeClaim
from lucid_storage.kinds.volume.migration.journal import (
    TOO_LONG,
    Journal,
    Stage,
    claim_digest,
    journal_of,
    own_policy,
)
from lucid_storage.kinds.volume.migration.observed import Case, Plan, away, deleted_first, listed
from lucid_storage.kinds.volume.migration.requests import (
    copy_request,
    keeper_claim,
    new_claim,
    wanted_size,
)
from lucid_storage.kinds.volume.migration.working import POLL_SECONDS, SOON_SECONDS, cleared, work
from lucid_storage.kinds.workers.state import WorkerPhase
from lucid_storage.kube.volumes import RETAIN, MovingClaim, MovingVolume
from lucid_storage.models.meta import MIGRATION
from lucid_storage.models.volume_migration import MigrationStep
from lucid_storage.models.volume_work import VolumeCopyResult

ATTEMPTS = 3
"""Workers in a row that came no further than one before them, until the migration is given up."""
AGAIN = frozenset({Reason.WORKER_LOST, Reason.CONTENT_CHANGED, Reason.CANCELLED, Reason.DEADLINE_EXCEEDED})
"""What another worker may well not meet. It goes on with what is there: a deadline is no error of the copy."""
WAITING_SECONDS = 5.0
FRESH = timedelta(minutes=1)
"""An older copy is looked at once more before the switch, so that what no longer fits is met where it can be taken
back."""


def plan(case: Case) -> Plan:
    """One step of a migration that was begun."""
    stop = _reason_to_stop(case)
    if stop is not None:
        return stop
    if case.answer.strangers:
        return _disturbed(case)
    if case.migration.stamp is not None:
        return _ready(case)
    answer = case.answer
    for claim in (answer.new_claim, answer.keeper):
        if claim is not None and claim.annotations.get(MIGRATION) != case.migration.run:
            said = f"A claim named {claim.name} that is not of this migration stands in the way; remove it."
            return ending.begin(case, Reason.CONFLICT, said)
    if answer.new_claim is None or answer.keeper is None:
        return prepare(case)
    if answer.new_claim.phase == "Pending" and case.migration.storage_class_name not in case.seen.classes:
        gone = trouble.class_missing(case.seen, case.migration.storage_class_name)
        return case.step(gone.message, reason=gone.reason, blocked=True, seconds=WAITING_SECONDS)
    if case.migration.attempts and case.users and answer.worker.phase is WorkerPhase.ABSENT:
        said = f"The copy was interrupted. It goes on when these pods end: {listed(case.users)}.{away(case)}"
        return case.step(said, reason=Reason.CLAIM_IN_USE, blocked=True, seconds=WAITING_SECONDS)
    return work(case, copy_request(case), _ended)


def prepare(case: Case, notices: tuple[Notice, ...] = ()) -> Plan:
    """Make the claims of the migration. Both are made now, so that a quota that is too small is met before anything
    else happens.
    """
    refused = case.refused()
    if refused is not None:
        return refused
    actions: list[Action] = []
    if case.answer.new_claim is None:
        actions.append(MakeClaim(case.names.new_claim, new_claim(case)))
    if case.answer.keeper is None:
        actions.append(MakeClaim(case.names.keeper, keeper_claim(case)))
    said = f"Prepares a volume of the class {case.migration.storage_class_name}."
    return case.step(said, actions=tuple(actions), seconds=SOON_SECONDS, notices=notices)


def _reason_to_stop(case: Case) -> Plan | None:
    journal, claim, need = case.migration, case.answer.claim, case.need
    if case.resource.deleted is not None:
        return ending.begin(case, None, "The Volume is deleted.")
    if claim is None or claim.uid != journal.old_claim_uid or claim.deleting:
        said = "The claim was deleted by somebody while it was copied."
        return ending.begin(case, Reason.CLAIM_LOST, said)
    if claim.volume_name != journal.old_volume:
        return ending.begin(
            case, Reason.CLAIM_REPLACED, "The claim has another volume than the one that was copied."
        )
    same = need is not None and (need.class_name, wanted_size(case)) == (
        journal.storage_class_name,
        journal.size,
    )
    return (
        None
        if same
        else ending.begin(case, None, "The declaration changed; nothing is moved there any more.")
    )


def _disturbed(case: Case) -> Plan:
    """A pod has one of the migration's own claims: what it writes there would be moved unseen."""
    case = case.noting(stamp=None, looked_at=None, job_name=None)  # all of it is copied and compared anew
    if case.answer.worker.phase is not WorkerPhase.ABSENT:
        return cleared(case, case.names.copy_job)
    said = f"These pods use the claims of the migration itself: {listed(case.answer.strangers)}. End them."
    return case.step(said, reason=Reason.CLAIM_IN_USE, blocked=True, seconds=WAITING_SECONDS)


def _ended(case: Case, result: VolumeCopyResult) -> Plan:
    case = case.noting(job_name=None)
    if result.ok and result.stamp is not None:
        done = case.noting(
            step=MigrationStep.VERIFYING,
            progress="100%",
            attempts=None,
            reached=None,
            looked_at=None if case.users else case.now,
        )
        if result.unchanged:
            return cleared(done, case.names.copy_job)
        done = done.noting(
            stamp=result.stamp,
            checksum=result.digest,
            copied_bytes=result.bytes,
            **unkept.noted(result),
        )
        return cleared(done, case.names.copy_job)
    attempts = (case.migration.attempts or 0) + 1
    reason = result.reason or Reason.COPY_FAILED
    if reason in AGAIN and attempts < ATTEMPTS:
        return cleared(case.noting(attempts=attempts), case.names.copy_job)
    return ending.begin(case, reason, result.message)


def _ready(case: Case) -> Plan:
    """Copied and compared: everything that must be true right before the switch."""
    answer = case.answer
    if case.migration.job_name is not None:
        return work(case, copy_request(case), _ended)
    if answer.worker.phase is not WorkerPhase.ABSENT:
        return cleared(case, case.names.copy_job)
    if case.resource.paused:
        said = "Copied. Paused by annotation. Waiting to do: switch to the new volume."
        return case.step(said, reason=Reason.PAUSED, blocked=True, seconds=WAITING_SECONDS)
    if case.users:
        said = (
            "The data are copied. The switch to the new volume waits until these pods no longer use the claim:"
            f" {listed(case.users)}.{away(case)}"
        )
        seen = case.noting(looked_at=None)
        return seen.step(said, reason=Reason.CLAIM_IN_USE, blocked=True, seconds=WAITING_SECONDS)
    if answer.ended:
        said = f"The data are copied, and the switch to the new volume waits. {deleted_first(answer.ended)}"
        return case.step(said, reason=Reason.CLAIM_IN_USE, blocked=True, seconds=WAITING_SECONDS)
    claim, old, new = answer.claim, answer.old_volume, answer.new_volume
    assert claim is not None
    if old is None or new is None or not _both_bound(case, claim, old, new):
        return ending.begin(case, Reason.VOLUME_LOST, "One of the two volumes is gone.")
    looked_at = case.migration.looked_at
    if looked_at is None or not timedelta(0) <= case.now - looked_at <= FRESH:
        return work(case, copy_request(case), _ended)
    case = case.noting(
        new_volume=new.name,
        new_reclaim_policy=own_policy(new, claim.namespace, claim.name),
        old_reclaim_policy=own_policy(old, claim.namespace, claim.name),
    )
    return _made_safe(case, old, new)


def _both_bound(case: Case, claim: MovingClaim, old: MovingVolume, new: MovingVolume) -> bool:
    """Whether both volumes are those of the two claims in this namespace, whatever status says of them."""
    beside = case.answer.new_claim
    if beside is None or beside.annotations.get(MIGRATION) != case.migration.run:
        return False
    return old.is_for(claim) and new.is_for(beside) and old.name != new.name


def _made_safe(case: Case, old: MovingVolume, new: MovingVolume) -> Plan:
    """Both volumes are kept whatever becomes of their claims; only what was read back counts."""
    claim = case.answer.claim
    assert claim is not None
    book = journal_of(case.migration, claim)
    if book.too_long:
        return ending.begin(case, Reason.NOT_SUPPORTED, TOO_LONG)
    unsafe = keeping(book, old, new)
    if unsafe:
        said = "Makes both volumes safe before the switch (reclaim policy Retain)."
        return case.step(said, actions=unsafe, seconds=POLL_SECONDS)
    case = case.noting(step=MigrationStep.SWITCHING)
    switching = book.model_copy(update={"stage": Stage.SWITCHING})
    actions = (*keeping(switching, old, new), HoldName(claim, case.migration.run))
    notice = Notice(
        "MigrationSwitching",
        f"The copy was compared with the old volume. The claim {claim.name} gets the PersistentVolume {new.name}; the"
        f" old one, {old.name}, is kept.",
    )
    return case.step("Switches to the new volume.", actions=actions, seconds=SOON_SECONDS, notices=(notice,))


def keeping(book: Journal, *volumes: MovingVolume) -> tuple[Action, ...]:
    """What is left to do until all of these volumes are retained and carry this journal."""
    text, digest = book.text(), claim_digest(book.namespace, book.claim)
    return tuple(KeepVolume(v, text, digest) for v in volumes if v.policy != RETAIN or v.journal != text)
