"""One look at one resource, in the order that is the same for every kind."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Generic

from lucid_storage.errors import OUTAGE_GRACE_SECONDS, LucidError, Reason, StoreUnavailableError
from lucid_storage.kinds import drift
from lucid_storage.kinds.contract import Action, D, Kind, Notice, Plan, S, Scope, V, Verdict
from lucid_storage.kinds.deleting import Deleting
from lucid_storage.kinds.identity import kept, same_server
from lucid_storage.kinds.pinned import check_pinned
from lucid_storage.kinds.protecting import Protecting, note_done
from lucid_storage.kinds.services import Outcome, Services
from lucid_storage.kinds.telling import Row, Teller, no_own_conditions
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.base import DeletionPolicy

logger = logging.getLogger(__name__)

ROUNDS = 12
"""Observations in one look before it counts as a defect: no plan needs more than a few."""
SWAP_SECONDS = 5.0
"""How often to look whether a restore's swap is over."""


@dataclass(slots=True)
class _Record(Generic[S]):
    """The status as of the last actions begun: what an error leaves behind must not unsay what was done."""

    status: S


class Cycle(Generic[D, V, S]):
    """Drives one kind. `own_conditions` makes those that only this kind has, from its status."""

    def __init__(
        self,
        kind: Kind[D, V, S],
        services: Services,
        own_conditions: Callable[[S, Sequence[str]], list[Row]] = no_own_conditions,
    ) -> None:
        self.kind = kind
        self._services = services
        self._teller: Teller[S] = Teller(
            kind.info.kind,
            kind.status_type,
            status=services.status,
            events=services.events,
            remember=services.remember,
            now=services.now,
            own=own_conditions,
        )
        self._deleting = Deleting(kind, services, self._teller)
        protector = services.protector
        self._protecting = Protecting(protector, services.now) if protector is not None else None
        self._fights: dict[Key, drift.FightGuard] = {}
        self._trouble: dict[Key, float] = {}
        """Since when each resource has been waiting for its store without saying so."""

    async def run(self, resource: Resource) -> Outcome:
        """Raises LeadershipLostError and KubeApiError; everything that a store says becomes a condition."""
        status = self.kind.status_type.model_validate(resource.status)  # type: ignore[attr-defined]
        if resource.deleted is not None:
            return await self._deleting.look(resource, status)
        try:
            desired = await self.kind.desired(resource)
        except LucidError as error:
            return await self._refuse(resource, status, error)
        if not await self._settle_finalizer(resource, desired):
            return Outcome(again_seconds=1)
        record = _Record(status)
        try:
            return await self._converge(resource, desired, record)
        except LucidError as error:
            said = await self._explained(resource, desired, record.status, error)
            return await self._refuse(resource, record.status, said)

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._fights.pop(key, None)
        self._trouble.pop(key, None)
        self.kind.forget(key)

    # Converging

    async def _converge(self, resource: Resource, desired: D, record: _Record[S]) -> Outcome:
        status = record.status
        identity = await self.kind.identity(resource, desired)
        check_pinned(desired, status, identity)
        scope = Scope(
            now=self._services.now(),
            settled=status.applied_generation == resource.generation,
            peers=self._services.peers(resource, desired.target),
            forbid_drops=self._services.forbid_drops,
        )
        await self._check_claims(resource, desired, identity, scope)
        status.observed_generation = resource.generation
        status.database, status.target = desired.database, desired.target
        status.server_identity = kept(identity)
        plan = await self._rounds(resource, desired, record, scope)
        return await self._settle(resource, desired, plan)

    async def _rounds(self, resource: Resource, desired: D, record: _Record[S], scope: Scope) -> Plan[S]:
        status = record.status
        questions: tuple[object, ...] = ()
        notices: tuple[Notice, ...] = ()
        waiting = await self._protecting.under_way(resource, status) if self._protecting else None
        if waiting is not None:
            return waiting
        for _ in range(ROUNDS):
            observed = await self.kind.observe(resource, desired, status, questions, scope)
            plan = self.kind.plan(resource, desired, observed, status, scope)
            open_questions = tuple(q for q in plan.questions if q not in questions)
            if open_questions:
                questions = (*questions, *open_questions)
                continue
            notices = (*notices, *plan.notices)
            status = plan.status
            if not plan.actions:
                return replace(plan, notices=notices)
            if resource.paused:
                return replace(plan, actions=(), notices=notices, verdict=_paused(plan))
            restore = self._services.swapping(status.server_identity or "", desired.database or "")
            if restore is not None:
                return replace(
                    plan,
                    actions=(),
                    drift=(),
                    notices=notices,
                    verdict=_waiting_for(restore),
                    recheck_seconds=SWAP_SECONDS,
                )
            if plan.protect is not None:
                if self._protecting is None:
                    raise LucidError("No backups are made here.", reason=Reason.BACKUP_UNAVAILABLE)
                unprotected = await self._protecting.missing(
                    resource, record.status, plan.protect, self._teller
                )
                if unprotected is not None:
                    return replace(unprotected, notices=notices)
            if plan.drift:
                self._note_correction(resource, plan)
            record.status = status
            if plan.journal:
                await self._teller.write(resource, status, _working(plan), "")
            await self._act(resource, desired, status, plan.actions)
            questions = ()
        raise LucidError("The resource did not settle; this is a defect of the operator, please report it.")

    async def _act(self, resource: Resource, desired: D, status: S, actions: Sequence[Action]) -> None:
        for action in actions:
            logger.info(action.describe(), extra={"resource": str(resource.key)})
            await self.kind.apply(resource, desired, status, action)
            self._services.metrics.actions.labels(self.kind.info.kind, type(action).__name__).inc()
        self._services.touch_dependents(resource.key, desired.target)

    async def _settle(self, resource: Resource, desired: D, plan: Plan[S]) -> Outcome:
        self._trouble.pop(resource.key, None)
        status = plan.status
        status.drift = drift.merged(plan.drift, status.drift or []) if not plan.actions else []
        if plan.verdict is None:
            status.applied_generation = resource.generation
        if plan.protect is None:
            note_done(resource, status)
        for notice in plan.notices:
            self._teller.emit(resource, notice)
        await self._teller.write(resource, status, plan.verdict, plan.message)
        sweep = self.kind.sweep_seconds(resource, desired)
        return Outcome(again_seconds=min(sweep, plan.recheck_seconds or sweep))

    def _note_correction(self, resource: Resource, plan: Plan[S]) -> None:
        """Count a correction; raise when somebody keeps changing the object back."""
        guard = self._fights.get(resource.key)
        if guard is None or guard.generation != resource.generation:
            guard = self._fights[resource.key] = drift.FightGuard(resource.generation)
        if not guard.may_correct(monotonic()):
            raise LucidError(
                f"Somebody changed {plan.drift[0].field} back more than {drift.FIGHT_CORRECTIONS} times in 10"
                " minutes, so the operator stopped writing. Find who does (another tool, a start-up script),"
                " then change this resource or restart the operator.",
                reason=Reason.DRIFT_FIGHT,
            )
        fields = ", ".join(e.field for e in plan.drift[:5])
        self._services.metrics.corrections.labels(self.kind.info.kind).inc()
        self._teller.emit(
            resource, Notice("DriftCorrected", f"Changed behind the operator's back, put right: {fields}.")
        )

    # Refusing

    async def _check_claims(self, resource: Resource, desired: D, identity: str, scope: Scope) -> None:
        """The oldest resource that can log in owns the real object."""
        for peer in sorted(scope.peers, key=lambda p: p.seniority):
            if peer.seniority >= resource.seniority:
                return
            if await self._owns(peer, desired, identity):
                raise LucidError(
                    f"{desired.target} is already declared by {peer.key.namespace}/{peer.key.name}, which is older."
                    " Delete one of the two.",
                    reason=Reason.CONFLICT,
                )

    async def _owns(self, peer: Resource, desired: D, identity: str) -> bool:
        """Whether an older resource means the same object on the same server, and can log in there.

        One that could before and whose address does not answer now has an outage: what is its own stays so.
        """
        try:
            theirs = await self.kind.desired(peer)
            if not self.kind.same_object(desired, theirs):
                return False
            return same_server(await self.kind.identity(peer, theirs), identity)
        except StoreUnavailableError:
            known = peer.status.get("serverIdentity")
            return isinstance(known, str) and same_server(known, identity)
        except LucidError:
            return False  # it cannot log in or is no valid declaration, so it owns nothing

    async def _explained(self, resource: Resource, desired: D, status: S, error: LucidError) -> LucidError:
        try:
            return await self.kind.explain(resource, desired, status, error)
        except LucidError as second:
            logger.warning("no details for %s: %s", resource.key, second.message)
            return error

    async def _refuse(self, resource: Resource, status: S, error: LucidError) -> Outcome:
        if isinstance(error, StoreUnavailableError) and _is_ready(resource):
            since = self._trouble.setdefault(resource.key, monotonic())
            grace = min(error.grace_seconds, OUTAGE_GRACE_SECONDS - (monotonic() - since))
            if grace > 0:
                return Outcome(again_seconds=grace)
        self._trouble.pop(resource.key, None)
        if error.stalled:
            self.kind.forget(resource.key)
        verdict = Verdict(error.reason, error.message, stalled=error.stalled)
        await self._teller.write(resource, status, verdict, "")
        return Outcome(failed=True)

    async def _settle_finalizer(self, resource: Resource, desired: D) -> bool:
        if desired.deletion_policy is DeletionPolicy.DELETE:
            return await self._services.finalizers.hold(resource)
        return await self._services.finalizers.release(resource)


def _is_ready(resource: Resource) -> bool:
    """Whether status says Ready of this generation."""
    return any(
        c.get("type") == "Ready"
        and c.get("status") == "True"
        and c.get("observedGeneration") == resource.generation
        for c in resource.status.get("conditions") or []
    )


def _working(plan: Plan[S]) -> Verdict:
    return plan.verdict or Verdict(Reason.PROGRESSING, f"Next: {plan.actions[0].describe()}.")


def _waiting_for(restore: str) -> Verdict:
    return Verdict(
        Reason.PROGRESSING, f"Waits until the Restore {restore} has swapped its collections in this database."
    )


def _paused(plan: Plan[S]) -> Verdict:
    steps = "; ".join(a.describe() for a in plan.actions[:3])
    return Verdict(Reason.PAUSED, f"Paused by annotation. Waiting to do: {steps}.", stalled=True)
