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
from lucid_storage.models.backup import BackupEngine
from lucid_storage.models.restore import RestorePhase, RestoreStatus, Strategy
from lucid_storage.stores.mongodb.restore.port import Marker
from lucid_storage.stores.mongodb.types import Topology

Plan = Step[RestoreStatus]

FINISHED = frozenset({RestorePhase.COMPLETED, RestorePhase.FAILED, RestorePhase.CANCELLED})
_AT_ONCE = {
    BackupEngine.REDIS: "Redis",
    BackupEngine.ELASTICSEARCH: "Elasticsearch",
    BackupEngine.VOLUMES: "the volumes",
}
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
    """Of the run before this one: another value of the annotation, or another server."""
    unfit: LucidError | None = None
    """Why the swap cannot begin, where it has not."""
    replaced: int = 0
    """Collections that the swap put aside, where it is done."""
    left: tuple[str, ...] = ()
    """In words, what is not as in the backup then."""
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
    """What became of the target when the work ended before the swap, and a worker may have been at any point."""
    at_work = status.phase in (RestorePhase.LOADING, RestorePhase.REPLAYING)
    others = written_at_once(resource) if at_work else ""
    if in_place(resource) and at_work and of_mongodb(resource):
        known = saved(status)
        told = f"the target may be incomplete, as strategy InPlace leaves it after a failure: restore again{known}"
        return f"{told}; the same holds for {others}" if others else told
    if not others:
        return "the target is as it was"
    rest = f"{others} may be restored already, in whole or in part: restore again"
    return f"MongoDB is as it was, and {rest}" if of_mongodb(resource) else rest


def of_mongodb(resource: Resource) -> bool:
    """Whether MongoDB is restored."""
    return BackupEngine.MONGODB in (resource.spec.get("engines") or [BackupEngine.MONGODB])


def written_at_once(resource: Resource) -> str:
    """The engines that have no swap: what the worker wrote is live, and is not taken back. Empty when there is none."""
    asked = resource.spec.get("engines") or ()
    names = [name for engine, name in _AT_ONCE.items() if engine in asked]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def saved(status: RestoreStatus) -> str:
    """Where that is which a failure in place may have taken, as the end of a sentence."""
    if status.backup_before is None:
        return ""
    return f"; the Backup {status.backup_before} holds what was there before"


MOST_ASIDE = 20
"""Names that a status has room for."""


def told_aside(known: Sequence[str] | None, more: Sequence[str]) -> list[str] | None:
    """Collections that a swap moved aside and that are never dropped, as status has them."""
    names = dict.fromkeys([*(known or ()), *(name[:256] for name in more)])
    return list(names)[:MOST_ASIDE] or None


def second(moment: datetime) -> datetime:
    """As status has times."""
    return moment.replace(microsecond=0)
