"""The switch: from here only forward, whoever comes next. Pure.

The old claim is deleted, but its name stays taken by our finalizer: no pod can start with it, and nobody can make
another one. When no pod uses it any more, the old volume is out of everybody's reach; a worker then looks whether
anything changed since the copy, and copies that. Only then the new volume gets the name.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from lucid_storage.errors import Reason
from lucid_storage.kinds.contract import Action, Notice
from lucid_storage.kinds.volume.migration import ending
from lucid_storage.kinds.volume.migration.actions import (
    DescribeClaim,
    FreeName,
    FreeVolume,
    HoldName,
    MakeClaim,
    RemoveClaim,
    ReserveVolume,
)
from lucid_storage.kinds.volume.migration.copying import keeping
from lucid_storage.kinds.volume.migration.journal import POKED, Journal, Stage, on_volume
from lucid_storage.kinds.volume.migration.observed import Case, Plan, listed
from lucid_storage.kinds.volume.migration.requests import (
    final_claim,
    keeper_claim,
    new_claim,
    settle_request,
)
from lucid_storage.kinds.volume.migration.working import SOON_SECONDS, cleared, work
from lucid_storage.kinds.workers.state import WorkerPhase
from lucid_storage.kube.client import Json
from lucid_storage.kube.volumes import MovingClaim, MovingVolume
from lucid_storage.models.meta import MIGRATION, RELEASE_OLD_VOLUME
from lucid_storage.models.orders import VolumeCopyResult
from lucid_storage.models.volume import MigrationStep, VolumePhase

HELD_SECONDS, STUCK_SECONDS = 2.0, 30.0
FIRST_RETRY, LAST_RETRY = timedelta(seconds=5), timedelta(minutes=10)
"""Between two last looks that failed."""


def plan(case: Case) -> Plan:
    """One step of the switch."""
    answer = case.answer
    if case.resource.deleted is not None and answer.terminating:
        return ending.give_up(case)
    old, new = answer.old_volume, answer.new_volume
    of_old, of_new = _book(case, old), _book(case, new)
    at_end = new is not None and answer.claim is not None and new.is_for(answer.claim)
    freed = at_end and new is not None and new.journal is None
    if old is not None and of_old is None:
        return _not_ours(case, old)
    if new is not None and of_new is None and not freed:
        return _not_ours(case, new)
    found = of_old or of_new
    if found is not None:
        case = _by_the_book(case, found)
    if at_end and new is not None and answer.claim is not None:
        return _finish(case, answer.claim, new, found)
    if found is None or old is None or new is None or old.deleting or new.deleting:
        return _lost(case)
    settled = found.settled or bool(case.migration.settled)
    book = found.model_copy(update={"stage": Stage.SWITCHING, "settled": settled})
    unsafe = keeping(book, old, new)
    if unsafe:
        return case.step(
            "Makes both volumes safe (reclaim policy Retain).", actions=unsafe, seconds=SOON_SECONDS
        )
    if not case.migration.settled:
        return _settle(case, book, old, new)
    return _rename(case, book, new)


def _book(case: Case, volume: MovingVolume | None) -> Journal | None:
    """The journal of this very run on one of its volumes. Both got it before the switch began, and only who may change
    PersistentVolumes can write it: status, which the namespace's people may write, moves no volume.
    """
    found, journal = on_volume(volume, case.resource.key.namespace, case.resource.key.name), case.migration
    if found is None or found.run != journal.run:
        return None
    both = (found.old_volume, found.new_volume)
    return found if both == (journal.old_volume, journal.new_volume) else None


def _by_the_book(case: Case, book: Journal) -> Case:
    """With what the volumes tell in the place of what status says."""
    return case.noting(
        old_claim_uid=book.claim_uid,
        old_reclaim_policy=book.old_policy,
        new_reclaim_policy=book.new_policy,
        storage_class_name=book.class_name,
        size=book.size,
    )


def _not_ours(case: Case, volume: MovingVolume) -> Plan:
    journal = case.migration
    said = (
        f"The PersistentVolume {volume.name} has no journal of the migration of this claim from {journal.old_volume} to"
        f" {journal.new_volume}, so it is not touched; remove status.migration, or set the volume's annotation"
        f" {MIGRATION} again if somebody took it off."
    )
    return case.step(said, reason=Reason.CONFLICT, blocked=True, seconds=STUCK_SECONDS)


def _lost(case: Case) -> Plan:
    journal = case.migration
    there = case.answer.new_volume or case.answer.old_volume
    kept = f" The other one, {there.name}, is kept and has a whole copy." if there is not None else ""
    said = (
        f"Somebody deleted one of the PersistentVolumes {journal.old_volume} and {journal.new_volume} in the middle of"
        f" the switch.{kept} Remove its spec.claimRef and create the claim {case.resource.key.name} with its name in"
        " spec.volumeName."
    )
    return case.step(said, reason=Reason.VOLUME_LOST, blocked=True, seconds=STUCK_SECONDS)


# Until the old volume is out of reach and the copy is up to date


def _settle(case: Case, book: Journal, old: MovingVolume, new: MovingVolume) -> Plan:
    claim = case.answer.claim
    if claim is not None and claim.uid == case.migration.old_claim_uid:
        waiting = _frozen(case, claim)
        if waiting is not None:
            return waiting
    for volume, found, body in (
        (old, case.answer.keeper, keeper_claim(case)),
        (new, case.answer.new_claim, new_claim(case, volume=new.name)),
    ):
        step = _bound(case, volume, found, body)
        if step is not None:
            return step
    return _patient(case) or work(case, settle_request(case), _settled)


def _frozen(case: Case, claim: MovingClaim) -> Plan | None:
    """None when no pod can write to the old volume any more."""
    if not claim.deleting:
        if case.users:
            said = (
                "The data are copied. The switch waits until these pods no longer use the claim:"
                f" {listed(case.users)}."
            )
            return case.step(said, reason=Reason.CLAIM_IN_USE, blocked=True, seconds=HELD_SECONDS)
        action: Action = RemoveClaim(claim) if claim.held else HoldName(claim, case.migration.run)
        return case.step("Takes the old claim out of use.", actions=(action,), seconds=SOON_SECONDS)
    if not claim.in_use:
        return None
    holders = case.answer.pods
    if not holders:
        return case.step("Waits until Kubernetes has let the old claim go.", seconds=SOON_SECONDS)
    said = (
        f"The claim is being replaced, and these pods still use it: {listed(holders)}. End them; what they write until"
        " then is copied too, and no new pod can start with it before that."
    )
    return case.step(said, reason=Reason.CLAIM_IN_USE, blocked=True, seconds=HELD_SECONDS)


def _bound(case: Case, volume: MovingVolume, claim: MovingClaim | None, body: Json) -> Plan | None:
    """None when this volume and this claim have each other."""
    namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
    if claim is not None and volume.is_for(claim):
        return None
    if claim is not None and claim.deleting:
        return case.step(
            f"Waits until the claim {name}, which somebody deleted, is gone.", seconds=SOON_SECONDS
        )
    reserved = volume.claim is not None and volume.claim[:2] == (namespace, name)
    if not reserved or (volume.claim is not None and volume.claim[2] not in ("", claim.uid if claim else "")):
        action = ReserveVolume(volume, namespace, name)
        return case.step(f"Reserves the volume {volume.name}.", actions=(action,), seconds=SOON_SECONDS)
    if claim is not None:
        poked = claim.annotations.get(POKED) == volume.version
        poke = () if poked else (DescribeClaim(claim, {}, {POKED: volume.version}),)
        return case.step(f"Waits until the claim {name} has its volume.", actions=poke, seconds=SOON_SECONDS)
    refused = case.refused()
    return refused or case.step(
        f"Makes the claim {name}.", actions=(MakeClaim(name, body),), seconds=SOON_SECONDS
    )


def _patient(case: Case) -> Plan | None:
    """The wait after a last look that failed; None when there was none, or it is over."""
    journal, idle = case.migration, case.answer.worker.phase is WorkerPhase.ABSENT
    if not idle or journal.job_name is not None or not journal.attempts or journal.looked_at is None:
        return None
    wait = min(LAST_RETRY, FIRST_RETRY * float(2 ** min(journal.attempts - 1, 10)))
    left = (journal.looked_at + wait - case.now).total_seconds()
    if left <= 0:
        return None
    reason = next((r for r in Reason if str(r) == journal.reason), Reason.COPY_FAILED)
    return case.step(
        "The last look is tried again soon.", reason=reason, blocked=True, seconds=max(left, 0.1)
    )


def _too_small(case: Case) -> str:
    return (
        "The data grew since they were copied and do not fit into the new volume; expand the claim"
        f" {case.names.new_claim} (spec.resources.requests.storage), which its class"
        f" {case.migration.storage_class_name} must permit."
    )


def _settled(case: Case, result: VolumeCopyResult) -> Plan:
    case = case.noting(job_name=None)
    if result.ok:
        done = case.noting(settled=True, attempts=None, reason=None, message=None)
        if not result.unchanged:
            done = done.noting(
                stamp=result.stamp, checksum=result.digest, owners_kept=not result.owners_not_kept
            )
        return cleared(done, case.names.settle_job)
    attempts = (case.migration.attempts or 0) + 1
    reason = result.reason or Reason.COPY_FAILED
    why = _too_small(case) if reason is Reason.NOT_ENOUGH_SPACE else result.message
    case = case.noting(
        attempts=min(attempts, 1000), reason=str(reason), message=why[: ending.SENTENCE], looked_at=case.now
    )
    step = cleared(case, case.names.settle_job)
    said = "The last look is tried again."
    return case.step(said, reason=reason, blocked=True, actions=step.actions, seconds=HELD_SECONDS)


# From the copy to the name


def _rename(case: Case, book: Journal, new: MovingVolume) -> Plan:
    answer, namespace, name = case.answer, case.resource.key.namespace, case.resource.key.name
    if answer.worker.phase is not WorkerPhase.ABSENT:
        return cleared(case, case.names.settle_job)
    helpers = [c for c in (answer.keeper, answer.new_claim) if c is not None]
    if helpers:
        actions = tuple(RemoveClaim(c) for c in helpers if not c.deleting)
        return case.step("Frees the new volume.", actions=actions, seconds=SOON_SECONDS)
    claim = answer.claim
    old = claim if claim is not None and claim.uid == case.migration.old_claim_uid else None
    other = claim if old is None else None
    reserved = new.claim is not None and new.claim[:2] == (namespace, name)
    if not reserved or (new.claim is not None and new.claim[2] not in ("", other.uid if other else "")):
        action = ReserveVolume(new, namespace, name)
        return case.step("Gives the new volume the claim's name.", actions=(action,), seconds=SOON_SECONDS)
    if old is not None:
        return _let_go(case, old)
    if other is None:
        body = final_claim(book)
        return case.refused() or case.step(
            "Makes the claim with the new volume.", actions=(MakeClaim(name, body),), seconds=SOON_SECONDS
        )
    return _taken(case, other, new)


def _let_go(case: Case, old: MovingClaim) -> Plan:
    if old.held:
        return case.step("Lets the old claim go.", actions=(FreeName(old),), seconds=SOON_SECONDS)
    if not old.deleting:  # our finalizer was taken off, and the deletion with it
        return case.step("Deletes the old claim.", actions=(RemoveClaim(old),), seconds=SOON_SECONDS)
    held = ", ".join(old.finalizers) or "nothing"
    said = f"Waits until the old claim is gone; what holds it: {held}."
    return case.step(said, seconds=HELD_SECONDS)


def _taken(case: Case, other: MovingClaim, new: MovingVolume) -> Plan:
    """A claim has the name that is not bound yet: ours, or one that somebody else made in this moment."""
    if other.volume_name not in (None, new.name):
        said = (
            f"Somebody made another claim {other.name} in the middle of the switch, and it has the volume"
            f" {other.volume_name}. Delete that claim; the data are on {new.name}, which then gets the name."
        )
        return case.step(said, reason=Reason.CONFLICT, blocked=True, seconds=HELD_SECONDS)
    return case.step("Waits until the claim has the new volume.", seconds=SOON_SECONDS)


# When it has the name


def _finish(case: Case, claim: MovingClaim, new: MovingVolume, book: Journal | None) -> Plan:
    """No journal means that both volumes are out of it: the old one is gone, the new one was freed."""
    old = case.answer.old_volume
    actions: list[Action] = [
        RemoveClaim(c)
        for c in (case.answer.keeper, case.answer.new_claim)
        if c is not None and not c.deleting
    ]
    if book is not None:
        described = _described(claim, book)
        if described is not None:
            actions.append(described)
        if old is not None:
            completed = book.model_copy(update={"stage": Stage.COMPLETED, "settled": True})
            actions += keeping(completed, old)
        if new.journal is not None:
            actions.append(FreeVolume(new, book.new_policy))
    if actions:
        return case.step(
            "The claim has the new volume; tidies up.", actions=tuple(actions), seconds=SOON_SECONDS
        )
    return _completed(case, claim, new)


def _described(claim: MovingClaim, book: Journal) -> DescribeClaim | None:
    """What the old claim had and this one, made by somebody else perhaps, has not."""
    labels = {k: v for k, v in book.labels.items() if k not in claim.labels}
    annotations: dict[str, str | None] = {
        k: v for k, v in book.annotations.items() if k not in claim.annotations and k != MIGRATION
    }
    if MIGRATION in claim.annotations:
        annotations[MIGRATION] = None
    return DescribeClaim(claim, labels, annotations) if labels or annotations else None


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
    if (
        case.status.claim_uid == journal.old_claim_uid
    ):  # whose origin is known; else the claim itself tells it
        update |= {"claim_uid": claim.uid, "volume_name": new.name}
    status = case.status.model_copy(update=update)
    done = replace(case, status=status)
    said = (
        f"The claim has the PersistentVolume {new.name} of the class {journal.storage_class_name}. The old one,"
        f" {journal.old_volume}, is kept; release it with the annotation {RELEASE_OLD_VOLUME}: {journal.old_volume}"
    )
    notices = (Notice("Migrated", said),)
    return done.step(said, phase=VolumePhase.BOUND, seconds=0.1, notices=notices)
