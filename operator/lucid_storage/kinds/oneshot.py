"""Kinds that do one thing once, Backup and Restore: what they provide, and one look at one resource.

Same order as for declared kinds: observe -> plan (pure) -> journal -> apply -> observe -> ... The difference is the
end: a phase from which nothing leads back to work.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar, cast

from lucid_storage.errors import LucidError, Reason
from lucid_storage.kinds import conditions
from lucid_storage.kinds.contract import Action, Notice, Verdict
from lucid_storage.kinds.cycle import ROUNDS
from lucid_storage.kinds.services import Outcome, Services
from lucid_storage.kube.client import KubeApiError
from lucid_storage.kube.events import Event
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.base import Condition
from lucid_storage.models.kinds import KindInfo

logger = logging.getLogger(__name__)


class OneShotStatus(Protocol):
    """What the statuses of one-shot kinds share."""

    observed_generation: int | None
    conditions: list[Condition] | None

    def to_dict(self) -> dict[str, object]: ...


V = TypeVar("V")
S = TypeVar("S", bound=OneShotStatus)


class Standing(StrEnum):
    """What the conditions say of a phase."""

    UNDER_WAY = "UnderWay"
    """Queued or at work: Reconciling."""
    BLOCKED = "Blocked"
    """Not begun, and somebody must change something: Stalled, and tried again all the same."""
    DONE = "Done"
    """Ready, Complete."""
    FAILED = "Failed"
    """Not Ready, Stalled, Failed."""


@dataclass(frozen=True, slots=True)
class Said:
    """What people are told."""

    standing: Standing
    reason: Reason
    message: str
    more: tuple[tuple[str, bool, Reason, str], ...] = ()
    """The kind's own conditions: type, status, reason, message."""


@dataclass(frozen=True, slots=True)
class Step(Generic[S]):
    """What a plan says."""

    status: S
    said: Said | None
    """None leaves the conditions as they are."""
    actions: tuple[Action, ...] = ()
    hold: bool = False
    """Our finalizer must be on the resource before the actions, and stays."""
    notices: tuple[Notice, ...] = ()
    recheck_seconds: float | None = None
    """Look again after this long; None means that only a change of the resource is a reason."""
    retry: bool = False
    """Look again after the back-off, when the actions are done."""
    idle: bool = False
    """Nothing of it runs or is in line, though it has not ended: who waits for it may go on."""
    must_finish: bool = False
    """Held even in a namespace that is being deleted: half of it would be worse than none or all (rule 3)."""


class OneShotKind(Protocol[V, S]):
    """One kind. `observe` and `apply` raise LucidError and KubeApiError."""

    info: KindInfo
    status_type: type[S]

    def guess_target(self, resource: Resource, default_database: str | None) -> str:
        """What groups resources that wait for each other. Never raises."""

    async def observe(self, resource: Resource, status: S, now: datetime) -> V:
        """Everything that the plan needs to know. What hinders the work is a value, not an error."""

    def plan(self, resource: Resource, observed: V, status: S, now: datetime) -> Step[S]:
        """What to do. Pure: no await, no clock, no client."""

    async def apply(self, resource: Resource, status: S, action: Action) -> None:
        """Do one step; safe to repeat."""

    def hindered(self, resource: Resource, status: S, error: LucidError, now: datetime) -> Step[S]:
        """What an error of `observe` or `apply` means. Pure."""

    def ended(self, resource: Resource, status: S) -> None:
        """No work is under way for it any more: who waits may go on."""

    def forget(self, key: Key) -> None:
        """The resource is gone."""


REFUSED = frozenset({400, 422})
"""What the API server answers to a status that the schema does not allow."""


class OneShotCycle(Generic[V, S]):
    """Drives one kind. With `ends` False nothing of it is ever Complete or Failed: a Volume goes on."""

    def __init__(self, kind: OneShotKind[V, S], services: Services, *, ends: bool = True) -> None:
        self.kind = kind
        self._services = services
        self._ends = ends

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self.kind.forget(key)

    async def run(self, resource: Resource) -> Outcome:
        """Raises LeadershipLostError and KubeApiError."""
        status = cast("S", self.kind.status_type.model_validate(resource.status))  # type: ignore[attr-defined]
        if resource.deleted is not None and not resource.held:
            return Outcome(gone=True)
        try:
            step, held = await self._steps(resource, status)
        except KubeApiError as error:
            if error.status in REFUSED and resource.status.get("run") is None:
                # Its beginning could not be written down, so nothing began: who waits for it may go on.
                self.kind.ended(resource, status)
            raise
        except LucidError as error:
            known = cast("S", self.kind.status_type.model_validate(resource.status))  # type: ignore[attr-defined]
            step = self.kind.hindered(resource, known, error, self._services.now())
            held = resource.held
            if resource.deleted is not None:
                step = replace(step, hold=True, retry=True)
        if resource.deleted is not None and step.hold and not step.must_finish:
            step = await self._let_go(resource, step)
        await self._tell(resource, step)
        if held and not step.hold:
            return await self._release(resource)
        if step.retry:
            return Outcome(failed=True, again_seconds=step.recheck_seconds)
        return Outcome(again_seconds=step.recheck_seconds)

    async def _steps(self, resource: Resource, status: S) -> tuple[Step[S], bool]:
        """The last step, whose actions are none; and whether our finalizer is on the resource."""
        held = resource.held
        for _ in range(ROUNDS):
            now = self._services.now()
            observed = await self.kind.observe(resource, status, now)
            step = self.kind.plan(resource, observed, status, now)
            if step.hold and not held and resource.deleted is None:
                held = await self._services.finalizers.hold(resource)
                if not held:
                    return Step(status, None, hold=True, recheck_seconds=1.0), False
            if not step.actions:
                return step, held
            # The proof of what we are about to do: whoever comes next finds it.
            await self._tell(resource, step)
            status = step.status
            for action in step.actions:
                logger.info(action.describe(), extra={"resource": str(resource.key)})
                await self.kind.apply(resource, status, action)
                self._services.metrics.actions.labels(self.kind.info.kind, type(action).__name__).inc()
            if step.retry:
                return replace(step, actions=(), notices=()), held
        raise LucidError("The resource did not settle; this is a defect of the operator, please report it.")

    async def _release(self, resource: Resource) -> Outcome:
        if not resource.held:  # put on in this very look: the resource as we know it is older than that
            return Outcome(again_seconds=0.5)
        released = await self._services.finalizers.release(resource)
        if resource.deleted is not None and released:
            return Outcome(gone=True)
        return Outcome(again_seconds=None if released else 1.0)

    async def _let_go(self, resource: Resource, step: Step[S]) -> Step[S]:
        """In a namespace that is going, a deletion is tried for a bounded time only."""
        left = await self._services.seconds_left(resource)
        if left is None:
            return step
        if left > 0:
            return replace(step, recheck_seconds=min(left, step.recheck_seconds or left))
        self._services.metrics.let_go.labels(self.kind.info.kind).inc()
        why = step.said.message if step.said is not None else "the work did not end in time."
        message = f"Let go because the namespace is being deleted: {why}"
        logger.warning("%s", message, extra={"resource": str(resource.key)})
        return Step(step.status, None, notices=(Notice("Deleted", message, warning=True),))

    async def _tell(self, resource: Resource, step: Step[S]) -> None:
        """Write status where it differs, then the events. Raises KubeApiError."""
        status = step.status
        previous = list(status.conditions or [])
        if step.said is not None:
            status.observed_generation = resource.generation
            status.conditions = _conditions(
                previous, step.said, resource.generation, self._services.now(), ends=self._ends
            )
        elif status.observed_generation is not None and status.observed_generation != resource.generation:
            status.observed_generation = resource.generation
            status.conditions = [
                c.model_copy(update={"observed_generation": resource.generation}) for c in previous
            ]
        document = cast("dict[str, Any]", status.to_dict())
        before = resource.status.get("phase")
        version = await self._services.status.write(resource, document)
        if version is not None:
            resource.status.clear()
            resource.status.update(document)
            self._services.remember(resource, version)
            self._services.metrics.outcomes.written(self.kind.info.kind, resource.spec, before, document)
        for notice in step.notices:
            self._services.events.emit(
                Event(
                    resource.key,
                    self.kind.info.kind,
                    resource.uid,
                    notice.reason,
                    notice.message,
                    notice.warning,
                )
            )
        over = step.said is not None and step.said.standing in {Standing.DONE, Standing.FAILED}
        if over or step.idle:
            self.kind.ended(resource, status)


def _conditions(
    previous: Sequence[Condition], said: Said, generation: int, now: datetime, *, ends: bool
) -> list[Condition]:
    done, failed = said.standing is Standing.DONE, said.standing is Standing.FAILED
    stalled = failed or said.standing is Standing.BLOCKED
    ending = [
        ("Complete", done, said.reason, said.message if done else ""),
        ("Failed", failed, said.reason, said.message if failed else ""),
    ]
    return conditions.build(
        previous,
        generation=generation,
        now=now,
        verdict=None if done else Verdict(said.reason, said.message, stalled=stalled),
        message=said.message,
        ready_reason=said.reason if done else Reason.RECONCILED,
        extra=[*(ending if ends else ()), *said.more],
    )
