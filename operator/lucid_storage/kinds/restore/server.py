"""The server that a Restore writes to: its login, and the markers of finished restores in it (rule 2.10)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from lucid_storage.errors import LucidError, Reason
from lucid_storage.kinds import specs
from lucid_storage.kinds.connections import Connections, label_of
from lucid_storage.kinds.identity import kept, same_server
from lucid_storage.kinds.restore.desired import spec_hash
from lucid_storage.kube.resources import Resource
from lucid_storage.models.restore import RestorePhase, RestoreSpec, RestoreStatus
from lucid_storage.stores.mongodb.port import MongoPort
from lucid_storage.stores.mongodb.restore.port import Marker, RestorePort

BEGUN = "Begun"
"""Result in a marker whose data a later run has begun to write over."""

OpenRestores = Callable[[str, str], RestorePort]
"""(connection string, label) -> port; its guard lets only the leader write."""


class TargetServer:
    """Of any Restore. Everything raises LucidError."""

    def __init__(self, connections: Connections, open_restores: OpenRestores) -> None:
        self._connections = connections
        self._open_restores = open_restores

    @asynccontextmanager
    async def opened(self, resource: Resource, identity: str | None = None) -> AsyncIterator[RestorePort]:
        """Opened for each use: restores are rare, and credentials may change in between.

        With `identity` that server and no other: raises LucidError(TargetChanged).
        """
        namespace, secret = resource.key.namespace, resource.secret
        deployment = await self._connections.mongodb(namespace, secret)
        port = self._open_restores(deployment.address, label_of(namespace, secret))
        try:
            if identity is not None:
                _check(identity, kept(await port.identity()))
            yield port
        finally:
            await port.close()

    async def identity(self, resource: Resource) -> str:
        """Of the server that the connection leads to now. Shared connections remember theirs for a while."""
        async with self.opened(resource) as port:
            return kept(await port.identity())

    async def markers(self, resource: Resource, mongodb: MongoPort, cluster: str) -> list[tuple[str, Marker]]:
        """With their databases, whichever the restore went to: the backup that says so may be gone."""
        databases = await mongodb.databases()
        async with self.opened(resource) as port:
            found = [
                (database, await port.marker([database], key(resource, cluster))) for database in databases
            ]
        return [(database, marker) for database, marker in found if marker is not None]

    async def mark(
        self, resource: Resource, status: RestoreStatus, databases: tuple[str, ...], cluster: str
    ) -> None:
        """Leave the marker of a finished run."""
        marker = Marker(
            cluster=cluster,
            identity=status.server_identity or "",
            namespace=resource.key.namespace,
            name=resource.key.name,
            spec_hash=spec_hash(specs.parse(RestoreSpec, resource)),
            run=status.run or "",
            result=str(RestorePhase.COMPLETED),
            run_again=status.run_again or "",
        )
        async with self.opened(resource, status.server_identity) as port:
            await port.put_marker(databases, marker)

    async def unmark(self, resource: Resource, status: RestoreStatus, cluster: str) -> None:
        """What earlier runs restored is being written over: their markers stand for nothing any more."""
        deployment = await self._connections.mongodb(resource.key.namespace, resource.secret)
        async with self._connections.watching(deployment) as mongodb:
            markers = await self.markers(resource, mongodb, cluster)
        async with self.opened(resource, status.server_identity) as port:
            for database, marker in markers:
                await port.put_marker([database], replace(marker, result=BEGUN))


def _check(planned: str, found: str) -> None:
    """What a run journaled, staged or replaced lies on one server only."""
    if not same_server(planned, found):
        raise LucidError(
            f"The connection leads to another server now ({found}) than the one that this run is on ({planned}): have"
            " it lead there again until the Restore has ended.",
            reason=Reason.TARGET_CHANGED,
        )


def key(resource: Resource, cluster: str) -> str:
    """Of the marker of a Restore."""
    return f"{cluster}/{resource.key.namespace}/{resource.key.name}"
