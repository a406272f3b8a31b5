"""The swap of a Restore, and what is said when all is in place. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from lucid_storage.errors import Reason
from lucid_storage.kinds.contract import Notice
from lucid_storage.kinds.oneshot import Said, Standing, Step
from lucid_storage.kinds.restore.actions import Mark, Swap
from lucid_storage.kinds.restore.ending import MOST_KEPT, ended, hindered, left_behind
from lucid_storage.kinds.restore.observed import (
    Plan,
    RestoreObserved,
    in_place,
    saved,
    second,
    written_at_once,
)
from lucid_storage.kube.resources import Resource
from lucid_storage.models.restore import KeptRun, RestorePhase, RestoreSpec, RestoreStatus

_MOST_SAID = 3
_LONGEST_SAID = 250
"""Of what is missing, in a message: so many, and so many characters of each."""
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
    if observed.left:
        return _in_part(resource, observed, status, now)
    marker = observed.marker
    if marker is None or (marker.run, marker.result) != (status.run, RestorePhase.COMPLETED):
        said = Said(Standing.UNDER_WAY, Reason.RUNNING, "The collections are in place.")
        return Step(status, said, (Mark(databases),), hold=True, must_finish=True)
    minutes, until = _kept_until(resource, observed, now)
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


def _in_part(resource: Resource, observed: RestoreObserved, status: RestoreStatus, now: datetime) -> Plan:
    """The swap is over, and what somebody took away or the server refuses is not there: no marker says that it is."""
    minutes, until = _kept_until(resource, observed, now)
    shown = [said[:_LONGEST_SAID] for said in observed.left[:_MOST_SAID]]
    more = len(observed.left) - len(shown)
    missing = "; ".join([*shown, f"and {more} more"] if more else shown)
    rest = (
        _placed(resource, status, observed.replaced, until)
        if status.swapped
        else "Nothing else was restored."
    )
    message = f"Not all of it is restored: {missing}. {rest} See to what is missing, or restore it again."
    step = ended(status, RestorePhase.FAILED, Reason.PARTIALLY_FAILED, message, now)
    mine = KeptRun(
        run=status.run or "",
        databases=status.databases or [],
        until=until,
        server_identity=status.server_identity,
    )
    # What it replaced goes in its time; nothing was staged that could be dropped at once.
    kept = [*(status.kept or ()), mine][-MOST_KEPT:]
    done = step.status.model_copy(update={"databases": None, "kept": kept})
    return Step(done, step.said, notices=step.notices, recheck_seconds=minutes * 60 + 1)


def _kept_until(resource: Resource, observed: RestoreObserved, now: datetime) -> tuple[int, datetime]:
    """Minutes and moment. Where nothing was replaced only the journal is left, which goes at once."""
    minutes = _keep_minutes(resource) if observed.replaced else 0
    return minutes, second(now + timedelta(minutes=minutes))


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
    views = [t for t in (status.plan.targets if status.plan else None) or () if t.note == "view"]
    if not count and views:
        said = "1 view is in place" if len(views) == 1 else f"{len(views)} views are in place"
    elif not count:
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
