"""What is seen of a migration, and the case that its plan is about. Values only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from lucid_storage.errors import LucidError, Reason
from lucid_storage.kinds.contract import Action, Notice
from lucid_storage.kinds.oneshot import Said, Standing, Step
from lucid_storage.kinds.volume import trouble
from lucid_storage.kinds.volume.conditions import conditions
from lucid_storage.kinds.volume.desired import VolumeDesired
from lucid_storage.kinds.volume.migrating import Need
from lucid_storage.kinds.volume.migration.journal import Journal, Names, names
from lucid_storage.kinds.volume.observed import Refusal, VolumeObserved
from lucid_storage.kinds.volume.plan import left, patience
from lucid_storage.kinds.workers.state import ABSENT, WorkerState
from lucid_storage.kube.claims import PodUse
from lucid_storage.kube.resources import Resource
from lucid_storage.kube.volumes import MovingClaim, MovingVolume
from lucid_storage.models.meta import GIVE_UP_MIGRATION, MIGRATION
from lucid_storage.models.volume import VolumePhase, VolumeStatus
from lucid_storage.models.volume_migration import Migration, MigrationStep

NAMES = 5

Plan = Step[VolumeStatus]


@dataclass(frozen=True, slots=True)
class Answer:
    """One look. Only what the step needs is filled in."""

    claim: MovingClaim | None = None
    """Whatever has the claim's name."""
    new_claim: MovingClaim | None = None
    keeper: MovingClaim | None = None
    old_volume: MovingVolume | None = None
    new_volume: MovingVolume | None = None
    worker: WorkerState = ABSENT
    """Of the Job that the step is about."""
    pods: tuple[PodUse, ...] = ()
    """Those that use the claim, asked for in this look."""
    strangers: tuple[PodUse, ...] = ()
    """Pods of others that may write to the migration's own claims."""
    former: tuple[PodUse, ...] = ()
    """Pods of ours that may, although the Job that the step is about is not there."""
    ended: tuple[PodUse, ...] = ()
    """Pods that are over and have the claim: Kubernetes holds it for them until they are deleted."""
    found: Journal | None = None
    """On a volume, where status knows of no migration, or tells of one that its volumes do not know."""
    released: MovingVolume | None = None
    """The volume that the annotation releases."""
    nothing_to_release: bool = False
    """The volume that the annotation names is gone."""
    terminating: bool = False
    """The namespace is being deleted."""
    refusal: Refusal | None = None
    """The API server's last answer to an action of this migration."""
    unfit: LucidError | None = None
    """Why no worker can be started."""
    cluster: str = ""
    deadline_seconds: int = 86_400
    forbid_drops: bool = False
    """The operator's settings forbid whatever deletes data."""


@dataclass(frozen=True, slots=True)
class Case:
    """One look at one Volume."""

    resource: Resource
    desired: VolumeDesired | None
    seen: VolumeObserved
    answer: Answer
    status: VolumeStatus
    need: Need | None
    now: datetime

    @property
    def migration(self) -> Migration:
        assert self.status.migration is not None
        return self.status.migration

    @property
    def names(self) -> Names:
        return names(self.resource.key.name, self.migration.run)

    @property
    def users(self) -> tuple[PodUse, ...]:
        """Pods that may write: those of others, and workers of ours that do not copy."""
        return tuple(
            p for p in self.answer.pods if p.owner_uid is None or not (p.read_only or self._copies(p))
        )

    @property
    def helpers(self) -> tuple[MovingClaim, ...]:
        """The claims of the migration itself that are there, and not others of their names."""
        there = (self.answer.keeper, self.answer.new_claim)
        return tuple(c for c in there if c is not None and c.annotations.get(MIGRATION) == self.migration.run)

    def _copies(self, pod: PodUse) -> bool:
        """Only the workers of the migration have its new claim."""
        begun = self.status.migration is not None and pod.owner_uid == self.resource.uid
        return begun and self.names.new_claim in pod.claims

    def noting(self, **changes: object) -> Case:
        """The same with another journal in status."""
        journal = self.migration.model_copy(update=changes)
        return replace(self, status=self.status.model_copy(update={"migration": journal}))

    def refused(self) -> Plan | None:
        """The wait after an action that the API server refused; None when there was none, or it is over."""
        refusal = self.answer.refusal
        if refusal is None or refusal.generation != self.resource.generation:
            return None
        rest = left(refusal.at, patience(refusal), self.now)
        if rest <= 0:
            return None
        return self.step(
            refusal.message, reason=refusal.reason, blocked=refusal.stalled, seconds=max(rest, 0.1)
        )

    def step(
        self,
        message: str,
        *,
        actions: tuple[Action, ...] = (),
        reason: Reason = Reason.MIGRATING,
        blocked: bool = False,
        seconds: float | None = None,
        phase: VolumePhase = VolumePhase.MIGRATING,
        hold: bool = True,
        notices: tuple[Notice, ...] = (),
    ) -> Plan:
        """What is done next, and what people are told of it."""
        message = f"{message}{self._failure()}"
        status = self.status.model_copy(update={"phase": phase, "message": message})
        standing = Standing.BLOCKED if blocked else Standing.UNDER_WAY
        more: tuple[tuple[str, bool, Reason, str], ...] = ()
        if self.desired is not None:
            more = conditions(self.desired, status, paused=self.resource.paused)
        said = Said(standing, reason, message, more=more)
        return Step(status, said, actions=actions, hold=hold, notices=notices, recheck_seconds=seconds)

    def _failure(self) -> str:
        """Why the last look of the switch failed, as long as none succeeded."""
        journal = self.status.migration
        if journal is None or journal.step is not MigrationStep.SWITCHING or journal.message is None:
            return ""
        way = f" To go back to the old volume, set the annotation {GIVE_UP_MIGRATION}: {journal.run}"
        return f" Nothing is lost; the last look failed {journal.attempts or 1} times: {journal.message}{way}"


def away(case: Case) -> str:
    """A sentence about a node that does not answer, on which a pod that is waited for cannot end; else empty."""
    found = trouble.node_away(case.seen)
    return f" {found.message}" if found is not None else ""


def deleted_first(pods: tuple[PodUse, ...]) -> str:
    """What to do about pods that are over and hold the claim."""
    return f"These pods have ended, and Kubernetes holds the claim until they are deleted: {listed(pods)}. Delete them."


def listed(pods: tuple[PodUse, ...]) -> str:
    """Names of pods, a bounded number of them."""
    names = [p.name for p in pods[:NAMES]]
    more = len(pods) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
