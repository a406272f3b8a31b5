"""Deployments of workers that run for ever, and the Secrets that they are given."""

from __future__ import annotations

from lucid_storage.kube.client import Json, Kube, KubeApiError
from lucid_storage.kube.jobs import CONFLICT, GONE
from lucid_storage.kube.paths import segment


def deployments_path(namespace: str | None = None, name: str | None = None) -> str:
    """Path of a Deployment, or of a list of them."""
    base = "/apis/apps/v1"
    if namespace is not None:
        base += f"/namespaces/{segment(namespace)}"
    return f"{base}/deployments" if name is None else f"{base}/deployments/{segment(name)}"


class Deployments:
    """Every call raises KubeApiError when the API server refuses or cannot be reached."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    async def get(self, namespace: str, name: str) -> Json | None:
        return await self._kube.get(deployments_path(namespace, name))

    async def create(self, body: Json) -> Json | None:
        """The Deployment as it was made; None when there is one of its name."""
        try:
            return await self._kube.request(
                "POST", deployments_path(body["metadata"]["namespace"]), body=body
            )
        except KubeApiError as error:
            if error.status == CONFLICT:
                return None
            raise

    async def change(self, namespace: str, name: str, uid: str, patch: Json) -> None:
        """A merge patch of this very Deployment; harmless when it is gone."""
        body = {**patch, "metadata": {"uid": uid, **patch.get("metadata", {})}}
        await self._kube.patch(deployments_path(namespace, name), body)

    async def delete(self, namespace: str, name: str) -> None:
        """Have its pods ended first; harmless when it is gone."""
        try:
            await self._kube.request(
                "DELETE", deployments_path(namespace, name), body={"propagationPolicy": "Foreground"}
            )
        except KubeApiError as error:
            if error.status != GONE:
                raise

    async def labelled(self, selector: str, namespace: str | None) -> list[Json]:
        """All with these labels; in every namespace with None."""
        # The labels are on our own Deployments only, of which there are few: one page.
        found = await self._kube.request(
            "GET", deployments_path(namespace), query={"labelSelector": selector}
        )
        return found.get("items") or []

    async def put_secret(self, body: Json) -> str:
        """Make a Secret or change the one of its name where it differs; returns its resourceVersion."""
        namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
        path = f"/api/v1/namespaces/{segment(namespace)}/secrets"
        known = await self._kube.get(f"{path}/{segment(name)}")
        if known is None:
            made = await self._kube.request("POST", path, body=body)
            return str(made["metadata"]["resourceVersion"])
        if known.get("data") == body["data"]:
            return str(known["metadata"]["resourceVersion"])
        patch = {"data": {**dict.fromkeys(known.get("data") or {}), **body["data"]}}
        changed = await self._kube.patch(f"{path}/{segment(name)}", patch)
        return str(changed["metadata"]["resourceVersion"]) if changed is not None else ""

    async def delete_secret(self, namespace: str, name: str) -> None:
        """Harmless when it is gone."""
        path = f"/api/v1/namespaces/{segment(namespace)}/secrets/{segment(name)}"
        try:
            await self._kube.request("DELETE", path)
        except KubeApiError as error:
            if error.status != GONE:
                raise

    async def pods(self, namespace: str, selector: str) -> list[Json]:
        """Pods with these labels."""
        path = f"/api/v1/namespaces/{segment(namespace)}/pods"
        found = await self._kube.request("GET", path, query={"labelSelector": selector})
        return found.get("items") or []
