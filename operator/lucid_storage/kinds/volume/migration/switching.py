"""The switch: from here only forward, whoever comes next, unless somebody gives it up while it cannot go on. Pure.

The old claim is deleted, but its name stays taken by our finalizer: no pod can start with it, and nobody can make
another one. When no pod uses it any more, the old volume is out of everybody's reach; a worker then looks whether
anything changed since the copy, and copies that (`settling`). Only then the new volume gets the name (`naming`).
Before that the old volume has all data, and the annotation give-up-migration has it get its name back instead.
"""

from __future__ import annotations

from dataclasses import replace

from lucid_storage.errors import Reason
from lucid_storage.kinds.contract import Notice
from lucid_storage.kinds.volume.migration import ending, settling
from lucid_storage.kinds.volume.migration.actions import FreeName
from lucid_storage.kinds.volume.migration.copying import keeping
from lucid_storage.kinds.volume.migration.finishing import finish, finish_back
from lucid_storage.kinds.volume.migration.journal import Journal, Stage, migration_of, on_volume
from lucid_storage.kinds.volume.migration.naming import name
from lucid_storage.kinds.volume.migration.observed import Case, Plan
from lucid_storage.kinds.volume.migration.requests import final_claim
from lucid_storage.kinds.volume.migration.working import SOON_SECONDS
from lucid_storage.kube.resources import Key
from lucid_storage.kube.volumes import MovingVolume
from lucid_storage.models.meta import GIVE_UP_MIGRATION, MIGRATION, MIGRATION_FINALIZER
from lucid_storage.models.volume_migration import Migration

STUCK_SECONDS = 30.0


def plan(case: Case) -> Plan:
    """One step of the switch."""
    answer = case.answer
    if case.resource.deleted is not None and answer.terminating:
        return ending.give_up(case)
    old, new = answer.old_volume, answer.new_volume
    key = case.resource.key
    of_old, of_new = _book(key, case.migration, old), _book(key, case.migration, new)
    freed = new is not None and _at_end(case, new) and new.journal is None
    found = _farthest(of_old, of_new)
    if found is None and not (freed and old is None):
        return _unproved(case)
    for volume, book in ((old, of_old), (new, None if freed else of_new)):
        if (
            volume is not None
            and book is None
            and not (volume is new and freed)
            and not _has_place(case, volume)
        ):
            return _not_ours(case, volume)
    if found is not None:
        case = _by_the_book(case, found)
        if found.stage is Stage.RETURNING:
            return _return(case, found)
    if new is not None and _at_end(case, new):
        assert answer.claim is not None
        return finish(case, answer.claim, new, found)
    if found is None or old is None or new is None or old.deleting or new.deleting:
        return _lost(case)
    return _forward(case, found, old, new)


def _forward(case: Case, found: Journal, old: MovingVolume, new: MovingVolume) -> Plan:
    settled = found.settled or bool(case.migration.settled)
    given_up = case.resource.annotations.get(GIVE_UP_MIGRATION) == case.migration.run
    if given_up and not settled:
        book = found.model_copy(update={"stage": Stage.RETURNING})
        said = "The migration is given up: the claim gets its old volume back."
        return case.step(said, actions=keeping(book, old, new), seconds=SOON_SECONDS)
    book = found.model_copy(update={"stage": Stage.SWITCHING, "settled": settled})
    unsafe = keeping(book, old, new)
    if unsafe:
        return case.step(
            "Makes both volumes safe (reclaim policy Retain).", actions=unsafe, seconds=SOON_SECONDS
        )
    if not case.migration.settled:
        return settling.settle(case, old, new)
    return name(case, new, final_claim(book))


def _return(case: Case, book: Journal) -> Plan:
    """Back to the old volume, which has all data. It is written on the volumes, so nobody goes forward again."""
    old, new, claim = case.answer.old_volume, case.answer.new_volume, case.answer.claim
    if old is None or old.deleting:
        return _lost(case)
    if claim is not None and not claim.deleting and old.is_for(claim):
        return finish_back(case, claim, old, book)
    unsafe = keeping(book, old, *(() if new is None or new.deleting else (new,)))
    if unsafe:
        return case.step(
            "Makes both volumes safe (reclaim policy Retain).", actions=unsafe, seconds=SOON_SECONDS
        )
    return name(case, old, final_claim(book, back=old))


def _farthest(*books: Journal | None) -> Journal | None:
    """What the volumes tell. Back is decided as soon as one of them says so."""
    told = [book for book in books if book is not None]
    return next((book for book in told if book.stage is Stage.RETURNING), next(iter(told), None))


def _at_end(case: Case, volume: MovingVolume) -> bool:
    """Whether the claim of the name has this volume."""
    return case.answer.claim is not None and volume.is_for(case.answer.claim)


# What is believed


def doubtful(key: Key, journal: Migration, old: MovingVolume | None, new: MovingVolume | None) -> bool:
    """Whether neither volume has the journal that status tells of."""
    return _book(key, journal, old) is None and _book(key, journal, new) is None


def _book(key: Key, journal: Migration, volume: MovingVolume | None) -> Journal | None:
    """The journal of this very run on one of its volumes. Both got it before the switch began, and only who may change
    PersistentVolumes can write it: status, which the namespace's people may write, moves no volume.
    """
    found = on_volume(volume, key.namespace, key.name)
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


def _has_place(case: Case, volume: MovingVolume) -> bool:
    """Whether a volume whose journal somebody took off is still one of this migration: the other one's journal names
    it, and its claim is one of the migration's. It gets the journal again.
    """
    claims = (case.resource.key.name, case.names.keeper, case.names.new_claim)
    ours = volume.claim is not None and volume.claim[0] == case.resource.key.namespace
    return ours and volume.claim is not None and volume.claim[1] in claims and volume.journal is None


def _not_ours(case: Case, volume: MovingVolume) -> Plan:
    journal = case.migration
    other = journal.old_volume if volume.name == journal.new_volume else journal.new_volume
    said = (
        f"The PersistentVolume {volume.name} has no journal of the migration of this claim from {journal.old_volume} to"
        f" {journal.new_volume} and belongs to no claim of it, so it is not touched. If it is the right one, give it"
        f" the annotation {MIGRATION} of {other}."
    )
    return case.step(said, reason=Reason.CONFLICT, blocked=True, seconds=STUCK_SECONDS)


def _unproved(case: Case) -> Plan:
    """Status tells of a switch that neither volume knows of: it was written by somebody else."""
    found, claim = case.answer.found, case.answer.claim
    if found is not None and found.stage is not Stage.COMPLETED:
        status = case.status.model_copy(update={"migration": migration_of(found)})
        real = replace(case, status=status)
        if found.stage is Stage.PREPARED:  # nothing was switched, whatever status says
            return ending.begin(
                real, None, "Status told of another migration than the volumes; it begins anew."
            )
        said = "The migration goes on as its volumes tell; status told of another one."
        notices = (Notice("MigrationFound", said, warning=True),)
        return real.step(said, seconds=0.1, notices=notices)
    if claim is not None and claim.held and claim.deleting:
        said = (
            f"The claim is being deleted and held by the finalizer {MIGRATION_FINALIZER}, and no PersistentVolume has a"
            f" journal of its migration. To keep its data, set the persistentVolumeReclaimPolicy of {claim.volume_name}"
            " to Retain; then remove the finalizer from the claim."
        )
        return case.step(said, reason=Reason.CONFLICT, blocked=True, seconds=STUCK_SECONDS)
    if claim is not None and claim.held:
        said = "No PersistentVolume has a journal of this migration; lets the claim go."
        return case.step(said, actions=(FreeName(claim),), seconds=SOON_SECONDS)
    said = (
        f"Status told of a switch from {case.migration.old_volume} to {case.migration.new_volume} that no"
        " PersistentVolume has a journal of, so nothing of it was done; it is struck out."
    )
    status = case.status.model_copy(update={"migration": None})
    notices = (Notice("MigrationStopped", said, warning=True),)
    return replace(case, status=status).step(said, seconds=0.1, notices=notices)


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
