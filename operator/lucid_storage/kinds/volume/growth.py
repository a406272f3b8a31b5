"""How large the claim should be: what is declared, and what autoExpand adds. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from lucid_storage.errors import Reason
from lucid_storage.kinds.contract import Verdict
from lucid_storage.kinds.volume.desired import VolumeDesired
from lucid_storage.kinds.volume.migrating import Need
from lucid_storage.kinds.volume.observed import Figures, VolumeObserved
from lucid_storage.kube.claims import Claim
from lucid_storage.models.meta import GROWN_TO
from lucid_storage.models.quantity import to_bytes, to_text
from lucid_storage.models.volume import VolumeStatus

PAUSE = timedelta(minutes=5)
"""Between two steps of autoExpand: a runaway writer must not become a runaway volume in a minute."""
MEBI, GIBI = 1024**2, 1024**3
ROUND_TO_GIBI = 4 * GIBI
RESIZING = ("Resizing", "FileSystemResizePending", "ControllerResizeError", "NodeResizeError")
"""Conditions of a claim whose expansion is not over
(https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/persistent-volume-claim-v1/)."""


def under_way(claim: Claim) -> bool:
    """Whether an expansion that was asked for is not over."""
    short = claim.capacity is not None and claim.capacity < claim.requested
    return claim.bound and (short or any(kind in claim.conditions for kind in RESIZING))


def grown(claim: Claim) -> bool:
    """Whether the claim's size is one that autoExpand reached, so that a smaller spec.size is no shrinking."""
    text = claim.annotations.get(GROWN_TO)
    try:
        return text is not None and to_bytes(text) >= claim.requested
    except ValueError:
        return False


def wanted(
    desired: VolumeDesired, claim: Claim, figures: Figures | None, status: VolumeStatus, now: datetime
) -> int:
    """Bytes that the claim should ask for; never less than it does."""
    return max(claim.requested, desired.size or 0, step(desired, claim, figures, status, now) or 0)


def step(
    desired: VolumeDesired, claim: Claim, figures: Figures | None, status: VolumeStatus, now: datetime
) -> int | None:
    """The next size of autoExpand; None when it is not its time."""
    growth = desired.growth
    if growth is None or figures is None or not claim.bound or claim.requested >= growth.limit:
        return None
    if under_way(claim) or figures.percent < desired.warning_percent:
        return None
    last = status.expanded_at
    if last is not None and last - now > PAUSE:
        last = None  # written by a clock that ran ahead: to wait for that time could let the volume fill up
    if last is not None and (figures.at <= last or now - last < PAUSE):
        return None  # what is known is from before the last step
    return min(growth.limit, _rounded(claim.requested + claim.requested * growth.step_percent // 100))


def _rounded(size: int) -> int:
    unit = GIBI if size >= ROUND_TO_GIBI else MEBI
    return -(-size // unit) * unit


def migration(desired: VolumeDesired, seen: VolumeObserved) -> Need | None:
    """What only another claim can give; None when this one will do."""
    claim = seen.claim
    if claim is None or not claim.bound or claim.deleting:
        return None
    other_class = desired.class_name is not None and desired.class_name != claim.class_name
    size = max(claim.requested, desired.size or 0)
    storage_class = seen.storage_class
    stuck = size > _given(claim, seen) and not (storage_class is not None and storage_class.expandable)
    if not other_class and not stuck:
        return None
    why = (
        f"the class changes from {claim.class_name or 'none'} to {desired.class_name}"
        if other_class
        else f"the class {claim.class_name or 'none'} cannot expand the volume to {to_text(size)}"
    )
    return Need(
        why,
        desired.class_name or claim.class_name or "",
        size,
        desired.access_modes or claim.access_modes,
    )


def _given(claim: Claim, seen: VolumeObserved) -> int:
    """Bytes that the claim has already: one that was bound to a larger volume has more than it asked for."""
    volume = seen.volume.capacity if seen.volume is not None else 0
    return max(claim.requested, claim.capacity or 0, volume)


def refused(desired: VolumeDesired, seen: VolumeObserved) -> Verdict | None:
    """What is declared and cannot be done to this claim."""
    claim = seen.claim
    if claim is None:
        return None
    if desired.size is not None and desired.size < claim.requested and not grown(claim):
        return _no(
            Reason.NOT_IN_PLACE,
            f"The claim has {to_text(claim.requested)}, and a volume cannot shrink. Write size:"
            f" {to_text(claim.requested)}, or make a smaller Volume and move the data.",
        )
    if desired.access_modes is not None and set(desired.access_modes) != set(claim.access_modes):
        return _no(
            Reason.NOT_IN_PLACE,
            f"The claim has the access modes {', '.join(claim.access_modes)}, which cannot be changed. Write these, or"
            " make another Volume.",
        )
    need = migration(desired, seen)
    if need is not None and desired.migrate:
        return _no(
            Reason.NOT_IMPLEMENTED,
            f"This needs a new claim, since {need.why}, and this operator was built without migrations.",
        )
    if need is not None:
        return _no(
            Reason.NOT_IN_PLACE,
            f"This needs a new claim, since {need.why}. Set resizeStrategy: Migrate to have the data copied while no"
            " pod uses them, or take the change back.",
        )
    return None


def failed(claim: Claim) -> str | None:
    """The driver's words about an expansion that it could not do."""
    for kind in ("ControllerResizeError", "NodeResizeError"):
        if kind in claim.conditions:
            return claim.conditions[kind] or kind
    if claim.resize is not None and claim.resize.endswith("Infeasible"):
        return next((m for m in claim.conditions.values() if m), claim.resize)
    return None


def waits_for_mount(claim: Claim) -> bool:
    """Whether the volume itself has grown, and its file system does when the claim is mounted anew."""
    infeasible = claim.resize is not None and claim.resize.endswith("Infeasible")
    # The driver may refuse a further growth, asked for by hand, while the file system waits for the former one.
    refused = infeasible or "ControllerResizeError" in claim.conditions
    return "FileSystemResizePending" in claim.conditions and not refused


def _no(reason: Reason, message: str) -> Verdict:
    return Verdict(reason, message, stalled=True)
