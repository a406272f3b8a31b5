"""Jobs, their pods, and what the pods say."""

from __future__ import annotations

from collections.abc import AsyncIterator

from lucid_storage.kube.client import Json, Kube, KubeApiError
from lucid_storage.kube.paths import segment

JOB_NAME_LABEL = "batch.kubernetes.io/job-name"
"""The Job controller puts it on pods (https://kubernetes.io/docs/reference/labels-annotations-taints/)."""
CONFLICT, FORBIDDEN, GONE = 409, 403, 404
LOG_LINES = "40"
LOG_BYTES = "16384"
LOG_SECONDS = 5.0


def jobs_path(namespace: str | None = None, name: str | None = None) -> str:
    """Path of a Job, or of a list of them."""
    base = "/apis/batch/v1"
    if namespace is not None:
        base += f"/namespaces/{segment(namespace)}"
    return f"{base}/jobs" if name is None else f"{base}/jobs/{segment(name)}"


class Jobs:
    """Every call raises KubeApiError when the API server refuses or cannot be reached."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    async def create(self, body: Json) -> Json | None:
        """The Job as it was made; None when there is one of its name, which is then the one that is meant."""
        try:
            return await self._kube.request("POST", jobs_path(body["metadata"]["namespace"]), body=body)
        except KubeApiError as error:
            if error.status == CONFLICT:
                return None
            raise

    async def get(self, namespace: str, name: str) -> Json | None:
        return await self._kube.get(jobs_path(namespace, name))

    async def resume(self, namespace: str, name: str) -> None:
        """Let a suspended Job begin."""
        await self._kube.patch(jobs_path(namespace, name), {"spec": {"suspend": False}})

    async def delete(self, namespace: str, name: str) -> bool:
        """Have its pods ended first and the Job removed after them; False when it is gone."""
        try:
            await self._kube.request(
                "DELETE", jobs_path(namespace, name), body={"propagationPolicy": "Foreground"}
            )
        except KubeApiError as error:
            if error.status == GONE:
                return False
            raise
        return True

    async def pods(self, namespace: str, name: str) -> list[Json]:
        """The pods of a Job, those that ended included. A worker has one at most."""
        selector = {"labelSelector": f"{JOB_NAME_LABEL}={name}"}
        path = f"/api/v1/namespaces/{segment(namespace)}/pods"
        found = await self._kube.request("GET", path, query=selector)
        return found.get("items") or []

    async def log_tail(self, namespace: str, pod: str) -> str:
        """The last lines of a pod; empty while there is nothing to read."""
        path = f"/api/v1/namespaces/{segment(namespace)}/pods/{segment(pod)}/log"
        query = {"tailLines": LOG_LINES, "limitBytes": LOG_BYTES}
        try:
            return await self._kube.text(path, query=query, seconds=LOG_SECONDS)
        except KubeApiError:
            return ""  # progress is a courtesy: a kubelet that does not answer now must not fail the work

    async def labelled(self, label: str, namespace: str | None) -> AsyncIterator[Json]:
        """All Jobs with a label; in every namespace with None."""
        # The label is on our own Jobs only, of which there are few: one page.
        found = await self._kube.request("GET", jobs_path(namespace), query={"labelSelector": label})
        for item in found.get("items") or []:
            yield item

    async def create_secret(self, body: Json) -> None:
        """Make a Secret for a Job; harmless when that Job has it already.

        Raises KubeApiError (409) while the Secret of a former Job of the name is there, which goes with that Job.
        """
        path = f"/api/v1/namespaces/{segment(body['metadata']['namespace'])}/secrets"
        try:
            await self._kube.request("POST", path, body=body)
        except KubeApiError as error:
            if error.status != CONFLICT:
                raise
            there = await self._kube.get(f"{path}/{segment(body['metadata']['name'])}")
            if there is None or _owners(there) != _owners(body):
                raise

    async def claim_exists(self, namespace: str, name: str) -> bool:
        """Whether there is a PersistentVolumeClaim of this name."""
        path = f"/api/v1/namespaces/{segment(namespace)}/persistentvolumeclaims/{segment(name)}"
        return await self._kube.get(path) is not None

    async def cluster_uid(self) -> str:
        """What tells this cluster from others: the UID of kube-system."""
        found = await self._kube.request("GET", "/api/v1/namespaces/kube-system")
        return str(found["metadata"]["uid"])


def _owners(body: Json) -> list[str]:
    return [reference["uid"] for reference in body["metadata"].get("ownerReferences") or []]
