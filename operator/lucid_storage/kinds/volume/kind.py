"""Volume: the hands. What to do is decided in `plan`, `removal` and `migration`."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from lucid_storage.errors import LucidError, Reason
from lucid_storage.kinds.contract import Action, Notice
from lucid_storage.kinds.oneshot import Said, Standing, Step
from lucid_storage.kinds.volume import checking, growth, removal, unwatched
from lucid_storage.kinds.volume.actions import CreateClaim, DeleteClaim, ExpandClaim
from lucid_storage.kinds.volume.book import UsageBook
from lucid_storage.kinds.volume.conditions import conditions
from lucid_storage.kinds.volume.desired import VolumeDesired, resolve
from lucid_storage.kinds.volume.metrics import VolumeFigures, VolumeMetrics
from lucid_storage.kinds.volume.migrating import Migrations, Need, migration_under_way
from lucid_storage.kinds.volume.observed import KUBELET, Refusal, VolumeObserved
from lucid_storage.kinds.volume.plan import Scope, announced, plan, used
from lucid_storage.kinds.volume.surroundings import Surroundings
from lucid_storage.kube.claims import Attachment, Claim, Claims, PodUse
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.kinds import KINDS, KindInfo
from lucid_storage.models.settings import Settings
from lucid_storage.models.volume import VolumeStatus


@dataclass(frozen=True, slots=True)
class Seen:
    """One look: the declaration where it can be used, the claim, and what a migration needs to know."""

    volume: VolumeObserved
    desired: VolumeDesired | None = None
    trouble: LucidError | None = None
    """Why the declaration cannot be used."""
    need: Need | None = None
    migration: object | None = None
    """None when no migration is concerned."""


class VolumeKind:
    """Claims of the Volumes' own names. It is driven like the kinds that do one thing once, but never ends."""

    info: KindInfo = KINDS["Volume"]
    status_type = VolumeStatus

    def __init__(
        self,
        claims: Claims,
        surroundings: Surroundings,
        book: UsageBook,
        settings: Settings,
        *,
        metrics: VolumeMetrics | None = None,
        migrations: Migrations | None = None,
        jitter: Callable[[], float] = lambda: random.uniform(0.8, 1.2),  # noqa: S311 - spreading
    ) -> None:
        self._claims = claims
        self._surroundings = surroundings
        self._book = book
        self._settings = settings
        self._watch = unwatched.watch_of(settings)
        self._metrics = metrics
        self._migrations = migrations
        self._jitter = jitter
        self._refusals: dict[Key, Refusal] = {}
        self._nodes: dict[Key, frozenset[str]] = {}

    def guess_target(self, resource: Resource, default_database: str | None) -> str:
        return f"{resource.key.namespace}/{resource.key.name}"

    # Looking

    async def observe(self, resource: Resource, status: VolumeStatus, now: datetime) -> Seen:
        desired: VolumeDesired | None = None
        trouble: LucidError | None = None
        try:
            desired = resolve(resource, self._settings)
        except LucidError as error:
            trouble = error
        seen = await self._observed(resource, status, now)
        self._measure(resource.key, desired, seen, status)
        need = growth.migration(desired, seen) if desired is not None and desired.migrate else None
        look = Seen(seen, desired, trouble, need)
        if self._migrations is not None and self._migrations.concerns(resource, seen, status, need):
            answer = await self._migrations.observe(resource, desired, seen, status, need, now)
            look = replace(look, migration=answer)
        return look

    async def _observed(self, resource: Resource, status: VolumeStatus, now: datetime) -> VolumeObserved:
        namespace, name = resource.key.namespace, resource.key.name
        claim = await self._claims.get(namespace, name)
        volume_name = (claim.volume_name if claim is not None else None) or status.volume_name
        fresh = resource.deleted is not None
        pods = await self._surroundings.pods(namespace, fresh=fresh)
        seen = VolumeObserved(
            claim=claim,
            volume=await self._claims.volume(volume_name) if volume_name is not None else None,
            classes=await self._surroundings.classes(resource.spec.get("storageClassName")),
            pods=tuple(p for p in pods if name in p.claims and not p.ended),
            ended=tuple(p for p in pods if name in p.claims and p.ended),
            figures=self._book.get((namespace, name)),
            check=self._book.check((namespace, name)),
            check_failed=self._book.failed((namespace, name)),
            check_asked=checking.asked(resource),
            refusal=self._refusals.get(resource.key),
        )
        if shared_disk(seen):
            self._book.disregard_kubelet((namespace, name))
            seen = replace(seen, figures=None)
        missing = unwatched.expected(seen, self._watch, now)
        seen = replace(
            seen,
            shared_disk=self._book.is_disregarded((namespace, name)),
            unwatched_since=self._book.waits((namespace, name), now, missing=missing),
        )
        if claim is None or fresh:
            return seen
        if not claim.bound:
            return replace(seen, warning=await self._claims.last_warning(claim))
        return await self._placed(resource.key, claim, seen)

    async def _placed(self, key: Key, claim: Claim, seen: VolumeObserved) -> VolumeObserved:
        """Where it is mounted, attached and lies."""
        nodes = {n.name: n for n in await self._surroundings.nodes()}
        attachments = await self._surroundings.attachments()
        own = tuple(a for a in attachments if a.volume == claim.volume_name)
        self._nodes[key] = _named(seen.pods, own, seen.volume.hostnames if seen.volume else ())
        return replace(seen, nodes=nodes, attachments=own)

    def _measure(
        self, key: Key, desired: VolumeDesired | None, seen: VolumeObserved, status: VolumeStatus
    ) -> None:
        if self._metrics is None or desired is None:
            return
        claim = seen.claim
        told = VolumeFigures(
            bound=claim is not None and claim.bound,
            requested=claim.requested if claim is not None else None,
            warning_percent=desired.warning_percent,
            critical_percent=desired.critical_percent,
            full_at=status.full_at,
            check=seen.check or status.check,
            check_failed=checking.noted(seen, status)[0].check_failed is not None,
        )
        self._metrics.tell(key, told)

    def touched_by(self, nodes: frozenset[str]) -> list[Key]:
        """The Volumes that were seen on these nodes, which came or went; the next look at them asks anew."""
        self._surroundings.nodes_changed()
        return [key for key, named in self._nodes.items() if named & nodes]

    # Thinking

    def plan(
        self, resource: Resource, observed: Seen, status: VolumeStatus, now: datetime
    ) -> Step[VolumeStatus]:
        return announced(status, self._step(resource, observed, status, now))

    def _step(
        self, resource: Resource, observed: Seen, status: VolumeStatus, now: datetime
    ) -> Step[VolumeStatus]:
        moved = self._moved(resource, observed, status, now)
        if moved is not None:
            return moved
        if resource.deleted is not None:
            forbid = self._settings.forbid_drops
            return removal.plan(resource, observed.volume, status, forbid_drops=forbid)
        if observed.desired is None:
            assert observed.trouble is not None
            return self._hindered(resource, status, observed.trouble)
        scope = Scope(
            now=now,
            generation=resource.generation,
            paused=resource.paused,
            sweep_seconds=self._settings.sweep_seconds * self._jitter(),
        )
        status = unwatched.noted(observed.desired, observed.volume, status, self._watch, now)
        return replace(plan(observed.desired, observed.volume, status, scope), hold=removal.wanted(resource))

    def _moved(
        self, resource: Resource, observed: Seen, status: VolumeStatus, now: datetime
    ) -> Step[VolumeStatus] | None:
        """A step of the migration. Use and thresholds go on meanwhile: it may wait for days until no pod is there."""
        if self._migrations is None or observed.migration is None:
            return None
        desired, seen = observed.desired, observed.volume
        told: tuple[Notice, ...] = ()
        if desired is not None:
            status, told = used(desired, seen, status, now)
            status = unwatched.noted(desired, seen, status, self._watch, now)
        step = self._migrations.plan(resource, desired, seen, observed.migration, status, observed.need, now)
        return replace(step, notices=(*told, *step.notices)) if step is not None else None

    def hindered(
        self, resource: Resource, status: VolumeStatus, error: LucidError, now: datetime
    ) -> Step[VolumeStatus]:
        return announced(status, self._hindered(resource, status, error))

    def _hindered(self, resource: Resource, status: VolumeStatus, error: LucidError) -> Step[VolumeStatus]:
        standing = Standing.BLOCKED if error.stalled else Standing.UNDER_WAY
        more: tuple[tuple[str, bool, Reason, str], ...] = ()
        with suppress(LucidError):  # without a declaration, what needs one is left out
            more = conditions(resolve(resource, self._settings), status, paused=resource.paused)
        said = Said(standing, error.reason, error.message, more=more)
        status = status.model_copy(update={"message": error.message})
        hold = removal.wanted(resource) or migration_under_way(status)
        return Step(status, said, hold=hold, retry=True)

    # Doing

    async def apply(self, resource: Resource, status: VolumeStatus, action: Action) -> None:
        if not isinstance(action, CreateClaim | ExpandClaim | DeleteClaim):
            if self._migrations is None:
                raise TypeError(f"Volume cannot do {type(action).__name__}")
            await self._migrations.apply(resource, status, action)
            return
        try:
            match action:
                case CreateClaim(body=body):
                    await self._claims.create(body)
                case ExpandClaim(claim=claim, size=size, grown=grown):
                    await self._claims.expand(claim, size, grown=grown)
                case DeleteClaim(claim=claim, unbound=unbound):
                    await self._claims.delete(claim, as_seen=unbound)
        except LucidError as error:
            self._refused(resource, error)
            return
        self._refusals.pop(resource.key, None)

    def _refused(self, resource: Resource, error: LucidError) -> None:
        """Remembered instead of raised, so that figures and conditions go on while it is tried again."""
        before = self._refusals.get(resource.key)
        again = before is not None and before.generation == resource.generation
        self._refusals[resource.key] = Refusal(
            error.reason,
            error.message,
            error.stalled,
            resource.generation,
            self._surroundings.now(),
            before.attempts + 1 if again and before is not None else 1,
        )

    def ended(self, resource: Resource, status: VolumeStatus) -> None:
        """Nobody waits for a Volume."""

    def forget(self, key: Key) -> None:
        self._refusals.pop(key, None)
        self._nodes.pop(key, None)
        if self._metrics is not None:
            self._metrics.forget(key)
        self._book.forget((key.namespace, key.name))
        if self._migrations is not None:
            self._migrations.forget(key)


def shared_disk(seen: VolumeObserved) -> bool:
    """Whether a kubelet's figures are of a disk that many volumes share, as in the class local-path. Pure."""
    figures, volume = seen.figures, seen.volume
    if figures is None or volume is None or figures.source != KUBELET:
        return False
    return volume.source in ("local", "hostPath") and figures.capacity > 2 * volume.capacity


def _named(
    pods: tuple[PodUse, ...], attachments: tuple[Attachment, ...], hosts: tuple[str, ...]
) -> frozenset[str]:
    attached = {a.node for a in attachments}
    return frozenset({p.node for p in pods if p.node is not None} | attached | set(hosts))
