"""What every kind provides, and what a plan is. The engine knows kinds only through this.

A kind thinks in pure steps (`desired`, `plan`) and touches the world in few (`observe`, `apply`, `dispose`). The
cycle drives: desired -> observe -> plan -> apply -> observe -> ... until a plan has no actions left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from lucid_storage.errors import LucidError, Reason
from lucid_storage.kinds.protection import Need
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.base import Condition, DeletionPolicy, DriftEntry
from lucid_storage.models.kinds import KindInfo


class Action(Protocol):
    """One step that changes the world: a frozen dataclass with a verb for a name."""

    def describe(self) -> str:
        """One line for logs and events."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened and that a person may want to know: becomes an Event."""

    reason: str
    message: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why the resource is not Ready. `stalled` says that somebody must change something."""

    reason: Reason
    message: str
    stalled: bool = False


class Desired(Protocol):
    """The declaration in the operator's terms, as far as the cycle needs to know it."""

    @property
    def target(self) -> str:
        """Groups resources that may mean the same real object, and names it to people ("db.coll")."""

    @property
    def database(self) -> str | None: ...

    @property
    def deletion_policy(self) -> DeletionPolicy: ...


class Status(Protocol):
    """What the statuses of all declared kinds share."""

    observed_generation: int | None
    applied_generation: int | None
    conditions: list[Condition] | None
    database: str | None
    target: str | None
    server_identity: str | None
    drift: list[DriftEntry] | None
    message: str | None

    def to_dict(self) -> dict[str, object]: ...


D = TypeVar("D", bound=Desired)
V = TypeVar("V")
S = TypeVar("S", bound=Status)


@dataclass(frozen=True, slots=True)
class Plan(Generic[S]):
    """What to do next, and what to say meanwhile."""

    status: S
    """Status as it stands before the actions; the cycle adds conditions and generations."""
    actions: tuple[Action, ...] = ()
    questions: tuple[object, ...] = ()
    """What must be looked up (usually counted) before there can be a plan; `observe` answers them."""
    journal: bool = False
    """Write `status` before the first action, as the proof of what we are about to do."""
    drift: tuple[DriftEntry, ...] = ()
    """Differences found on a settled resource: corrected (with actions) or only reported (without)."""
    verdict: Verdict | None = None
    """None means Ready once nothing is left to do."""
    message: str = ""
    """Said beside Ready."""
    notices: tuple[Notice, ...] = ()
    recheck_seconds: float | None = None
    """Look again after this long, besides the sweep."""
    protect: Need | None = None
    """What the actions could lose, where backupBefore asks for a verified Backup of it first."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What the engine tells a kind about a resource's surroundings."""

    now: datetime
    settled: bool
    """This generation was applied in full before, so a difference now is drift."""
    peers: Sequence[Resource] = ()
    """Other live resources of this kind with the same target."""
    others: Sequence[Resource] = ()
    """At a deletion: live resources of other kinds with the same target."""
    forbid_drops: bool = False
    """The operator's settings forbid all drops."""


@dataclass(frozen=True, slots=True)
class Disposal:
    """What deletion of a resource does to the real object, and why (for the Event)."""

    drop: bool
    message: str
    passing: bool = False
    """What stands in the way may be about to go too: asked again for some seconds."""


class Kind(Protocol[D, V, S]):
    """One kind: its pure thinking and its hands. Every method that awaits raises the errors of its store."""

    info: KindInfo
    status_type: type[S]

    def guess_target(self, resource: Resource, default_database: str | None) -> str:
        """The target as far as the raw object tells, before anything is resolved. Never raises."""

    async def desired(self, resource: Resource) -> D:
        """The declaration with its defaults resolved. Raises RefusedError with what to change."""

    def same_object(self, mine: D, theirs: D) -> bool:
        """Whether two declarations with the same target on the same server are one real object. Pure."""

    async def identity(self, resource: Resource, desired: D) -> str:
        """The server's identity, after a login."""

    async def observe(
        self, resource: Resource, desired: D, status: S, questions: Sequence[object], scope: Scope
    ) -> V:
        """Look at the real object, and answer the questions."""

    def plan(self, resource: Resource, desired: D, observed: V, status: S, scope: Scope) -> Plan[S]:
        """What to do. Pure: no await, no clock, no client."""

    async def apply(self, resource: Resource, desired: D, status: S, action: Action) -> None:
        """Do one step; safe to repeat. What must be remembered of it goes into `status`."""

    async def explain(self, resource: Resource, desired: D, status: S, error: LucidError) -> LucidError:
        """After a refusal: look up what a person needs to know, put it into `status` and the sentence."""

    def disposal(self, resource: Resource, desired: D, status: S, scope: Scope) -> Disposal:
        """Whether deletion may drop the real object: policy, proof of ownership, other claims. Pure."""

    async def dispose(self, resource: Resource, desired: D, status: S, scope: Scope) -> str:
        """Drop the real object, with proof that it is still the one. Returns what was done.

        Here `scope.peers` are all that may be on the same server, also those that declare something else there.
        """

    def forget(self, key: Key) -> None:
        """The resource is gone, is going or may not act: nothing is remembered of it or done in its name."""

    def sweep_seconds(self, resource: Resource, desired: D) -> float:
        """How often to look without any trigger."""
