"""Migrations: the hands. What to do is decided in `plan`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Protocol

from lucid_storage.errors import LucidError, Reason, RefusedError
from lucid_storage.kinds.contract import Action
from lucid_storage.kinds.oneshot import Step
from lucid_storage.kinds.volume.desired import VolumeDesired
from lucid_storage.kinds.volume.migrating import Need, migration_under_way
from lucid_storage.kinds.volume.migration import ending
from lucid_storage.kinds.volume.migration import switching as switching_plan
from lucid_storage.kinds.volume.migration.actions import (
    DescribeClaim,
    FreeName,
    FreeVolume,
    HoldName,
    KeepVolume,
    MakeClaim,
    RemoveClaim,
    ReserveVolume,
    StartCopy,
    StopCopy,
)
from lucid_storage.kinds.volume.migration.journal import Journal, Stage, claim_digest, names, on_volume
from lucid_storage.kinds.volume.migration.observed import Answer, Case
from lucid_storage.kinds.volume.migration.plan import plan
from lucid_storage.kinds.volume.observed import Refusal, VolumeObserved
from lucid_storage.kinds.workers.launch import WorkerRequest
from lucid_storage.kinds.workers.state import WorkerPhase, WorkerState
from lucid_storage.kube.claims import Claims, PodUse
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.kube.volumes import MovingVolume, Volumes
from lucid_storage.models.meta import MIGRATION, RELEASE_OLD_VOLUME
from lucid_storage.models.settings import Settings
from lucid_storage.models.volume import VolumeStatus
from lucid_storage.models.volume_migration import MigrationStep


class CopyWorkers(Protocol):
    """What of kinds/workers is used. Every call may raise KubeApiError."""

    async def cluster(self) -> str: ...

    async def start(self, request: WorkerRequest) -> None:
        """Make the Job, once. Harmless to repeat."""

    async def stop(
        self, owner_namespace: str, connection: str | None, name: str, *, beside: bool = False
    ) -> None: ...

    async def state(
        self,
        owner_namespace: str,
        connection: str | None,
        name: str,
        *,
        owner_uid: str,
        beside: bool = False,
    ) -> WorkerState: ...


class VolumeMigrations:
    """Every call of `observe` and `apply` may raise KubeApiError."""

    def __init__(
        self,
        claims: Claims,
        volumes: Volumes,
        workers: CopyWorkers,
        settings: Settings,
        *,
        namespace_terminating: Callable[[str], Awaitable[bool]],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._claims = claims
        self._volumes = volumes
        self._workers = workers
        self._settings = settings
        self._namespace_terminating = namespace_terminating
        self._now = now
        self._refusals: dict[Key, Refusal] = {}
        self._released: dict[Key, str] = {}
        """Values of the annotation that there is nothing more to do about."""

    def concerns(
        self, resource: Resource, seen: VolumeObserved, status: VolumeStatus, need: Need | None
    ) -> bool:
        if need is not None or migration_under_way(status):
            return True
        if self._asked_to_release(resource, status) is not None:
            return True
        return _forgotten(seen, status)

    # Looking

    async def observe(
        self,
        resource: Resource,
        desired: VolumeDesired | None,
        seen: VolumeObserved,
        status: VolumeStatus,
        need: Need | None,
        now: datetime,
    ) -> Answer:
        namespace, name = resource.key.namespace, resource.key.name
        if not migration_under_way(status):
            released = await self._to_release(resource, status)
            volume_name = seen.claim.volume_name if seen.claim is not None and need is not None else None
            asked = resource.annotations.get(RELEASE_OLD_VOLUME)
            found = await self._found(namespace, name) if _forgotten(seen, status) else None
            return Answer(
                claim=await self._volumes.claim(namespace, name),
                found=found,
                released=released,
                nothing_to_release=released is None and asked is not None and asked == status.kept_volume,
                old_volume=await self._volume(volume_name),
                pods=await self._pods(namespace, name) if need is not None else (),
                unfit=self._unfit(),
                refusal=self._refusals.get(resource.key),
                cluster=await self._workers.cluster(),
                deadline_seconds=self._settings.backup_deadline_seconds,
                forbid_drops=self._settings.forbid_drops,
            )
        return await self._moving(resource, status, now)

    async def _moving(self, resource: Resource, status: VolumeStatus, now: datetime) -> Answer:
        journal, namespace, name = status.migration, resource.key.namespace, resource.key.name
        assert journal is not None
        known = names(name, journal.run)
        switching = journal.step is MigrationStep.SWITCHING
        new_claim = await self._volumes.claim(namespace, known.new_claim)
        new_volume = journal.new_volume or (new_claim.volume_name if new_claim is not None else None)
        old, new = await self._volume(journal.old_volume), await self._volume(new_volume)
        doubtful = switching and switching_plan.doubtful(resource.key, journal, old, new)
        worker = await self._workers.state(
            namespace,
            None,
            known.settle_job if switching else known.copy_job,
            owner_uid=resource.uid,
            beside=True,
        )
        # After the Job: one that is gone makes no more pods.
        everyone = await self._claims.pods(namespace, ended=True)
        pods = [p for p in everyone if not p.ended]
        writing = [p for p in pods if p.claims & known.claims and not p.read_only]
        return Answer(
            claim=await self._volumes.claim(namespace, name),
            new_claim=new_claim,
            keeper=await self._volumes.claim(namespace, known.keeper),
            old_volume=old,
            new_volume=new,
            found=await self._found(namespace, name) if doubtful else None,
            worker=worker,
            pods=tuple(p for p in pods if name in p.claims),
            strangers=tuple(p for p in writing if p.owner_uid != resource.uid),
            former=tuple(
                p for p in writing if p.owner_uid == resource.uid and worker.phase is WorkerPhase.ABSENT
            ),
            ended=tuple(p for p in everyone if p.ended and name in p.claims),
            terminating=resource.deleted is not None and bool(await self._terminating(namespace)),
            unfit=self._unfit(),
            refusal=self._refusals.get(resource.key),
            cluster=await self._workers.cluster(),
            deadline_seconds=self._settings.backup_deadline_seconds,
        )

    async def _volume(self, name: str | None) -> MovingVolume | None:
        return await self._volumes.volume(name) if name else None

    async def _pods(self, namespace: str, claim: str) -> tuple[PodUse, ...]:
        return tuple(p for p in await self._claims.pods(namespace) if claim in p.claims)

    async def _terminating(self, namespace: str) -> bool:
        return await self._namespace_terminating(namespace)

    async def _found(self, namespace: str, claim: str) -> Journal | None:
        """The journal of a migration that status knows nothing of; one that is not over comes first."""
        volumes = await self._volumes.of_claim(claim_digest(namespace, claim))
        books = [book for v in volumes if (book := on_volume(v, namespace, claim)) is not None]
        first = (Stage.PREPARED, Stage.COMPLETED, Stage.SWITCHING, Stage.RETURNING)
        books.sort(key=lambda book: first.index(book.stage))
        return books[-1] if books else None

    def _asked_to_release(self, resource: Resource, status: VolumeStatus) -> str | None:
        """The annotation's value, unless it is known that there is nothing to do about it."""
        asked = resource.annotations.get(RELEASE_OLD_VOLUME)
        if not asked or (asked != status.kept_volume and self._released.get(resource.key) == asked):
            return None
        return asked

    async def _to_release(self, resource: Resource, status: VolumeStatus) -> MovingVolume | None:
        asked = self._asked_to_release(resource, status)
        if asked is None:
            return None
        volume = await self._volumes.volume(asked)
        if ending.releasable(volume, resource.key.namespace, resource.key.name):
            return volume
        self._released[resource.key] = asked
        return None

    def _unfit(self) -> LucidError | None:
        if self._settings.worker_image:
            return None
        return RefusedError(
            "The operator does not know the image of its Jobs; set WORKER_IMAGE.",
            reason=Reason.NOT_CONFIGURED,
        )

    # Thinking

    def plan(
        self,
        resource: Resource,
        desired: VolumeDesired | None,
        seen: VolumeObserved,
        answer: object,
        status: VolumeStatus,
        need: Need | None,
        now: datetime,
    ) -> Step[VolumeStatus] | None:
        assert isinstance(answer, Answer)
        return plan(Case(resource, desired, seen, answer, status, need, now))

    # Doing

    async def apply(self, resource: Resource, status: VolumeStatus, action: Action) -> None:
        """What cannot be made is remembered, said, and tried again more and more rarely."""
        try:
            await self._do(resource, action)
        except LucidError as error:
            if not isinstance(action, MakeClaim | StartCopy):
                raise
            self._remember(resource, error)
        else:
            self._refusals.pop(resource.key, None)

    async def _do(self, resource: Resource, action: Action) -> None:
        volumes = self._volumes
        match action:
            case MakeClaim(body=body):
                await self._claims.create(body)
            case StartCopy(request=request):
                await self._workers.start(request)
            case StopCopy(job=job):
                await self._workers.stop(resource.key.namespace, None, job, beside=True)
            case KeepVolume(volume=volume, journal=journal, digest=digest):
                await volumes.keep(volume, journal, digest)
            case FreeVolume(volume=volume, policy=policy):
                await volumes.free(volume, policy)
            case ReserveVolume(volume=volume, namespace=namespace, claim=claim):
                await volumes.reserve(volume, namespace, claim)
            case HoldName(claim=held, run=run):
                await volumes.hold(held, run)
            case FreeName(claim=held):
                await volumes.release(held)
            case RemoveClaim(claim=held):
                await volumes.delete(held)
            case DescribeClaim(claim=held, labels=labels, annotations=annotations):
                await volumes.describe(held, labels, annotations)
            case _:
                raise TypeError(f"a migration cannot do {type(action).__name__}")

    def _remember(self, resource: Resource, error: LucidError) -> None:
        before = self._refusals.get(resource.key)
        again = before is not None and before.generation == resource.generation
        self._refusals[resource.key] = Refusal(
            error.reason,
            error.message,
            error.stalled,
            resource.generation,
            self._now(),
            before.attempts + 1 if again and before is not None else 1,
        )

    def forget(self, key: Key) -> None:
        self._refusals.pop(key, None)
        self._released.pop(key, None)


def _forgotten(seen: VolumeObserved, status: VolumeStatus) -> bool:
    """Whether a migration may be under way that status does not know: the Volume is new, or its status was lost."""
    if status.migration is not None:
        return False
    claim = seen.claim
    return status.claim_uid is None or claim is None or claim.deleting or MIGRATION in claim.annotations
