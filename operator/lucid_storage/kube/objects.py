"""Custom resources that the operator itself makes and removes: Backups of schedules, and before changes."""

from __future__ import annotations

from lucid_storage.kube.client import Json, Kube, KubeApiError, resource_path
from lucid_storage.kube.resources import Key

CONFLICT, GONE = 409, 404


class Objects:
    """Every call raises KubeApiError when the API server refuses or cannot be reached."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    async def get(self, key: Key) -> Json | None:
        """As it is now; None when there is none."""
        return await self._kube.get(resource_path(key.plural, key.namespace, key.name))

    async def create(self, plural: str, body: Json) -> bool:
        """False when there is one of this name already."""
        try:
            await self._kube.request("POST", resource_path(plural, body["metadata"]["namespace"]), body=body)
        except KubeApiError as error:
            if error.status == CONFLICT:
                return False
            raise
        return True

    async def delete(self, key: Key, uid: str) -> None:
        """Delete this very object; harmless when it is gone or another one has its name."""
        path = resource_path(key.plural, key.namespace, key.name)
        try:
            await self._kube.request("DELETE", path, body={"preconditions": {"uid": uid}})
        except KubeApiError as error:
            if error.status not in (GONE, CONFLICT):
                raise

    async def patch_status(self, key: Key, uid: str, status: Json) -> None:
        """Change some fields of the status of this very object; harmless when it is gone."""
        path = f"{resource_path(key.plural, key.namespace, key.name)}/status"
        try:
            await self._kube.patch(path, {"metadata": {"uid": uid}, "status": status})
        except KubeApiError as error:
            if error.status != CONFLICT:
                raise
