"""Restore: the hands. What to do is decided in `plan`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime

from lucid_storage.errors import LucidError
from lucid_storage.kinds import specs
from lucid_storage.kinds.backupschedule.slicing import following
from lucid_storage.kinds.connections import Connections
from lucid_storage.kinds.contract import Action
from lucid_storage.kinds.protection import Protector, demand
from lucid_storage.kinds.protection import Standing as Protected
from lucid_storage.kinds.restore.actions import (
    Discard,
    DropOld,
    MakeBackup,
    MakeClaim,
    Mark,
    StartWorker,
    StopWorker,
    Swap,
    TakeClaim,
    Unmark,
)
from lucid_storage.kinds.restore.claim_waits import patient
from lucid_storage.kinds.restore.desired import (
    RestoreDesired,
    backup_needs,
    job_name,
    resolve,
    restored_backup,
    spec_hash,
    this_run,
)
from lucid_storage.kinds.restore.ending import hindered
from lucid_storage.kinds.restore.observed import (
    FINISHED,
    WORKING,
    Plan,
    RestoreObserved,
    done_before,
    telling,
    told_aside,
)
from lucid_storage.kinds.restore.plan import plan
from lucid_storage.kinds.restore.server import OpenRestores, TargetServer
from lucid_storage.kinds.restore.server import key as marker_key
from lucid_storage.kinds.restore.volume_targets import RestoreVolumes
from lucid_storage.kinds.restore.volumes import NOTHING
from lucid_storage.kinds.workers.claims import DumpClaims, waiting
from lucid_storage.kinds.workers.launch import Workers
from lucid_storage.kinds.workers.state import ABSENT, WorkerPhase, WorkerState
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.backup import BackupEngine
from lucid_storage.models.kinds import KINDS, KindInfo
from lucid_storage.models.restore import RestorePhase, RestoreSpec, RestoreStatus
from lucid_storage.models.settings import Settings
from lucid_storage.stores.mongodb.types import Topology


class RestoreKind:
    """Restores: a Job plans, a Job stages, this process swaps.

    `others` are the Backups and Restores of all namespaces, `find_backup` gives a Backup by namespace and name, and
    `wake` has those looked at that it chooses.
    """

    info: KindInfo = KINDS["Restore"]
    status_type = RestoreStatus

    def __init__(
        self,
        connections: Connections,
        workers: Workers,
        claims: DumpClaims,
        settings: Settings,
        open_restores: OpenRestores,
        protector: Protector,
        volumes: RestoreVolumes,
        *,
        others: Callable[[], Iterable[Resource]],
        schedules: Callable[[], Iterable[Resource]],
        find_backup: Callable[[Key], Resource | None],
        wake: Callable[[Callable[[Resource], bool]], None],
    ) -> None:
        self._connections = connections
        self._workers = workers
        self._claims = claims
        self._settings = settings
        self._server = TargetServer(connections, open_restores)
        self._protector = protector
        self._volumes = volumes
        self._others = others
        self._schedules = schedules
        self._find_backup = find_backup
        self._wake = wake

    def guess_target(self, resource: Resource, default_database: str | None) -> str:
        identity = resource.status.get("serverIdentity")
        return identity if isinstance(identity, str) else ""

    # Looking

    async def observe(self, resource: Resource, status: RestoreStatus, now: datetime) -> RestoreObserved:
        if resource.spec.get("cancel") and status.run is None:
            return RestoreObserved()
        if resource.deleted is not None and status.run is None:
            return RestoreObserved()
        try:
            return await self._observed(resource, status, now)
        except LucidError as error:
            return RestoreObserved(trouble=error)

    async def _observed(self, resource: Resource, status: RestoreStatus, now: datetime) -> RestoreObserved:
        if status.phase is RestorePhase.SWAPPING:
            return await self._swapping(resource, status)
        if status.phase in FINISHED:
            return await self._finished(resource, status, now)
        leaving = resource.deleted is not None or bool(resource.spec.get("cancel"))
        if status.phase not in WORKING and not leaving:
            return await self._fit_to_begin(resource, status, now)
        worker = await self._state(resource, status.job_name or "")
        if worker.phase is WorkerPhase.LOST and status.phase is not RestorePhase.PLANNING:
            worker = patient(worker, await self._volumes.being_made(resource, status))
        seen = RestoreObserved(worker=worker)
        if leaving or (worker.phase not in {WorkerPhase.ABSENT, WorkerPhase.SUSPENDED}):
            return seen
        try:
            spec = specs.parse(RestoreSpec, resource)
            desired = self._desired(resource, spec)
            filling = NOTHING
            if status.phase is not RestorePhase.PLANNING:
                filling = await self._volumes.filling(resource, status)
            cluster = await self._workers.cluster()
            return replace(seen, desired=desired, cluster=cluster, filling=filling)
        except LucidError as error:
            return replace(seen, trouble=error)

    async def _swapping(self, resource: Resource, status: RestoreStatus) -> RestoreObserved:
        databases, run = status.databases or [], status.run or ""
        async with self._server.opened(resource, status.server_identity) as port:
            if status.swapped is None:
                consent = bool(resource.spec.get("dropExisting"))
                return RestoreObserved(unfit=await port.unfit(run, databases, drop_existing=consent))
            marker = await port.marker(databases, marker_key(resource, await self._workers.cluster()))
            journal = await port.journal(databases, run)
        if journal is None:
            return RestoreObserved(marker=marker)
        return RestoreObserved(marker=marker, replaced=journal.replaced, left=journal.left)

    async def _finished(self, resource: Resource, status: RestoreStatus, now: datetime) -> RestoreObserved:
        if status.phase is not RestorePhase.COMPLETED and status.databases and status.job_name is not None:
            return RestoreObserved(worker=await self._state(resource, status.job_name))
        if status.old_until is None or now < status.old_until or not status.databases or status.run is None:
            return RestoreObserved()
        async with self._server.opened(resource, status.server_identity) as port:
            journal = await port.journal(status.databases, status.run)
        return RestoreObserved(settled=journal is None)

    async def _fit_to_begin(
        self, resource: Resource, status: RestoreStatus, now: datetime
    ) -> RestoreObserved:
        """Everything that is checked before a Job is made; the deployment is claimed last."""
        spec = specs.parse(RestoreSpec, resource)
        secret = spec.connection.secret_name if spec.connection else None
        cluster = await self._workers.cluster()
        # Planned before, and a claim could not be filled: it waits here until that is over, and is not planned anew.
        filling = await self._volumes.filling(resource, status)
        if BackupEngine.MONGODB not in (spec.engines or [BackupEngine.MONGODB]):
            seen = RestoreObserved(cluster=cluster, filling=filling)
            return await self._checked(resource, spec, status, seen, now)
        deployment = await self._connections.mongodb(resource.key.namespace, secret)
        async with self._connections.watching(deployment) as mongodb:
            info = await mongodb.info()
            seen = RestoreObserved(
                cluster=cluster,
                filling=filling,
                topology=info.topology,
                identity=await self._server.identity(resource),
                spec_hash=spec_hash(spec),
            )
            if info.topology is not Topology.SHARDED:
                found = [marker for _, marker in await self._server.markers(resource, mongodb, cluster)]
                seen = replace(seen, marker=telling(resource, found, seen))
        if done_before(resource, seen):
            return seen
        seen = await self._checked(resource, spec, status, seen, now)
        unprotected = seen.protection is not None and seen.protection.standing is not Protected.DONE
        if info.topology is Topology.SHARDED or resource.paused or unprotected or filling.waiting:
            return seen
        return replace(seen, behind=self._claims.behind(resource, seen.identity or "", self._others()))

    async def _checked(
        self,
        resource: Resource,
        spec: RestoreSpec,
        status: RestoreStatus,
        seen: RestoreObserved,
        now: datetime,
    ) -> RestoreObserved:
        desired = self._desired(resource, spec)
        await self._workers.check(
            resource.key.namespace, desired.connection, desired.place, desired.keys_secret, desired.key_id
        )
        run = this_run(resource, status, seen.identity)
        seen = replace(seen, desired=desired, earlier=await self._earlier(resource, status, run))
        name = status.backup_before
        if name is None or status.run != run:
            return seen
        needs = backup_needs(desired, status.databases or (), status.plan)
        servers = {BackupEngine.MONGODB: seen.identity} if seen.identity is not None else {}
        wanted = demand(resource, status.started_at or now, needs, servers)
        return replace(seen, protection=await self._protector.seen(resource, name, wanted, now))

    async def _earlier(self, resource: Resource, status: RestoreStatus, run: str) -> WorkerState:
        """The last worker, where it is of another run than the one that is to begin."""
        mine = {job_name(resource, work, run) for work in ("plan", "restore")}
        if status.job_name is None or status.job_name in mine:
            return ABSENT
        return await self._state(resource, status.job_name)

    def _desired(self, resource: Resource, spec: RestoreSpec) -> RestoreDesired:
        desired = resolve(resource, spec, self._settings, restored_backup(resource, spec, self._find_backup))
        namespace, schedules = resource.key.namespace, self._schedules()
        followers = following(schedules, namespace, desired.connection, desired.place, self._settings)
        return replace(desired, sliced=followers)

    # Thinking

    def plan(
        self, resource: Resource, observed: RestoreObserved, status: RestoreStatus, now: datetime
    ) -> Plan:
        return plan(resource, observed, status, now)

    def hindered(self, resource: Resource, status: RestoreStatus, error: LucidError, now: datetime) -> Plan:
        return hindered(resource, status, error, now)

    # Doing

    async def apply(self, resource: Resource, status: RestoreStatus, action: Action) -> None:
        match action:
            case StartWorker(request=request):
                await self._workers.start(request)
            case Unmark():
                await self._server.unmark(resource, status, await self._workers.cluster())
            case StopWorker(job=job):
                await self._workers.stop(resource.key.namespace, resource.secret, job)
            case MakeBackup(name=name, needs=needs, like=like):
                await self._protector.make(resource, name, needs, template=like)
            case MakeClaim(wanted=wanted):
                await self._volumes.make(resource, status, wanted)
            case TakeClaim(unfilled=unfilled):
                await self._volumes.take(status, unfilled)
            case Swap(run=run, databases=databases, drop_existing=consent, keep_minutes=keep):
                async with self._server.opened(resource, status.server_identity) as port:
                    done = await port.swap(run, databases, drop_existing=consent, keep_minutes=keep)
                status.swapped = done.collections
                status.moved_aside = told_aside(None, done.moved_aside)
            case Discard(run=run, databases=databases):
                # Before that Job was asked for nothing was written, and the connection may lead anywhere by now.
                if status.job_name == job_name(resource, "restore", run):
                    async with self._server.opened(resource, status.server_identity) as port:
                        await port.discard(run, databases)
                status.databases = None  # nothing of the run is left
            case DropOld(run=run, databases=databases, server=server):
                async with self._server.opened(resource, server) as port:
                    stays = await port.drop_old(run, databases)
                status.moved_aside = told_aside(status.moved_aside, stays)
                status.kept = [one for one in status.kept or () if one.run != run] or None
                if status.run == run:
                    status.old_until = None
            case Mark(databases=databases):
                await self._server.mark(resource, status, databases, await self._workers.cluster())
            case _:
                raise TypeError(f"Restore cannot do {type(action).__name__}")

    def ended(self, resource: Resource, status: RestoreStatus) -> None:
        self._claims.give(resource.key)
        deployment = status.server_identity
        if deployment is not None:
            self._wake(lambda other: waiting(other, deployment))

    def forget(self, key: Key) -> None:
        self._claims.give(key)
        self._wake(lambda other: other.status.get("phase") == "Queued")

    async def _state(self, resource: Resource, job: str) -> WorkerState:
        return await self._workers.state(resource.key.namespace, resource.secret, job, owner_uid=resource.uid)
