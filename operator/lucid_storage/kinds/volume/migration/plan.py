"""What a migration does next. Pure.

Preparing -> Copying -> Verifying -> Switching -> Completed. Until Switching a failure, a deletion or a declaration that
is taken back leaves the claim as it was (`ending`); from there it only goes forward (`switching`).
"""

from __future__ import annotations

from dataclasses import replace

from lucid_storage.errors import Reason
from lucid_storage.kinds.contract import Notice
from lucid_storage.kinds.oneshot import Step
from lucid_storage.kinds.volume import trouble
from lucid_storage.kinds.volume.migrating import migration_under_way
from lucid_storage.kinds.volume.migration import copying, ending, switching
from lucid_storage.kinds.volume.migration.journal import (
    TOO_LONG,
    Stage,
    journal_of,
    migration_of,
    names,
    own_policy,
    run_id,
)
from lucid_storage.kinds.volume.migration.observed import Answer, Case, Plan, away, listed
from lucid_storage.kinds.volume.migration.requests import wanted_size
from lucid_storage.kinds.volume.plan import Scope, facts
from lucid_storage.models.meta import RELEASE_OLD_VOLUME, RUN_AGAIN
from lucid_storage.models.volume import VolumePhase
from lucid_storage.models.volume_migration import Migration, MigrationStep

WAITING_SECONDS = 5.0
_REASONS = {str(reason): reason for reason in Reason}


def plan(case: Case) -> Plan | None:
    """One step; None when there is nothing to migrate."""
    noted, notices = _noted(case)
    step = _step(noted)
    return replace(step, notices=(*notices, *step.notices)) if step is not None else None


def _noted(case: Case) -> tuple[Case, tuple[Notice, ...]]:
    """With what is known of the claim and its use, as long as it is the claim that is declared."""
    claim, journal = case.seen.claim, case.status.migration
    switching = journal is not None and journal.step is MigrationStep.SWITCHING
    if case.desired is None or claim is None or claim.deleting or switching or case.resource.deleted:
        return case, ()
    scope = Scope(case.now, case.resource.generation, case.resource.paused, WAITING_SECONDS)
    status, notices = facts(case.desired, case.seen, claim, case.status, scope)
    return replace(case, status=status), notices


def _step(case: Case) -> Plan | None:
    if not migration_under_way(case.status):
        return _idle(case)
    match case.migration.step:
        case MigrationStep.FAILED:
            return ending.clean(case)
        case MigrationStep.SWITCHING:
            return switching.plan(case)
        case _:
            return copying.plan(case)


def _idle(case: Case) -> Plan | None:
    found = case.answer.found
    if found is not None and found.stage is not Stage.PREPARED:
        status = case.status.model_copy(update={"migration": migration_of(found)})
        if found.stage is Stage.COMPLETED:
            return Step(
                status.model_copy(update={"kept_volume": found.old_volume}), None, recheck_seconds=0.1
            )
        notice = Notice(
            "MigrationFound", "A migration that was begun before goes on; its volumes tell how far it is."
        )
        going = replace(case, answer=Answer(), status=status)
        return going.step(notice.message, seconds=0.1, notices=(notice,))
    kept = case.status.kept_volume
    gone = case.answer.nothing_to_release and case.resource.annotations.get(RELEASE_OLD_VOLUME) == kept
    if case.answer.released is not None or (kept is not None and gone):
        return ending.release(case)
    if case.resource.deleted is not None or case.need is None:
        return None
    return _wanted(case)


def _wanted(case: Case) -> Plan:
    need, claim = case.need, case.answer.claim
    assert need is not None
    if claim is None or claim.deleting:
        return _not_yet(case, "The claim is going; there is nothing to move.", Reason.CLAIM_TERMINATING)
    volume = case.seen.volume
    if volume is not None and volume.class_name == need.class_name and volume.capacity >= need.size:
        return _not_yet(
            case,
            f"The claim names the class {claim.class_name}, and its volume is of the class {need.class_name} already:"
            " somebody made the claim anew while it was moved. Write the new class into the manifest that makes the"
            " claim; the data are where they should be.",
            Reason.CONFLICT,
        )
    if claim.volume_mode != "Filesystem":
        said = "The claim is a block device; only file systems are moved. Move its content by hand."
        return _not_yet(case, said, Reason.NOT_SUPPORTED)
    if need.class_name not in case.seen.classes:
        missing = trouble.class_missing(case.seen, need.class_name)
        return _not_yet(case, missing.message, missing.reason)
    failed = _failed_before(case)
    if failed is not None:
        return failed
    if case.resource.paused:
        said = f"Paused by annotation. Waiting to do: move the data to a new volume, since {need.why}."
        return _not_yet(case, said, Reason.PAUSED)
    if case.users:
        said = (
            f"The data are moved to a new volume, since {need.why}. That begins when no pod uses the claim; these do:"
            f" {listed(case.users)}.{away(case)}"
        )
        return _not_yet(case, said, Reason.CLAIM_IN_USE)
    if case.answer.unfit is not None:
        return _not_yet(case, case.answer.unfit.message, case.answer.unfit.reason)
    return _begin(case)


def _not_yet(case: Case, message: str, reason: Reason) -> Plan:
    hold = case.resource.spec.get("deletionPolicy") == "Delete"
    return case.step(
        message, reason=reason, blocked=True, seconds=WAITING_SECONDS, phase=VolumePhase.BOUND, hold=hold
    )


def _failed_before(case: Case) -> Plan | None:
    """The same migration failed, and nobody changed anything since."""
    journal = case.status.migration
    if journal is None or journal.step is not MigrationStep.FAILED or journal.message is None:
        return None
    same = journal.failed_generation == case.resource.generation
    if not same or journal.run_again != case.resource.annotations.get(RUN_AGAIN):
        return None
    said = (
        f"{journal.message} The claim is as it was. Change the Volume, or set the annotation {RUN_AGAIN} to a new"
        " value, to have it tried again."
    )
    return _not_yet(case, said, _REASONS.get(journal.reason or "", Reason.COPY_FAILED))


def _begin(case: Case) -> Plan:
    need, claim = case.need, case.answer.claim
    assert need is not None
    assert claim is not None
    size = wanted_size(case)
    run = run_id(claim.uid, claim.volume_name or "", need.class_name, size)
    volume, key = case.answer.old_volume, case.resource.key
    journal = Migration(
        run=run,
        step=MigrationStep.PREPARING,
        why=need.why,
        old_volume=claim.volume_name,
        old_reclaim_policy=own_policy(volume, key.namespace, key.name) if volume is not None else None,
        old_claim_uid=claim.uid,
        new_claim=names(claim.name, run).new_claim,
        storage_class_name=need.class_name,
        size=size,
        started_at=case.now.replace(microsecond=0),
    )
    if journal_of(journal, claim).too_long:
        return _not_yet(case, TOO_LONG, Reason.NOT_SUPPORTED)
    begun = replace(case, status=case.status.model_copy(update={"migration": journal}))
    notice = Notice("MigrationStarted", f"The data are moved to a new volume, since {need.why}.")
    return copying.prepare(begun, notices=(notice,))
