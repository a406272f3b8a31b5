"""What the cluster says of the claims that a Restore fills, and the claims that it makes."""

from __future__ import annotations

from collections.abc import Callable

from lucid_storage.kinds.backup.volume_facts import copy_identity
from lucid_storage.kinds.restore.volumes import (
    NOTHING,
    Filling,
    Origin,
    TargetFacts,
    UnfilledClaim,
    WantedClaim,
    claim_body,
    filling,
)
from lucid_storage.kube.claims import Claims
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.restore import RestoreStatus


class RestoreVolumes:
    """Every call may raise KubeApiError. `find` gives a resource by its key, as far as it is known."""

    def __init__(self, claims: Claims, find: Callable[[Key], Resource | None]) -> None:
        self._claims = claims
        self._find = find

    async def filling(self, resource: Resource, status: RestoreStatus) -> Filling:
        """What the loading worker needs now. Raises RefusedError with what to change."""
        if not status.volumes:
            return NOTHING
        namespace = resource.key.namespace
        pods = await self._claims.pods(namespace)
        facts = [
            TargetFacts(
                wanted=wanted,
                claim=await self._claims.get(namespace, wanted.target),
                copy=copy_identity(self._find, namespace, wanted.target)
                or copy_identity(self._find, namespace, wanted.name),
                users=tuple(p for p in pods if wanted.target in p.claims and p.owner_uid != resource.uid),
            )
            for wanted in status.volumes
        ]
        waited = status.claims_since is not None
        return filling(facts, await self._claims.classes(), _origin(status), waited=waited)

    async def being_made(self, resource: Resource, status: RestoreStatus) -> str | None:
        """Name of a claim that its storage is making for the pod of the worker, if there is one."""
        for wanted in status.volumes or ():
            claim = await self._claims.get(resource.key.namespace, wanted.target)
            if claim is not None and claim.being_made:
                return claim.name
        return None

    async def make(self, resource: Resource, status: RestoreStatus, wanted: WantedClaim) -> None:
        """Make a claim, once. Raises LucidError when it is refused."""
        await self._claims.create(claim_body(resource.key.namespace, wanted, _origin(status)))

    async def take(self, status: RestoreStatus, unfilled: UnfilledClaim) -> None:
        """Make a claim the one of this run, if it is still as it was read. Raises LucidError when it is refused."""
        await self._claims.annotate(unfilled.claim, _origin(status).mark(unfilled.volume))


def _origin(status: RestoreStatus) -> Origin:
    return Origin(status.backup_id or "", status.run or "")
