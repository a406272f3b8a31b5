"""Backup: the hands. What to do is decided in `plan`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random

from lucid_storage.errors import LucidError, Reason
from lucid_storage.kinds import specs
from lucid_storage.kinds.backup.actions import (
    DropSnapshots,
    KeepSnapshots,
    MakeSnapshot,
    RemoveWorker,
    StartWorker,
    StopWorker,
)
from lucid_storage.kinds.backup.chaining import check_destination, check_place
from lucid_storage.kinds.backup.desired import BackupDesired, becomes_full, job_name, look_name, resolve
from lucid_storage.kinds.backup.keeping import Keeping, by_hand, keeping
from lucid_storage.kinds.backup.observed import (
    CLEANING,
    DELETE_AGAIN_MOST,
    BackupObserved,
    Plan,
    begun,
    snapshots_idle,
)
from lucid_storage.kinds.backup.plan import hindered, plan
from lucid_storage.kinds.backup.results import (
    FINISHED,
    WITH_DATA,
    expiry,
    in_cluster,
    may_have_snapshots,
    parsed,
)
from lucid_storage.kinds.backup.snapshots import BackupSnapshots
from lucid_storage.kinds.backup.volume_facts import BackupVolumes
from lucid_storage.kinds.connections import Connections
from lucid_storage.kinds.contract import Action
from lucid_storage.kinds.identity import kept
from lucid_storage.kinds.workers.claims import DumpClaims, waiting
from lucid_storage.kinds.workers.launch import Workers
from lucid_storage.kinds.workers.state import ABSENT, WorkerPhase, WorkerState
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.backup import BackupEngine, BackupPhase, BackupSpec, BackupStatus
from lucid_storage.models.kinds import KINDS, KindInfo
from lucid_storage.models.orders import BackupResult
from lucid_storage.models.settings import Settings
from lucid_storage.stores.mongodb.types import Topology

PRUNE_AGAIN = timedelta(days=1)
"""How often data that something still needs are tried to be removed."""

DELETE_AGAIN_FIRST = timedelta(seconds=10)
"""Between attempts to remove the data of what is being deleted: each failure doubles the time."""


@dataclass(slots=True)
class _Prune:
    """The last attempt to remove expired data, in this process."""

    at: datetime
    open: bool
    tries: int = 0


class BackupKind:
    """Backups, one Job each.

    `others` are the Backups and Restores of all namespaces; `wake` has those looked at that it chooses.
    """

    info: KindInfo = KINDS["Backup"]
    status_type = BackupStatus

    def __init__(
        self,
        connections: Connections,
        workers: Workers,
        claims: DumpClaims,
        settings: Settings,
        volumes: BackupVolumes,
        snapshots: BackupSnapshots,
        *,
        others: Callable[[], Iterable[Resource]],
        schedules: Callable[[], Iterable[Resource]],
        wake: Callable[[Callable[[Resource], bool]], None],
        rng: Random | None = None,
    ) -> None:
        self._connections = connections
        self._workers = workers
        self._claims = claims
        self._settings = settings
        self._volumes = volumes
        self._snapshots = snapshots
        self._others = others
        self._schedules = schedules
        self._wake = wake
        self._prunes: dict[Key, _Prune] = {}
        self._rng = rng or Random()  # noqa: S311 - spreading, not a secret

    def guess_target(self, resource: Resource, default_database: str | None) -> str:
        identity = resource.status.get("serverIdentity")
        return identity if isinstance(identity, str) else ""

    async def observe(self, resource: Resource, status: BackupStatus, now: datetime) -> BackupObserved:
        finished = status.phase in FINISHED
        deleting = resource.deleted is not None
        prune_due = finished and not deleting and self._prune_due(resource, status, now)
        base = BackupObserved(
            keeping=self._keeping(resource),
            prune_due=prune_due,
            prune_job=job_name(resource, "prune"),
            prune_again=self._prune_again(resource) if deleting else None,
        )
        if may_have_snapshots(status) and (resource.held or status.phase is BackupPhase.EXPIRED):
            base = await self._with_snapshots(resource, base, status.id)
        if resource.spec.get("cancel") and status.run is None:
            return base
        if finished and not deleting and not prune_due and status.progress != CLEANING:
            return base
        try:
            return await self._observed(resource, status, base, now)
        except LucidError as error:
            if deleting and status.run is None:
                return base
            return replace(base, trouble=error)

    async def _observed(
        self, resource: Resource, status: BackupStatus, base: BackupObserved, now: datetime
    ) -> BackupObserved:
        worker, prune = ABSENT, ABSENT
        if status.run is not None:
            worker = await self._state(resource, status.job_name or job_name(resource, "backup"))
            prune = await self._state(resource, base.prune_job)
            result = parsed(BackupResult, worker.result, status.run)
            if status.phase not in FINISHED and result is not None and in_cluster(result):
                base = await self._with_snapshots(resource, base, result.id)
        seen = replace(base, worker=worker, prune=prune)
        going = resource.deleted is not None or bool(resource.spec.get("cancel"))
        waits = not begun(status) and status.phase not in FINISHED and not going
        if not waits and not self._needs_request(resource, status, seen):
            return seen
        try:
            desired = await self._desired(resource)
            desired = replace(desired, becomes_full=becomes_full(desired, status))
            cluster = await self._workers.cluster()
            if going or status.phase in FINISHED:
                check_place(desired, status)
                seen = replace(seen, by_hand=self._by_hand(desired))
            if not going and status.phase not in FINISHED:
                desired = await self._with_volumes(desired, status)
            seen = replace(seen, desired=desired, cluster=cluster)
            if not waits:
                return seen
            seen = await self._fit_to_begin(resource, desired, seen)
            idle = bool(desired.volumes.waiting) and snapshots_idle(status, now)
            if desired.looks or not desired.dumps or idle:
                return seen
            return self._in_line(resource, seen)
        except LucidError as error:
            return replace(seen, trouble=error)

    async def _with_snapshots(
        self, resource: Resource, base: BackupObserved, known_id: str | None
    ) -> BackupObserved:
        there = await self._snapshots.of(resource.key.namespace, resource.uid, known_id)
        return replace(base, snapshots=bool(there), owned=any(one.owned for one in there))

    async def _with_volumes(self, desired: BackupDesired, status: BackupStatus) -> BackupDesired:
        """With what the cluster says of its volumes. Where that hinders it, or a snapshot would be made, a worker looks
        first whether it was made before: the claims may be what was lost. Raises LucidError with what to change.
        """
        if status.job_name == look_name(desired.resource):
            return replace(desired, looks=True)
        looked = status.id is not None
        try:
            volumes = await self._volumes.reading(desired)
        except LucidError as error:
            if looked or error.reason is Reason.INVALID_SPEC:
                raise
            return replace(desired, looks=True)
        if not looked and not all(one.there for one in volumes.waiting):
            return replace(desired, looks=True)
        return replace(desired, volumes=volumes)

    def _needs_request(self, resource: Resource, status: BackupStatus, seen: BackupObserved) -> bool:
        """Whether a worker may have to be made now."""
        going = resource.deleted is not None or resource.spec.get("cancel") or status.phase in FINISHED
        return bool(going) or not seen.worker.alive or seen.worker.phase is WorkerPhase.SUSPENDED

    async def _desired(self, resource: Resource) -> BackupDesired:
        spec = specs.parse(BackupSpec, resource)
        secret = spec.connection.secret_name if spec.connection else None
        stores = await self._connections.settings(resource.key.namespace, secret)
        return resolve(resource, spec, self._settings, stores)

    async def _fit_to_begin(
        self, resource: Resource, desired: BackupDesired, seen: BackupObserved
    ) -> BackupObserved:
        """Everything that is checked before a Job is made."""
        namespace = resource.key.namespace
        check_destination(desired, self._others(), self._settings)
        await self._workers.check(
            namespace, desired.connection, desired.place, desired.keys_secret, desired.key_id
        )
        if BackupEngine.MONGODB not in desired.engines:
            return seen
        deployment = await self._connections.mongodb(namespace, desired.connection)
        async with self._connections.watching(deployment) as port:
            info = await port.info()
        return replace(seen, topology=info.topology, identity=kept(info.identity))

    def _in_line(self, resource: Resource, seen: BackupObserved) -> BackupObserved:
        """The deployment is claimed last."""
        if seen.identity is None or seen.topology is not Topology.REPLICA_SET or resource.paused:
            return seen
        return replace(seen, behind=self._behind(resource, seen.identity))

    def _behind(self, resource: Resource, deployment: str) -> str | None:
        """Who is to be waited for; to ask and to claim is one step."""
        return self._claims.behind(resource, deployment, self._others())

    def plan(self, resource: Resource, observed: BackupObserved, status: BackupStatus, now: datetime) -> Plan:
        return plan(resource, observed, status, now)

    def hindered(self, resource: Resource, status: BackupStatus, error: LucidError, now: datetime) -> Plan:
        return hindered(resource, status, error, now)

    async def apply(self, resource: Resource, status: BackupStatus, action: Action) -> None:
        if isinstance(action, StartWorker):
            if action.request.command == "prune":
                before = self._prunes.get(resource.key)
                tries = before.tries + 1 if before is not None else 1
                self._prunes[resource.key] = _Prune(datetime.now(UTC), open=True, tries=tries)
            await self._workers.start(action.request)
        elif isinstance(action, MakeSnapshot):
            await self._volumes.make(resource, action.wanted)
        elif isinstance(action, KeepSnapshots):
            await self._snapshots.keep(resource.key.namespace, resource.uid, status.id)
        elif isinstance(action, DropSnapshots):
            await self._snapshots.drop(resource.key.namespace, resource.uid, status.id)
        elif isinstance(action, StopWorker | RemoveWorker):
            await self._workers.stop(resource.key.namespace, resource.secret, action.job)
            note = self._prunes.get(resource.key)
            if note is not None and isinstance(action, RemoveWorker):
                note.at, note.open = datetime.now(UTC), False
        else:
            raise TypeError(f"Backup cannot do {type(action).__name__}")

    def ended(self, resource: Resource, status: BackupStatus) -> None:
        self._claims.give(resource.key)
        deployment = status.server_identity
        if deployment is not None:
            self._wake(lambda other: waiting(other, deployment))

    def forget(self, key: Key) -> None:
        self._prunes.pop(key, None)
        self._claims.give(key)
        self._wake(lambda other: other.status.get("phase") == "Queued")

    async def _state(self, resource: Resource, job: str) -> WorkerState:
        return await self._workers.state(resource.key.namespace, resource.secret, job, owner_uid=resource.uid)

    def _keeping(self, resource: Resource) -> Keeping:
        return keeping(resource, self._schedules(), self._settings)

    def _by_hand(self, desired: BackupDesired) -> tuple[str, ...]:
        mine = desired.resource.key
        others = (r for r in self._others() if r.key != mine)
        return by_hand(mine.namespace, desired.chain, others)

    def _prune_again(self, resource: Resource) -> datetime | None:
        note = self._prunes.get(resource.key)
        if note is None or note.open:
            return None
        doublings: int = 2 ** min(note.tries - 1, 16)
        return note.at + min(DELETE_AGAIN_MOST, DELETE_AGAIN_FIRST * doublings)

    def _prune_due(self, resource: Resource, status: BackupStatus, now: datetime) -> bool:
        if status.phase not in WITH_DATA or status.manifest_sha256 is None:
            return False
        note = self._prunes.get(resource.key)
        if note is not None and note.open:
            return True  # its answer is heard, also when the days were raised meanwhile
        days = self._keeping(resource).days
        due = expiry(status, days).expires_at
        if due is None or days is None:
            return False  # what status says of a schedule's Backup is the schedule's to act on
        if note is None and status.retained_because is not None:
            # After a restart those that are kept for a reason are not all tried at once.
            note = self._prunes[resource.key] = _Prune(now - PRUNE_AGAIN * self._rng.random(), open=False)
        if note is None:
            return now >= due
        return abs(now - note.at) >= PRUNE_AGAIN  # a time ahead comes from a clock that was
