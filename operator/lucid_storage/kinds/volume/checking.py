"""Checks of a volume's content that an annotation asks for: a Job beside the claim, one at a time in a namespace."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from lucid_storage.errors import LeadershipLostError, LucidError, Reason
from lucid_storage.kinds.contract import Notice
from lucid_storage.kinds.tasks import ended
from lucid_storage.kinds.volume.book import UsageBook
from lucid_storage.kinds.volume.observed import VolumeObserved
from lucid_storage.kinds.volume.reading import where
from lucid_storage.kinds.workers.job import USER, ClaimMount, OwnerRef, PodIdentity
from lucid_storage.kinds.workers.launch import NOWHERE, WorkerRequest, Workers
from lucid_storage.kinds.workers.state import WorkerPhase, WorkerState
from lucid_storage.kube.claims import Claims
from lucid_storage.kube.client import KubeApiError
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.meta import API_VERSION, VERIFY
from lucid_storage.models.orders import Owner
from lucid_storage.models.settings import Settings
from lucid_storage.models.volume import VolumeStatus
from lucid_storage.models.volume_check import ContentCheck, FailedCheck
from lucid_storage.models.volume_work import VolumeVerifyOrder, VolumeVerifyResult

logger = logging.getLogger(__name__)

COMMAND = "volume-verify"
FOLDER = "data"
PAUSE_SECONDS = 5.0
"""Between two looks for a volume that is to be checked."""
POLL_SECONDS = 2.0
AGAIN = timedelta(minutes=5)
"""After a check that came to nothing."""
AT_ONCE = 4
"""Checks in the cluster: each reads a disk from its beginning to its end."""
ASKED_CHARACTERS = 253


class ContentChecks:
    """`volumes` are the Volumes that are known, `touch` has one looked at."""

    def __init__(
        self,
        claims: Claims,
        workers: Workers,
        book: UsageBook,
        settings: Settings,
        *,
        volumes: Callable[[], Iterable[Resource]],
        touch: Callable[[Key], None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        pause: float = PAUSE_SECONDS,
    ) -> None:
        self._claims = claims
        self._workers = workers
        self._book = book
        self._settings = settings
        self._volumes = volumes
        self._touch = touch
        self._now = now
        self._pause = pause
        self.defects = 0
        self._tried: dict[str, tuple[str, datetime]] = {}
        """What was asked for, and when that was last begun: another value need not wait for it."""
        self._under_way: dict[str, asyncio.Task[None]] = {}
        """By namespace."""

    async def run(self) -> None:
        """At most AT_ONCE volumes, one of a namespace, until cancelled. Raises LeadershipLostError."""
        try:
            while True:
                self._begin()
                await asyncio.sleep(self._pause)
        finally:
            await ended(self._under_way.values())

    def _begin(self) -> None:
        for namespace in [n for n, task in self._under_way.items() if task.done()]:
            self._under_way.pop(namespace).result()
        for resource in self._due():
            if len(self._under_way) >= AT_ONCE:
                return
            namespace = resource.key.namespace
            if namespace not in self._under_way:
                self._tried[resource.uid] = (asked(resource), self._now())
                self._under_way[namespace] = asyncio.create_task(self._guarded(resource))

    def _due(self) -> list[Resource]:
        """Those that wait longest first."""
        known = list(self._volumes())
        for gone in self._tried.keys() - {r.uid for r in known}:
            del self._tried[gone]
        never = datetime.min.replace(tzinfo=UTC)
        return sorted(
            (r for r in known if self._is_due(r)), key=lambda r: self._tried.get(r.uid, ("", never))[1]
        )

    def _last(self, resource: Resource) -> datetime | None:
        value, at = self._tried.get(resource.uid, ("", None))
        return at if value == asked(resource) else None

    def _is_due(self, resource: Resource) -> bool:
        tried = self._last(resource)
        try:
            return due(resource, self._known(resource), tried, self._now())
        except Exception:  # noqa: BLE001 - logged there; one resource must not keep the others from their checks
            if tried is None or self._now() - tried >= AGAIN:
                self._tried[resource.uid] = (asked(resource), self._now())
                self._defect(resource)
            return False

    def _known(self, resource: Resource) -> ContentCheck | None:
        return self._book.check((resource.key.namespace, resource.key.name))

    def _defect(self, resource: Resource) -> None:
        """To be called where an exception is handled."""
        self.defects += 1
        logger.exception("a defect while checking the content of %s; it is tried again later", resource.key)

    async def _guarded(self, resource: Resource) -> None:
        try:
            found = await self.check(resource)
            self._book.put_check((resource.key.namespace, resource.key.name), found)
            self._touch(resource.key)
        except (LucidError, KubeApiError) as error:
            logger.warning("the content of %s could not be checked: %s", resource.key, error.message)
            self._failed(resource, error.message)
        except LeadershipLostError:
            raise
        except Exception:  # noqa: BLE001 - logged there
            self._defect(resource)
            self._failed(resource, "A defect of the operator; please report it with what its log says.")

    def _failed(self, resource: Resource, message: str) -> None:
        failed = FailedCheck(
            asked=asked(resource), at=self._now().replace(microsecond=0), message=message[:1024]
        )
        self._book.put_failed((resource.key.namespace, resource.key.name), failed)
        self._touch(resource.key)

    async def check(self, resource: Resource) -> ContentCheck:
        """One check. Raises LucidError where it came to nothing, and KubeApiError."""
        namespace, name = resource.key.namespace, resource.key.name
        claim = await self._claims.get(namespace, name)
        if claim is None or not claim.bound or claim.deleting:
            raise LucidError("The claim has no volume now.", reason=Reason.CLAIM_NOT_BOUND)
        node = where(claim, [p for p in await self._claims.pods(namespace) if name in p.claims])
        if node is None:
            raise LucidError(
                "No other pod can mount the claim while its pods run.", reason=Reason.CLAIM_IN_USE
            )
        request = request_of(
            resource, node, await self._workers.cluster(), self._settings.backup_deadline_seconds
        )
        await self._workers.start(request)
        # A check may take hours: when this process ends, the next one finds the Job by its name and waits for it.
        state = await self._ended(resource, request.name)
        await self._workers.stop(namespace, None, request.name, beside=True)
        return check_of(state, asked(resource))

    async def _ended(self, resource: Resource, job: str) -> WorkerState:
        while True:
            state = await self._workers.state(
                resource.key.namespace, None, job, owner_uid=resource.uid, beside=True
            )
            if not state.alive:
                return state
            await asyncio.sleep(POLL_SECONDS)


def asked(resource: Resource) -> str:
    """The value of the annotation; empty where nobody asks."""
    return resource.annotations.get(VERIFY, "")[:ASKED_CHARACTERS]


def due(resource: Resource, known: ContentCheck | None, tried: datetime | None, now: datetime) -> bool:
    """Whether the annotation has a value that no check was made for. Pure."""
    wanted = asked(resource)
    if not wanted or resource.deleted is not None or resource.paused:
        return False
    status = VolumeStatus.model_validate(resource.status)
    done = {check.asked for check in (known, status.check) if check is not None}
    return wanted not in done and (tried is None or now - tried >= AGAIN)


def check_of(state: WorkerState, value: str) -> ContentCheck:
    """What the worker's last words mean. Raises LucidError where it has none. Pure."""
    if state.phase is not WorkerPhase.ENDED or state.result is None:
        raise LucidError(f"The worker gave no result: {state.message or 'its Job is gone'}.")
    try:
        result = VolumeVerifyResult.model_validate_json(state.result)
        if not result.ok or result.checked_at is None:
            raise LucidError(result.message or "The worker found nothing out.")
        return _check(result, result.checked_at, value)
    except ValidationError:
        raise LucidError("The worker's answer cannot be understood.") from None


def _check(result: VolumeVerifyResult, at: datetime, value: str) -> ContentCheck:
    return ContentCheck(
        asked=value,
        at=at.replace(microsecond=0),
        since=result.since.replace(microsecond=0) if result.since is not None else None,
        intact=result.intact,
        files=result.files,
        added=result.added,
        removed=result.removed,
        changed=result.changed,
        corrupted=result.corrupted,
        unreadable=result.unreadable,
        last_change=result.last_change.replace(microsecond=0) if result.last_change is not None else None,
        message=result.message[:1024],
    )


def rows(status: VolumeStatus) -> list[tuple[str, bool, Reason, str]]:
    """The conditions, from what status shows; none before a check. Pure."""
    check, failed = status.check, status.check_failed
    found = []
    if check is not None:
        reason = Reason.INTACT if check.intact else Reason.CONTENT_DAMAGED
        found.append(("Intact", check.intact, reason, check.message))
    if failed is not None:
        said = (
            f'The check "{failed.asked}" has no result since {failed.at:%Y-%m-%d %H:%M:%SZ}: {failed.message} It is'
            f" tried again every {AGAIN // timedelta(minutes=1)} minutes."
        )
        found.append(("ContentChecked", False, Reason.CHECK_FAILED, said))
    elif check is not None:
        found.append(("ContentChecked", True, Reason.CHECKED, ""))
    return found


def noted(seen: VolumeObserved, status: VolumeStatus) -> tuple[VolumeStatus, tuple[Notice, ...]]:
    """The status with a newer check or a newer failure of one, and what is worth an Event. Pure."""
    told: tuple[Notice, ...] = ()
    check, failed = seen.check, status.check_failed
    if check is not None and (status.check is None or check.at > status.check.at):
        reason = "Intact" if check.intact else "ContentDamaged"
        told = (Notice(reason, check.message, warning=not check.intact),)
        status = status.model_copy(update={"check": check, "checksums_at": check.at})
    newer = seen.check_failed
    if newer is not None and (
        failed is None or (newer.asked, newer.message) != (failed.asked, failed.message)
    ):
        failed = newer
        if _waits(newer, seen, status):
            said = f"The content cannot be checked: {newer.message}"
            told = (*told, Notice("CheckFailed", said, warning=True))
    kept = failed if failed is not None and _waits(failed, seen, status) else None
    if kept != status.check_failed:
        status = status.model_copy(update={"check_failed": kept})
    return status, told


def _waits(failed: FailedCheck, seen: VolumeObserved, status: VolumeStatus) -> bool:
    """Whether somebody still waits for this check."""
    return failed.asked == seen.check_asked and (status.check is None or status.check.asked != failed.asked)


def job_name(resource: Resource) -> str:
    """Computed from the Volume and what was asked, so that whoever leads next waits for the same Job."""
    digest = hashlib.sha256(f"{resource.uid}/{asked(resource)}".encode()).hexdigest()[:16]
    return f"lucid-verify-{digest}"


def request_of(resource: Resource, node: str, cluster: str, deadline_seconds: int) -> WorkerRequest:
    """The worker of one check. It writes its list beside the files, so the mount is not read-only."""
    key, name = resource.key, job_name(resource)
    copy = resource.spec.get("copy") or {}
    user = int(copy.get("runAsUser", USER))
    return WorkerRequest(
        command=COMMAND,
        name=name,
        owner=OwnerRef("Volume", API_VERSION, key.namespace, key.name, resource.uid),
        order=VolumeVerifyOrder(
            run=name,
            owner=Owner(
                cluster=cluster, namespace=key.namespace, name=key.name, uid=resource.uid, spec_hash=""
            ),
            deadline_seconds=deadline_seconds,
            folder=FOLDER,
        ),
        connection=None,
        place=NOWHERE,
        mounts=(ClaimMount(key.name, FOLDER, read_only=False),),
        node=node or None,
        # Without an fsGroup: the kubelet would give the files of a running store to it.
        identity=PodIdentity(user, int(copy.get("runAsGroup", user)), None),
        beside=True,
    )
