"""Short-lived pods that read the use of volumes which no kubelet tells: one at a time, where it is asked for."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from lucid_storage.errors import LeadershipLostError, LucidError
from lucid_storage.kinds.contract import Notice
from lucid_storage.kinds.volume.book import UsageBook
from lucid_storage.kinds.volume.observed import Figures
from lucid_storage.kinds.volume.rounds import news
from lucid_storage.kinds.volume.surroundings import Surroundings
from lucid_storage.kinds.workers.job import USER, ClaimMount, OwnerRef, PodIdentity
from lucid_storage.kinds.workers.launch import NOWHERE, WorkerRequest, Workers
from lucid_storage.kinds.workers.state import WorkerPhase, WorkerState
from lucid_storage.kube.claims import Claim, Claims, PersistentVolume, PodUse
from lucid_storage.kube.client import KubeApiError
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.meta import API_VERSION
from lucid_storage.models.orders import Owner
from lucid_storage.models.settings import Settings
from lucid_storage.models.volume import VolumeStatus
from lucid_storage.models.volume_work import VolumeUsageOrder, VolumeUsageResult

logger = logging.getLogger(__name__)

COMMAND = "volume-usage"
FOLDER = "data"
SOURCE = "reader pod"
PAUSE_SECONDS = 10.0
"""Between two looks for a volume that is due."""
POLL_SECONDS = 1.0
DEADLINE_SECONDS = 300
"""Of one reading, its pod's start included."""
ON_DISK_OF_NODE = frozenset({"hostPath", "local"})
"""Folders of a node's disk, whose file system says nothing of the one volume."""


class UsageReading:
    """`volumes` are the Volumes that are known, `touch` has one looked at, `tell` emits an Event about one."""

    def __init__(
        self,
        claims: Claims,
        surroundings: Surroundings,
        workers: Workers,
        book: UsageBook,
        settings: Settings,
        *,
        volumes: Callable[[], Iterable[Resource]],
        touch: Callable[[Key], None],
        tell: Callable[[Resource, Notice], None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._claims = claims
        self._surroundings = surroundings
        self._workers = workers
        self._book = book
        self._settings = settings
        self._volumes = volumes
        self._touch = touch
        self._tell = tell
        self._now = now
        self._tried: dict[str, datetime] = {}
        self._said: dict[str, str] = {}

    async def run(self) -> None:
        """One volume after the other until cancelled; none where nobody asked for it."""
        if not self._settings.volume_reader_seconds or not self._settings.worker_image:
            await asyncio.Event().wait()
        while True:
            for resource in self._due():
                await self._guarded(resource)
            await asyncio.sleep(min(PAUSE_SECONDS, self._settings.volume_reader_seconds))

    def _due(self) -> list[Resource]:
        every = timedelta(seconds=self._settings.volume_reader_seconds)
        known = list(self._volumes())
        uids = {r.uid for r in known}
        for gone in [uid for uid in self._tried if uid not in uids]:
            self._tried.pop(gone, None)
            self._said.pop(gone, None)
        return [r for r in known if due(r, self._figures(r), self._tried.get(r.uid), every, self._now())]

    def _figures(self, resource: Resource) -> Figures | None:
        return self._book.get((resource.key.namespace, resource.key.name))

    async def _guarded(self, resource: Resource) -> None:
        self._tried[resource.uid] = self._now()
        try:
            await self.read(resource)
        except KubeApiError as error:
            logger.warning("the use of %s could not be read: %s", resource.key, error)
        except LucidError as error:
            self._unknown(resource, error.message)
        except TimeoutError:
            self._unknown(resource, "The reader did not end in time.")
        except LeadershipLostError:
            raise
        except Exception:
            logger.exception("a defect while reading the use of %s; it is tried again later", resource.key)

    def _unknown(self, resource: Resource, why: str) -> None:
        """Said once for each reason, not with every attempt."""
        logger.warning("the use of %s could not be read: %s", resource.key, why)
        if self._said.get(resource.uid) != why:
            self._said[resource.uid] = why
            self._tell(resource, Notice("UsageUnknown", f"The use cannot be read: {why}", warning=True))

    async def read(self, resource: Resource) -> Figures | None:
        """One reading; None where no pod can mount the claim now. Raises LucidError and KubeApiError."""
        namespace, name = resource.key.namespace, resource.key.name
        claim = await self._claims.get(namespace, name)
        if claim is None or not claim.bound or claim.deleting or claim.volume_name is None:
            return None
        volume = await self._claims.volume(claim.volume_name)
        everyone = await self._surroundings.pods(namespace, fresh=True)
        pods = [p for p in everyone if name in p.claims and not p.ended]
        place = where(claim, pods)
        if volume is None or place is None:
            return None
        request = _request(resource, volume, place, await self._workers.cluster())
        await self._workers.start(request)
        try:
            state = await self._ended(resource, request.name)
        finally:
            await self._workers.stop(namespace, None, request.name, beside=True)
        figures = figures_of(state, claim)
        if self._book.put((namespace, name), figures) and news(
            resource, figures, self._settings, self._now()
        ):
            self._touch(resource.key)
        self._said.pop(resource.uid, None)
        return figures

    async def _ended(self, resource: Resource, job: str) -> WorkerState:
        async with asyncio.timeout(DEADLINE_SECONDS + 60):
            while True:
                state = await self._workers.state(
                    resource.key.namespace, None, job, owner_uid=resource.uid, beside=True
                )
                if state.phase in {WorkerPhase.ENDED, WorkerPhase.LOST, WorkerPhase.ABSENT}:
                    return state
                await asyncio.sleep(POLL_SECONDS)


def due(
    resource: Resource, known: Figures | None, tried: datetime | None, every: timedelta, now: datetime
) -> bool:
    """Whether a reading is worth a pod: the Volume is bound, and nobody told its use for long enough. Pure."""
    status = VolumeStatus.model_validate(resource.status)
    if resource.deleted is not None or resource.paused or status.volume_name is None:
        return False
    if status.phase is None or status.phase not in {"Bound", "Expanding"}:
        return False
    times = [t for t in (tried, known.at if known else None) if t is not None]
    if status.usage_source == SOURCE and status.stats_time is not None:
        times.append(status.stats_time)
    times = [t for t in times if t <= now]  # a later one is of a clock that ran ahead
    return not times or now - max(times) >= every


def where(claim: Claim, pods: list[PodUse]) -> str | None:
    """The node that a reader must run on, "" where any will do, None where none can mount it now. Pure."""
    if claim.volume_mode != "Filesystem":
        return None
    nodes = {p.node for p in pods}
    many = {"ReadWriteMany", "ReadOnlyMany"} & set(claim.access_modes)
    if not pods or many:
        return ""
    if "ReadWriteOncePod" in claim.access_modes or None in nodes or len(nodes) > 1:
        return None
    return str(nodes.pop())


def figures_of(state: WorkerState, claim: Claim) -> Figures:
    """What a reader's last words mean. Raises LucidError where it has none. Pure."""
    if state.phase is not WorkerPhase.ENDED or state.result is None:
        raise LucidError(f"The reader gave no figures: {state.message or 'its Job is gone'}.")
    try:
        result = VolumeUsageResult.model_validate_json(state.result)
    except ValidationError:
        raise LucidError("The reader's answer cannot be understood.") from None
    if not result.ok or not result.complete or result.taken_at is None:
        raise LucidError(result.message or "The reader gave no figures.")
    size = result.capacity_bytes or claim.capacity or claim.requested
    available = result.available_bytes
    return Figures(
        at=result.taken_at,
        used=result.used_bytes,
        available=available if available is not None else max(0, size - result.used_bytes),
        capacity=size,
        inodes_used=result.inodes_used if result.inodes else None,
        inodes=result.inodes,
        source=SOURCE,
    )


def job_name(resource: Resource) -> str:
    """Computed, so that a reader that an operator left behind is found."""
    return f"lucid-usage-{hashlib.sha256(resource.uid.encode()).hexdigest()[:16]}"


def _request(resource: Resource, volume: PersistentVolume, node: str, cluster: str) -> WorkerRequest:
    key = resource.key
    copy = resource.spec.get("copy") or {}
    owner = Owner(cluster=cluster, namespace=key.namespace, name=key.name, uid=resource.uid, spec_hash="")
    order = VolumeUsageOrder(
        run=job_name(resource),
        owner=owner,
        deadline_seconds=DEADLINE_SECONDS,
        folder=FOLDER,
        own_file_system=volume.source not in ON_DISK_OF_NODE,
    )
    user = int(copy.get("runAsUser", USER))
    return WorkerRequest(
        command=COMMAND,
        name=job_name(resource),
        owner=OwnerRef("Volume", API_VERSION, key.namespace, key.name, resource.uid),
        order=order,
        connection=None,
        place=NOWHERE,
        mounts=(ClaimMount(key.name, FOLDER),),
        node=node or None,
        # Without an fsGroup: the kubelet would give the files of a running store to it.
        identity=PodIdentity(user, int(copy.get("runAsGroup", user)), None),
        beside=True,
    )
