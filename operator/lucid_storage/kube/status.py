"""The one place that writes status."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lucid_storage.kube.client import Json, Kube
from lucid_storage.kube.resources import Resource


def merge_patch(old: Json, new: Json) -> Json:
    """The JSON merge patch (RFC 7386) that turns `old` into `new`. Lists are replaced whole."""
    patch: Json = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if value == before:
            continue
        if isinstance(value, dict) and isinstance(before, dict):
            patch[key] = merge_patch(before, value)
        else:
            patch[key] = value
    return patch


class StatusWriter:
    """Writes a resource's status when, and only when, it differs from what is known to be there."""

    def __init__(self, kube: Kube, *, on_write: Callable[[], None] | None = None) -> None:
        self._kube = kube
        self._on_write = on_write or (lambda: None)

    async def write(self, resource: Resource, status: dict[str, Any]) -> str | None:
        """Returns the resourceVersion that the write made, or None when there was nothing to write or nobody to
        write to: a resource that is gone meanwhile is no error.

        Raises KubeApiError when the API server refuses or cannot be reached.
        """
        patch = merge_patch(resource.status, status)
        if not patch:
            return None
        # The uid makes the server refuse the patch for another object that took the name meanwhile.
        body = {"metadata": {"uid": resource.uid}, "status": patch}
        written = await self._kube.patch(f"{resource.path}/status", body)
        self._on_write()
        return str(written["metadata"]["resourceVersion"]) if written is not None else None
