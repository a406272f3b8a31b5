"""What deletion of a Volume does to its claim. Pure."""

from __future__ import annotations

from dataclasses import replace

from lucid_storage.errors import Reason
from lucid_storage.kinds.contract import Notice
from lucid_storage.kinds.oneshot import Said, Standing, Step
from lucid_storage.kinds.volume import trouble
from lucid_storage.kinds.volume.actions import DeleteClaim
from lucid_storage.kinds.volume.observed import VolumeObserved
from lucid_storage.kube.resources import Resource
from lucid_storage.models.base import DeletionPolicy, Origin
from lucid_storage.models.meta import CONFIRM_DELETE, CREATED_FOR
from lucid_storage.models.volume import VolumeStatus

NAMES = 5
GOING_SECONDS, USED_SECONDS = 1.0, 5.0
"""How often to look again: pods are not watched."""

Plan = Step[VolumeStatus]


def wanted(resource: Resource) -> bool:
    """Whether a deletion has work to do, so that our finalizer must be on the Volume."""
    return resource.spec.get("deletionPolicy") == DeletionPolicy.DELETE


def plan(resource: Resource, seen: VolumeObserved, status: VolumeStatus, *, forbid_drops: bool) -> Plan:
    """One step of the deletion. Without `hold` the Volume goes."""
    name, claim = resource.key.name, seen.claim
    if not wanted(resource):
        return _let_go(status, f"The claim {name} stays (deletionPolicy: Retain).")
    if claim is None:
        return _let_go(status, f"The claim {name} is gone.")
    if status.claim_uid is not None and status.claim_uid != claim.uid:
        return _let_go(status, f"The claim {name} stays: it is another one than this Volume had.")
    created = status.origin is Origin.CREATED or claim.annotations.get(CREATED_FOR) == resource.uid
    if not created and resource.annotations.get(CONFIRM_DELETE) != name:
        return _let_go(
            status,
            f"The claim {name} stays: it was there before this Volume, and the annotation {CONFIRM_DELETE}:"
            f' "{name}" that confirms its deletion is missing.',
        )
    if forbid_drops:
        return _let_go(
            status, f"The claim {name} stays: the operator's settings forbid all drops (FORBID_DROPS)."
        )
    if resource.paused:
        return _held(status, Reason.PAUSED, "the Volume is paused; remove the annotation to go on.")
    if seen.pods:
        users = ", ".join(p.name for p in seen.pods[:NAMES])
        held = _held(status, Reason.CLAIM_IN_USE, f"these pods use it: {users}. End them first.")
        return replace(held, retry=False, recheck_seconds=USED_SECONDS)
    if claim.deleting:
        holding = trouble.held_by_ended(seen)
        said = Said(
            Standing.UNDER_WAY, Reason.DELETING, f"The claim {name} is being deleted. {holding}".rstrip()
        )
        return Step(status, said, hold=True, recheck_seconds=GOING_SECONDS)
    said = Said(Standing.UNDER_WAY, Reason.DELETING, f"The claim {name} is about to be deleted.")
    return Step(status, said, actions=(DeleteClaim(claim),), hold=True)


def _let_go(status: VolumeStatus, message: str) -> Plan:
    if status.kept_volume is not None:  # nobody will tell of it any more
        message = (
            f"{message} The PersistentVolume {status.kept_volume}, from which the data were moved, is kept."
        )
    return Step(status, None, notices=(Notice("Deleted", message),))


def _held(status: VolumeStatus, reason: Reason, why: str) -> Plan:
    said = Said(Standing.UNDER_WAY, reason, f"The claim is not deleted yet: {why}")
    return replace(Step(status, said, hold=True), retry=True)
