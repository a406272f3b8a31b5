"""What to do about a claim. Pure: values in, values out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from lucid_storage.errors import Reason
from lucid_storage.kinds.conditions import bounded
from lucid_storage.kinds.contract import Action, Notice, Verdict
from lucid_storage.kinds.oneshot import Said, Standing, Step
from lucid_storage.kinds.volume import checking, growth, trouble, usage
from lucid_storage.kinds.volume.actions import CreateClaim, DeleteClaim, ExpandClaim
from lucid_storage.kinds.volume.conditions import conditions
from lucid_storage.kinds.volume.desired import VolumeDesired, claim_body
from lucid_storage.kinds.volume.observed import Refusal, VolumeObserved
from lucid_storage.kube.claims import Claim
from lucid_storage.models.base import Origin
from lucid_storage.models.meta import CREATED_FOR, RESTORED_FROM
from lucid_storage.models.quantity import to_text
from lucid_storage.models.volume import VolumePhase, VolumeStatus

PENDING_SECONDS, EXPANDING_SECONDS, STALLED_SECONDS = 10.0, 5.0, 60.0
"""How often to look although nothing was told: events of drivers are not watched."""
HASTE = timedelta(minutes=2)
"""How long a new claim is looked at often; that it was bound is told by the watch."""
NAMES = 20
FIRST_RETRY, LAST_RETRY = timedelta(seconds=5), timedelta(minutes=10)
"""Between two attempts at what the API server refused."""

QUIET = frozenset({Reason.PROGRESSING, Reason.MIGRATING})
"""No Event for these: the steps of a migration have Events of their own."""

Plan = Step[VolumeStatus]


@dataclass(frozen=True, slots=True)
class Scope:
    """What the plan must know of the Volume itself."""

    now: datetime
    generation: int
    paused: bool
    sweep_seconds: float


def plan(desired: VolumeDesired, seen: VolumeObserved, status: VolumeStatus, scope: Scope) -> Plan:
    """One step towards the declaration."""
    claim = seen.claim
    if claim is None:
        return _absent(desired, seen, status, scope)
    if _another(claim, status):
        # What is known of the former claim stays: it is what a person needs now.
        return _stalled(status, trouble.replaced(seen, status), desired, scope, VolumePhase.LOST)
    status, notices = facts(desired, seen, claim, status, scope)
    if claim.deleting:
        return _stalled(status, trouble.terminating(seen), desired, scope, VolumePhase.FAILED)
    if claim.phase == "Lost":
        return _stalled(status, trouble.gone_volume(claim), desired, scope, VolumePhase.LOST)
    if not claim.bound:
        return _waiting(desired, seen, claim, status, scope)
    verdict = growth.refused(desired, seen)
    if verdict is not None:
        step = _stalled(status, verdict, desired, scope, VolumePhase.BOUND)
        return replace(step, notices=notices)
    return _sized(desired, seen, claim, status, scope, notices)


def _absent(desired: VolumeDesired, seen: VolumeObserved, status: VolumeStatus, scope: Scope) -> Plan:
    if status.claim_uid is not None and status.volume_name is not None:
        return _stalled(status, trouble.lost(seen, status), desired, scope, VolumePhase.LOST)
    # Nothing was ever stored: a claim that never had a volume is made again like a new one.
    status = status.model_copy(update={"claim_uid": None, "origin": None, "phase": VolumePhase.PENDING})
    default = seen.default_class
    name = desired.class_name or (default.name if default is not None else None)
    if name is None or name not in seen.classes:
        return _stalled(status, trouble.class_missing(seen, name), desired, scope, VolumePhase.PENDING)
    create = CreateClaim(desired.name, claim_body(desired, name))
    return _acting(desired, seen, status, scope, create)


def _another(claim: Claim, status: VolumeStatus) -> bool:
    """Whether the claim took the place of the one that was declared, with other data."""
    if status.claim_uid in (None, claim.uid) or status.volume_name is None:
        return False
    if RESTORED_FROM in claim.annotations:
        return False  # a Restore made it: that is what somebody wants in the place of the lost one
    return claim.volume_name != status.volume_name


def facts(
    desired: VolumeDesired, seen: VolumeObserved, claim: Claim, status: VolumeStatus, scope: Scope
) -> tuple[VolumeStatus, tuple[Notice, ...]]:
    """The status with everything that is known of the claim and its use."""
    adopted = status.claim_uid != claim.uid and claim.annotations.get(CREATED_FOR) != desired.uid
    origin = status.origin if status.claim_uid == claim.uid else None
    finished = _just_finished(claim, status)
    storage_class = seen.storage_class
    status = status.model_copy(
        update={
            "claim_name": claim.name,
            "claim_uid": claim.uid,
            "volume_name": claim.volume_name or status.volume_name,
            "origin": origin or (Origin.ADOPTED if adopted else Origin.CREATED),
            "storage_class_name": claim.class_name,
            "access_modes": list(claim.access_modes),
            "requested_size": to_text(claim.requested),
            "requested_bytes": claim.requested,
            "size": to_text(claim.capacity) if claim.capacity is not None else None,
            "expandable": storage_class.expandable if storage_class is not None and claim.bound else None,
            "expanded_at": scope.now.replace(microsecond=0) if finished else status.expanded_at,
        }
    )
    notices = _adopted(claim) if adopted else ()
    if finished:
        notices = (*notices, Notice("Expanded", f"The claim has {status.size} now."))
    status, more = used(desired, seen, status, scope.now)
    return status, (*notices, *more)


def used(
    desired: VolumeDesired, seen: VolumeObserved, status: VolumeStatus, now: datetime
) -> tuple[VolumeStatus, tuple[Notice, ...]]:
    """The status with who uses the claim and how much of it."""
    status = status.model_copy(update={"used_by": sorted(p.name for p in seen.users)[:NAMES] or None})
    status, checked = checking.noted(seen, status)
    status, told = usage.noted(desired, seen.figures, status, now)
    return status, (*checked, *told)


def _adopted(claim: Claim) -> tuple[Notice, ...]:
    return (Notice("Adopted", f"The claim {claim.name} was there before and is taken over as it is."),)


def _just_finished(claim: Claim, status: VolumeStatus) -> bool:
    """An expansion ended since the last look: figures from before it say nothing about the next step."""
    if growth.under_way(claim) or not claim.bound or status.claim_uid != claim.uid:
        return False
    asked = status.requested_bytes is not None and status.requested_bytes < claim.requested
    return asked or status.phase is VolumePhase.EXPANDING


def _waiting(
    desired: VolumeDesired, seen: VolumeObserved, claim: Claim, status: VolumeStatus, scope: Scope
) -> Plan:
    """The claim has no volume yet, and so no data: one of ours that is declared otherwise is made anew."""
    status = status.model_copy(update={"phase": VolumePhase.PENDING})
    other = desired.class_name not in (None, claim.class_name)
    larger = desired.size is not None and desired.size != claim.requested
    untouched = claim.volume_name is None and claim.selected_node is None and not seen.pods
    if (other or larger) and untouched and status.origin is Origin.CREATED:
        return _acting(desired, seen, status, scope, DeleteClaim(claim, unbound=True))
    verdict = trouble.pending(seen, claim, scope.now)
    if verdict.stalled:
        return _stalled(status, verdict, desired, scope, VolumePhase.PENDING)
    said = _said(Standing.UNDER_WAY, verdict.reason, verdict.message, desired, status, scope)
    patient = verdict.reason is Reason.WAITING_FOR_POD or scope.now - claim.created > HASTE
    return Step(status, said, recheck_seconds=STALLED_SECONDS if patient else PENDING_SECONDS)


def _sized(
    desired: VolumeDesired,
    seen: VolumeObserved,
    claim: Claim,
    status: VolumeStatus,
    scope: Scope,
    notices: tuple[Notice, ...],
) -> Plan:
    wanted = growth.wanted(desired, claim, seen.figures, status, scope.now)
    if wanted > claim.requested and status.expandable and not growth.under_way(claim):
        declared = desired.size is not None and wanted <= desired.size
        status = status.model_copy(update={"phase": VolumePhase.BOUND})
        step = _acting(desired, seen, status, scope, ExpandClaim(claim, wanted, grown=not declared))
        return replace(step, notices=(*notices, *step.notices))
    if growth.under_way(claim):
        step = _expanding(desired, seen, claim, status, scope)
    else:
        step = _settled(desired, seen, status, scope)
    return replace(step, notices=notices)


def _expanding(
    desired: VolumeDesired, seen: VolumeObserved, claim: Claim, status: VolumeStatus, scope: Scope
) -> Plan:
    status = status.model_copy(update={"phase": VolumePhase.EXPANDING})
    size, words, mounting = to_text(claim.requested), growth.failed(claim), growth.waits_for_mount(claim)
    message = f"The volume is being expanded to {size}."
    if mounting and not seen.pods:
        message = f"The volume has {size}; its file system grows when a pod mounts the claim next."
    elif words is not None:
        verdict = trouble.not_expanded(seen, size, words, mounting=mounting)
        return _stalled(status, verdict, desired, scope, VolumePhase.EXPANDING)
    said = _said(Standing.UNDER_WAY, Reason.EXPANDING, message, desired, status, scope)
    return Step(status, said, recheck_seconds=EXPANDING_SECONDS)


def _settled(desired: VolumeDesired, seen: VolumeObserved, status: VolumeStatus, scope: Scope) -> Plan:
    status = status.model_copy(update={"phase": VolumePhase.BOUND})
    away = trouble.node_away(seen)
    if away is not None:
        said = _said(Standing.UNDER_WAY, away.reason, away.message, desired, status, scope)
        return Step(status, said, recheck_seconds=STALLED_SECONDS)
    status = status.model_copy(update={"applied_generation": scope.generation})
    said = _said(Standing.DONE, Reason.RECONCILED, "", desired, status, scope)
    return Step(status, said, recheck_seconds=scope.sweep_seconds)


# Acting and speaking


def announced(status: VolumeStatus, step: Plan) -> Plan:
    """With an Event when Ready or its reason changed. What is Ready at once is what was asked for, and no news.

    The message is cut to what status has room for: other programs' words are in it.
    """
    if step.status.message is not None:
        message = bounded(step.status.message)
        step = replace(step, status=step.status.model_copy(update={"message": message}))
    said = step.said
    if said is None or said.reason in QUIET:
        return step
    before = next((c for c in status.conditions or () if c.type == "Ready"), None)
    ready = said.standing is Standing.DONE
    if before is None and ready:
        return step
    if before is not None and before.reason in (str(said.reason), str(Reason.MIGRATING)):
        return step
    notice = (
        Notice("Ready", "The claim is as it was declared.")
        if ready
        else Notice(str(said.reason), said.message, warning=said.standing is Standing.BLOCKED)
    )
    return replace(step, notices=(*step.notices, notice))


def _acting(
    desired: VolumeDesired, seen: VolumeObserved, status: VolumeStatus, scope: Scope, action: Action
) -> Plan:
    """Do it now, or say why not now."""
    if scope.paused:
        waiting = f"Paused by annotation. Waiting to do: {action.describe()}."
        verdict = Verdict(Reason.PAUSED, waiting, stalled=True)
        return _stalled(status, verdict, desired, scope, status.phase)
    if seen.refusal is not None and seen.refusal.generation == scope.generation:
        return _again(desired, seen.refusal, status, scope, action)
    if isinstance(action, DeleteClaim):
        # Whoever looks next finds no claim that was lost.
        status = status.model_copy(update={"claim_uid": None, "volume_name": None, "origin": None})
    said: Said | None = None
    if status.observed_generation not in (None, scope.generation):
        message = f"Next: {action.describe()}."
        said = _said(Standing.UNDER_WAY, Reason.PROGRESSING, message, desired, status, scope)
    grown = isinstance(action, ExpandClaim) and action.grown
    notices = (Notice("AutoExpand", f"autoExpand: {action.describe()}."),) if grown else ()
    return Step(status, said, actions=(action,), notices=notices)


def _again(
    desired: VolumeDesired, refusal: Refusal, status: VolumeStatus, scope: Scope, action: Action
) -> Plan:
    """What was refused before: the sentence stays the same, and the attempts grow rarer."""
    standing = Standing.BLOCKED if refusal.stalled else Standing.UNDER_WAY
    said = _said(standing, refusal.reason, refusal.message, desired, status, scope)
    rest = left(refusal.at, patience(refusal), scope.now)
    if rest > 0:
        return Step(status, said, recheck_seconds=rest)
    return Step(status, said, actions=(action,))


def patience(refusal: Refusal) -> timedelta:
    """How long to wait after the n-th refusal."""
    return min(LAST_RETRY, FIRST_RETRY * float(2 ** min(refusal.attempts - 1, 10)))


def left(since: datetime, wait: timedelta, now: datetime) -> float:
    """Seconds of a wait that began then; 0 when it is over, and when the clock was put back behind its begin."""
    return max(0.0, (since + wait - now).total_seconds()) if since <= now else 0.0


def _stalled(
    status: VolumeStatus,
    verdict: Verdict,
    desired: VolumeDesired,
    scope: Scope,
    phase: VolumePhase | None,
) -> Plan:
    status = status.model_copy(update={"phase": phase})
    said = _said(Standing.BLOCKED, verdict.reason, verdict.message, desired, status, scope)
    return Step(status, said, recheck_seconds=STALLED_SECONDS)


def _said(
    standing: Standing,
    reason: Reason,
    message: str,
    desired: VolumeDesired,
    status: VolumeStatus,
    scope: Scope,
) -> Said:
    status.message = message or None
    return Said(standing, reason, message, more=conditions(desired, status, paused=scope.paused))
