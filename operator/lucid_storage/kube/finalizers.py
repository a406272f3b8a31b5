"""Our one finalizer, which only resources with deletionPolicy Delete carry."""

from __future__ import annotations

from lucid_storage.kube.client import Kube, KubeApiError
from lucid_storage.kube.resources import Resource
from lucid_storage.models.meta import FINALIZER


class Finalizers:
    """Adds and removes the finalizer, refusing to overwrite somebody else's change to the list."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    async def hold(self, resource: Resource) -> bool:
        """Put our finalizer on. False when the object changed or went meanwhile: its next event brings us back."""
        if resource.held:
            return True
        return await self._set(resource, (*resource.finalizers, FINALIZER), gone=False)

    async def release(self, resource: Resource) -> bool:
        """Take our finalizer off. False when the object changed meanwhile."""
        if not resource.held:
            return True
        return await self._set(resource, tuple(f for f in resource.finalizers if f != FINALIZER), gone=True)

    async def _set(self, resource: Resource, finalizers: tuple[str, ...], *, gone: bool) -> bool:
        """Whether the list is as wanted; `gone` is the answer for an object that is not there any more."""
        patch = {
            "metadata": {
                "uid": resource.uid,
                "resourceVersion": resource.resource_version,
                "finalizers": list(finalizers),
            }
        }
        try:
            patched = await self._kube.patch(resource.path, patch)
        except KubeApiError as error:
            if error.status == 409:
                return False
            raise
        return gone if patched is None else True
