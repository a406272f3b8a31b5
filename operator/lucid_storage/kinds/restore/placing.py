"""The swap of a Restore, and what is said when all is in place. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from lucid_storage.errors import Reason
from lucid_storage.kinds.contract import Notice
from lucid_storage.kinds.oneshot import Said, Standing, Step
from lucid_storage.kinds.restore.actions import Mark, Swap
from lucid_storage.kinds.restore.ending import ended, hindered, left_behind
from lucid_storage.kinds.restore.observed import (
    Plan,
    RestoreObserved,
    in_place,
    saved,
    second,
    written_at_once,
)
from lucid_storage.kube.resources import Resource
from lucid_storage.models.restore import RestorePhase, RestoreSpec, RestoreStatus

_USUAL_MINUTES: int = RestoreSpec.model_fields["keep_old_minutes"].default


def placed(resource: Resource, observed: RestoreObserved, status: RestoreStatus, now: datetime) -> Plan:
    """From here it only rolls forward, unless it turns out that it may not begin at all."""
    databases = tuple(status.databases or ())
    if observed.unfit is not None:
        step = ended(
            status, RestorePhase.FAILED, observed.unfit.reason, _unfit(resource, observed, status), now
        )
        return Step(step.status, step.said, left_behind(status), hold=True, notices=step.notices)
    if status.swapped is None:
        if observed.trouble is not None:
            return hindered(resource, status, observed.trouble, now)
        late = " It can no longer be cancelled." if resource.spec.get("cancel") else ""
        said = Said(Standing.UNDER_WAY, Reason.RUNNING, f"The collections are being swapped.{late}")
        return Step(status, said, (swap(resource, status.run or "", databases),), hold=True, must_finish=True)
    marker = observed.marker
    if marker is None or (marker.run, marker.result) != (status.run, RestorePhase.COMPLETED):
        said = Said(Standing.UNDER_WAY, Reason.RUNNING, "The collections are in place.")
        return Step(status, said, (Mark(databases),), hold=True, must_finish=True)
    # Where nothing was replaced only the journal is left, which goes at once.
    minutes = _keep_minutes(resource) if observed.replaced else 0
    until = second(now + timedelta(minutes=minutes))
    done = status.model_copy(
        update={
            "phase": RestorePhase.COMPLETED,
            "progress": "100%",
            "completed_at": second(now),
            "old_until": until,
        }
    )
    said_text = _placed(resource, status, observed.replaced, until)
    said = Said(Standing.DONE, Reason.COMPLETED, said_text)
    return Step(done, said, notices=(Notice("Completed", said_text),), recheck_seconds=minutes * 60 + 1)


def swap(resource: Resource, run: str, databases: tuple[str, ...]) -> Swap:
    """The swap of what a run staged."""
    return Swap(run, databases, bool(resource.spec.get("dropExisting")), _keep_minutes(resource))


def _keep_minutes(resource: Resource) -> int:
    return int(resource.spec.get("keepOldMinutes", _USUAL_MINUTES))


def _unfit(resource: Resource, observed: RestoreObserved, status: RestoreStatus) -> str:
    assert observed.unfit is not None
    if not in_place(resource):
        others = written_at_once(resource)
        if not others:
            return observed.unfit.message
        left = f"MongoDB is as it was; what was restored of {others} before that stays."
        return f"{observed.unfit.message.rstrip('.')}. {left}"
    return (
        f"{observed.unfit.message.rstrip('.')}. The target is incomplete, as strategy InPlace leaves it after a"
        f" failure: see to that, then restore again{saved(status)}."
    )


def _placed(resource: Resource, status: RestoreStatus, replaced: int, until: datetime) -> str:
    """What was done to how many collections, and what is kept of those that were there."""
    count = status.swapped or 0
    some = "1 collection" if count == 1 else f"{count} collections"
    if not count:
        said = "The backup holds no collections to put in place"
    elif in_place(resource) and not resource.spec.get("dropExisting"):
        said = f"What was absent was added to {some}"
    else:
        said = f"{some} {'is' if count == 1 else 'are'} in place"
    if replaced:
        kept = "the replaced one stays" if replaced == 1 else f"the {replaced} replaced ones stay"
        said += f"; {kept} until {until:%Y-%m-%dT%H:%M:%SZ}"
    aside = status.moved_aside or []
    told = f" Made meanwhile and moved aside, never dropped: {', '.join(aside[:3])}." if aside else ""
    return f"{said}.{told}"
