"""How a volume gets the claim's name: the new one, or the old one when the migration is given up. Pure."""

from __future__ import annotations

from lucid_storage.errors import Reason
from lucid_storage.kinds.volume.migration.actions import (
    DescribeClaim,
    FreeName,
    MakeClaim,
    RemoveClaim,
    ReserveVolume,
)
from lucid_storage.kinds.volume.migration.journal import POKED
from lucid_storage.kinds.volume.migration.observed import Case, Plan, listed
from lucid_storage.kinds.volume.migration.settling import HELD_SECONDS
from lucid_storage.kinds.volume.migration.working import SOON_SECONDS, cleared
from lucid_storage.kinds.workers.state import WorkerPhase
from lucid_storage.kube.client import Json
from lucid_storage.kube.volumes import MovingClaim, MovingVolume


def name(case: Case, volume: MovingVolume, body: Json) -> Plan:
    """One step until a claim of the name has this volume; `body` is that claim, where nobody else makes one first."""
    answer, namespace, called = case.answer, case.resource.key.namespace, case.resource.key.name
    if answer.worker.phase is not WorkerPhase.ABSENT:
        return cleared(case, case.names.settle_job)
    helpers = case.helpers
    if helpers:
        return _freed(case, volume, helpers)
    claim = answer.claim
    old = claim if claim is not None and claim.uid == case.migration.old_claim_uid else None
    other = claim if old is None else None
    reserved = volume.claim is not None and volume.claim[:2] == (namespace, called)
    # What the old claim had, it no longer has: its own UID is no reservation for the next one.
    if not reserved or (volume.claim is not None and volume.claim[2] not in ("", other.uid if other else "")):
        action = ReserveVolume(volume, namespace, called)
        return case.step(
            f"Gives the volume {volume.name} the claim's name.", actions=(action,), seconds=SOON_SECONDS
        )
    if old is not None:
        return _let_go(case, old)
    if other is None:
        make = MakeClaim(called, body)
        said = f"Makes the claim with the volume {volume.name}."
        return case.refused() or case.step(said, actions=(make,), seconds=SOON_SECONDS)
    return _taken(case, other, volume)


def _freed(case: Case, volume: MovingVolume, helpers: tuple[MovingClaim, ...]) -> Plan:
    actions = tuple(RemoveClaim(c) for c in helpers if not c.deleting)
    if not actions and case.answer.strangers:
        said = f"These pods still use the claims of the migration itself: {listed(case.answer.strangers)}. End them."
        return case.step(said, reason=Reason.CLAIM_IN_USE, blocked=True, seconds=HELD_SECONDS)
    return case.step(f"Frees the volume {volume.name}.", actions=actions, seconds=SOON_SECONDS)


def _let_go(case: Case, old: MovingClaim) -> Plan:
    if old.held:
        return case.step("Lets the old claim go.", actions=(FreeName(old),), seconds=SOON_SECONDS)
    if not old.deleting:  # our finalizer was taken off, and the deletion with it
        return case.step("Deletes the old claim.", actions=(RemoveClaim(old),), seconds=SOON_SECONDS)
    held = ", ".join(old.finalizers) or "nothing"
    said = f"Waits until the old claim is gone; what holds it: {held}."
    return case.step(said, seconds=HELD_SECONDS)


def _taken(case: Case, other: MovingClaim, volume: MovingVolume) -> Plan:
    """A claim has the name that is not bound yet: ours, or one that somebody else made in this moment."""
    if other.volume_name not in (None, volume.name):
        said = (
            f"Somebody made another claim {other.name} in the middle of the switch, and it has the volume"
            f" {other.volume_name}. Delete that claim; the data are on {volume.name}, which then gets the name."
        )
        return case.step(said, reason=Reason.CONFLICT, blocked=True, seconds=HELD_SECONDS)
    poked = other.annotations.get(POKED) == volume.version
    poke = () if poked else (DescribeClaim(other, {}, {POKED: volume.version}),)
    return case.step("Waits until the claim has its volume.", actions=poke, seconds=SOON_SECONDS)
