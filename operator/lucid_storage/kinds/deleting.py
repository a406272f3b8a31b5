"""The last looks at a resource under `deletionPolicy: Delete`: what is dropped, what stays, and when it goes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Generic

from lucid_storage.errors import LucidError, Reason
from lucid_storage.kinds.contract import D, Kind, Notice, S, Scope, Status, V, Verdict
from lucid_storage.kinds.identity import surely_another
from lucid_storage.kinds.pinned import check_pinned
from lucid_storage.kinds.services import Outcome, Services
from lucid_storage.kinds.telling import Teller
from lucid_storage.kube.resources import Resource
from lucid_storage.models.base import DeletionPolicy

logger = logging.getLogger(__name__)

PASSING_SECONDS = 5.0
"""How long a deletion waits for another resource that may be about to be deleted too."""


class Deleting(Generic[D, V, S]):
    """Raises KubeApiError; what a store says becomes a condition."""

    def __init__(self, kind: Kind[D, V, S], services: Services, teller: Teller[S]) -> None:
        self._kind = kind
        self._services = services
        self._teller = teller

    async def look(self, resource: Resource, status: S) -> Outcome:
        """Drops what is to be dropped, and lets the resource go when nothing stands in the way any more."""
        if not resource.held:
            return Outcome(gone=True)
        self._kind.forget(resource.key)
        try:
            message = await self._disposed(resource, status)
        except LucidError as error:
            left = await self._services.seconds_left(resource)
            if left is None or left > 0:
                said = f"The data is not dropped yet: {error.message}"
                await self._teller.write(resource, status, Verdict(Reason.DELETING, said), "")
                return Outcome(failed=True, again_seconds=left)
            self._services.metrics.let_go.labels(self._kind.info.kind).inc()
            message = f"Let go because the namespace is being deleted; the data stays: {error.message}"
            logger.warning("%s", message, extra={"resource": str(resource.key)})
        self._teller.emit(resource, Notice("Deleted", message))
        released = await self._services.finalizers.release(resource)
        return Outcome(gone=True) if released else Outcome(again_seconds=1)

    async def _disposed(self, resource: Resource, status: S) -> str:
        """Drop the real object if that is right; returns what happened to it."""
        if resource.spec.get("deletionPolicy") != DeletionPolicy.DELETE:
            return "The data stays (deletionPolicy: Retain)."
        if resource.paused:
            raise LucidError("the resource is paused; remove the annotation to go on.", reason=Reason.PAUSED)
        desired = await self._kind.desired(resource)
        peers = _not_elsewhere(self._services.peers(resource, desired.target), status)
        scope = Scope(
            now=self._services.now(),
            settled=True,
            peers=[p for p in peers if await self._may_claim(p, desired)],
            others=await self._staying(
                _not_elsewhere(self._services.others(resource, desired.target), status)
            ),
        )
        disposal = self._kind.disposal(resource, desired, status, scope)
        since = resource.deleting_since()
        if disposal.passing and since is not None and scope.now - since < timedelta(seconds=PASSING_SECONDS):
            raise LucidError(disposal.message, reason=Reason.DELETING)
        if not disposal.drop:
            return disposal.message
        if self._services.forbid_drops:
            return f"{desired.target} stays: the operator's settings forbid all drops (FORBID_DROPS)."
        check_pinned(desired, status, await self._kind.identity(resource, desired))
        return await self._kind.dispose(resource, desired, status, replace(scope, peers=peers))

    async def _may_claim(self, peer: Resource, desired: D) -> bool:
        """Whether a resource declares the same object; in doubt it does, since a drop cannot be undone."""
        try:
            return self._kind.same_object(desired, await self._kind.desired(peer))
        except LucidError:
            return True

    async def _staying(self, found: Sequence[Resource]) -> list[Resource]:
        """Those that are not about to go with their namespace."""
        namespaces = {resource.key.namespace for resource in found}
        going = {name for name in namespaces if await self._services.namespace_terminating(name)}
        return [resource for resource in found if resource.key.namespace not in going]


def _not_elsewhere(found: Sequence[Resource], status: Status) -> list[Resource]:
    """Those that are not surely about another server."""
    mine = status.server_identity
    return [r for r in found if not surely_another(mine, r.status.get("serverIdentity"))]
