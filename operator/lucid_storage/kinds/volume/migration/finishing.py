"""The end of the switch: the claim has its volume, and everything is tidied up. Pure."""

from __future__ import annotations

from dataclasses import replace

from lucid_storage.errors import Reason
from lucid_storage.kinds.contract import Action, Notice
from lucid_storage.kinds.volume import unkept
from lucid_storage.kinds.volume.migration.actions import DescribeClaim, FreeName, FreeVolume, RemoveClaim
from lucid_storage.kinds.volume.migration.copying import keeping
from lucid_storage.kinds.volume.migration.ending import SENTENCE
from lucid_storage.kinds.volume.migration.journal import POKED, Journal, Stage
from lucid_storage.kinds.volume.migration.observed import Case, Plan
from lucid_storage.kinds.volume.migration.working import SOON_SECONDS
from lucid_storage.kube.volumes import MovingClaim, MovingVolume
from lucid_storage.models.meta import MIGRATION, RELEASE_OLD_VOLUME, RUN_AGAIN
from lucid_storage.models.volume import VolumePhase
from lucid_storage.models.volume_migration import MigrationStep


def finish(case: Case, claim: MovingClaim, new: MovingVolume, book: Journal | None) -> Plan:
    """No journal means that both volumes are out of it: the old one is gone, the new one was freed."""
    old = case.answer.old_volume
    actions: list[Action] = [RemoveClaim(c) for c in case.helpers if not c.deleting]
    if book is not None:
        actions += _described(claim, book)
        if old is not None:
            done = book.model_copy(update={"stage": Stage.COMPLETED, "settled": True})
            actions += keeping(done, old)
        if new.journal is not None:
            actions.append(FreeVolume(new, book.new_policy))
    if actions:
        return case.step(
            "The claim has the new volume; tidies up.", actions=tuple(actions), seconds=SOON_SECONDS
        )
    return _completed(case, claim, new)


def finish_back(case: Case, claim: MovingClaim, old: MovingVolume, book: Journal) -> Plan:
    """The claim has its old volume again."""
    actions: list[Action] = [RemoveClaim(c) for c in case.helpers if not c.deleting]
    if claim.held:
        actions.append(FreeName(claim))
    actions += _described(claim, book)
    if actions:
        return case.step(
            "The claim has its old volume again; tidies up.", actions=tuple(actions), seconds=SOON_SECONDS
        )
    return _back(case, claim, old)


def _back(case: Case, claim: MovingClaim, old: MovingVolume) -> Plan:
    """Written down first, so that the same migration does not begin again by itself; the journals go afterwards, as
    those of any migration that is taken back.
    """
    journal = case.migration
    why = f" {journal.message}" if journal.message else ""
    said = f"The migration was given up in its switch, as the annotation asks.{why}"
    case = case.noting(
        step=MigrationStep.FAILED,
        job_name=None,
        cleaned=False,
        reason=journal.reason or str(Reason.CANCELLED),
        message=said[:SENTENCE],
        failed_generation=case.resource.generation,
        run_again=case.resource.annotations.get(RUN_AGAIN),
        completed_at=case.now.replace(microsecond=0),
    )
    back = _with_claim(case, claim, old, {})
    notices = (Notice("MigrationStopped", said, warning=True),)
    return back.step(said, phase=VolumePhase.BOUND, seconds=0.1, notices=notices)


def _with_claim(case: Case, claim: MovingClaim, volume: MovingVolume, update: dict[str, object]) -> Case:
    """With the claim that has the name now, where the origin of the one before is known; else it tells that itself."""
    if case.status.claim_uid == case.migration.old_claim_uid:
        update = update | {"claim_uid": claim.uid, "volume_name": volume.name}
    return replace(case, status=case.status.model_copy(update=update))


def _described(claim: MovingClaim, book: Journal) -> tuple[DescribeClaim, ...]:
    """What the old claim had and this one, made by somebody else perhaps, has not."""
    labels = {k: v for k, v in book.labels.items() if k not in claim.labels}
    annotations: dict[str, str | None] = {
        k: v for k, v in book.annotations.items() if k not in claim.annotations and k != MIGRATION
    }
    annotations |= {name: None for name in (MIGRATION, POKED) if name in claim.annotations}
    return (DescribeClaim(claim, labels, annotations),) if labels or annotations else ()


def _completed(case: Case, claim: MovingClaim, new: MovingVolume) -> Plan:
    journal = case.migration
    case = case.noting(
        step=MigrationStep.COMPLETED,
        job_name=None,
        progress="100%",
        completed_at=case.now.replace(microsecond=0),
    )
    update: dict[str, object] = {
        "kept_volume": journal.old_volume if case.answer.old_volume is not None else None
    }
    done = _with_claim(case, claim, new, update)
    said = (
        f"The claim has the PersistentVolume {new.name} of the class {journal.storage_class_name}. The old one,"
        f" {journal.old_volume}, is kept; release it with the annotation {RELEASE_OLD_VOLUME}: {journal.old_volume}"
    )
    lost = unkept.sentences(journal)
    notices = (Notice("Migrated", f"{said}. {lost}" if lost else said, warning=bool(lost)),)
    return done.step(said, phase=VolumePhase.BOUND, seconds=0.1, notices=notices)
