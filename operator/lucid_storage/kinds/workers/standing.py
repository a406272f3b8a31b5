"""Workers that run for ever: a Deployment of one replica each, changed when what they are told changes.

Recreate, so that two never run at a time by intention; that two cannot both write is the destination's matter.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lucid_storage.errors import AccessDeniedError, RefusedError
from lucid_storage.errors import Reason as Why
from lucid_storage.kinds.tasks import repeatedly
from lucid_storage.kinds.workers.job import CONTAINER, WorkerJob, build
from lucid_storage.kinds.workers.launch import REFUSALS, WorkerRequest, Workers
from lucid_storage.kube.client import Json, KubeApiError
from lucid_storage.kube.deployments import Deployments
from lucid_storage.kube.jobs import Jobs
from lucid_storage.kube.resources import Resource
from lucid_storage.models.meta import GROUP, OWNER_UID_LABEL

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 60.0
COMPONENT = "app.kubernetes.io/component"
APPLIED = f"{GROUP}/applied"
"""Annotation of the Deployment: hash of what it was made of, without secrets."""
SECRET_VERSION = f"{GROUP}/secret-version"
"""Annotation of its pods: they begin anew when their Secret changed."""


@dataclass(frozen=True, slots=True)
class StandingState:
    """A worker as seen from outside."""

    there: bool = False
    ready: bool = False
    log: str = ""
    """The last lines of its pod."""
    message: str = ""
    """Why it does not run."""


def deployment(worker: WorkerJob, secret_version: str | None) -> Json:
    """The Deployment, made of the same pod as a Job's."""
    job = build(worker)
    template: Json = job["spec"]["template"]
    pod: Json = {**template["spec"], "restartPolicy": "Always"}
    if secret_version is not None:
        annotations = {**template["metadata"].get("annotations", {}), SECRET_VERSION: secret_version}
        template = {**template, "metadata": {**template["metadata"], "annotations": annotations}}
    template = {**template, "spec": pod}
    text = json.dumps(template, sort_keys=True)
    metadata: Json = {
        **job["metadata"],
        "annotations": {
            **job["metadata"].get("annotations", {}),
            APPLIED: hashlib.sha256(text.encode()).hexdigest(),
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": _selector(worker)},
            "template": template,
        },
    }


def _selector(worker: WorkerJob) -> dict[str, str]:
    return {OWNER_UID_LABEL: worker.owner.uid, COMPONENT: f"worker-{worker.command}"}


class StandingWorkers:
    """Every call may raise KubeApiError, and LucidError for what must be changed."""

    def __init__(self, workers: Workers, deployments: Deployments, jobs: Jobs) -> None:
        self._workers = workers
        self._deployments = deployments
        self._jobs = jobs

    async def ensure(self, request: WorkerRequest) -> None:
        """Have the worker run as asked for. Harmless to repeat: nothing is written when nothing differs."""
        worker, data = await self._workers.prepared(request)
        try:
            version = await self._secret(worker, data) if data is not None else None
            await self._made(worker, deployment(worker, version))
        except KubeApiError as error:
            if error.status not in REFUSALS:
                raise
            raise AccessDeniedError(
                f'The Deployment "{worker.name}" cannot be made in the namespace "{worker.namespace}":'
                f" {error.message}"
            ) from None

    async def _made(self, worker: WorkerJob, body: Json) -> None:
        known = await self._deployments.get(worker.namespace, worker.name)
        if known is None:
            known = await self._deployments.create(body)
            if known is not None:
                return
            known = await self._deployments.get(worker.namespace, worker.name)
        if known is None:
            return  # removed meanwhile: the next look makes it
        meta = known["metadata"]
        if (meta.get("labels") or {}).get(OWNER_UID_LABEL) != worker.owner.uid:
            raise RefusedError(
                f'A Deployment named "{worker.name}" that is not ours stands in the way in the namespace'
                f' "{worker.namespace}"; remove it.',
                reason=Why.CONFLICT,
            )
        applied = (meta.get("annotations") or {}).get(APPLIED)
        wanted = body["metadata"]["annotations"][APPLIED]
        if applied == wanted and known["spec"].get("replicas") == 1:
            return
        patch = {
            "metadata": {"annotations": {APPLIED: wanted}},
            "spec": {"replicas": 1, "template": body["spec"]["template"]},
        }
        await self._deployments.change(worker.namespace, worker.name, meta["uid"], patch)

    async def _secret(self, worker: WorkerJob, data: dict[str, str]) -> str:
        meta = build(worker)["metadata"]
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "metadata": {
                key: meta[key] for key in ("name", "namespace", "labels", "ownerReferences") if key in meta
            },
            "data": data,
        }
        return await self._deployments.put_secret(body)

    async def state(self, namespace: str, name: str, owner_uid: str) -> StandingState:
        """What the worker does now."""
        found = await self._deployments.get(namespace, name)
        if found is None or (found["metadata"].get("labels") or {}).get(OWNER_UID_LABEL) != owner_uid:
            return StandingState()
        labels = found["spec"]["selector"]["matchLabels"]
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        pods = await self._deployments.pods(namespace, selector)
        running = [p for p in pods if _runs(p)]
        if not running:
            return StandingState(there=True, message=_why(pods, found))
        log = await self._jobs.log_tail(namespace, running[0]["metadata"]["name"])
        return StandingState(there=True, ready=True, log=log)

    async def remove(self, namespace: str, name: str) -> None:
        """Have the worker ended, its Deployment and its Secret removed."""
        await self._deployments.delete(namespace, name)
        if namespace == self._workers.operator_namespace:  # only there a Secret was made, and may be removed
            await self._deployments.delete_secret(namespace, name)


class StandingSweep:
    """Removes Deployments that belong nowhere: whose owner is gone, changed its logins or lost the right to them.

    The owner may be in another namespace, where no owner reference reaches. `find` gives the resource with a UID, as
    far as it is known; the first list must have been made. `home` gives the namespace where its worker belongs, if it
    may have one.
    """

    def __init__(
        self,
        deployments: Deployments,
        namespaces: Sequence[str | None],
        find: Callable[[str], Resource | None],
        *,
        home: Callable[[Resource], str | None],
        operator_namespace: str,
        interval: float = SWEEP_SECONDS,
    ) -> None:
        self._deployments = deployments
        self._home = home
        self._operator_namespace = operator_namespace
        self._namespaces = namespaces
        self._find = find
        self._interval = interval

    async def run(self) -> None:
        """Sweep until cancelled."""
        await repeatedly(self.sweep, self._interval, "Deployments that nobody needs")

    async def sweep(self) -> None:
        """Look once."""
        for namespace in self._namespaces:
            for found in await self._deployments.labelled(OWNER_UID_LABEL, namespace):
                meta = found["metadata"]
                owner = self._find(meta["labels"][OWNER_UID_LABEL])
                if owner is None or owner.deleted is not None or self._home(owner) != meta["namespace"]:
                    await self._remove(meta["namespace"], meta["name"])

    async def _remove(self, namespace: str, name: str) -> None:
        """One that cannot be removed now is in nobody's way."""
        logger.info("removing the Deployment %s/%s", namespace, name)
        try:
            await self._deployments.delete(namespace, name)
            if namespace == self._operator_namespace:
                await self._deployments.delete_secret(namespace, name)
        except KubeApiError as error:
            logger.warning("the Deployment %s/%s stays for now: %s", namespace, name, error)


def _runs(pod: Json) -> bool:
    statuses = pod.get("status", {}).get("containerStatuses") or []
    return any(s["name"] == CONTAINER and "running" in (s.get("state") or {}) for s in statuses)


def _why(pods: list[Json], deployment: Json) -> str:
    for pod in pods:
        for status in pod.get("status", {}).get("containerStatuses") or []:
            waiting = (status.get("state") or {}).get("waiting") or {}
            if waiting.get("reason"):
                return f"its container waits ({waiting['reason']})"
    for condition in deployment.get("status", {}).get("conditions") or []:
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return f"no pod can be made: {str(condition.get('message'))[:300]}"
    return "its pod is not running yet"
