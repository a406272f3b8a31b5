"""What a Restore's plan is made from. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from lucid_storage.errors import LucidError
from lucid_storage.kinds.oneshot import Step
from lucid_storage.kinds.protection import Seen
from lucid_storage.kinds.restore.desired import RestoreDesired, again
from lucid_storage.kinds.restore.volumes import NOTHING, Filling
from lucid_storage.kinds.workers.state import ABSENT, WorkerState
from lucid_storage.kube.resources import Resource
from lucid_storage.models.restore import RestorePhase, RestoreStatus, Strategy
from lucid_storage.stores.mongodb.restore.port import Marker
from lucid_storage.stores.mongodb.types import Topology

Plan = Step[RestoreStatus]

FINISHED = frozenset({RestorePhase.COMPLETED, RestorePhase.FAILED, RestorePhase.CANCELLED})
WORKING = frozenset({RestorePhase.PLANNING, RestorePhase.LOADING, RestorePhase.REPLAYING})


@dataclass(frozen=True, slots=True)
class RestoreObserved:
    """What is known of the surroundings. Only what the phase needs is filled in."""

    desired: RestoreDesired | None = None
    trouble: LucidError | None = None
    """Why the work cannot go on now."""
    cluster: str = ""
    topology: Topology | None = None
    identity: str | None = None
    spec_hash: str = ""
    marker: Marker | None = None
    protection: Seen | None = None
    """The Backup that backupBefore asks for, where one was asked for."""
    behind: str | None = None
    worker: WorkerState = ABSENT
    """Of the Job that the phase is about."""
    earlier: WorkerState = ABSENT
    """Of the run before this one."""
    unfit: LucidError | None = None
    """Why the swap cannot begin, where it has not."""
    filling: Filling = NOTHING
    """The volumes that the loading worker fills."""
    settled: bool = False
    """The journal of the run is gone: nothing of it is left to drop."""


def says_done(marker: Marker, identity: str | None, wanted: str) -> bool:
    """Whether a restore with the spec hash `wanted` stands in this server by this marker."""
    return (
        marker.result == RestorePhase.COMPLETED
        and marker.identity == (identity or "")
        and marker.spec_hash == wanted
    )


def done_before(resource: Resource, observed: RestoreObserved) -> bool:
    """A marker in this server of this very Restore, and nobody asks for another run (rule 2.10).

    An object that was made anew, without the annotation of the run before, asks for none.
    """
    marker = observed.marker
    return (
        marker is not None
        and says_done(marker, observed.identity, observed.spec_hash)
        and again(resource) in ("", marker.run_again)
    )


def telling(resource: Resource, markers: Sequence[Marker], seen: RestoreObserved) -> Marker | None:
    """Of several markers, which earlier specs and runs leave in other databases, the one that says that it was done."""
    return next((m for m in markers if done_before(resource, replace(seen, marker=m))), None)


def in_place(resource: Resource) -> bool:
    """Whether it loads over the live data (rule 2.3)."""
    return resource.spec.get("strategy") == Strategy.IN_PLACE


def target_after(resource: Resource, status: RestoreStatus) -> str:
    """What became of the target when the work ended before the swap."""
    if in_place(resource) and status.phase in (RestorePhase.LOADING, RestorePhase.REPLAYING):
        return "the target may be incomplete, as strategy InPlace leaves it after a failure: restore again"
    return "the target is as it was"


def second(moment: datetime) -> datetime:
    """As status has times."""
    return moment.replace(microsecond=0)
