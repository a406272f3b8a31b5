"""Jobs that nobody waits for any more: their owner is gone, or told its result long ago."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from lucid_storage.kinds.tasks import repeatedly
from lucid_storage.kinds.workers.job import MOUNT_PREFIX
from lucid_storage.kube.client import Json
from lucid_storage.kube.jobs import Jobs
from lucid_storage.kube.resources import Resource
from lucid_storage.models.meta import OWNER_UID_LABEL

logger = logging.getLogger(__name__)

COMPONENT = "app.kubernetes.io/component"
INTERVAL_SECONDS = 60.0
FOR_READERS = timedelta(hours=1)
"""How long an ended Job is kept, so that its pod's log can be read."""
ONE_SHOT = frozenset({"backups", "restores"})
ENDED = frozenset({"Completed", "PartiallyFailed", "Failed", "Cancelled", "Expired"})


class WorkerSweep:
    """Removes what was left behind. `find` gives the resource with a UID, as far as it is known."""

    def __init__(
        self,
        jobs: Jobs,
        namespaces: Sequence[str | None],
        find: Callable[[str], Resource | None],
        *,
        interval: float = INTERVAL_SECONDS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._jobs = jobs
        self._namespaces = namespaces
        self._find = find
        self._interval = interval
        self._now = now

    async def run(self) -> None:
        """Sweep until cancelled. The first list of resources must have been made."""
        await repeatedly(self.sweep, self._interval, "Jobs that nobody waits for")

    async def sweep(self) -> None:
        """Look once."""
        for namespace in self._namespaces:
            async for job in self._jobs.labelled(OWNER_UID_LABEL, namespace):
                owner = self._find(job["metadata"]["labels"][OWNER_UID_LABEL])
                if left_behind(job, owner, self._now()):
                    meta = job["metadata"]
                    logger.info(
                        "removing the Job %s/%s: nobody waits for it", meta["namespace"], meta["name"]
                    )
                    await self._jobs.delete(meta["namespace"], meta["name"])


def left_behind(job: Json, owner: Resource | None, now: datetime) -> bool:
    """Whether a Job can go. Pure. A Job that was made a moment ago may be newer than what we know of its owner."""
    if job["metadata"].get("deletionTimestamp") is not None:
        return False
    age = now - datetime.fromisoformat(job["metadata"]["creationTimestamp"])
    if owner is None:
        return age > timedelta(seconds=INTERVAL_SECONDS)
    if owner.status.get("phase") not in ENDED:
        return False
    over = _over_since(job)
    if over is not None:
        return _has_volumes(job) or now - over > FOR_READERS
    if age <= timedelta(seconds=INTERVAL_SECONDS):
        return False
    if job["spec"].get("suspend"):
        return True
    # Only a clean-up goes on when its owner has ended; another worker was to be stopped then, and perhaps was not.
    cleans = job["metadata"]["labels"].get(COMPONENT) == "worker-prune"
    return owner.key.plural in ONE_SHOT and not cleans and _ended_before(owner, now)


def _has_volumes(job: Json) -> bool:
    """Whether its pod mounts claims that were read or filled: Kubernetes lets none go while there is such a pod."""
    template = job["spec"].get("template") or {}
    volumes = (template.get("spec") or {}).get("volumes") or []
    return any("persistentVolumeClaim" in v and v["name"].startswith(MOUNT_PREFIX) for v in volumes)


def _ended_before(owner: Resource, now: datetime) -> bool:
    """Whether it ended long enough ago for what ended it to have stopped its workers."""
    at = owner.status.get("completedAt")
    since = now - datetime.fromisoformat(at) if isinstance(at, str) else None
    return since is None or since > timedelta(seconds=INTERVAL_SECONDS)


def _over_since(job: Json) -> datetime | None:
    for condition in job.get("status", {}).get("conditions") or []:
        if condition.get("type") in {"Complete", "Failed"} and condition.get("status") == "True":
            return datetime.fromisoformat(condition["lastTransitionTime"])
    return None
