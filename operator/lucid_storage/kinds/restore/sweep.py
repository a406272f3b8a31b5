"""What Restores replaced that were deleted before its time was over: nobody else would ever drop it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from typing import Protocol

from lucid_storage.errors import AccessDeniedError, LeadershipLostError, LucidError
from lucid_storage.kinds.connections import Connections, label_of
from lucid_storage.kinds.restore.server import OpenRestores
from lucid_storage.kinds.tasks import repeatedly
from lucid_storage.kube.client import Json, KubeApiError
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.settings import Settings
from lucid_storage.stores.mongodb.restore.overdue import OverdueRun
from lucid_storage.stores.mongodb.restore.port import RestorePort

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 600.0


class Ask(Protocol):
    """How the API server is asked for an object."""

    async def get(self, key: Key) -> Json | None:
        """None when there is none. Raises KubeApiError."""


class OldSweep:
    """Of the operator's own MongoDB, and of those that Secrets in use lead to.

    A journal says whose it is: that of another cluster, or of a namespace that is not in `namespaces` (empty for all),
    is somebody else's. `find` gives the resource with a UID as far as it is known; the API server is asked before
    anything is dropped. The time must be over by the server's clock and by ours: either can have jumped ahead.
    """

    def __init__(
        self,
        connections: Connections,
        open_restores: OpenRestores,
        settings: Settings,
        objects: Ask,
        *,
        cluster: Callable[[], Awaitable[str]],
        find: Callable[[str], Resource | None],
        namespaces: Collection[str] = (),
        interval: float = SWEEP_SECONDS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._connections = connections
        self._open_restores = open_restores
        self._settings = settings
        self._objects = objects
        self._cluster = cluster
        self._find = find
        self._namespaces = frozenset(namespaces)
        self._interval = interval
        self._now = now

    async def run(self) -> None:
        """Sweep until cancelled. The first list of resources must have been made."""
        await repeatedly(self.sweep, self._interval, "What deleted Restores replaced")

    async def sweep(self) -> None:
        """Look once. Raises KubeApiError."""
        cluster = await self._cluster()
        idle: dict[str, set[str]] = {}
        for address, label in self._servers().items():
            try:
                own = address == self._settings.mongodb()
                await self._look(self._open_restores(address, label), cluster, idle, own=own)
            except LucidError as error:
                logger.info("what deleted Restores replaced is looked for later: %s", error.message)
            except LeadershipLostError:
                raise
            except Exception:
                logger.exception("what deleted Restores replaced was not looked for with %s", label)

    async def _look(self, port: RestorePort, cluster: str, idle: dict[str, set[str]], *, own: bool) -> None:
        """`idle` are databases by server in which another login found nothing: they are not read again. `own` says that
        it is the operator's login.
        """
        try:
            known = idle.setdefault(await port.identity(), set())
            for database in await port.restorable_databases():
                if database not in known and await self._look_into(port, cluster, database, own=own):
                    known.add(database)
        finally:
            await port.close()

    async def _look_into(self, port: RestorePort, cluster: str, database: str, *, own: bool) -> bool:
        """Whether nothing is overdue there. What this login may not read or drop, another one may."""
        after = ""
        try:
            while runs := await port.overdue(database, cluster, namespaces=self._namespaces, after=after):
                for run in runs:
                    if self._within(run, own=own) and await self._forsaken(run):
                        await self._dropped(port, run)
                after = runs[-1].run
        except AccessDeniedError:
            return False  # no restore of these credentials was there
        return not after

    def _servers(self) -> dict[str, str]:
        """Addresses with who lends the login. What is down is asked another time."""
        found: dict[str, str] = {}
        own = self._settings.mongodb()
        if own is not None:
            found[own] = label_of("", None)
        for deployment in self._connections.deployments:
            if deployment.engine.name != "mongodb":
                continue
            if deployment.down is None:
                found.setdefault(deployment.address, deployment.label)
            else:
                found.pop(deployment.address, None)
        return found

    def _within(self, run: OverdueRun, *, own: bool) -> bool:
        """Whether its journal may be believed in what it says of other databases than the one that it lies in: whoever
        writes there may have added them, and the operator's login reaches them all.
        """
        served = self._settings.served(run.namespace)
        if not own or run.databases in ((), (run.database,)):
            return True
        if served is not None and all(served.allows(database) for database in run.databases):
            return True
        logger.warning(
            "the journal of the run %s in %s names databases that %s may not use, so what it replaced stays",
            run.run,
            run.database,
            run.namespace,
        )
        return False

    async def _forsaken(self, run: OverdueRun) -> bool:
        if not run.uid or (self._namespaces and run.namespace not in self._namespaces):
            return False
        if self._find(run.uid) is not None or self._now().timestamp() < run.until:
            return False
        try:
            there = await self._objects.get(Key("restores", run.namespace, run.name))
        except KubeApiError as error:
            logger.warning("whether the Restore %s/%s is there: %s", run.namespace, run.name, error)
            return False
        return there is None or there["metadata"]["uid"] != run.uid

    async def _dropped(self, port: RestorePort, run: OverdueRun) -> None:
        """One that cannot be dropped, with this login for instance, keeps no other one."""
        logger.info(
            "dropping what the deleted Restore %s/%s replaced: the run %s in %s",
            run.namespace,
            run.name,
            run.run,
            run.database,
        )
        try:
            stays = await port.drop_old(run.run, run.databases or [run.database])
        except LucidError as error:
            logger.warning("what the run %s replaced is dropped later: %s", run.run, error.message)
            return
        if stays:
            logger.warning("%s hold documents that nobody consented to lose, and stay", ", ".join(stays))
