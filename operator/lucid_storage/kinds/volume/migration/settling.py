"""The first half of the switch: nobody reaches the old volume any more, and the copy is brought up to date. Pure."""

from __future__ import annotations

from datetime import timedelta

from lucid_storage.errors import Reason
from lucid_storage.kinds.contract import Action
from lucid_storage.kinds.volume import unkept
from lucid_storage.kinds.volume.migration.actions import (
    DescribeClaim,
    HoldName,
    MakeClaim,
    RemoveClaim,
    ReserveVolume,
)
from lucid_storage.kinds.volume.migration.ending import SENTENCE
from lucid_storage.kinds.volume.migration.journal import POKED
from lucid_storage.kinds.volume.migration.observed import Case, Plan, deleted_first, listed
from lucid_storage.kinds.volume.migration.requests import keeper_claim, new_claim, settle_request
from lucid_storage.kinds.volume.migration.working import SOON_SECONDS, cleared, work
from lucid_storage.kinds.volume.plan import left
from lucid_storage.kinds.workers.state import WorkerPhase
from lucid_storage.kube.client import Json
from lucid_storage.kube.volumes import MovingClaim, MovingVolume
from lucid_storage.models.volume_work import VolumeCopyResult

HELD_SECONDS = 2.0
FIRST_RETRY, LAST_RETRY = timedelta(seconds=5), timedelta(minutes=10)
"""Between two last looks that failed."""


def settle(case: Case, old: MovingVolume, new: MovingVolume) -> Plan:
    """One step towards a copy that is known to be whole."""
    claim = case.answer.claim
    if claim is not None and claim.uid == case.migration.old_claim_uid:
        waiting = _frozen(case, claim)
        if waiting is not None:
            return waiting
    if case.answer.strangers:
        return _disturbed(case)
    for volume, found, body in (
        (old, case.answer.keeper, keeper_claim(case)),
        (new, case.answer.new_claim, new_claim(case, volume=new.name)),
    ):
        step = _bound(case, volume, found, body)
        if step is not None:
            return step
    return _patient(case) or work(case, settle_request(case), _settled)


def _disturbed(case: Case) -> Plan:
    """A pod has one of the migration's own claims: what it writes would be lost, or be moved unseen."""
    case = case.noting(stamp=None, job_name=None)  # the next look copies and compares all of it
    if case.answer.worker.phase is not WorkerPhase.ABSENT:
        return cleared(case, case.names.settle_job)
    said = f"These pods use the claims of the migration itself: {listed(case.answer.strangers)}. End them."
    return case.step(said, reason=Reason.CLAIM_IN_USE, blocked=True, seconds=HELD_SECONDS)


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
    if not holders and case.answer.ended:
        said = f"The claim is being replaced. {deleted_first(case.answer.ended)}"
        return case.step(said, reason=Reason.CLAIM_IN_USE, blocked=True, seconds=HELD_SECONDS)
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
    rest = left(journal.looked_at, wait, case.now)
    if rest <= 0:
        return None
    reason = next((r for r in Reason if str(r) == journal.reason), Reason.COPY_FAILED)
    return case.step(
        "The last look is tried again soon.", reason=reason, blocked=True, seconds=max(rest, 0.1)
    )


def too_small(case: Case) -> str:
    """What happened, and what to do about it."""
    name = case.migration.storage_class_name
    known = case.seen.classes.get(name or "")
    grew = "The data grew since they were copied and do not fit into the new volume"
    if known is not None and known.expandable:
        return f"{grew}; expand the claim {case.names.new_claim} (spec.resources.requests.storage)."
    return f"{grew}, and its class {name} cannot expand it: give the migration up, and move to a larger size."


def _settled(case: Case, result: VolumeCopyResult) -> Plan:
    case = case.noting(job_name=None)
    if result.ok:
        done = case.noting(settled=True, attempts=None, reason=None, message=None)
        if not result.unchanged:
            done = done.noting(stamp=result.stamp, checksum=result.digest, **unkept.noted(result))
        return cleared(done, case.names.settle_job)
    attempts = (case.migration.attempts or 0) + 1
    reason = result.reason or Reason.COPY_FAILED
    why = too_small(case) if reason is Reason.NOT_ENOUGH_SPACE else result.message
    case = case.noting(
        attempts=min(attempts, 1000), reason=str(reason), message=why[:SENTENCE], looked_at=case.now
    )
    step = cleared(case, case.names.settle_job)
    said = "The last look is tried again."
    return case.step(said, reason=reason, blocked=True, actions=step.actions, seconds=HELD_SECONDS)
