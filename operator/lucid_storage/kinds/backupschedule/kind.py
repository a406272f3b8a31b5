"""BackupSchedule: the hands. What to do is decided in `plan`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from lucid_storage.errors import LucidError, NotAllowedError, Reason, RefusedError
from lucid_storage.kinds import conditions
from lucid_storage.kinds.backup import keeping
from lucid_storage.kinds.backup.desired import check_template
from lucid_storage.kinds.backup.snapshots import BackupSnapshots
from lucid_storage.kinds.backupschedule import desired as wanted
from lucid_storage.kinds.backupschedule import slicing
from lucid_storage.kinds.backupschedule.actions import (
    CreateBackup,
    DeleteBackup,
    DropSnapshots,
    EndSlicing,
    ExplainBackup,
    KeepSlicing,
    RemovePrune,
    StartPrune,
)
from lucid_storage.kinds.backupschedule.belonging import check_chain, lies_in
from lucid_storage.kinds.backupschedule.children import Child, children_of, made_by_hand
from lucid_storage.kinds.backupschedule.desired import ScheduleDesired
from lucid_storage.kinds.backupschedule.metrics import figures_of
from lucid_storage.kinds.backupschedule.observed import ScheduleObserved
from lucid_storage.kinds.backupschedule.plan import SchedulePlan, plan
from lucid_storage.kinds.backupschedule.retaining import Retaining, due
from lucid_storage.kinds.contract import Action, Verdict
from lucid_storage.kinds.services import Outcome, Services
from lucid_storage.kinds.workers.claims import ACTIVE
from lucid_storage.kinds.workers.launch import WorkerRequest, Workers
from lucid_storage.kinds.workers.place import job_namespace
from lucid_storage.kinds.workers.standing import StandingWorkers
from lucid_storage.kinds.workers.state import ABSENT, WorkerState
from lucid_storage.kube.client import KubeApiError
from lucid_storage.kube.events import Event
from lucid_storage.kube.objects import Objects
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.backupschedule import BackupScheduleStatus
from lucid_storage.models.kinds import KINDS, KindInfo
from lucid_storage.models.meta import SCHEDULE
from lucid_storage.models.settings import Settings
from lucid_storage.models.slicing import SliceReport

logger = logging.getLogger(__name__)

REFUSALS = frozenset({403, 422})
"""No right, a quota, an admission rule, a namespace that is going."""


@dataclass(slots=True)
class ScheduleKind:
    """What the engine asks of the kind."""

    info: KindInfo = KINDS["BackupSchedule"]

    def guess_target(self, resource: Resource, default_database: str | None) -> str:
        """Schedules share no target."""
        return ""


class ScheduleCycle:
    """Looks at one schedule: observe -> plan (pure) -> apply -> one write of the status.

    `known` are the Backups, Restores and BackupSchedules of all namespaces as they are remembered.
    """

    def __init__(
        self,
        services: Services,
        objects: Objects,
        workers: Workers,
        standing: StandingWorkers,
        settings: Settings,
        snapshots: BackupSnapshots,
        *,
        known: Callable[[str], Iterable[Resource]],
    ) -> None:
        self.kind = ScheduleKind()
        self._services = services
        self._objects = objects
        self._workers = workers
        self._standing = standing
        self._settings = settings
        self._snapshots = snapshots
        self._known = known
        self._metrics = services.metrics.schedules

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._metrics.forget(key)

    async def run(self, resource: Resource) -> Outcome:
        """Raises LeadershipLostError and KubeApiError."""
        if resource.deleted is not None:
            self._metrics.forget(resource.key)
            return Outcome(gone=True)
        status = BackupScheduleStatus.model_validate(resource.status)
        try:
            desired = wanted.resolve(resource, self._settings)
        except LucidError as error:
            status.next, status.next_at = None, None
            self._metrics.no_next(resource.key)
            return await self._failed(resource, status, error)
        try:
            seen = await self._observe(desired, status)
            step = plan(desired, seen, status, self._services.now())
            for action in step.actions:
                logger.info(action.describe(), extra={"resource": str(resource.key)})
                await self._apply(desired, action)
                self._services.metrics.actions.labels(self.kind.info.kind, type(action).__name__).inc()
        except LucidError as error:
            known = BackupScheduleStatus.model_validate(resource.status)
            return await self._failed(resource, known, error)
        await self._tell(resource, step)
        now = self._services.now()
        figures = figures_of(desired, step.status, seen.children, seen.slicing, now, seen.by_hand)
        self._metrics.tell(resource.key, figures)
        return Outcome(again_seconds=step.recheck_seconds)

    # Observing

    async def _observe(self, desired: ScheduleDesired, status: BackupScheduleStatus) -> ScheduleObserved:
        resource = desired.resource
        await self._check_chain(desired, status)
        backups = [b for b in self._known("backups") if b.key.namespace == resource.key.namespace]
        now = self._services.now()
        children = tuple(children_of(resource.key, backups, status, now))
        retaining, trouble = None, ""
        by_hand = tuple(made_by_hand(resource.key.namespace, desired.chain, backups))
        if due(status, children, by_hand, now):
            retaining, trouble = await self._retaining(desired)
        words, silent = await self._slicing(desired, status)
        return ScheduleObserved(
            created_at=datetime.fromisoformat(resource.created),
            children=children,
            by_hand=by_hand,
            busy=self._busy(desired),
            prune=await self._prune_state(desired, status),
            retaining=retaining,
            retention_trouble=trouble,
            slicing=words,
            slicing_trouble=silent,
            slicer_namespace=job_namespace(self._settings, resource.key.namespace, desired.connection),
            unfit=self._unfit(desired),
            paused=resource.paused,
            elsewhere=self._elsewhere(desired, backups, children),
        )

    async def _check_chain(self, desired: ScheduleDesired, status: BackupScheduleStatus) -> None:
        """Raises RefusedError(ChainMismatch) where an older schedule has the chain; nothing is written then."""
        try:
            check_chain(desired, self._known("backupschedules"), self._settings)
        except LucidError:
            if status.slicer is not None and status.slicer.namespace is not None:
                await self._apply(desired, EndSlicing(slicing.name(desired), status.slicer.namespace))
            raise

    def _unfit(self, desired: ScheduleDesired) -> LucidError | None:
        try:
            check_template(desired.spec.template, self._settings, desired.resource.key.namespace)
        except LucidError as error:
            return error
        return None

    def _elsewhere(
        self, desired: ScheduleDesired, backups: Iterable[Resource], children: Iterable[Child]
    ) -> frozenset[Key]:
        mine = {child.key for child in children}
        try:
            place = wanted.place_of(desired, self._settings)
        except LucidError:
            return frozenset(mine)
        return frozenset(
            b.key for b in backups if b.key in mine and not lies_in(b, desired, place, self._settings)
        )

    async def _prune_state(self, desired: ScheduleDesired, status: BackupScheduleStatus) -> WorkerState:
        job = status.retention.job if status.retention is not None else None
        if job is None:
            return ABSENT
        resource = desired.resource
        return await self._workers.state(
            resource.key.namespace,
            desired.connection,
            job,
            owner_uid=resource.uid,
        )

    async def _slicing(
        self, desired: ScheduleDesired, status: BackupScheduleStatus
    ) -> tuple[SliceReport | None, str]:
        """Have the slicing worker run or end as asked for; its last words, or why there are none."""
        resource, name = desired.resource, slicing.name(desired)
        home = job_namespace(self._settings, resource.key.namespace, desired.connection)
        was = (status.slicer.namespace or home) if status.slicer is not None else None
        wanted_here = slicing.wanted(desired)
        if was is not None and (not wanted_here or was != home):
            await self._apply(desired, EndSlicing(name, was))
        if not wanted_here or resource.paused:
            return None, ""
        try:
            await self._apply(desired, KeepSlicing(await self._slicer(desired)))
        except NotAllowedError as error:
            # A worker must not go on with logins that its schedule may not use any more.
            await self._apply(desired, EndSlicing(name, home))
            return None, error.message.rstrip(".")
        except LucidError as error:
            return None, error.message.rstrip(".")
        state = await self._standing.state(home, name, resource.uid)
        return slicing.report_in(state.log), "" if state.ready else state.message

    async def _slicer(self, desired: ScheduleDesired) -> WorkerRequest:
        namespace = desired.resource.key.namespace
        place = wanted.place_of(desired, self._settings)
        await self._workers.check(namespace, desired.connection, place, desired.keys_secret, desired.key_id)
        served = self._settings.served(namespace) if desired.connection is None else None
        return slicing.request(
            desired,
            cluster=await self._workers.cluster(),
            place=place,
            database_patterns=served.databases if served is not None else ("*",),
        )

    async def _retaining(self, desired: ScheduleDesired) -> tuple[Retaining | None, str]:
        """What a prune worker needs, or why there can be none now."""
        namespace = desired.resource.key.namespace
        try:
            place = wanted.place_of(desired, self._settings)
            await self._workers.check(
                namespace, desired.connection, place, desired.keys_secret, desired.key_id
            )
            cluster = await self._workers.cluster()
        except LucidError as error:
            return None, error.message
        schedules = [r for r in self._known("backupschedules") if r.key.namespace == namespace]
        rules = wanted.rules_of_chain(desired.chain, schedules, self._settings)
        theirs = keeping.by_hand(namespace, desired.chain, self._known("backups"))
        return Retaining(cluster, place, rules, self._settings, theirs), ""

    def _busy(self, desired: ScheduleDesired) -> bool:
        """Whether something writes the chain or may read it: retention waits until it is done. Of other chains there
        may always be something under way.
        """
        namespace = desired.resource.key.namespace
        work = [
            *(b for b in self._known("backups") if b.status.get("chain") in (None, desired.chain)),
            *self._known("restores"),
        ]
        return any(r.key.namespace == namespace and r.status.get("phase") in ACTIVE for r in work)

    # Acting

    async def _apply(self, desired: ScheduleDesired, action: Action) -> None:
        """One step; safe to repeat."""
        namespace = desired.resource.key.namespace
        match action:
            case CreateBackup(name, body):
                await self._create(namespace, name, body)
            case DeleteBackup(key, uid, _, snapshots_of):
                if snapshots_of is not None:
                    await self._snapshots.drop(namespace, uid, snapshots_of)
                await self._objects.delete(key, uid)
            case DropSnapshots(backup_id):
                await self._snapshots.drop(namespace, None, backup_id)
            case ExplainBackup(key, uid, patch):
                await self._objects.patch_status(key, uid, patch)
            case KeepSlicing(request):
                await self._standing.ensure(request)
            case EndSlicing(name, home):
                await self._standing.remove(home, name)
            case StartPrune(request):
                await self._workers.start(request)
            case RemovePrune(job):
                await self._workers.stop(namespace, desired.connection, job)
            case _:
                raise TypeError(action)

    async def _create(self, namespace: str, name: str, body: dict[str, Any]) -> None:
        try:
            made = await self._objects.create("backups", body)
        except KubeApiError as error:
            if error.status not in REFUSALS:
                raise
            raise LucidError(
                f'The Backup "{name}" cannot be made in the namespace "{namespace}": {error.message}',
                reason=Reason.ACCESS_DENIED if error.status == 403 else Reason.INVALID_SPEC,
            ) from None
        there = None if made else await self._objects.get(Key("backups", namespace, name))
        given = (there["metadata"].get("annotations") or {}) if there is not None else {}
        if there is not None and given.get(SCHEDULE) != body["metadata"]["annotations"][SCHEDULE]:
            raise RefusedError(
                f'A Backup named "{name}" that this schedule did not make stands in the way of its run; delete it, or'
                " make it again under another name.",
                reason=Reason.CONFLICT,
            )

    # Telling

    async def _failed(self, resource: Resource, status: BackupScheduleStatus, error: LucidError) -> Outcome:
        said = Verdict(error.reason, error.message, stalled=error.stalled)
        await self._tell(resource, SchedulePlan(status, verdict=said))
        return Outcome(failed=True)

    async def _tell(self, resource: Resource, step: SchedulePlan) -> None:
        status = step.status
        previous = status.conditions or []
        status.observed_generation = resource.generation
        status.conditions = conditions.build(
            previous,
            generation=resource.generation,
            now=self._services.now(),
            verdict=step.verdict,
            message=step.message,
            ready_reason=step.ready_reason,
        )
        document = cast("dict[str, Any]", status.to_dict())
        version = await self._services.status.write(resource, document)
        if version is not None:
            resource.status.clear()
            resource.status.update(document)
            self._services.remember(resource, version)
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
