"""How a migration ends that does not switch, and what becomes of the old volume of one that did. Pure."""

from __future__ import annotations

from dataclasses import replace

from lucid_storage.errors import Reason
from lucid_storage.kinds.contract import Action, Notice
from lucid_storage.kinds.oneshot import Step
from lucid_storage.kinds.volume.migration.actions import FreeName, FreeVolume, RemoveClaim
from lucid_storage.kinds.volume.migration.journal import Journal, Stage, on_volume
from lucid_storage.kinds.volume.migration.observed import Case, Plan
from lucid_storage.kinds.volume.migration.working import SOON_SECONDS, cleared
from lucid_storage.kinds.workers.state import WorkerPhase
from lucid_storage.kube.volumes import RETAIN, MovingVolume
from lucid_storage.models.meta import MIGRATION, RUN_AGAIN
from lucid_storage.models.volume import VolumePhase
from lucid_storage.models.volume_migration import MigrationStep

SENTENCE = 1000


def begin(case: Case, reason: Reason | None, message: str) -> Plan:
    """Take everything back. No reason means that nobody wants the migration any more."""
    failed = case.noting(
        step=MigrationStep.FAILED,
        job_name=None,
        cleaned=False,
        reason=str(reason) if reason is not None else None,
        message=message[:SENTENCE] if reason is not None else None,
        failed_generation=case.resource.generation,
        run_again=case.resource.annotations.get(RUN_AGAIN),
        completed_at=case.now.replace(microsecond=0),
    )
    notice = Notice(
        "MigrationFailed" if reason is not None else "MigrationStopped", message, warning=reason is not None
    )
    return replace(clean(failed), notices=(notice,))


def clean(case: Case) -> Plan:
    """One step of taking back; the claim and its volume are left as they were."""
    answer, journal = case.answer, case.migration
    if answer.worker.phase is not WorkerPhase.ABSENT:
        return cleared(case, case.names.copy_job)
    actions: list[Action] = []
    old, new = answer.old_volume, answer.new_volume
    if old is not None and (book := _ours(old, case)) is not None and old.name == book.old_volume:
        claim = answer.claim
        whole = claim is not None and old.is_for(claim) and not claim.deleting
        # A volume that has lost its claim would be deleted under its own policy.
        actions.append(FreeVolume(old, book.old_policy if whole else RETAIN))
    if new is not None and (book := _ours(new, case)) is not None and new.name == book.new_volume:
        actions.append(FreeVolume(new, book.new_policy))
    for claim in (answer.new_claim, answer.keeper):
        if claim is not None and claim.annotations.get(MIGRATION) == journal.run and not claim.deleting:
            actions.append(RemoveClaim(claim))
    said = f"The migration ends; the claim stays as it is. {journal.message or ''}".rstrip()
    if actions:
        return case.step(said, actions=tuple(actions), seconds=SOON_SECONDS)
    left = [c for c in (answer.new_claim, answer.keeper) if c is not None and c.deleting]
    if left and case.resource.deleted is None:
        return case.step(said, seconds=SOON_SECONDS)
    # The declaration is what it is: the next look says what is to be said of it.
    return case.noting(cleaned=True).step(said, seconds=0.1, phase=VolumePhase.BOUND)


def give_up(case: Case) -> Plan:
    """The namespace goes, and with it every claim. Both volumes are retained and carry the journal."""
    claim = case.answer.claim
    if claim is not None and claim.held:
        return case.step("The namespace is being deleted; lets the old claim go.", actions=(FreeName(claim),))
    journal = case.migration
    said = (
        f"The namespace was deleted in the middle of the switch. The PersistentVolumes {journal.old_volume} and"
        f" {journal.new_volume} are kept, with the journal in the annotation {MIGRATION}."
    )
    return Step(case.status, None, notices=(Notice("MigrationStopped", said, warning=True),))


def release(case: Case) -> Plan:
    """The old volume gets its own reclaim policy back: under Delete its class removes it, under Retain it stays."""
    volume = case.answer.released
    status = case.status
    if volume is None:
        return Step(status.model_copy(update={"kept_volume": None}), None, recheck_seconds=0.1)
    book = on_volume(volume, case.resource.key.namespace, case.resource.key.name)
    assert book is not None
    policy = _policy_of_released(volume, book, forbid=case.answer.forbid_drops)
    if status.kept_volume == volume.name:
        status = status.model_copy(update={"kept_volume": None})
    what = (
        "is deleted by its class" if policy == "Delete" and volume.phase != "Bound" else f"stays ({policy})"
    )
    said = f"The old PersistentVolume {volume.name} was released and {what}."
    return Step(
        status,
        None,
        actions=(FreeVolume(volume, policy),),
        hold=case.resource.held,
        notices=(Notice("Released", said),),
    )


def _policy_of_released(volume: MovingVolume, book: Journal, *, forbid: bool) -> str:
    if volume.phase == "Bound":
        return volume.policy  # somebody gave it to another claim: it is theirs
    return RETAIN if forbid else book.old_policy


def releasable(volume: MovingVolume | None, namespace: str, claim: str) -> bool:
    """Whether this is the old volume of a migration of this claim that is complete."""
    book = on_volume(volume, namespace, claim)
    return (
        book is not None
        and book.stage is Stage.COMPLETED
        and volume is not None
        and book.old_volume == volume.name
    )


def _ours(volume: MovingVolume, case: Case) -> Journal | None:
    """The journal of this run, as long as it did not switch, or went back."""
    book = on_volume(volume, case.resource.key.namespace, case.resource.key.name)
    ours = (
        book is not None
        and book.run == case.migration.run
        and book.stage in (Stage.PREPARED, Stage.RETURNING)
    )
    return book if ours else None
